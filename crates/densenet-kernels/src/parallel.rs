//! Chunks: how work is cut, and how threads share a buffer without sharing an element.

mod crew;

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::Buffer;
pub use crew::together;

/// A buffer that several tasks write at disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: access goes through `slice`, whose caller guarantees that no two tasks touch the same element.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(buffer: &mut [T]) -> Self {
        Shared {
            start: buffer.as_mut_ptr(),
            len: buffer.len(),
        }
    }

    /// Where `len` elements from `start` on lie.
    pub(crate) fn pointer(&self, start: usize, len: usize) -> *mut T {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: in bounds by the assertion.
        unsafe { self.start.add(start) }
    }

    /// # Safety
    /// No other task touches these elements while the slice lives, and the buffer outlives it.
    #[allow(clippy::mut_from_ref, reason = "the caller guarantees disjointness")]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: in bounds by the assertion; exclusive by the caller's guarantee.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Runs `task(i)` for every `i < tasks`, in any order, on any number of threads.
pub(crate) fn for_each(tasks: usize, task: impl Fn(usize) + Sync + Send) {
    if tasks <= 1 || rayon::current_num_threads() == 1 {
        (0..tasks).for_each(task);
    } else if !crew::share(tasks, &task) {
        (0..tasks).into_par_iter().for_each(task);
    }
}

/// Cuts slices of one length into chunks at the same borders and runs `task(start, parts)` for each, on any number of
/// threads; inside [`together`], on those that stand by.
///
/// # Panics
/// The slices differ in length.
pub fn in_chunks<const N: usize>(
    chunk: usize,
    slices: [&mut [f32]; N],
    task: impl Fn(usize, [&mut [f32]; N]) + Sync + Send,
) {
    let len = slices.first().map_or(0, |s| s.len());
    assert!(
        slices.iter().all(|s| s.len() == len),
        "slices of one length"
    );
    let chunk = chunk.max(1);
    let shared = slices.map(Shared::new);
    for_each(len.div_ceil(chunk), |i| {
        let start = i * chunk;
        // SAFETY: chunks are disjoint, and the slices are borrowed for as long as the tasks run.
        let part = |slice: usize| unsafe { shared[slice].slice(start, chunk.min(len - start)) };
        task(start, std::array::from_fn(part));
    });
}

/// Borders of `pieces` nearly equal parts of `0..total`: part `i` is `border(i)..border(i + 1)`.
pub(crate) fn border(total: usize, pieces: usize, i: usize) -> usize {
    match total.checked_mul(i) {
        Some(product) => product / pieces,
        None => (total as u128 * i as u128 / pieces as u128) as usize,
    }
}

/// Cuts a range into the fewest parts of at most `most`, as equal as they get, larger ones first.
pub(crate) fn evenly(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (start, len) = (range.start, range.len());
    let parts = len.div_ceil(most).max(1);
    let (each, larger) = (len / parts, len % parts);
    let edge = move |part: usize| start + part * each + part.min(larger);
    (0..parts.min(len)).map(move |part| edge(part)..edge(part + 1))
}

/// `0..total` in parts of at most `most`: as many for one thread as for the next, and as long, but for the last three of a
/// thread, which together make one. Whoever is done first then takes something short from another, or waits a short while.
///
/// For work whose result does not depend on how it is cut.
#[derive(Clone, Copy)]
pub(crate) struct Tapered {
    total: usize,
    threads: usize,
    /// Parts of a thread, had none been cut.
    whole: usize,
    /// All borders are multiples of this, as far as they are not the thread's.
    unit: usize,
}

/// Parts of a thread from which on the last one is cut: fewer are too short a step to pay for more.
const TAPERED_FROM: usize = 4;

impl Tapered {
    /// `most` is a multiple of `unit`.
    pub(crate) fn new(total: usize, (most, unit): (usize, usize)) -> Self {
        let threads = rayon::current_num_threads().min(total).max(1);
        let whole = total.div_ceil(threads).div_ceil(most).max(1);
        Tapered {
            total,
            threads,
            whole,
            unit,
        }
    }

    fn parts_of_a_thread(&self) -> usize {
        match self.whole < TAPERED_FROM {
            true => self.whole,
            false => self.whole + 2,
        }
    }

    /// Number of parts. None is empty where there is anything and a quarter of `most` is longer than a `unit`.
    pub(crate) fn parts(&self) -> usize {
        self.threads * self.parts_of_a_thread()
    }

    pub(crate) fn part(&self, part: usize) -> Range<usize> {
        let (thread, own) = (
            part / self.parts_of_a_thread(),
            part % self.parts_of_a_thread(),
        );
        let [start, end] = [0, 1].map(|i| border(self.total, self.threads, thread + i));
        let edge = |own: usize| {
            // In quarters of a whole part: all whole, then two, one and one.
            let quarters = match own < self.whole {
                true => 4 * own,
                false if own == self.parts_of_a_thread() => 4 * self.whole,
                false => 4 * self.whole - 2 + (own - self.whole),
            };
            let len = border(end - start, 4 * self.whole, quarters);
            // Upwards, so that no part is longer than the most.
            (start + len.next_multiple_of(self.unit)).min(end)
        };
        edge(own)..edge(own + 1)
    }
}

/// Most tasks an operation over pixels is cut into: enough to balance tens of cores, few enough that one partial sum
/// per task stays small.
pub(crate) const MAX_TASKS: usize = 128;

thread_local! {
    static SCRATCH: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's scratch memory of at least `len` elements; what it holds is whatever was left there.
///
/// Buffers are kept and grow, so that steady work allocates nothing. Calls may nest.
pub(crate) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let kept = SCRATCH.with(|s| s.borrow_mut().pop());
    let mut buffer = match kept {
        Some(b) if b.len() >= len => b,
        _ => Buffer::zeroed(len.next_multiple_of(4096)),
    };
    let result = work(&mut buffer[..len]);
    SCRATCH.with(|s| s.borrow_mut().push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tapered_parts_follow_each_other_and_none_is_too_long() {
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                // What convolutions and tiles ask for on every instruction set, and the least there is.
                let chunks = [(84, 14), (84, 12), (81, 9), (80, 8), (84, 6), (84, 4)];
                let groups = [(18, 1), (16, 1), (14, 1), (12, 1), (1, 1)];
                for (most, unit) in chunks.into_iter().chain(groups) {
                    for total in (0..2000).chain([3136, 99_999]) {
                        let cut = Tapered::new(total, (most, unit));
                        let mut end = 0;
                        for part in (0..cut.parts()).map(|part| cut.part(part)) {
                            assert!(part.start == end && part.len() <= most);
                            assert!(!part.is_empty() || total == 0 || most == 1);
                            end = part.end;
                        }
                        assert_eq!(end, total);
                    }
                }
                // The last of each thread are a half and two quarters.
                let cut = Tapered::new(96 * threads, (16, 1));
                let lengths: Vec<_> = (0..8).map(|part| cut.part(part).len()).collect();
                assert_eq!(lengths, [16, 16, 16, 16, 16, 8, 4, 4]);
            });
        }
    }
}
