//! The stem's weight gradient by tiles: the dual of its forward pass, as `super::super::gradient` is of the 3×3's.
//!
//! ```text
//! ∂L/∂g = Gᵀ [ Σ_{tiles, z} (A ∂L/∂Y[z] Aᵀ) ⊙ (Bᵀ d[2z…] B) ] G
//! ```
//!
//! In every depth z of the output the transformed pixels of all the kernel's depths are one run of memory, so each of the 36
//! points is one product of `[tile, z] × [depth tap, φ, channel]` and `[tile, z] × [output channel]`: a third of the direct
//! multiply-adds.

use densenet_spec::Window;

use super::{
    Geometry, NOWHERE, POINTS, ROWS, StemWeights, TILE, together,
    weights::{tap, transposed},
};
use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    parallel::{Shared, border, evenly, for_each, with_scratch},
    simd::{Simd, load_some},
    tile::{self, Product, Tile, TileShape},
    winograd::transform::{
        self, COLUMNS, FAR, FAR_2, Input, Mix, NEAR, NEAR_2, Numbers, Transform,
    },
};

/// The gradient of a stem's weight; the module has the formula.
pub struct StemGradient<'a> {
    /// The convolution's window, which [`StemWeights::fits`].
    pub window: Window,
    /// The image's raster, dense, without a border.
    pub input: Raster,
    /// The image as [`Stem::prepare`](super::Stem::prepare) left it.
    pub squares: &'a [f32],
    /// Channels that the convolution produced.
    pub c_out: usize,
    /// The gradient at its output.
    pub grad_output: (&'a [f32], Raster),
}

/// Runs of tiles with sums of their own: enough for a dozen threads to share, and the sums, 258 KB each for a 7×7×7 stem of
/// one channel and 64 features, are added quickly.
fn splits(groups: usize) -> usize {
    groups.div_ceil(2).clamp(1, 16)
}

impl StemGradient<'_> {
    /// Elements of scratch memory that [`StemGradient::run`] needs.
    pub fn partials(isa: Isa, window: &Window, input: &Raster, c_out: usize) -> usize {
        let geometry = Geometry::new(window, input);
        let rows = window.kernel[0] * 4 * input.stride;
        splits(groups(&geometry, input.batch)) * POINTS * rows * TileShape::of(isa).padded(c_out)
    }

    /// Adds the gradient to `grad_weight`, `[tap][c_in][c_out]`.
    ///
    /// # Numerics
    /// f32; one chain of multiply-adds per run of tiles, the runs added and transformed back in f64, in order: bit-identical
    /// at any thread count.
    ///
    /// # Errors
    /// A buffer or channel count does not fit, or the window does not.
    pub fn run(
        &self,
        isa: Isa,
        grad_weight: &mut [f32],
        partials: &mut [f32],
    ) -> Result<(), KernelError> {
        const OP: &str = "winograd stem gradient";
        let (grad, output) = &self.grad_output;
        let fits = StemWeights::fits(&self.window);
        exactly(OP, "window", 1, usize::from(fits))?;
        let needed = StemWeights::prepared(&self.window, &self.input);
        at_least(OP, "squares", needed, self.squares.len())?;
        let geometry = Geometry::new(&self.window, &self.input);
        exactly(OP, "batch of the gradient", self.input.batch, output.batch)?;
        for (needed, found) in geometry.output.into_iter().zip(output.spatial) {
            exactly(OP, "size of the gradient", needed, found)?;
        }
        at_least(OP, "gradient", output.len(), grad.len())?;
        let end = output.offset + self.c_out;
        at_least(OP, "channels of the gradient", end, output.stride)?;
        let c_in = self.input.stride;
        let weights = self.window.taps() * c_in * self.c_out;
        exactly(OP, "weight", weights, grad_weight.len())?;
        let needed = Self::partials(isa, &self.window, &self.input, self.c_out);
        at_least(OP, "scratch", needed, partials.len())?;
        if output.pixels() == 0 || weights == 0 {
            return Ok(());
        }
        let groups = groups(&geometry, output.batch);
        let splits = splits(groups);
        let shape = TileShape::of(isa);
        let pass = Pass {
            gradient: self,
            isa,
            shape,
            geometry,
            rows: self.window.kernel[0] * 4 * c_in,
            width: shape.padded(self.c_out),
            splits,
            sums: Shared::new(partials),
        };
        for_each(splits, |split| {
            pass.task(
                split,
                border(groups, splits, split)..border(groups, splits, split + 1),
            );
        });
        let target = Shared::new(grad_weight);
        for_each(pass.rows, |row| pass.finish(row, &target));
        Ok(())
    }
}

/// Groups of tiles, as the forward pass has them.
fn groups(geometry: &Geometry, batch: usize) -> usize {
    let [th, tw] = geometry.tiles;
    (batch * th * tw).div_ceil(together(geometry.output[0]))
}

/// A gradient under way.
struct Pass<'a> {
    gradient: &'a StemGradient<'a>,
    isa: Isa,
    shape: TileShape,
    geometry: Geometry,
    /// Elements of one row of a transformed patch that one output pixel takes: depth taps, phases and channels.
    rows: usize,
    /// Output channels in whole registers.
    width: usize,
    splits: usize,
    /// `[split][point][row][width]`
    sums: Shared<f32>,
}

impl Pass<'_> {
    /// Some groups of tiles, one after the other.
    fn task(&self, split: usize, groups: std::ops::Range<usize>) {
        let g = self.gradient;
        let slice = 4 * g.input.stride;
        let stride = g.window.stride[0] * slice;
        let depths = self.geometry.output[0];
        let needed = (depths - 1) * stride + self.rows;
        let many = together(depths);
        let row = needed.next_multiple_of(16);
        let point_pitch = many * row + 16;
        let most = if depths == 1 { many } else { depths.min(ROWS) };
        let grad_pitch = most * self.width + 16;
        let [th, tw] = self.geometry.tiles;
        let total = g.input.batch * th * tw;
        let point = self.rows * self.width;
        // SAFETY: each run has sums of its own.
        let sums = unsafe { self.sums.slice(split * POINTS * point, POINTS * point) };
        let mut accumulate = false;
        with_scratch(POINTS * (point_pitch + grad_pitch), |scratch| {
            let (patches, grads) = scratch.split_at_mut(POINTS * point_pitch);
            for group in groups {
                let tiles = group * many..((group + 1) * many).min(total);
                for (i, tile) in tiles.clone().enumerate() {
                    let places = self.geometry.patch(tile);
                    let pixels = places.map(|place| g.squares[place..][..needed].as_ptr());
                    let patch = Input {
                        planes: [&pixels, &[], &[], &[]],
                        mix: Mix::One,
                        ahead: [&[]; 4],
                        channels: 0..needed,
                        numbers: Numbers::F32,
                        target: patches[i * row..].as_mut_ptr(),
                        pitch: point_pitch,
                        twin: 0,
                    };
                    // SAFETY: every pixel has `needed` elements; a row has whole registers, as 16 is a multiple of every
                    // register's lanes.
                    unsafe { transform::input(self.isa, [Transform::F3; 2], &patch) };
                }
                for part in evenly(0..depths, ROWS) {
                    // From one row to the next: the next tile, or the next depth of the same.
                    let (count, step) = match depths {
                        1 => (tiles.len(), row),
                        _ => (part.len(), stride),
                    };
                    for k in 0..count {
                        let (tile, depth) = match depths {
                            1 => (tiles.start + k, 0),
                            _ => (tiles.start, part.start + k),
                        };
                        let grad = Grad {
                            pixels: &self.pixels(tile, depth),
                            channels: g.c_out,
                            target: grads[k * self.width..].as_mut_ptr(),
                            pitch: grad_pitch,
                        };
                        transform_grad(self.isa, &grad);
                    }
                    for p in 0..POINTS {
                        let patch = &patches[p * point_pitch + part.start * stride..];
                        let patch = &patch[..(count - 1) * step + self.rows];
                        let grad = &grads[p * grad_pitch..][..count * self.width];
                        let sums = &mut sums[p * point..][..point];
                        self.multiply((patch, step), (grad, count), sums, accumulate);
                    }
                    accumulate = true;
                }
            }
        });
    }

    /// `sums[r, o] (+)= Σ_k patch[k · step + r] · grad[k, o]`.
    fn multiply(
        &self,
        (patch, step): (&[f32], usize),
        (grad, count): (&[f32], usize),
        sums: &mut [f32],
        accumulate: bool,
    ) {
        let (rows, width) = (self.rows, self.width);
        assert!(patch.len() >= (count - 1) * step + rows);
        assert!(grad.len() >= count * width && sums.len() >= rows * width);
        for (column, vectors) in self.shape.panels(self.gradient.c_out) {
            let tile = Tile {
                a: patch.as_ptr(),
                a_row: 1,
                a_k: step,
                taps: &[0],
                b: grad[column..].as_ptr(),
                b_tap: 0,
                b_k: width,
                k: count,
                rows,
                vectors,
            };
            let product = Product {
                start: sums[column..].as_mut_ptr(),
                row: width,
                accumulate,
            };
            // SAFETY: the assertions bound both factors and the sums; panels are whole registers of the width.
            unsafe { tile::compute(self.isa, &tile, &product) };
        }
    }

    /// The pixels of a tile's gradient at one depth; null outside the map.
    fn pixels(&self, tile: usize, depth: usize) -> [*const f32; TILE * TILE] {
        let (grad, output) = &self.gradient.grad_output;
        let places = self.geometry.outputs(output, tile, depth);
        places.map(|place| match place {
            NOWHERE => std::ptr::null(),
            place => grad[place..][..self.gradient.c_out].as_ptr(),
        })
    }

    /// Adds the runs of one row, applies Gᵀ and adds the result to the gradient.
    fn finish(&self, row: usize, target: &Shared<f32>) {
        let (c_in, c_out) = (self.gradient.input.stride, self.gradient.c_out);
        let point = self.rows * self.width;
        for first in (0..c_out).step_by(COLUMNS) {
            let many = COLUMNS.min(c_out - first);
            let mut points = [[0.0; COLUMNS]; POINTS];
            for split in 0..self.splits {
                for (p, values) in points.iter_mut().enumerate() {
                    let start = (split * POINTS + p) * point + row * self.width + first;
                    // SAFETY: nobody writes the sums any more.
                    let sums = unsafe { self.sums.slice(start, many) };
                    for (v, s) in values.iter_mut().zip(sums) {
                        *v += f64::from(*s);
                    }
                }
            }
            for (pixel, values) in transposed(&points).iter().enumerate() {
                let Some(tap) = tap(row, [pixel / 4, pixel % 4], c_in) else {
                    continue;
                };
                // SAFETY: every tap and input channel belongs to one row of the packed weight, each to one task.
                let target = unsafe { target.slice(tap * c_out + first, many) };
                for (t, v) in target.iter_mut().zip(values) {
                    *t += *v as f32;
                }
            }
        }
    }
}

/// A tile's gradient on its way into the product.
struct Grad<'a> {
    pixels: &'a [*const f32; TILE * TILE],
    channels: usize,
    target: *mut f32,
    pitch: usize,
}

dispatch! {
    /// A y Aᵀ of a tile's gradient; whole registers are written.
    fn transform_grad(grad: &Grad<'_>) = transform_grad_body
}

#[inline(always)]
fn transform_grad_body<S: Simd>(grad: &Grad<'_>) {
    // SAFETY: whoever made the gradient guarantees its channels behind every pixel that is not null and room for whole
    // registers behind every place; the shell around us has the instruction set.
    unsafe {
        for c in (0..grad.channels).step_by(S::LANES) {
            let many = S::LANES.min(grad.channels - c);
            // Loops, as closures would be calls: they have no instruction set of their own.
            let mut y = [S::zero(); TILE * TILE];
            for (v, pixel) in y.iter_mut().zip(grad.pixels) {
                if !pixel.is_null() {
                    *v = load_some::<S>(pixel.add(c), many);
                }
            }
            let mut columns = [[S::zero(); 6]; TILE];
            for (x, column) in columns.iter_mut().enumerate() {
                *column = grad_axis::<S>([y[x], y[TILE + x], y[2 * TILE + x]]);
            }
            for row in 0..6 {
                let [left, middle, right] = columns;
                let values = grad_axis::<S>([left[row], middle[row], right[row]]);
                for (x, v) in values.into_iter().enumerate() {
                    S::store(grad.target.add((row * 6 + x) * grad.pitch + c), v);
                }
            }
        }
    }
}

/// A of one axis: the polynomial with coefficients y at all six points.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn grad_axis<S: Simd>(y: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let near = S::fma(S::set(NEAR_2), y[2], y[0]);
        let far = S::fma(S::set(FAR_2), y[2], y[0]);
        [
            y[0],
            S::fma(S::set(NEAR), y[1], near),
            S::fma(S::set(-NEAR), y[1], near),
            S::fma(S::set(FAR), y[1], far),
            S::fma(S::set(-FAR), y[1], far),
            y[2],
        ]
    }
}
