//! The weight's gradient by tiles: the dual of the forward pass.
//!
//! A tile's output is `Y = Aᵀ[(G g) ⊙ (Bᵀ d)]`, so its part of the gradient at the kernel g is that of a bilinear form:
//!
//! ```text
//! ∂L/∂g = Gᵀ Σ_tiles (A ∂L/∂Y) ⊙ (Bᵀ d)
//! ```
//!
//! Patches d and gradients ∂L/∂Y are transformed, multiplied pixel by pixel and summed over all tiles; Gᵀ is applied once,
//! at the end. F(4×4, 3×3) needs 36 multiplications instead of 144, F(2×4×4, 3×3×3) 144 instead of 864. With the norm and
//! ReLU before the convolution applied as patches are loaded, the rectified map is never written.

use std::ptr;

use densenet_spec::Window;

use super::{
    Tiles, WinogradWeights,
    fused::{self, fastest},
    grid::{Grid, Input, Patch, transform_input},
    transform::{FAR, FAR_2, Mix, NEAR, NEAR_2, Transform},
};
use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    norm::Affine,
    parallel::{Shared, border, evenly, for_each, with_scratch},
    simd::{Simd, load_some},
    tile::{self, Product, Tile, TileShape},
};

/// The gradient of a 3×3 or 3×3×3 weight, by tiles; the module has the formula.
pub struct WinogradGradient<'a> {
    /// The convolution's window, which [`WinogradWeights::fits`].
    pub window: Window,
    /// [`WinogradGradient::choose`]'s.
    pub tiles: Tiles,
    /// What it read. A border is not needed, and not read.
    pub source: (&'a [f32], Raster),
    /// The norm before it, applied with ReLU as the source is loaded.
    pub affine: Option<Affine<'a>>,
    /// Channels it read and produced.
    pub channels: [usize; 2],
    /// The gradient at its output.
    pub grad_output: (&'a [f32], Raster),
}

/// How the work is cut, by its shape alone.
struct Cut {
    grid: Grid,
    /// Tiles of all samples.
    total: usize,
    /// Tiles handled at a time.
    together: usize,
    /// Runs of tiles.
    splits: usize,
    /// Pixels of a transformed patch along the depth, and of a plane of it.
    depths: usize,
    plane: usize,
}

impl Cut {
    fn new(tiles: Tiles, window: &Window, output: &Raster) -> Self {
        let grid = Grid::new(tiles.axes(window), output);
        let total = grid.total();
        Cut {
            total,
            // Transformed patches of 64 channels, gradients of 32, and the sums of one product take 425 KB of a 1 MiB
            // second-level cache where tiles are 2 wide, 630 KB where they are 4.
            together: if grid.axes[1] == Transform::F2 {
                48
            } else {
                24
            },
            // Each run costs sums of its own, as much as a hundred tiles do.
            splits: (total / 192).clamp(1, 16),
            depths: grid.depths(),
            plane: grid.plane(),
            grid,
        }
    }
}

impl WinogradGradient<'_> {
    /// The tiles that are the fastest way for this output, of a whole batch, as the products are summed over it; `None` if
    /// the direct gradient is.
    ///
    /// In multiply-adds per weight; clearing, adding and transforming a product's sum takes as long as about 40.
    pub fn choose(window: &Window, output: &Raster) -> Option<Tiles> {
        fastest(window, output, |tiles, points| {
            tiles * points * 5 / 4 + 40 * points
        })
    }

    /// Elements of scratch memory that [`WinogradGradient::run`] needs.
    pub fn partials(
        isa: Isa,
        (window, tiles): (&Window, Tiles),
        [c_in, c_out]: [usize; 2],
        output: &Raster,
    ) -> usize {
        let cut = Cut::new(tiles, window, output);
        cut.splits * cut.depths * cut.plane * c_out * TileShape::of(isa).padded(c_in)
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
        let known = fused::CHOICE.contains(&self.tiles);
        exactly(OP, "tiles", 1, usize::from(known))?;
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
        let way = (&self.window, self.tiles);
        let needed = Self::partials(isa, way, self.channels, &output);
        at_least(OP, "scratch", needed, partials.len())?;
        if output.pixels() == 0 || weights == 0 {
            return Ok(());
        }
        let shape = TileShape::of(isa);
        let pass = Pass {
            gradient: self,
            isa,
            shape,
            cut: Cut::new(self.tiles, &self.window, &output),
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
            let column = block * shape.lanes;
            match pass.cut.grid.axes[1] {
                Transform::F2 => finish_f2(isa, &pass, column, &target),
                _ => finish_f4(isa, &pass, column, &target),
            }
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
        ((split * self.cut.depths + depth) * self.cut.plane + point) * c_out * self.pitch
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
        let (plane, together) = (self.cut.plane, self.cut.together);
        let (point_d, point_g) = (together * width + 16, together * pitch_g + 16);
        with_scratch(plane * (point_d + point_g), |scratch| {
            let (patches, grads) = scratch.split_at_mut(plane * point_d);
            let mut first = true;
            for group in evenly(tiles, together) {
                let count = group.len();
                let mut next = self.patch(group.start, depth);
                for (i, tile) in group.enumerate() {
                    let patch = next;
                    next = self.patch((tile + 1).min(self.cut.total - 1), depth);
                    let input = Input {
                        patch: &patch,
                        ahead: &next,
                        start,
                        channels: channels.len(),
                        affine: self.gradient.affine,
                        target: patches[i * width..].as_mut_ptr(),
                        pitch: point_d,
                    };
                    let grad = Grad {
                        tile: &self.outputs(tile, depth),
                        channels: c_out,
                        target: grads[i * pitch_g..].as_mut_ptr(),
                        pitch: point_g,
                    };
                    // SAFETY: `patch` and `outputs` give null or places with their channels, rows of both targets have
                    // whole registers.
                    unsafe {
                        transform_input(self.isa, self.cut.grid.axes[1], &input);
                        transform_grad(self.isa, self.cut.grid.axes[1], &grad);
                    }
                }
                for point in 0..plane {
                    let tile = Tile {
                        a: grads[point * point_g..].as_ptr(),
                        a_row: 1,
                        a_k: pitch_g,
                        taps: &[0],
                        b: patches[point * point_d..].as_ptr(),
                        b_tap: 0,
                        b_k: width,
                        k: count,
                        rows: c_out,
                        vectors,
                    };
                    let place = self.place(split, depth, point);
                    let len = (c_out - 1) * self.pitch + width;
                    let product = Product {
                        start: self.sums.pointer(place + start, len),
                        row: self.pitch,
                        accumulate: !first,
                    };
                    // SAFETY: `count ≤ together` rows of both factors were written, whole registers of the patches; these
                    // columns of this split and depth belong to this task, and `pointer` checked the last.
                    unsafe { tile::compute(self.isa, &tile, &product) };
                }
                first = false;
            }
        });
    }

    /// The pixels of a tile's patch that one depth of the transform takes.
    fn patch(&self, tile: usize, depth: usize) -> Patch {
        let (data, input) = self.gradient.source;
        let channels = self.gradient.channels[0];
        self.cut.grid.patch((data, &input, channels), tile, depth)
    }

    /// The pixels of a tile's gradient that one depth of the transform takes.
    fn outputs(&self, tile: usize, depth: usize) -> GradTile {
        let (grad, output) = &self.gradient.grad_output;
        let c_out = self.gradient.channels[1];
        let [n, z, y, x] = self.cut.grid.corner(tile);
        let [_, high, wide] = self.cut.grid.axes.map(Transform::tile);
        let [planes, height, width] = output.spatial;
        // A along the depth: of the tile's planes 0 and 1, or of its only one.
        let (taken, mix): (&[Option<usize>], Mix) = match (self.cut.depths, depth) {
            (1, _) | (_, 0) => (&[Some(0)], Mix::One),
            (_, 1) => (&[Some(0), Some(1)], Mix::Sum),
            (_, 2) => (&[Some(0), Some(1)], Mix::Difference),
            _ => (&[None, Some(1)], Mix::Difference),
        };
        let mut tile = GradTile {
            planes: [[ptr::null(); MAX_OUTPUTS]; 2],
            mix,
        };
        for (pixels, dz) in tile.planes.iter_mut().zip(taken) {
            let Some(z) = dz.map(|dz| z + dz).filter(|z| *z < planes) else {
                continue;
            };
            for dy in 0..high.min(height - y) {
                for dx in 0..wide.min(width - x) {
                    let place = output.place([n, z, y + dy, x + dx]);
                    pixels[dy * wide + dx] = grad[place..][..c_out].as_ptr();
                }
            }
        }
        tile
    }
}

/// Most pixels of a plane of a tile.
const MAX_OUTPUTS: usize = 16;

/// Where the pixels of a tile's gradient lie that one depth of the transform takes, null outside the map, and how it mixes
/// their planes.
struct GradTile {
    planes: [[*const f32; MAX_OUTPUTS]; 2],
    mix: Mix,
}

/// A tile's gradient on its way into the product.
struct Grad<'a> {
    tile: &'a GradTile,
    channels: usize,
    target: *mut f32,
    pitch: usize,
}

/// A y Aᵀ of a tile's gradient; whole registers are written.
///
/// # Safety
/// Every pixel that is not null has the gradient's channels behind it, every place of the target room for whole registers.
unsafe fn transform_grad(isa: Isa, plane: Transform, grad: &Grad<'_>) {
    dispatch!(fn f2(grad: &Grad<'_>) = grad_f2_body);
    dispatch!(fn f4(grad: &Grad<'_>) = grad_f4_body);
    match plane {
        Transform::F2 => f2(isa, grad),
        _ => f4(isa, grad),
    }
}

#[inline(always)]
fn grad_f2_body<S: Simd>(grad: &Grad<'_>) {
    // SAFETY: the caller of `transform_grad` guarantees the operands; the shell around us has the instruction set.
    unsafe { grad_body::<S, 4, 2>(grad) }
}

#[inline(always)]
fn grad_f4_body<S: Simd>(grad: &Grad<'_>) {
    // SAFETY: as above.
    unsafe { grad_body::<S, 6, 4>(grad) }
}

/// # Safety
/// As [`transform_grad`]; the processor has `S`.
#[inline(always)]
unsafe fn grad_body<S: Simd, const P: usize, const M: usize>(grad: &Grad<'_>) {
    // SAFETY: as ours.
    unsafe {
        match grad.tile.mix {
            Mix::Sum => grad_planes::<S, P, M, { Mix::Sum as u8 }>(grad),
            Mix::Difference => grad_planes::<S, P, M, { Mix::Difference as u8 }>(grad),
            _ => grad_planes::<S, P, M, { Mix::One as u8 }>(grad),
        }
    }
}

/// A y Aᵀ of a plane of a gradient, or of a sum or a difference of two.
///
/// # Safety
/// As [`grad_body`].
#[inline(always)]
unsafe fn grad_planes<S: Simd, const P: usize, const M: usize, const MIX: u8>(grad: &Grad<'_>) {
    let [first, second] = grad.tile.planes.each_ref().map(|plane| &plane[..M * M]);
    // SAFETY: as ours.
    unsafe {
        for c in (0..grad.channels).step_by(S::LANES) {
            let many = S::LANES.min(grad.channels - c);
            let load = |pixel: *const f32| match pixel.is_null() {
                true => S::zero(),
                false => load_some::<S>(pixel.add(c), many),
            };
            let mut columns = [[S::zero(); P]; M];
            for (x, column) in columns.iter_mut().enumerate() {
                let mut values = [S::zero(); M];
                for (y, v) in values.iter_mut().enumerate() {
                    let i = y * M + x;
                    *v = load(first[i]);
                    if MIX == Mix::Sum as u8 {
                        *v = S::add(*v, load(second[i]));
                    } else if MIX == Mix::Difference as u8 {
                        *v = S::sub(*v, load(second[i]));
                    }
                }
                *column = grad_axis::<S, P, M>(values);
            }
            for y in 0..P {
                let row = grad_axis::<S, P, M>(columns.map(|column| column[y]));
                for (x, v) in row.into_iter().enumerate() {
                    S::store(grad.target.add((y * P + x) * grad.pitch + c), v);
                }
            }
        }
    }
}

/// A of one axis: the polynomial with coefficients y at all points.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn grad_axis<S: Simd, const P: usize, const M: usize>(y: [S::V; M]) -> [S::V; P] {
    let mut v = [y[0]; P];
    // SAFETY: the caller has the instruction set.
    unsafe {
        if P == 4 {
            v[1] = S::add(y[0], y[1]);
            v[2] = S::sub(y[0], y[1]);
            // The point ∞ with the sign that Bᵀ of F(2) gives it.
            v[3] = S::sub(S::zero(), y[1]);
        } else {
            for (i, (point, square)) in [(NEAR, NEAR_2), (FAR, FAR_2)].into_iter().enumerate() {
                let even = S::fma(S::set(square), y[2], y[0]);
                let odd = S::fma(S::set(square), y[3], y[1]);
                v[1 + 2 * i] = S::fma(S::set(point), odd, even);
                v[2 + 2 * i] = S::fma(S::set(-point), odd, even);
            }
            v[5] = y[3];
        }
    }
    v
}

/// Gᵀ of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn kernel_axis<S: Simd, const P: usize>(m: [S::V; P]) -> [S::V; 3] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        if P == 4 {
            let half = S::set(0.5);
            let (sum, difference) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            [
                S::fma(half, sum, m[0]),
                S::fma(half, difference, S::zero()),
                S::fma(half, sum, m[3]),
            ]
        } else {
            let rows = Transform::F4.kernel();
            let factor = |point: usize, tap: usize| S::set(rows[point][tap] as f32);
            let (near, far) = (S::add(m[1], m[2]), S::add(m[3], m[4]));
            let (near_1, far_1) = (S::sub(m[1], m[2]), S::sub(m[3], m[4]));
            let ends = S::fma(factor(0, 0), m[0], S::zero());
            [
                S::fma(factor(3, 0), far, S::fma(factor(1, 0), near, ends)),
                S::fma(factor(3, 1), far_1, S::fma(factor(1, 1), near_1, S::zero())),
                S::fma(factor(3, 2), far, S::fma(factor(1, 2), near, m[5])),
            ]
        }
    }
}

dispatch!(fn finish_f2(pass: &Pass<'_>, column: usize, target: &Shared<f32>) = finish_f2_body);
dispatch!(fn finish_f4(pass: &Pass<'_>, column: usize, target: &Shared<f32>) = finish_f4_body);

#[inline(always)]
fn finish_f2_body<S: Simd>(pass: &Pass<'_>, column: usize, target: &Shared<f32>) {
    finish::<S, 4>(pass, column, target);
}

#[inline(always)]
fn finish_f4_body<S: Simd>(pass: &Pass<'_>, column: usize, target: &Shared<f32>) {
    finish::<S, 6>(pass, column, target);
}

/// Adds the runs of a register of input channels, applies Gᵀ and adds the result to the gradient, whose rows of these
/// channels belong to the caller. The shell around us has the instruction set.
#[inline(always)]
fn finish<S: Simd, const P: usize>(pass: &Pass<'_>, column: usize, target: &Shared<f32>) {
    let [c_in, c_out] = pass.gradient.channels;
    let many = S::LANES.min(c_in - column);
    let deep = pass.cut.depths == 4;
    // Distance between the sums of neighbouring pixels of the transform, and of neighbouring runs.
    let point = c_out * pass.pitch;
    let split = pass.cut.depths * P * P * point;
    for o in 0..c_out {
        let first = o * pass.pitch + column;
        let last = first + (pass.cut.splits - 1) * split + (pass.cut.depths * P * P - 1) * point;
        pass.sums.pointer(last, S::LANES);
        let sums = pass.sums.pointer(first, S::LANES);
        let mut values = [[0.0f32; 16]; 27];
        // SAFETY: every run and depth has sums of these channels, the last of which was checked; nobody writes them any
        // more. No register has more than 16 lanes. The shell around us has the instruction set.
        unsafe {
            let mut planes = [[S::zero(); 9]; 4];
            for (depth, plane) in planes.iter_mut().take(pass.cut.depths).enumerate() {
                let mut rows = [[S::zero(); 3]; P];
                for (y, row) in rows.iter_mut().enumerate() {
                    let mut m = [S::zero(); P];
                    for (x, v) in m.iter_mut().enumerate() {
                        let place = sums.add(((depth * P + y) * P + x) * point);
                        *v = S::load(place);
                        for run in 1..pass.cut.splits {
                            *v = S::add(*v, S::load(place.add(run * split)));
                        }
                    }
                    *row = kernel_axis::<S, P>(m);
                }
                for x in 0..3 {
                    let column = kernel_axis::<S, P>(rows.map(|row| row[x]));
                    for (y, v) in column.into_iter().enumerate() {
                        plane[y * 3 + x] = v;
                    }
                }
            }
            for tap in 0..9 {
                if deep {
                    let [a, b, c, d] = planes;
                    let along = kernel_axis::<S, 4>([a[tap], b[tap], c[tap], d[tap]]);
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
