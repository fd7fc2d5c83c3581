//! The stem's 7×7 convolution of stride 2 as a Winograd convolution of stride 1.
//!
//! Space to depth: the four pixels of a 2×2 square become four channels of one, and a 7×7 kernel of stride 2 (its eighth
//! row and column zero) becomes a 4×4 kernel of stride 1, for which F(3×3, 4×4) needs 36 multiplications where 144
//! stood. Along the depth a 7×7×7 kernel stays as it is: the transformed pixels of all depths lie side by side, so that
//! the kernel's seven are one run of memory.
//!
//! ```text
//! out[z, y, x] = Σ_{dz, j, i, φy, φx, c} in[2z + dz − 3, 2(y + j) + φy − 3, 2(x + i) + φx − 3, c] · w[dz, 2j + φy, 2i + φx, c]
//! ```
//!
//! # Source
//! Lavin & Gray, arXiv:1509.09308; the points are those of F(4, 3), so Bᵀ is the same.

mod gradient;
mod weights;

use std::{array, ops::Range, ptr};

use densenet_spec::Window;

use super::{
    product::Weight,
    transform::{self, Input, Mix, Numbers, Output, Transform},
};
use crate::{
    KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    norm::{self, Affine},
    panels::Element,
    parallel::{MAX_TASKS, Shared, border, for_each, with_scratch},
    pointwise::{Written, add_powers},
    simd::Simd,
};
pub use gradient::StemGradient;
pub use weights::StemWeights;

/// Pixels of a transformed patch.
const POINTS: usize = 36;

/// Output pixels of a tile along height and width.
const TILE: usize = 3;

/// What an image of some size becomes.
struct Geometry {
    /// `[depth, height, width]` of the output.
    output: [usize; 3],
    /// Tiles along height and width.
    tiles: [usize; 2],
    /// Rows and columns of squares: six to a patch, three to a tile.
    squares: [usize; 2],
    /// Elements that all depths of one square take: whole registers.
    line: usize,
}

impl Geometry {
    fn new(window: &Window, input: &Raster) -> Self {
        let output = window.output(input.spatial).unwrap_or([0; 3]);
        let tiles = [output[1].div_ceil(TILE), output[2].div_ceil(TILE)];
        let slices = input.spatial[0] + 2 * window.padding[0];
        Geometry {
            output,
            tiles,
            squares: tiles.map(|tiles| tiles * TILE + 3),
            line: (slices * 4 * input.stride).next_multiple_of(16),
        }
    }

    /// `[sample, row, column]` of a tile's first output pixel, which is its first square too.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [th, tw] = self.tiles;
        [tile / (th * tw), tile / tw % th * TILE, tile % tw * TILE]
    }

    /// Where the squares of a tile's patch lie.
    fn patch(&self, tile: usize) -> [usize; POINTS] {
        let [n, y, x] = self.place(tile);
        let [rows, columns] = self.squares;
        array::from_fn(|p| ((n * rows + y + p / 6) * columns + x + p % 6) * self.line)
    }

    /// Where a tile's outputs at one depth lie in a raster; [`NOWHERE`] for those outside the map.
    fn outputs(&self, raster: &Raster, tile: usize, depth: usize) -> [usize; TILE * TILE] {
        let [n, y, x] = self.place(tile);
        let [depths, height, width] = raster.spatial;
        let mut places = [NOWHERE; TILE * TILE];
        for dy in 0..TILE.min(height - y) {
            let row = raster.row((n * depths + depth) * height + y + dy);
            for dx in 0..TILE.min(width - x) {
                places[dy * TILE + dx] = row + (x + dx) * raster.stride;
            }
        }
        places
    }
}

/// Where a group's outputs go.
struct Fetch<'a> {
    places: &'a [usize],
    output: *const f32,
    channels: usize,
}

dispatch! {
    /// Asks for the memory that a group's outputs go to, while its products are computed.
    fn fetch_outputs(fetch: &Fetch<'_>) = fetch_outputs_body
}

#[inline(always)]
fn fetch_outputs_body<S: Simd>(fetch: &Fetch<'_>) {
    for place in fetch.places.iter().filter(|p| **p != NOWHERE) {
        for c in (0..fetch.channels + 15).step_by(16) {
            // SAFETY: the shell around us has the instruction set; any address may be asked for.
            unsafe { S::prefetch(fetch.output.wrapping_add(place + c)) };
        }
    }
}

/// A pixel outside the map.
const NOWHERE: usize = usize::MAX;

/// A stem's convolution by tiles, with the norm and ReLU behind it.
pub struct Stem<'a> {
    /// The image's raster, dense, without a border.
    pub input: Raster,
    /// The transformed kernel.
    pub weights: &'a StemWeights,
    /// The norm and ReLU behind the convolution, where there is one.
    pub norm_relu: Option<Affine<'a>>,
}

impl Stem<'_> {
    /// The kernel's id in logs and benchmarks: `op.pass.dtype.tile.fusion.isa`.
    pub fn id(&self) -> String {
        let op = match self.weights.window.kernel[0] {
            1 => "conv7x7".to_string(),
            depth => format!("conv{depth}x7x7"),
        };
        let fusion = match self.norm_relu {
            Some(_) => "affine_relu",
            None => "store",
        };
        let isa = self.weights.isa.name();
        format!("{op}.forward.f32.winograd3x3.{fusion}.{isa}")
    }

    /// Space to depth: `[sample][row][column]` of squares, each `[depth][φy][φx][channel]`, zero outside the image.
    ///
    /// # Errors
    /// A buffer or channel count does not fit.
    pub fn prepare(&self, image: &[f32], squares: &mut [f32]) -> Result<(), KernelError> {
        const OP: &str = "winograd stem";
        let (input, w) = (&self.input, self.weights);
        at_least(OP, "input", input.len(), image.len())?;
        exactly(OP, "channels of the input", w.c_in, input.stride)?;
        at_least(
            OP,
            "squares",
            StemWeights::prepared(&self.weights.window, &self.input),
            squares.len(),
        )?;
        let Geometry {
            squares: [rows, columns],
            line,
            ..
        } = Geometry::new(&w.window, input);
        let [depth, height, width] = input.spatial;
        let [pad_z, pad_y, pad_x] = w.window.padding;
        let shared = Shared::new(squares);
        for_each(input.batch * rows, |task| {
            let (n, row) = (task / rows, task % rows);
            // SAFETY: every row of squares belongs to one task.
            let squares = unsafe { shared.slice(task * columns * line, columns * line) };
            squares.fill(0.0);
            for (phase, y) in (2 * row..2 * row + 2).enumerate() {
                let Some(y) = y.checked_sub(pad_y).filter(|y| *y < height) else {
                    continue;
                };
                for z in 0..depth {
                    let from = input.row((n * depth + z) * height + y);
                    let to = ((z + pad_z) * 2 + phase) * 2 * w.c_in;
                    // As far as the squares reach: the last columns of an image may belong to no output.
                    for x in 0..width.min(2 * columns - pad_x) {
                        let (square, half) = ((x + pad_x) / 2, (x + pad_x) % 2);
                        let to = square * line + to + half * w.c_in;
                        let from = from + x * input.stride;
                        // One channel, as most volumes have, is not worth a call.
                        if let ([to], [from]) =
                            (&mut squares[to..to + w.c_in], &image[from..from + w.c_in])
                        {
                            *to = *from;
                        } else {
                            squares[to..to + w.c_in].copy_from_slice(&image[from..from + w.c_in]);
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// Computes the output's planes `depths` of every sample out of what [`Stem::prepare`] left. `raster` has as many.
    ///
    /// # Errors
    /// A buffer or channel count does not fit.
    pub fn run(
        &self,
        squares: &[f32],
        depths: Range<usize>,
        (output, raster): (&mut [f32], &Raster),
    ) -> Result<(), KernelError> {
        self.check(squares, &depths, (output, raster))?;
        if raster.pixels() == 0 || self.weights.c_out == 0 {
            return Ok(());
        }
        let pass = Pass::new(self, squares, depths.start, (output, raster));
        // A tile's result does not depend on its group.
        let (total, groups) = pass.groups();
        for_each(groups, |group| {
            pass.group(
                border(total, groups, group)..border(total, groups, group + 1),
                None,
            );
        });
        Ok(())
    }

    /// Elements of scratch memory for the statistics of an output.
    pub fn partial_sums(c_out: usize, output: &Raster) -> usize {
        let tiles = [1, 2].map(|axis: usize| output.spatial[axis].div_ceil(TILE));
        let together = together(output.spatial[0]);
        let groups = (output.batch * tiles[0] * tiles[1]).div_ceil(together);
        groups.clamp(1, MAX_TASKS) * 2 * c_out
    }

    /// [`Stem::run`] of all planes, and the mean and biased variance of every output channel, summed while a tile is in the
    /// cache.
    ///
    /// # Numerics
    /// The sums are f64 over fixed runs of tiles, added in order: bit-identical at any thread count.
    ///
    /// # Errors
    /// A buffer or channel count does not fit; `partials` needs [`Stem::partial_sums`] elements.
    pub fn run_with_moments(
        &self,
        squares: &[f32],
        (output, raster): (&mut [f32], &Raster),
        [mean, variance]: [&mut [f64]; 2],
        partials: &mut [f64],
    ) -> Result<(), KernelError> {
        const OP: &str = "winograd stem";
        let c_out = self.weights.c_out;
        self.check(squares, &(0..raster.spatial[0]), (output, raster))?;
        exactly(OP, "mean", c_out, mean.len())?;
        exactly(OP, "variance", c_out, variance.len())?;
        let needed = Self::partial_sums(c_out, raster);
        at_least(OP, "partial sums", needed, partials.len())?;
        mean.fill(0.0);
        variance.fill(0.0);
        if raster.pixels() == 0 || c_out == 0 {
            return Ok(());
        }
        let pass = Pass::new(self, squares, 0, (output, raster));
        let sums = Shared::new(partials);
        let (total, groups) = pass.groups();
        let tasks = groups.min(MAX_TASKS);
        for_each(tasks, |task| {
            // SAFETY: each task has sums of its own.
            let [sum, square] = [0, 1].map(|k| unsafe {
                let sums = sums.slice((task * 2 + k) * c_out, c_out);
                sums.fill(0.0);
                sums
            });
            for group in border(groups, tasks, task)..border(groups, tasks, task + 1) {
                let tiles = border(total, groups, group)..border(total, groups, group + 1);
                pass.group(tiles, Some([&mut *sum, &mut *square]));
            }
        });
        norm::reduce(partials, tasks, c_out, [&mut *mean, &mut *variance]);
        let count = raster.pixels() as f64;
        for (m, v) in mean.iter_mut().zip(variance) {
            *m /= count;
            *v = (*v / count - *m * *m).max(0.0);
        }
        Ok(())
    }

    fn check(
        &self,
        squares: &[f32],
        depths: &Range<usize>,
        (output, raster): (&[f32], &Raster),
    ) -> Result<(), KernelError> {
        const OP: &str = "winograd stem";
        let w = self.weights;
        let spatial = Geometry::new(&w.window, &self.input).output;
        let needed = StemWeights::prepared(&w.window, &self.input);
        at_least(OP, "squares", needed, squares.len())?;
        at_least(OP, "planes", depths.end, spatial[0])?;
        exactly(OP, "batch of the output", self.input.batch, raster.batch)?;
        let planes = [depths.len(), spatial[1], spatial[2]];
        for (needed, found) in planes.into_iter().zip(raster.spatial) {
            exactly(OP, "size of the output", needed, found)?;
        }
        at_least(OP, "output", raster.len(), output.len())?;
        let channels = raster.offset + w.c_out;
        at_least(OP, "channels of the output", channels, raster.stride)?;
        match &self.norm_relu {
            Some(affine) => affine.check(OP, w.c_out),
            None => Ok(()),
        }
    }
}

/// A convolution under way.
struct Pass<'a> {
    stem: &'a Stem<'a>,
    squares: &'a [f32],
    /// The first of the output's planes.
    first: usize,
    geometry: Geometry,
    output: Shared<f32>,
    raster: &'a Raster,
}

/// Rows of products at a time: 36 of them of 64 channels stay in a second-level cache of 1 MiB.
const ROWS: usize = 36;

/// Tiles handled at a time: one where its depths alone fill a register tile, so that they are the rows.
fn together(depths: usize) -> usize {
    if depths == 1 { ROWS } else { 1 }
}

impl<'a> Pass<'a> {
    fn new(
        stem: &'a Stem<'a>,
        squares: &'a [f32],
        first: usize,
        (output, raster): (&mut [f32], &'a Raster),
    ) -> Self {
        Pass {
            stem,
            squares,
            first,
            geometry: Geometry::new(&stem.weights.window, &stem.input),
            output: Shared::new(output),
            raster,
        }
    }

    /// Tiles of all samples, and the groups that they are handled in.
    fn groups(&self) -> (usize, usize) {
        let [th, tw] = self.geometry.tiles;
        let total = self.raster.batch * th * tw;
        (total, total.div_ceil(together(self.raster.spatial[0])))
    }

    /// Computes some tiles, and adds their outputs and the squares of these to `sums`.
    fn group(&self, tiles: Range<usize>, mut sums: Option<[&mut [f64]; 2]>) {
        let w = self.stem.weights;
        let slice = 4 * w.c_in;
        let stride = w.window.stride[0] * slice;
        let depths = self.raster.spatial[0];
        // The run of every square that these planes need.
        let start = self.first * stride;
        let needed = (depths - 1) * stride + w.rows();
        let (count, width) = (tiles.len(), w.shape.padded(w.c_out));
        let row = needed.next_multiple_of(16);
        let point_pitch = count * row + 16;
        let rows = if depths == 1 { count } else { depths.min(ROWS) };
        let product_pitch = rows * width + 16;
        let sizes = [POINTS * point_pitch, POINTS * product_pitch];
        with_scratch(sizes.iter().sum(), |scratch| {
            let (patches, products) = scratch.split_at_mut(sizes[0]);
            for (i, tile) in tiles.clone().enumerate() {
                let patch = Input {
                    planes: [&self.patch(tile, start, needed), &[], &[], &[]],
                    mix: Mix::One,
                    ahead: [&[]; 4],
                    channels: 0..needed,
                    numbers: Numbers::F32,
                    target: patches[i * row..].as_mut_ptr(),
                    pitch: point_pitch,
                    twin: 0,
                };
                // SAFETY: `patch` gives places with `needed` elements; a row has whole registers, as 16 is a multiple of
                // every register's lanes.
                unsafe { transform::input(w.isa, [Transform::F3; 2], &patch) };
            }
            for first in (0..depths).step_by(ROWS) {
                let many = match depths {
                    1 => count,
                    _ => ROWS.min(depths - first),
                };
                // From one row to the next: the next tile, or the next depth of the same.
                let step = if depths == 1 { row } else { stride };
                let mut places = [[NOWHERE; TILE * TILE]; ROWS];
                for (row, places) in places[..many].iter_mut().enumerate() {
                    *places = match depths {
                        1 => self.outputs(tiles.start + row, 0),
                        _ => self.outputs(tiles.start, first + row),
                    };
                }
                let places = places[..many].as_flattened();
                let fetch = Fetch {
                    places,
                    output: self.output.pointer(0, 0),
                    channels: w.c_out,
                };
                fetch_outputs(w.isa, &fetch);
                for point in 0..POINTS {
                    let start = point * point_pitch + first * stride;
                    let patch = &patches[start..][..(many - 1) * step + w.rows()];
                    let product = &mut products[point * product_pitch..][..many * width];
                    let weight = Weight {
                        isa: w.isa,
                        shape: w.shape,
                        columns: w.c_out,
                        element: Element::F32,
                        data: &w.data[point * w.rows() * width..][..w.rows() * width],
                    };
                    weight.multiply((patch, step), 0..w.rows(), product);
                }
                let (mut written, mut pixels_written) = ([0; ROWS * TILE * TILE], 0);
                for (row, places) in places.as_chunks::<{ TILE * TILE }>().0.iter().enumerate() {
                    let start = self.output.pointer(0, 0);
                    let pixels = places.map(|place| match place {
                        NOWHERE => ptr::null_mut(),
                        place => start.wrapping_add(place),
                    });
                    for place in places.iter().filter(|p| **p != NOWHERE) {
                        written[pixels_written] = *place;
                        pixels_written += 1;
                    }
                    let tile = Output {
                        product: products[row * width..].as_ptr(),
                        pitch: product_pitch,
                        deep: Transform::Identity,
                        channels: w.c_out,
                        pixels: &pixels,
                        affine: self.stem.norm_relu.map(|a| (a.scale, a.shift)),
                        relu: self.stem.norm_relu.is_some(),
                    };
                    // SAFETY: a product's row has whole registers; `outputs` gives null or places with room for `c_out`,
                    // and every tile belongs to one group, each to one task.
                    unsafe { transform::output(w.isa, [Transform::F3; 2], &tile) };
                }
                if let Some([sum, square]) = &mut sums {
                    let rows = Written {
                        output: self.output.pointer(0, 0),
                        places: &written[..pixels_written],
                    };
                    add_powers(w.isa, &rows, sum, square);
                }
            }
        });
    }

    /// Where the squares of a tile's patch lie: `needed` elements of each from `start` on.
    fn patch(&self, tile: usize, start: usize, needed: usize) -> [*const f32; POINTS] {
        let places = self.geometry.patch(tile);
        places.map(|place| self.squares[place + start..][..needed].as_ptr())
    }

    /// Where a tile's outputs at one depth go; [`NOWHERE`] for those outside the map.
    fn outputs(&self, tile: usize, depth: usize) -> [usize; TILE * TILE] {
        let places = self.geometry.outputs(self.raster, tile, depth);
        for place in places.into_iter().filter(|p| *p != NOWHERE) {
            // Checked here for whoever writes there.
            self.output.pointer(place, self.stem.weights.c_out);
        }
        places
    }
}
