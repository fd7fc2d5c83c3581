//! Threads that stand by for the length of a whole pass.
//!
//! A pass through DenseNet-121 is more than a hundred short parallel steps. Waking a sleeping thread costs more than some
//! of them take, so the threads of the pool join once per pass and watch for the next step instead.
//!
//! Every thread has a place: a step's tasks are cut into one run per thread, and a thread takes from its own run before it
//! helps with another's. Steps walk over the same pixels in the same order, so what a thread wrote in one step it mostly
//! reads in the next, out of its own cache.

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::border;

thread_local! {
    /// What this thread is to the crew it works for.
    static ROLE: Cell<Role> = const { Cell::new(Role::None) };
}

#[derive(Clone, Copy)]
enum Role {
    /// Not in a crew.
    None,
    /// The one that hands out steps.
    Leader(*const Crew),
    /// Inside a task: what it calls runs on this thread alone.
    Worker,
}

/// Runs `work` with this pool's other threads standing by for the parallel steps in it.
///
/// The others join as they become free; whoever comes too late is not waited for, so a busy pool costs speed but cannot
/// block. Results do not depend on who joined.
pub fn together<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let threads = rayon::current_num_threads();
    if threads == 1 || !matches!(ROLE.get(), Role::None) {
        return work();
    }
    let crew = Crew::new(threads);
    rayon::scope(|scope| {
        for place in 1..threads {
            let crew = &crew;
            scope.spawn(move |_| crew.help(place));
        }
        // Closed even if `work` panics: the scope waits for the helpers.
        let _closed = Closing(&crew);
        let _role = Playing::role(Role::Leader(&crew));
        work()
    })
}

/// Runs `task(i)` for every `i < tasks` with the crew this thread leads, or on this thread if it is itself inside a task.
/// `false` if it belongs to no crew.
pub(super) fn share(tasks: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
    match ROLE.get() {
        Role::None => return false,
        Role::Worker => (0..tasks).for_each(task),
        // SAFETY: the pointer was set by `together`, whose crew outlives the role.
        Role::Leader(crew) => unsafe { &*crew }.lead(tasks, task),
    }
    true
}

/// A step: what its threads run.
struct Step<'a> {
    task: &'a (dyn Fn(usize) + Sync),
}

/// A run of a step's tasks, packed into one word so that a claim is one exchange: the number of the step, the run's end,
/// the next task to claim.
#[derive(Clone, Copy)]
struct Ticket(u64);

impl Ticket {
    const BITS: u32 = 20;
    const MOST: usize = (1 << Self::BITS) - 1;

    fn new(step: u64, tasks: Range<usize>) -> Self {
        Ticket(step << (2 * Self::BITS) | (tasks.end as u64) << Self::BITS | tasks.start as u64)
    }
    fn end(self) -> usize {
        (self.0 >> Self::BITS) as usize & Self::MOST
    }
    fn next(self) -> usize {
        self.0 as usize & Self::MOST
    }
}

/// Most places; where a pool has more threads, some share one.
const PLACES: usize = 64;

/// A [`Ticket`] on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Run(AtomicU64);

struct Crew {
    /// One run for each place that is taken.
    runs: [Run; PLACES],
    places: usize,
    /// Number of the step that was handed out last.
    number: AtomicU64,
    /// The [`Step`] at hand; valid while a claimed task of it is not done.
    step: AtomicPtr<()>,
    done: AtomicUsize,
    closed: AtomicBool,
    panicked: AtomicBool,
}

impl Crew {
    fn new(threads: usize) -> Self {
        Crew {
            runs: std::array::from_fn(|_| Run::default()),
            places: threads.min(PLACES),
            number: AtomicU64::new(0),
            step: AtomicPtr::new(ptr::null_mut()),
            done: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        }
    }

    /// Hands out a step, works on it, and returns when all of it is done.
    fn lead(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        for first in (0..tasks).step_by(Ticket::MOST) {
            let count = Ticket::MOST.min(tasks - first);
            let part = |i: usize| task(first + i);
            let step = Step { task: &part };
            self.done.store(0, Ordering::Relaxed);
            self.step
                .store(ptr::from_ref(&step).cast_mut().cast(), Ordering::Relaxed);
            let number = self.number.load(Ordering::Relaxed) + 1;
            for (place, run) in self.runs[..self.places].iter().enumerate() {
                let run_of = |place| border(count, self.places, place);
                let ticket = Ticket::new(number, run_of(place)..run_of(place + 1));
                run.0.store(ticket.0, Ordering::Release);
            }
            self.number.store(number, Ordering::Release);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let _role = Playing::role(Role::Worker);
                while let Some(i) = self.claim(0) {
                    let _counted = Counting(&self.done);
                    part(i);
                }
            }));
            if outcome.is_err() {
                // Nobody starts what is left of the step; it counts as done.
                while self.claim(0).is_some() {
                    self.done.fetch_add(1, Ordering::Release);
                }
            }
            // `step` must outlive every task that was claimed.
            let mut spins = 0;
            while self.done.load(Ordering::Acquire) < count {
                wait(&mut spins);
            }
            if let Err(panic) = outcome {
                resume_unwind(panic);
            }
            assert!(
                !self.panicked.load(Ordering::Relaxed),
                "a task on another thread panicked"
            );
        }
    }

    /// Works from `place` on whatever step is at hand until the crew is closed.
    fn help(&self, place: usize) {
        let _role = Playing::role(Role::Worker);
        let (mut spins, mut seen) = (0, 0);
        while !self.closed.load(Ordering::Relaxed) {
            let number = self.number.load(Ordering::Acquire);
            if number == seen {
                wait(&mut spins);
                continue;
            }
            while let Some(i) = self.claim(place) {
                let _counted = Counting(&self.done);
                // SAFETY: a claimed task keeps its leader in `lead`, where the step lives; the claim's acquire made the
                // pointer visible that was stored before the ticket.
                let step = unsafe { &*self.step.load(Ordering::Relaxed).cast::<Step<'_>>() };
                if catch_unwind(AssertUnwindSafe(|| (step.task)(i))).is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            (spins, seen) = (0, number);
        }
    }

    /// Claims a task of the step at hand, if one is left: of the run at `place`, then of those behind it.
    fn claim(&self, place: usize) -> Option<usize> {
        (place..place + self.places).find_map(|p| self.runs[p % self.places].claim())
    }
}

impl Run {
    /// The next task, if one is left.
    fn claim(&self) -> Option<usize> {
        let mut ticket = Ticket(self.0.load(Ordering::Acquire));
        while ticket.next() < ticket.end() {
            match self.0.compare_exchange_weak(
                ticket.0,
                ticket.0 + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(ticket.next()),
                Err(found) => ticket = Ticket(found),
            }
        }
        None
    }
}

/// Counts a task as done, panic or not.
struct Counting<'a>(&'a AtomicUsize);

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Closes the crew.
struct Closing<'a>(&'a Crew);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

/// Sets this thread's role and gives back the one before.
struct Playing(Role);

impl Playing {
    fn role(role: Role) -> Self {
        Playing(ROLE.replace(role))
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        ROLE.set(self.0);
    }
}

/// Passes a moment: a few hundred cycles of looking again, then the processor goes to whoever needs it.
fn wait(spins: &mut u32) {
    *spins += 1;
    if *spins < 4096 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::for_each;
    use std::sync::atomic::AtomicU32;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    }

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            pool(threads).install(|| {
                together(|| {
                    for tasks in [0, 1, 2, 7, 1000] {
                        let runs: Vec<_> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
                        for_each(tasks, |i| {
                            // Steps inside tasks run where they are.
                            for_each(3, |_| {
                                runs[i].fetch_add(1, Ordering::Relaxed);
                            });
                        });
                        assert!(runs.iter().all(|r| r.load(Ordering::Relaxed) == 3));
                    }
                });
            });
        }
    }

    #[test]
    fn crews_at_the_same_time_do_not_block_each_other() {
        let pool = pool(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.install(|| {
                        for _ in 0..200 {
                            let sum = AtomicUsize::new(0);
                            together(|| {
                                for_each(50, |i| {
                                    sum.fetch_add(i, Ordering::Relaxed);
                                });
                            });
                            assert_eq!(sum.into_inner(), 50 * 49 / 2);
                        }
                    })
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let outcome = catch_unwind(|| {
            pool(3).install(|| together(|| for_each(100, |i| assert_ne!(i, 60))));
        });
        assert!(outcome.is_err());
    }
}
