//! Poolings, forward and backward, with the norm and ReLU before them applied on load.

mod average;
mod max;

use densenet_spec::Window;

use crate::{
    KernelError, Raster,
    error::{at_least, exactly},
    norm::{Affine, Statistics},
};
pub use average::{average_pool, average_pool_backward};
pub use max::{MaxPoolBackward, Planes, max_pool, max_pool_planes};

/// Checks that `output` is what `window` makes of `input` and that both buffers hold their rasters.
fn check(
    operation: &'static str,
    window: &Window,
    (input_len, input): (usize, &Raster),
    (output_len, output): (usize, &Raster),
    channels: usize,
) -> Result<(), KernelError> {
    let spatial = window.output(input.spatial).unwrap_or([0; 3]);
    exactly(operation, "batch", input.batch, output.batch)?;
    for (needed, found) in spatial.into_iter().zip(output.spatial) {
        exactly(operation, "size of the output", needed, found)?;
    }
    at_least(operation, "input", input.len(), input_len)?;
    at_least(operation, "output", output.len(), output_len)?;
    at_least(
        operation,
        "channels of the input",
        input.offset + channels,
        input.stride,
    )?;
    at_least(
        operation,
        "channels of the output",
        output.offset + channels,
        output.stride,
    )
}

/// `[n, z, y]` of a row.
fn coordinates(raster: &Raster, row: usize) -> [usize; 3] {
    let [depth, height, _] = raster.spatial;
    [row / (depth * height), row / height % depth, row % height]
}

/// The taps of `window` that lie inside `input` for output position `at` along `axis`: `(tap, input position)`.
fn inside(
    window: &Window,
    input: &Raster,
    axis: usize,
    at: usize,
) -> impl Iterator<Item = (usize, usize)> + Clone {
    let size = input.spatial[axis];
    let (stride, padding) = (window.stride[axis], window.padding[axis]);
    (0..window.kernel[axis])
        .filter_map(move |tap| (at * stride + tap).checked_sub(padding).map(|i| (tap, i)))
        .filter(move |(_, i)| *i < size)
}

/// A norm before a pooling, on the way back.
#[derive(Clone, Copy)]
pub struct PooledNorm<'a> {
    /// The norm's input.
    pub input: &'a [f32],
    /// The folded norm.
    pub affine: Affine<'a>,
    /// μ and s.
    pub statistics: Statistics<'a>,
}

impl PooledNorm<'_> {
    fn check(
        &self,
        operation: &'static str,
        raster: &Raster,
        channels: usize,
    ) -> Result<(), KernelError> {
        self.affine.check(operation, channels)?;
        exactly(operation, "mean", channels, self.statistics.mean.len())?;
        exactly(
            operation,
            "inverse deviation",
            channels,
            self.statistics.inv_std.len(),
        )?;
        at_least(operation, "norm's input", raster.len(), self.input.len())
    }
}
