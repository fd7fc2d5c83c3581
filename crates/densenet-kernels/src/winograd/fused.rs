//! 3×3 and 3×3×3 convolutions of a training step, by tiles of 2, with what stands before and behind them.
//!
//! Forward, the norm and ReLU before the convolution are applied as patches are loaded, and the outputs' mean and variance
//! are summed as tiles are stored. Backward, the tile is the gradient at the output of norm + ReLU, so it is masked and the
//! norm's two sums are taken as it is stored. No map is read or written a second time for any of that.
//!
//! Tiles are of 2 because those of 4 would cost the gradients four more bits (docs/numerics.md).

mod store;
mod weights;

use std::{ops::Range, ptr};

use densenet_spec::Window;

use super::{
    WinogradWeights,
    pairs::{Grid, Input, PLANE, transform_input},
};
use crate::{
    KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    norm::{self, Affine, Statistics},
    parallel::{MAX_TASKS, Shared, border, for_each, with_scratch},
    pointwise::{Written, add_powers},
    simd::Simd,
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
    /// Whether tiles are the faster way to this output.
    ///
    /// In multiply-adds per pair of channels; a transform costs about 0.3 of its products, a transformed weight takes as
    /// long to compute, pack and fetch as 30.
    pub fn pays(window: &Window, output: &Raster) -> bool {
        if !WinogradWeights::fits(window) {
            return false;
        }
        let grid = Grid::new(window, output);
        let points = grid.depths() * PLANE;
        let tiles = grid.total() * points * 13 / 10 + 30 * points;
        tiles < (output.pixels() + 18) * window.taps()
    }

    /// Elements of scratch memory for the sums of this many channels over an output.
    pub fn partial_sums(window: &Window, c_out: usize, output: &Raster) -> usize {
        Grid::new(window, output).total().clamp(1, MAX_TASKS) * 2 * c_out
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
        let window = window_of(w.deep);
        let needed = Self::partial_sums(&window, w.c_out, raster);
        at_least(OP, "partial sums", needed, partials.len())?;
        first.fill(0.0);
        second.fill(0.0);
        if raster.pixels() == 0 || w.c_out == 0 {
            return Ok(());
        }
        let grid = Grid::new(&window, raster);
        let total = grid.total();
        let widest = w
            .shape
            .panels(w.c_out)
            .next()
            .map_or(1, |p| w.shape.mr(p.1));
        let group = (TILES / widest).max(1) * widest;
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

/// Most tiles handled at a time: see `super::TILES`.
const TILES: usize = 28;

/// Runs of tiles with sums of their own: whole groups, but fewer tiles where several threads would have no work.
fn tasks(total: usize, group: usize) -> usize {
    let groups = total.div_ceil(group);
    if groups > 32 {
        return groups.min(MAX_TASKS);
    }
    groups.next_multiple_of(4).min(total / 7).max(1)
}

/// The window of these convolutions.
fn window_of(deep: bool) -> Window {
    let depth = if deep { 3 } else { 1 };
    Window {
        kernel: [depth, 3, 3],
        stride: [1; 3],
        padding: [depth / 2, 1, 1],
    }
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

/// Most output pixels of a tile.
const OUTPUTS: usize = 8;

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
        let points = self.grid.depths() * PLANE;
        // An odd number of cache lines from one pixel of the transform to the next keeps them out of one set.
        let (pitch_d, pitch_y) = (self.group * row + 16, self.group * width + 16);
        let sizes = [PLANE * pitch_d, points * pitch_y, 2 * width];
        with_scratch(sizes.iter().sum(), |scratch| {
            let (patches, rest) = scratch.split_at_mut(sizes[0]);
            let (products, sums) = rest.split_at_mut(sizes[1]);
            let mut start = tiles.start;
            while start < tiles.end {
                let count = self.group.min(tiles.end - start);
                let group = start..start + count;
                let mut outputs = [([NOWHERE; OUTPUTS], [ptr::null(); OUTPUTS]); TILES];
                for (output, tile) in outputs.iter_mut().zip(group.clone()) {
                    *output = self.outputs(tile);
                }
                let fetch = Fetch {
                    outputs: &outputs[..count],
                    output: self.output.pointer(0, 0),
                    channels: c_out,
                };
                fetch_outputs(w.isa, &fetch);
                for depth in 0..self.grid.depths() {
                    self.patches(group.clone(), depth, (&mut *patches, row, pitch_d));
                    for point in 0..PLANE {
                        let product = (depth * PLANE + point) * pitch_y;
                        let weight = w.point(depth * PLANE + point);
                        weight.multiply(
                            (&patches[point * pitch_d..][..count * row], row),
                            0..weight.rows(),
                            &mut products[product..][..count * width],
                        );
                    }
                }
                sums.fill(0.0);
                let mut written = [0; OUTPUTS * TILES];
                let mut many = 0;
                for (i, (places, inputs)) in outputs[..count].iter().enumerate() {
                    let valid = places.iter().filter(|p| **p != NOWHERE);
                    for place in valid {
                        written[many] = *place;
                        many += 1;
                    }
                    let tile = Output {
                        product: products[i * width..].as_ptr(),
                        pitch: pitch_y,
                        deep: self.grid.deep,
                        channels: c_out,
                        output: self.output.pointer(0, 0),
                        places,
                        inputs,
                        mask: self.mask.as_ref(),
                        sums: [sums.as_mut_ptr(), sums[width..].as_mut_ptr()],
                    };
                    store_tile(w.isa, &tile);
                }
                match self.mask {
                    Some(_) => {
                        for (total, part) in [
                            (&mut *first, &sums[..c_out]),
                            (&mut *second, &sums[width..]),
                        ] {
                            for (t, p) in total.iter_mut().zip(part) {
                                *t += f64::from(*p);
                            }
                        }
                    }
                    None => {
                        let rows = Written {
                            output: self.output.pointer(0, 0),
                            places: &written[..many],
                        };
                        add_powers(w.isa, &rows, &mut *first, &mut *second);
                    }
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
                pixels: &patch,
                ahead: &next,
                start: 0,
                channels: w.c_in,
                affine: self.fused.affine,
                target: patches[i * row..].as_mut_ptr(),
                pitch,
            };
            transform_patch(w.isa, &input);
        }
    }

    /// Where the pixels of an output tile go ([`NOWHERE`] for those outside the map), and the norm's input at them.
    fn outputs(&self, tile: usize) -> ([usize; OUTPUTS], [*const f32; OUTPUTS]) {
        let [n, z, y, x] = self.grid.corner(tile);
        let [depth, height, width] = self.raster.spatial;
        let c_out = self.fused.weights.c_out;
        let mut places = [NOWHERE; OUTPUTS];
        let mut inputs = [ptr::null(); OUTPUTS];
        for i in 0..if self.grid.deep { 8 } else { 4 } {
            let (z, y, x) = (z + i / 4, y + i / 2 % 2, x + i % 2);
            if z >= depth || y >= height || x >= width {
                continue;
            }
            places[i] = self.raster.place([n, z, y, x]);
            // Checked here for whoever writes there.
            self.output.pointer(places[i], c_out);
            if let Some(mask) = &self.mask {
                inputs[i] = mask.input[mask.from.place([n, z, y, x])..][..c_out].as_ptr();
            }
        }
        (places, inputs)
    }
}

/// A pixel outside the map.
const NOWHERE: usize = usize::MAX;

dispatch! {
    fn transform_patch(input: &Input<'_>) = transform_patch_body
}

#[inline(always)]
fn transform_patch_body<S: Simd>(input: &Input<'_>) {
    // SAFETY: `Grid::patch` gives null or places with their channels, a row of patches has whole registers; the shell
    // around us has the instruction set.
    unsafe { transform_input::<S>(input) }
}
