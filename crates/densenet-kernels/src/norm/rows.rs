//! Passes over the rows of a map, and sums per channel that do not depend on the number of threads.

use crate::{
    KernelError, Raster,
    error::{at_least, exactly},
    parallel::{MAX_TASKS, Shared, border, for_each},
};

pub(super) fn check_pair(
    operation: &'static str,
    (input_len, from): (usize, &Raster),
    (output_len, to): (usize, &Raster),
    channels: usize,
) -> Result<(), KernelError> {
    exactly(operation, "batch", from.batch, to.batch)?;
    for axis in 0..3 {
        exactly(operation, "size", from.spatial[axis], to.spatial[axis])?;
    }
    at_least(operation, "input", from.len(), input_len)?;
    at_least(operation, "output", to.len(), output_len)?;
    at_least(
        operation,
        "channels of the input",
        from.offset + channels,
        from.stride,
    )?;
    at_least(
        operation,
        "channels of the output",
        to.offset + channels,
        to.stride,
    )
}

/// Most tasks that sums over rows are cut into: each has two f64 for every channel.
const MOST: usize = MAX_TASKS / 2;

/// Tasks that sums over the rows of a map are cut into.
pub(crate) fn row_tasks(raster: &Raster) -> usize {
    raster.rows().clamp(1, MOST)
}

/// `f64` elements that the sums of two values per channel over a map need.
pub fn partial_sums(raster: &Raster, channels: usize) -> usize {
    row_tasks(raster) * 2 * channels
}

pub(super) fn for_rows(raster: &Raster, work: impl Fn(usize) + Sync + Send) {
    let (rows, tasks) = (raster.rows(), row_tasks(raster));
    for_each(tasks, |t| {
        (border(rows, tasks, t)..border(rows, tasks, t + 1)).for_each(&work);
    });
}

/// Runs `work(row, [sum, sum])` over all rows, with zeroed sums of its own for every task.
pub(crate) fn sum_over_rows(
    raster: &Raster,
    channels: usize,
    partials: &mut [f64],
    work: impl Fn(usize, [&mut [f64]; 2]) + Sync + Send,
) {
    let (rows, tasks) = (raster.rows(), row_tasks(raster));
    let shared = Shared::new(partials);
    for_each(tasks, |t| {
        // SAFETY: each task has sums of its own; callers checked that `partials` holds them all.
        let sums = unsafe { shared.slice(t * 2 * channels, 2 * channels) };
        sums.fill(0.0);
        let (a, b) = sums.split_at_mut(channels);
        for row in border(rows, tasks, t)..border(rows, tasks, t + 1) {
            work(row, [&mut *a, &mut *b]);
        }
    });
}

/// Adds the tasks' partial sums in order.
pub fn reduce(partials: &[f64], tasks: usize, channels: usize, [first, second]: [&mut [f64]; 2]) {
    first.fill(0.0);
    second.fill(0.0);
    for task in partials.chunks_exact(2 * channels.max(1)).take(tasks) {
        let (a, b) = task.split_at(channels);
        for (s, v) in first.iter_mut().zip(a) {
            *s += v;
        }
        for (s, v) in second.iter_mut().zip(b) {
            *s += v;
        }
    }
}
