//! Convolutions with respect to their weight.

use densenet_spec::Window;

use crate::{
    Isa, KernelError, Raster,
    conv::{Source, check_source, origins},
    error::{at_least, exactly},
    norm,
    parallel::{Shared, border, for_each, with_scratch},
    tile::{self, Product, Tile, TileShape},
};

/// `grad_weight[tap, c, o] += Σ_p input[p·stride + tap, c] · grad_output[p, o]`.
///
/// # Layout
/// `grad_weight` is `[tap][c_in][c_out]`. The input is as for [`crate::conv::Conv`]. The tile kernel loads whole
/// registers of `grad_output`: behind the raster's last pixel [`WeightGradient::slack`] more elements must be readable.
///
/// # Numerics
/// f32. The pixels are cut into a number of runs that depends on the shape alone; each run is one chain of multiply-adds
/// per weight, and the runs are added in order: bit-identical at any thread count.
pub struct WeightGradient<'a> {
    /// Kernel, stride and padding of the convolution.
    pub window: Window,
    /// Channels the convolution reads.
    pub c_in: usize,
    /// What it read.
    pub source: Source<'a>,
    /// Channels it produced.
    pub c_out: usize,
    /// The gradient at its output.
    pub grad_output: (&'a [f32], Raster),
}

/// Tasks worth having: a few for each of a dozen threads.
const TASKS: usize = 48;

/// Channels of a 1×1 convolution's input that a task normalises at a time: four cache lines of a pixel.
const CHANNEL_BLOCK: usize = 64;

/// Pixels a task handles at a time: with 64 channels of input and 128 of gradient they stay in the second-level cache.
const PIXEL_BLOCK: usize = 256;

impl WeightGradient<'_> {
    /// Elements that must be readable behind `grad_output`'s raster.
    pub fn slack(isa: Isa, c_out: usize) -> usize {
        TileShape::of(isa).padded(c_out) - c_out
    }

    /// Elements of scratch memory that [`WeightGradient::run`] needs.
    pub fn partials(
        isa: Isa,
        window: &Window,
        [c_in, c_out]: [usize; 2],
        output: &Raster,
    ) -> usize {
        let rows = window.taps() * c_in;
        splits(window, c_in, output) * rows * TileShape::of(isa).padded(c_out)
    }

    /// Adds the gradient to `grad_weight`.
    ///
    /// # Errors
    /// A buffer, halo or channel count does not fit.
    pub fn run(
        &self,
        isa: Isa,
        grad_weight: &mut [f32],
        partials: &mut [f32],
    ) -> Result<(), KernelError> {
        const OP: &str = "weight gradient";
        let (grad, output) = self.grad_output;
        let (data, input) = match self.source {
            Source::Map(data, raster) => (data, raster),
            Source::NormRelu(data, raster, affine) => {
                exactly(OP, "kernel of a normalised source", 1, self.window.taps())?;
                exactly(OP, "halo of the gradient", 0, output.halo.iter().sum())?;
                affine.check(OP, self.c_in)?;
                (data, raster)
            }
            Source::Bf16(data, raster) | Source::Centred(data, raster, _) => {
                exactly(OP, "source meant for bf16", 0, 1)?;
                (data, raster)
            }
        };
        check_source(OP, &self.window, self.c_in, data, &input)?;
        let spatial = self.window.output(input.spatial).unwrap_or([0; 3]);
        exactly(OP, "batch of the gradient", input.batch, output.batch)?;
        for (needed, found) in spatial.into_iter().zip(output.spatial) {
            exactly(OP, "size of the gradient", needed, found)?;
        }
        at_least(
            OP,
            "channels of the gradient",
            output.offset + self.c_out,
            output.stride,
        )?;
        at_least(
            OP,
            "gradient and slack",
            output.len() + Self::slack(isa, self.c_out),
            grad.len(),
        )?;
        let rows = self.window.taps() * self.c_in;
        exactly(OP, "weight", rows * self.c_out, grad_weight.len())?;
        let needed = Self::partials(isa, &self.window, [self.c_in, self.c_out], &output);
        at_least(OP, "scratch", needed, partials.len())?;
        if output.pixels() == 0 {
            return Ok(());
        }
        let work = Work {
            gradient: self,
            isa,
            splits: splits(&self.window, self.c_in, &output),
            pitch: TileShape::of(isa).padded(self.c_out),
            partials: Shared::new(partials),
        };
        match self.source {
            Source::NormRelu(_, _, affine) => work.normalised(data, &input, affine),
            _ => work.map(data, &input),
        }
        work.reduce(grad_weight);
        Ok(())
    }
}

/// Into how many runs the pixels are cut.
fn splits(window: &Window, c_in: usize, output: &Raster) -> usize {
    let (blocks, units) = if window.taps() == 1 {
        (
            c_in.div_ceil(CHANNEL_BLOCK),
            output.pixels().div_ceil(PIXEL_BLOCK),
        )
    } else {
        let runs = output.pixels().div_ceil(PIXEL_BLOCK / 2);
        (window.kernel[0] * window.kernel[1], output.rows().min(runs))
    };
    TASKS.div_ceil(blocks).min(units).max(1)
}

struct Work<'a> {
    gradient: &'a WeightGradient<'a>,
    isa: Isa,
    splits: usize,
    /// Elements from one row of a partial gradient to the next.
    pitch: usize,
    /// `[split][tap · c_in][pitch]`
    partials: Shared<f32>,
}

impl Work<'_> {
    fn rows(&self) -> usize {
        self.gradient.window.taps() * self.gradient.c_in
    }

    /// A map that is read in place. A task is one run of the output's rows for one row of the kernel.
    fn map(&self, data: &[f32], input: &Raster) {
        let WeightGradient { window, c_in, .. } = self.gradient;
        let (grad, output) = self.gradient.grad_output;
        let kernel_rows = window.kernel[0] * window.kernel[1];
        let rows_k = window.kernel[2] * c_in;
        let [_, height, width] = output.spatial;
        for_each(self.splits * kernel_rows, |task| {
            let (split, kernel_row) = (task / kernel_rows, task % kernel_rows);
            let tap = kernel_row / window.kernel[1] * input.plane_pitch()
                + kernel_row % window.kernel[1] * input.row_pitch();
            // SAFETY: this run and this row of the kernel belong to this task alone.
            let partial = unsafe {
                let start = (split * self.rows() + kernel_row * rows_k) * self.pitch;
                self.partials.slice(start, rows_k * self.pitch)
            };
            partial.fill(0.0);
            let (mut row, end) = (
                border(output.rows(), self.splits, split),
                border(output.rows(), self.splits, split + 1),
            );
            let mut taps = [0; PIXEL_BLOCK];
            while row < end {
                // As many rows as fit the cache, all of one plane, so that they are evenly apart.
                let plane_end = row - row % height + height;
                let many = (PIXEL_BLOCK / width).max(1);
                let stop = (row + many).min(plane_end).min(end);
                let mut origin = [0];
                origins(window, input, &output, row * width, &mut origin);
                let taps = &mut taps[..stop - row];
                for (i, tap) in taps.iter_mut().enumerate() {
                    *tap = i * window.stride[1] * input.row_pitch();
                }
                let rows = Runs {
                    pixels: width,
                    left: &data[origin[0] + tap..],
                    left_pitch: window.stride[2] * input.stride,
                    left_starts: taps,
                    right: &grad[output.row(row)..],
                    right_pitch: output.stride,
                    right_distance: output.row_pitch(),
                };
                self.tiles(&rows, partial);
                row = stop;
            }
        });
    }

    /// A map that is normalised as it is read. A task is one run of pixels for one block of channels.
    fn normalised(&self, data: &[f32], input: &Raster, affine: norm::Affine<'_>) {
        let WeightGradient { window, c_in, .. } = self.gradient;
        let (grad, output) = self.gradient.grad_output;
        let blocks = c_in.div_ceil(CHANNEL_BLOCK);
        let pixel_blocks = output.pixels().div_ceil(PIXEL_BLOCK);
        for_each(self.splits * blocks, |task| {
            let (split, block) = (task / blocks, task % blocks);
            let channels = block * CHANNEL_BLOCK..((block + 1) * CHANNEL_BLOCK).min(*c_in);
            let width = channels.len();
            // SAFETY: this run and this block of channels belong to this task alone.
            let partial = unsafe {
                let start = (split * self.rows() + channels.start) * self.pitch;
                self.partials.slice(start, width * self.pitch)
            };
            partial.fill(0.0);
            let blocks = border(pixel_blocks, self.splits, split)
                ..border(pixel_blocks, self.splits, split + 1);
            with_scratch(PIXEL_BLOCK * width, |scratch| {
                for block in blocks {
                    let first = block * PIXEL_BLOCK;
                    let count = PIXEL_BLOCK.min(output.pixels() - first);
                    let mut places = [0; PIXEL_BLOCK];
                    origins(window, input, &output, first, &mut places[..count]);
                    for (row, place) in scratch.chunks_exact_mut(width).zip(&places[..count]) {
                        let pixel = &data[place + channels.start..place + channels.end];
                        let (scale, shift) = (
                            &affine.scale[channels.clone()],
                            &affine.shift[channels.clone()],
                        );
                        norm::affine_relu(self.isa, pixel, scale, shift, row);
                    }
                    let block = Runs {
                        pixels: count,
                        left: scratch,
                        left_pitch: width,
                        left_starts: &[0],
                        right: &grad[output.pixel(first)..],
                        right_pitch: output.stride,
                        right_distance: 0,
                    };
                    self.tiles(&block, partial);
                }
            });
        });
    }

    /// Adds the product of some runs of pixels to a partial gradient.
    fn tiles(&self, runs: &Runs<'_>, partial: &mut [f32]) {
        let shape = TileShape::of(self.isa);
        let rows = partial.len() / self.pitch;
        let last_start = runs.left_starts.last().copied().unwrap_or(0);
        let last = last_start + (runs.pixels - 1) * runs.left_pitch + rows;
        assert!(last <= runs.left.len());
        let last = (runs.left_starts.len() - 1) * runs.right_distance
            + (runs.pixels - 1) * runs.right_pitch
            + self.pitch;
        assert!(last <= runs.right.len());
        for (column, vectors) in shape.panels(self.gradient.c_out) {
            let tile = Tile {
                a: runs.left.as_ptr(),
                a_row: 1,
                a_k: runs.left_pitch,
                taps: runs.left_starts,
                // SAFETY: `column` lies in the first pixel's row, as asserted.
                b: unsafe { runs.right.as_ptr().add(column) },
                b_tap: runs.right_distance,
                b_k: runs.right_pitch,
                k: runs.pixels,
                rows,
                vectors,
            };
            let product = Product {
                start: partial[column..].as_mut_ptr(),
                row: self.pitch,
                accumulate: true,
            };
            // SAFETY: the assertions bound the last element read of both factors over all rows and columns; the tile's rows
            // and columns lie in `partial`, which is borrowed mutably.
            unsafe { tile::compute(self.isa, &tile, &product) };
        }
    }

    /// Adds the runs in order.
    fn reduce(&self, grad_weight: &mut [f32]) {
        let c_out = self.gradient.c_out;
        let (rows, pitch) = (self.rows(), self.pitch);
        let shared = Shared::new(grad_weight);
        let tasks = rows.div_ceil(64);
        for_each(tasks, |task| {
            for row in task * 64..((task + 1) * 64).min(rows) {
                // SAFETY: each row belongs to one task, and nobody writes the partial gradients any more.
                let (sum, parts) = unsafe {
                    let sum = shared.slice(row * c_out, c_out);
                    let part =
                        |split: usize| self.partials.slice((split * rows + row) * pitch, c_out);
                    (sum, (0..self.splits).map(part))
                };
                for part in parts {
                    sum.iter_mut().zip(part.iter()).for_each(|(s, p)| *s += p);
                }
            }
        });
    }
}

/// Runs of pixels, all equally long, and the two factors over them:
/// `Σ_t Σ_p left[left_starts[t] + p·left_pitch + row] · right[t·right_distance + p·right_pitch + column]`.
struct Runs<'a> {
    /// Pixels of a run.
    pixels: usize,
    left: &'a [f32],
    left_pitch: usize,
    /// Where each run starts, ascending.
    left_starts: &'a [usize],
    right: &'a [f32],
    right_pitch: usize,
    /// From one run's start to the next.
    right_distance: usize,
}
