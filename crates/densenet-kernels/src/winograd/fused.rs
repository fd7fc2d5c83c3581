//! 3×3 and 3×3×3 convolutions of a training step, by tiles, with what stands before and behind them.
//!
//! Forward, the norm and ReLU before the convolution are applied as patches are loaded, and the outputs' mean and variance
//! are summed as tiles are stored. Backward, the tile is the gradient at the output of norm + ReLU, so it is masked and the
//! norm's two sums are taken as it is stored. No map is read or written a second time for any of that.
//!
//! Tiles are 2 or 4 pixels high and wide, and 2 deep: those of 4 along the depth too would multiply a quarter less, but
//! their kernels, transformed anew in every step, take half as much memory again.

mod store;
mod weights;

use std::{ops::Range, ptr};

use densenet_spec::Window;

use super::{
    Tiles, WinogradWeights,
    grid::{Grid, Input, transform_input},
    transform::Transform,
};
use crate::{
    KernelError, Raster,
    error::{at_least, exactly},
    norm::{self, Affine, Statistics},
    parallel::{MAX_TASKS, Shared, border, evenly, for_each, with_scratch},
    pointwise::{Written, add_powers},
};
use store::{Fetch, Output, fetch_outputs, store_tile};
pub use weights::FusedWeights;

/// What happens to tiles on their way to memory.
pub enum FusedStore<'a> {
    /// The outputs as they are, and their mean and biased variance per channel.
    Moments([&'a mut [f64]; 2]),
    /// Gradients at the output of a norm + ReLU: set to zero where the ReLU was, with Σ m and Σ m·x̂ per channel.
    Masked {
        /// The norm's input.
        input: (&'a [f32], Raster),
        /// The folded norm.
        affine: Affine<'a>,
        /// μ and s of its input.
        statistics: Statistics<'a>,
        /// Where Σ m and Σ m·x̂ go.
        sums: [&'a mut [f64]; 2],
    },
}

/// A convolution as large as its input.
pub struct FusedWinograd<'a> {
    /// The input. A border is not needed, and not read.
    pub source: (&'a [f32], Raster),
    /// The norm before it, applied with ReLU as the source is loaded.
    pub affine: Option<Affine<'a>>,
    /// The transformed kernel.
    pub weights: &'a FusedWeights,
}

impl FusedWinograd<'_> {
    /// The tiles that are the fastest way to this output; `None` if the direct convolution is.
    ///
    /// In multiply-adds per pair of channels; a transform costs about 0.3 of its products, a transformed weight takes as
    /// long to compute, pack and fetch as 30.
    pub fn choose(window: &Window, output: &Raster) -> Option<Tiles> {
        fastest(window, output, |tiles, points| {
            tiles * points * 13 / 10 + 30 * points
        })
    }

    /// Elements of scratch memory for the sums of this many channels over an output.
    pub fn partial_sums(window: &Window, c_out: usize, output: &Raster) -> usize {
        // The smallest tiles are the most.
        let grid = Grid::new(Tiles::Two.axes(window), output);
        grid.total().clamp(1, MAX_TASKS) * 2 * c_out
    }

    /// Computes the convolution into `output`, whose pixels lie where `raster` says.
    ///
    /// # Numerics
    /// f32. Moments are f64 sums over fixed runs of tiles, the two sums of a mask f32 over a few tiles and then f64; the
    /// runs are added in order: bit-identical at any thread count.
    ///
    /// # Errors
    /// A buffer or channel count does not fit.
    pub fn run(
        &self,
        (output, raster): (&mut [f32], &Raster),
        mut store: FusedStore<'_>,
        partials: &mut [f64],
    ) -> Result<(), KernelError> {
        const OP: &str = "winograd";
        let (data, input) = self.source;
        let w = self.weights;
        at_least(OP, "input", input.len(), data.len())?;
        at_least(
            OP,
            "channels of the input",
            input.offset + w.c_in,
            input.stride,
        )?;
        at_least(OP, "output", raster.len(), output.len())?;
        at_least(
            OP,
            "channels of the output",
            raster.offset + w.c_out,
            raster.stride,
        )?;
        exactly(OP, "batch of the output", input.batch, raster.batch)?;
        for axis in 0..3 {
            let sizes = (input.spatial[axis], raster.spatial[axis]);
            exactly(OP, "size of the output", sizes.0, sizes.1)?;
        }
        if let Some(affine) = &self.affine {
            affine.check(OP, w.c_in)?;
        }
        let mask = match &store {
            FusedStore::Moments(_) => None,
            FusedStore::Masked {
                input: (x, from),
                affine,
                statistics,
                ..
            } => {
                affine.check(OP, w.c_out)?;
                exactly(OP, "mean", w.c_out, statistics.mean.len())?;
                exactly(OP, "inverse deviation", w.c_out, statistics.inv_std.len())?;
                at_least(OP, "norm's input", from.len(), x.len())?;
                at_least(OP, "channels of that", from.offset + w.c_out, from.stride)?;
                exactly(OP, "batch of that", raster.batch, from.batch)?;
                for axis in 0..3 {
                    exactly(OP, "size of that", raster.spatial[axis], from.spatial[axis])?;
                }
                Some(Mask {
                    input: x,
                    from: *from,
                    scale: affine.scale,
                    shift: affine.shift,
                    mean: statistics.mean,
                })
            }
        };
        let (FusedStore::Moments(sums) | FusedStore::Masked { sums, .. }) = &mut store;
        let [first, second] = sums;
        exactly(OP, "sums", w.c_out, first.len())?;
        exactly(OP, "sums", w.c_out, second.len())?;
        let grid = Grid::new(w.axes, raster);
        let total = grid.total();
        let needed = total.clamp(1, MAX_TASKS) * 2 * w.c_out;
        at_least(OP, "partial sums", needed, partials.len())?;
        first.fill(0.0);
        second.fill(0.0);
        if raster.pixels() == 0 || w.c_out == 0 {
            return Ok(());
        }
        let widest = w.shape.widest_rows(w.c_out);
        let tiles = if w.axes[1] == Transform::F2 { 28 } else { 14 };
        let group = ((tiles / widest).max(1) * widest).min(MAX_TILES);
        let tasks = tasks(total, group);
        let pass = Pass {
            fused: self,
            grid,
            group,
            output: Shared::new(output),
            raster,
            mask,
            sums: Shared::new(partials),
        };
        for_each(tasks, |task| {
            pass.task(
                task,
                border(total, tasks, task)..border(total, tasks, task + 1),
            );
        });
        norm::reduce(partials, tasks, w.c_out, [&mut **first, &mut **second]);
        match &mut store {
            FusedStore::Moments([mean, variance]) => {
                let count = raster.pixels().max(1) as f64;
                for (m, v) in mean.iter_mut().zip(variance.iter_mut()) {
                    *m /= count;
                    *v = (*v / count - *m * *m).max(0.0);
                }
            }
            FusedStore::Masked {
                statistics, sums, ..
            } => {
                for (sum, s) in sums[1].iter_mut().zip(statistics.inv_std) {
                    *sum *= f64::from(*s);
                }
            }
        }
        Ok(())
    }
}

/// The tiles of a training step.
pub(super) const CHOICE: [Tiles; 2] = [Tiles::TwoFour, Tiles::Two];

/// The tiles whose cost, by how many there are and their points, is least, and less than the direct convolution's.
pub(super) fn fastest(
    window: &Window,
    output: &Raster,
    cost: impl Fn(usize, usize) -> usize,
) -> Option<Tiles> {
    if !WinogradWeights::fits(window) {
        return None;
    }
    let cost = |tiles: &Tiles| {
        let grid = Grid::new(tiles.axes(window), output);
        cost(grid.total(), grid.depths() * grid.plane())
    };
    let best = CHOICE.into_iter().min_by_key(cost);
    best.filter(|tiles| cost(tiles) < (output.pixels() + 18) * window.taps())
}

/// Most tiles handled at a time, 28 of 2×2 pixels or 14 of 4×4 where a register tile's rows divide that: see
/// `super::TILES`.
const MAX_TILES: usize = 28;

/// Most outputs summed in f32 before their sums are added in f64.
const SUMMED: usize = 224;

/// Runs of tiles with sums of their own: whole groups, but fewer tiles where several threads would have no work.
fn tasks(total: usize, group: usize) -> usize {
    let groups = total.div_ceil(group);
    if groups > 32 {
        return groups.min(MAX_TASKS);
    }
    groups.next_multiple_of(4).min(total / 7).max(1)
}

/// The norm + ReLU that a gradient goes back through.
struct Mask<'a> {
    input: &'a [f32],
    from: Raster,
    scale: &'a [f32],
    shift: &'a [f32],
    mean: &'a [f32],
}

/// A convolution under way.
struct Pass<'a> {
    fused: &'a FusedWinograd<'a>,
    grid: Grid,
    /// Tiles handled at a time.
    group: usize,
    output: Shared<f32>,
    raster: &'a Raster,
    mask: Option<Mask<'a>>,
    /// `[task][2][c_out]`
    sums: Shared<f64>,
}

/// Most output pixels of a group of tiles: those of 2×4×4.
const OUTPUTS: usize = 32 * MAX_TILES;

impl Pass<'_> {
    fn task(&self, task: usize, tiles: Range<usize>) {
        let w = self.fused.weights;
        let c_out = w.c_out;
        // SAFETY: each task has sums of its own.
        let [first, second] = [0, 1].map(|k| unsafe {
            let sums = self.sums.slice((task * 2 + k) * c_out, c_out);
            sums.fill(0.0);
            sums
        });
        let width = w.shape.padded(c_out);
        let row = w.c_in.next_multiple_of(16);
        let (plane, outputs) = (self.grid.plane(), self.grid.outputs());
        let points = self.grid.depths() * plane;
        // An odd number of cache lines from one pixel of the transform to the next keeps them out of one set.
        let (pitch_d, pitch_y) = (self.group * row + 16, self.group * width + 16);
        let sizes = [plane * pitch_d, points * pitch_y, 2 * width];
        with_scratch(sizes.iter().sum(), |scratch| {
            let (patches, rest) = scratch.split_at_mut(sizes[0]);
            let (products, sums) = rest.split_at_mut(sizes[1]);
            let (mut places, mut inputs) = ([NOWHERE; OUTPUTS], [ptr::null(); OUTPUTS]);
            let mut written = [0; OUTPUTS];
            let mut start = tiles.start;
            while start < tiles.end {
                let count = self.group.min(tiles.end - start);
                let group = start..start + count;
                for (i, tile) in group.clone().enumerate() {
                    let own = i * outputs..(i + 1) * outputs;
                    self.outputs(tile, &mut places[own.clone()], &mut inputs[own]);
                }
                let (places, inputs) = (&places[..count * outputs], &inputs[..count * outputs]);
                let fetch = Fetch {
                    places,
                    inputs,
                    output: self.output.pointer(0, 0),
                    channels: c_out,
                };
                fetch_outputs(w.isa, &fetch);
                for depth in 0..self.grid.depths() {
                    self.patches(group.clone(), depth, (&mut *patches, row, pitch_d));
                    for point in 0..plane {
                        let product = (depth * plane + point) * pitch_y;
                        let weight = w.point(depth * plane + point);
                        weight.multiply(
                            (&patches[point * pitch_d..][..count * row], row),
                            0..weight.rows(),
                            &mut products[product..][..count * width],
                        );
                    }
                }
                for tiles in evenly(0..count, (SUMMED / outputs).max(1)) {
                    sums.fill(0.0);
                    for i in tiles {
                        let tile = Output {
                            product: products[i * width..].as_ptr(),
                            pitch: pitch_y,
                            deep: self.grid.depths() > 1,
                            channels: c_out,
                            output: self.output.pointer(0, 0),
                            places: &places[i * outputs..][..outputs],
                            inputs: &inputs[i * outputs..][..outputs],
                            mask: self.mask.as_ref(),
                            sums: [sums.as_mut_ptr(), sums[width..].as_mut_ptr()],
                        };
                        // SAFETY: rows of products and sums are whole registers; `outputs` checked every place and, with a
                        // mask, every input.
                        unsafe { store_tile(w.isa, self.grid.axes[1], &tile) };
                    }
                    if self.mask.is_some() {
                        for (total, part) in [
                            (&mut *first, &sums[..c_out]),
                            (&mut *second, &sums[width..]),
                        ] {
                            for (t, p) in total.iter_mut().zip(part) {
                                *t += f64::from(*p);
                            }
                        }
                    }
                }
                if self.mask.is_none() {
                    let mut many = 0;
                    for place in places.iter().filter(|place| **place != NOWHERE) {
                        written[many] = *place;
                        many += 1;
                    }
                    let rows = Written {
                        output: self.output.pointer(0, 0),
                        places: &written[..many],
                    };
                    add_powers(w.isa, &rows, &mut *first, &mut *second);
                }
                start += count;
            }
        });
    }

    /// Transforms one depth of some patches.
    fn patches(
        &self,
        group: Range<usize>,
        depth: usize,
        (patches, row, pitch): (&mut [f32], usize, usize),
    ) {
        let (data, input) = self.fused.source;
        let w = self.fused.weights;
        let pixels = |tile: usize| self.grid.patch((data, &input, w.c_in), tile, depth);
        let last = group.end - 1;
        let mut next = pixels(group.start);
        for (i, tile) in group.enumerate() {
            let patch = next;
            next = pixels((tile + 1).min(last));
            let input = Input {
                patch: &patch,
                ahead: &next,
                start: 0,
                channels: w.c_in,
                affine: self.fused.affine,
                target: patches[i * row..].as_mut_ptr(),
                pitch,
            };
            // SAFETY: `Grid::patch` gives null or places with their channels, a row of patches has whole registers.
            unsafe { transform_input(w.isa, self.grid.axes[1], &input) };
        }
    }

    /// Where the pixels of an output tile go ([`NOWHERE`] for those outside the map), and the norm's input at them.
    fn outputs(&self, tile: usize, places: &mut [usize], inputs: &mut [*const f32]) {
        let [n, z, y, x] = self.grid.corner(tile);
        let [depth, height, width] = self.raster.spatial;
        let [deep, high, wide] = self.grid.axes.map(Transform::tile);
        let c_out = self.fused.weights.c_out;
        let rows = places
            .chunks_exact_mut(wide)
            .zip(inputs.chunks_exact_mut(wide));
        let corners = (0..deep).flat_map(|dz| (0..high).map(move |dy| (z + dz, y + dy)));
        for ((places, inputs), (z, y)) in rows.zip(corners) {
            if z >= depth || y >= height {
                places.fill(NOWHERE);
                continue;
            }
            let inside = wide.min(width - x);
            let (places, outside) = places.split_at_mut(inside);
            outside.fill(NOWHERE);
            let first = self.raster.place([n, z, y, x]);
            // Checked here for whoever writes there.
            self.output
                .pointer(first, (inside - 1) * self.raster.stride + c_out);
            for (dx, place) in places.iter_mut().enumerate() {
                *place = first + dx * self.raster.stride;
            }
            if let Some(mask) = &self.mask {
                let (first, stride) = (mask.from.place([n, z, y, x]), mask.from.stride);
                let row = mask.input[first..][..(inside - 1) * stride + c_out].as_ptr();
                for (dx, input) in inputs[..inside].iter_mut().enumerate() {
                    *input = row.wrapping_add(dx * stride);
                }
            }
        }
    }
}

/// A pixel outside the map.
const NOWHERE: usize = usize::MAX;
