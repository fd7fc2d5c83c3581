//! The weight's gradient by tiles: the dual of the forward pass.
//!
//! A tile's output is `Y = Aᵀ[(G g) ⊙ (Bᵀ d)]`, so its part of the gradient at the kernel g is that of a bilinear form:
//!
//! ```text
//! ∂L/∂g = Gᵀ Σ_tiles (A ∂L/∂Y) ⊙ (Bᵀ d)
//! ```
//!
//! Patches d and gradients ∂L/∂Y are transformed, multiplied pixel by pixel and summed over all tiles; Gᵀ is applied once,
//! at the end. F(2×2, 3×3) needs 16 multiplications instead of 36, F(2×2×2, 3×3×3) 64 instead of 216. With the norm and
//! ReLU before the convolution applied as patches are loaded, the rectified map is never written.

use std::{array, ptr};

use densenet_spec::Window;

use super::{
    WinogradWeights,
    pairs::{Grid, Input, PLANE, Planes, transform_input},
};
use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    norm::Affine,
    parallel::{Shared, border, for_each, with_scratch},
    pointwise::evenly,
    simd::{Simd, load_some},
    tile::{self, Product, Tile, TileShape},
};

/// The gradient of a 3×3 or 3×3×3 weight, by tiles of 2; the module has the formula.
pub struct WinogradGradient<'a> {
    /// The convolution's window, which [`WinogradWeights::fits`].
    pub window: Window,
    /// What it read. A border is not needed, and not read.
    pub source: (&'a [f32], Raster),
    /// The norm before it, applied with ReLU as the source is loaded.
    pub affine: Option<Affine<'a>>,
    /// Channels it read and produced.
    pub channels: [usize; 2],
    /// The gradient at its output.
    pub grad_output: (&'a [f32], Raster),
}

/// Tiles handled at a time: 48 transformed patches of 64 channels, gradients of 32, and the sums of one product take
/// 425 KB of a 1 MiB second-level cache.
const TILES: usize = 48;

/// How the work is cut, by its shape alone.
struct Cut {
    grid: Grid,
    /// Tiles of all samples.
    total: usize,
    /// Runs of tiles.
    splits: usize,
    /// Pixels of a transformed patch along the depth.
    depths: usize,
}

impl Cut {
    fn new(window: &Window, output: &Raster) -> Self {
        let grid = Grid::new(window, output);
        let total = grid.total();
        Cut {
            total,
            // Each run costs sums of its own, as much as a hundred tiles do.
            splits: (total / 192).clamp(1, 16),
            depths: grid.depths(),
            grid,
        }
    }
}

impl WinogradGradient<'_> {
    /// Whether tiles are the faster way for this output: of a whole batch, as the products are summed over it.
    ///
    /// In multiply-adds per weight; clearing, adding and transforming a product's sum takes as long as about 40.
    pub fn pays(window: &Window, output: &Raster) -> bool {
        if !WinogradWeights::fits(window) {
            return false;
        }
        let cut = Cut::new(window, output);
        let points = cut.depths * PLANE;
        cut.total * points * 5 / 4 + 40 * points < output.pixels() * window.taps()
    }

    /// Elements of scratch memory that [`WinogradGradient::run`] needs.
    pub fn partials(
        isa: Isa,
        window: &Window,
        [c_in, c_out]: [usize; 2],
        output: &Raster,
    ) -> usize {
        let cut = Cut::new(window, output);
        cut.splits * cut.depths * PLANE * c_out * TileShape::of(isa).padded(c_in)
    }

    /// Adds the gradient to `grad_weight`, `[tap][c_in][c_out]`.
    ///
    /// # Numerics
    /// f32; one chain of multiply-adds per run of tiles, the runs added in order: bit-identical at any thread count.
    ///
    /// # Errors
    /// A buffer or channel count does not fit, or the window does not.
    pub fn run(
        &self,
        isa: Isa,
        grad_weight: &mut [f32],
        partials: &mut [f32],
    ) -> Result<(), KernelError> {
        const OP: &str = "winograd gradient";
        let ((data, input), (grad, output)) = (self.source, self.grad_output);
        let [c_in, c_out] = self.channels;
        let fits = WinogradWeights::fits(&self.window);
        exactly(OP, "window", 1, usize::from(fits))?;
        at_least(OP, "input", input.len(), data.len())?;
        at_least(
            OP,
            "channels of the input",
            input.offset + c_in,
            input.stride,
        )?;
        at_least(OP, "gradient", output.len(), grad.len())?;
        let end = output.offset + c_out;
        at_least(OP, "channels of the gradient", end, output.stride)?;
        exactly(OP, "batch of the gradient", input.batch, output.batch)?;
        for axis in 0..3 {
            let sizes = (input.spatial[axis], output.spatial[axis]);
            exactly(OP, "size of the gradient", sizes.0, sizes.1)?;
        }
        if let Some(affine) = &self.affine {
            affine.check(OP, c_in)?;
        }
        let weights = self.window.taps() * c_in * c_out;
        exactly(OP, "weight", weights, grad_weight.len())?;
        let needed = Self::partials(isa, &self.window, self.channels, &output);
        at_least(OP, "scratch", needed, partials.len())?;
        if output.pixels() == 0 || weights == 0 {
            return Ok(());
        }
        let shape = TileShape::of(isa);
        let pass = Pass {
            gradient: self,
            isa,
            shape,
            cut: Cut::new(&self.window, &output),
            pitch: shape.padded(c_in),
            sums: Shared::new(partials),
        };
        let (groups, depths) = (shape.count(c_in), pass.cut.depths);
        for_each(pass.cut.splits * depths * groups, |task| {
            let (split, depth) = (task / (depths * groups), task / groups % depths);
            if let Some((start, vectors)) = shape.panels(c_in).nth(task % groups) {
                pass.task(split, depth, (start, vectors));
            }
        });
        let target = Shared::new(grad_weight);
        for_each(pass.pitch / shape.lanes, |block| {
            finish(isa, &pass, block * shape.lanes, &target);
        });
        Ok(())
    }
}

/// A gradient under way.
struct Pass<'a> {
    gradient: &'a WinogradGradient<'a>,
    isa: Isa,
    shape: TileShape,
    cut: Cut,
    /// Elements from one output channel's sums to the next: the input's channels, in whole registers.
    pitch: usize,
    /// `[split][depth][pixel of the plane][c_out][pitch]`
    sums: Shared<f32>,
}

impl Pass<'_> {
    /// Where the sums of one pixel of a transformed patch begin.
    fn place(&self, split: usize, depth: usize, point: usize) -> usize {
        let c_out = self.gradient.channels[1];
        ((split * self.cut.depths + depth) * PLANE + point) * c_out * self.pitch
    }

    /// One run of tiles, one depth of the transform, one panel of input channels.
    fn task(&self, split: usize, depth: usize, (start, vectors): (usize, usize)) {
        let [c_in, c_out] = self.gradient.channels;
        let width = vectors * self.shape.lanes;
        let channels = start..(start + width).min(c_in);
        let tiles = border(self.cut.total, self.cut.splits, split)
            ..border(self.cut.total, self.cut.splits, split + 1);
        // An odd number of cache lines from one pixel of the transform to the next keeps them out of one set.
        let pitch_g = c_out.next_multiple_of(16);
        let (point_d, point_g) = (TILES * width + 16, TILES * pitch_g + 16);
        with_scratch(PLANE * (point_d + point_g), |scratch| {
            let (patches, grads) = scratch.split_at_mut(PLANE * point_d);
            let mut first = true;
            for group in evenly(tiles, TILES) {
                let count = group.len();
                let mut next = self.patch(group.start, depth);
                for (i, tile) in group.enumerate() {
                    let patch = next;
                    next = self.patch((tile + 1).min(self.cut.total - 1), depth);
                    let input = Input {
                        pixels: &patch,
                        ahead: &next,
                        start,
                        channels: channels.len(),
                        affine: self.gradient.affine,
                        target: patches[i * width..].as_mut_ptr(),
                        pitch: point_d,
                    };
                    let grad = Grad {
                        pixels: &self.outputs(tile, depth),
                        channels: c_out,
                        target: grads[i * pitch_g..].as_mut_ptr(),
                        pitch: point_g,
                    };
                    transform(self.isa, &input, &grad);
                }
                for point in 0..PLANE {
                    for rows in evenly(0..c_out, self.shape.mr(vectors)) {
                        let tile = Tile {
                            a: grads[point * point_g + rows.start..].as_ptr(),
                            a_row: 1,
                            a_k: pitch_g,
                            taps: &[0],
                            b: patches[point * point_d..].as_ptr(),
                            b_tap: 0,
                            b_k: width,
                            k: count,
                            rows: rows.len(),
                            vectors,
                        };
                        let place = self.place(split, depth, point) + rows.start * self.pitch;
                        let len = (rows.len() - 1) * self.pitch + width;
                        let product = Product {
                            start: self.sums.pointer(place + start, len),
                            row: self.pitch,
                            accumulate: !first,
                        };
                        // SAFETY: `count ≤ TILES` rows of both factors were written, whole registers of the patches;
                        // these columns of this split and depth belong to this task, and `pointer` checked the last.
                        unsafe { tile::compute(self.isa, &tile, &product) };
                    }
                }
                first = false;
            }
        });
    }

    /// The pixels of a tile's patch that one depth of the transform takes.
    fn patch(&self, tile: usize, depth: usize) -> Planes<*const f32, PLANE> {
        let (data, input) = self.gradient.source;
        let channels = self.gradient.channels[0];
        self.cut.grid.patch((data, &input, channels), tile, depth)
    }

    /// The pixels of a tile's gradient that one depth of the transform takes, null outside the map.
    fn outputs(&self, tile: usize, depth: usize) -> Planes<*const f32, 4> {
        let (grad, output) = &self.gradient.grad_output;
        let c_out = self.gradient.channels[1];
        let [n, z, y, x] = self.cut.grid.corner(tile);
        let [planes, height, width] = output.spatial;
        let plane = |dz: usize| -> [*const f32; 4] {
            array::from_fn(|i| {
                let (z, y, x) = (z + dz, y + i / 2, x + i % 2);
                if z >= planes || y >= height || x >= width {
                    return ptr::null();
                }
                grad[output.place([n, z, y, x])..][..c_out].as_ptr()
            })
        };
        // A along the depth.
        match (self.cut.depths, depth) {
            (1, _) | (_, 0) => Planes::One(plane(0)),
            (_, 1) => Planes::Sum(plane(0), plane(1)),
            (_, 2) => Planes::Difference(plane(0), plane(1)),
            _ => Planes::Difference([ptr::null(); 4], plane(1)),
        }
    }
}

/// A tile's gradient on its way into the product.
struct Grad<'a> {
    pixels: &'a Planes<*const f32, 4>,
    channels: usize,
    target: *mut f32,
    pitch: usize,
}

dispatch! {
    /// Bᵀ d B of one patch and A y Aᵀ of its gradient; whole registers are written.
    fn transform(input: &Input<'_>, grad: &Grad<'_>) = transform_body
}

#[inline(always)]
fn transform_body<S: Simd>(input: &Input<'_>, grad: &Grad<'_>) {
    // SAFETY: whoever made the operands guarantees their channels behind every pixel that is not null and room for whole
    // registers behind every place; the shell around us has the instruction set.
    unsafe {
        transform_input::<S>(input);
        match grad.pixels {
            Planes::One(p) => grad_planes::<S, 0>(grad, [p, p]),
            Planes::Sum(p, q) => grad_planes::<S, 1>(grad, [p, q]),
            Planes::Difference(p, q) => grad_planes::<S, 2>(grad, [p, q]),
        }
    }
}

/// A y Aᵀ of a gradient, as [`input_planes`].
///
/// # Safety
/// As [`transform_body`] says.
#[inline(always)]
unsafe fn grad_planes<S: Simd, const SIGN: usize>(
    grad: &Grad<'_>,
    [first, second]: [&[*const f32; 4]; 2],
) {
    // SAFETY: as ours.
    unsafe {
        for c in (0..grad.channels).step_by(S::LANES) {
            let many = S::LANES.min(grad.channels - c);
            let load = |pixel: *const f32| match pixel.is_null() {
                true => S::zero(),
                false => load_some::<S>(pixel.add(c), many),
            };
            let mut y = [S::zero(); 4];
            for (i, v) in y.iter_mut().enumerate() {
                *v = load(first[i]);
                if SIGN == 1 {
                    *v = S::add(*v, load(second[i]));
                } else if SIGN == 2 {
                    *v = S::sub(*v, load(second[i]));
                }
            }
            let (left, right) = (grad_axis::<S>([y[0], y[2]]), grad_axis::<S>([y[1], y[3]]));
            for row in 0..4 {
                let values = grad_axis::<S>([left[row], right[row]]);
                for (x, v) in values.into_iter().enumerate() {
                    S::store(grad.target.add((row * 4 + x) * grad.pitch + c), v);
                }
            }
        }
    }
}

/// A of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn grad_axis<S: Simd>(y: [S::V; 2]) -> [S::V; 4] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        [
            y[0],
            S::add(y[0], y[1]),
            S::sub(y[0], y[1]),
            S::sub(S::zero(), y[1]),
        ]
    }
}

/// Gᵀ of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn kernel_axis<S: Simd>(m: [S::V; 4]) -> [S::V; 3] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let half = S::set(0.5);
        let (sum, difference) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        [
            S::fma(half, sum, m[0]),
            S::fma(half, difference, S::zero()),
            S::fma(half, sum, m[3]),
        ]
    }
}

dispatch! {
    /// Adds the runs of a register of input channels, applies Gᵀ and adds the result to the gradient, whose rows of these
    /// channels belong to the caller.
    fn finish(pass: &Pass<'_>, column: usize, target: &Shared<f32>) = finish_body
}

#[inline(always)]
fn finish_body<S: Simd>(pass: &Pass<'_>, column: usize, target: &Shared<f32>) {
    let [c_in, c_out] = pass.gradient.channels;
    let many = S::LANES.min(c_in - column);
    let deep = pass.cut.depths == 4;
    // Distance between the sums of neighbouring pixels of the transform, and of neighbouring runs.
    let point = c_out * pass.pitch;
    let split = pass.cut.depths * PLANE * point;
    for o in 0..c_out {
        let first = o * pass.pitch + column;
        let last = first + (pass.cut.splits - 1) * split + (pass.cut.depths * PLANE - 1) * point;
        pass.sums.pointer(last, S::LANES);
        let sums = pass.sums.pointer(first, S::LANES);
        let mut values = [[0.0f32; 16]; 27];
        // SAFETY: every run and depth has sums of these channels, the last of which was checked; nobody writes them any
        // more. No register has more than 16 lanes. The shell around us has the instruction set.
        unsafe {
            let mut planes = [[S::zero(); 9]; 4];
            for (depth, plane) in planes.iter_mut().take(pass.cut.depths).enumerate() {
                let mut rows = [[S::zero(); 3]; 4];
                for (y, row) in rows.iter_mut().enumerate() {
                    let mut m = [S::zero(); 4];
                    for (x, v) in m.iter_mut().enumerate() {
                        let place = sums.add((depth * PLANE + y * 4 + x) * point);
                        *v = S::load(place);
                        for run in 1..pass.cut.splits {
                            *v = S::add(*v, S::load(place.add(run * split)));
                        }
                    }
                    *row = kernel_axis::<S>(m);
                }
                for x in 0..3 {
                    let column = kernel_axis::<S>([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
                    for (y, v) in column.into_iter().enumerate() {
                        plane[y * 3 + x] = v;
                    }
                }
            }
            for tap in 0..9 {
                if deep {
                    let [a, b, c, d] = planes;
                    let along = kernel_axis::<S>([a[tap], b[tap], c[tap], d[tap]]);
                    for (z, v) in along.into_iter().enumerate() {
                        S::store(values[z * 9 + tap].as_mut_ptr(), v);
                    }
                } else {
                    S::store(values[tap].as_mut_ptr(), planes[0][tap]);
                }
            }
        }
        for (tap, values) in values.iter().take(if deep { 27 } else { 9 }).enumerate() {
            for (i, value) in values[..many].iter().enumerate() {
                let place = target.pointer((tap * c_in + column + i) * c_out + o, 1);
                // SAFETY: these rows belong to the caller.
                unsafe { *place += value };
            }
        }
    }
}
