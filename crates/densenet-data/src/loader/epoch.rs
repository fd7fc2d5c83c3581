//! One pass over the data: threads that build batches ahead, and the iterator that hands them out in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Batch, Shared};
use crate::error::DataError;

/// The batches of one epoch, in order.
///
/// After an error there are no further batches.
pub struct Epoch {
    desk: Arc<Desk>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    end: usize,
    waited: Duration,
}

/// Where builders leave batches and the iterator takes them.
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The next batch that no thread has begun.
    unclaimed: usize,
    /// The next batch to be handed out.
    wanted: usize,
    ready: BTreeMap<usize, Result<Batch, DataError>>,
    stop: bool,
}

impl Desk {
    /// The state; a thread that died while holding it left it consistent, since every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

impl Epoch {
    pub(super) fn start(shared: Arc<Shared>, epoch: u32, start: usize) -> Epoch {
        let end = shared.batches();
        let next = start.min(end);
        let state = State {
            unclaimed: next,
            wanted: next,
            ready: BTreeMap::new(),
            stop: false,
        };
        let desk = Arc::new(Desk {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let order = Arc::new(shared.order(epoch));
        let threads = (0..shared.options.threads.min(end - next))
            .filter_map(|i| {
                let (shared, desk, order) = (shared.clone(), desk.clone(), order.clone());
                let builder = std::thread::Builder::new().name(format!("loader-{i}"));
                builder
                    .spawn(move || build_batches(&shared, &desk, &order, epoch, end))
                    .ok()
            })
            .collect();
        Epoch {
            desk,
            threads,
            next,
            end,
            waited: Duration::ZERO,
        }
    }

    /// How long [`next`](Iterator::next) has waited for batches so far: time the network stood idle.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Batches still to come.
    pub fn remaining(&self) -> usize {
        self.end - self.next
    }
}

fn build_batches(shared: &Shared, desk: &Desk, order: &[usize], epoch: u32, end: usize) {
    let window = shared.options.threads + shared.options.prefetch;
    loop {
        let number = {
            let mut state = desk.lock();
            while !state.stop && state.unclaimed < end && state.unclaimed >= state.wanted + window {
                state = desk.wait(state);
            }
            if state.stop || state.unclaimed >= end {
                return;
            }
            state.unclaimed += 1;
            state.unclaimed - 1
        };
        // A defect of ours in one thread must reach the caller as an error, not leave it waiting for ever.
        let batch = catch_unwind(AssertUnwindSafe(|| shared.build(order, epoch, number)))
            .unwrap_or_else(|_| {
                Err(DataError::data(
                    shared.dataset.name(),
                    format!("batch {number} of epoch {epoch} could not be built"),
                    "please report this as a bug",
                ))
            });
        desk.lock().ready.insert(number, batch);
        desk.changed.notify_all();
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Result<Batch, DataError>> {
        if self.next >= self.end {
            return None;
        }
        if self.threads.is_empty() {
            self.next = self.end;
            return Some(Err(DataError::limit(
                "loader",
                "the system allows no further threads",
                "close other programs, or raise the limit on processes",
            )));
        }
        let begun = Instant::now();
        let mut state = self.desk.lock();
        let batch = loop {
            match state.ready.remove(&self.next) {
                Some(batch) => break batch,
                None => state = self.desk.wait(state),
            }
        };
        self.next += 1;
        state.wanted = self.next;
        drop(state);
        self.desk.changed.notify_all();
        self.waited += begun.elapsed();
        if batch.is_err() {
            self.next = self.end;
            self.desk.stop();
        }
        Some(batch)
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.desk.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already delivered its error.
            let _ = thread.join();
        }
    }
}
