//! The 1-D transforms, and their application along the axes of a patch in registers.

use std::mem::MaybeUninit;

use crate::{
    isa::dispatch,
    simd::{Simd, load_some},
};

/// The transform along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    /// A kernel of one pixel: nothing to do.
    Identity,
    /// F(2, 3): interpolation points 0, 1, −1, ∞.
    F2,
    /// F(4, 3): interpolation points 0, 1, −1, 2, −2, ∞.
    F4,
    /// F(3, 4): the same points, shared out between an output pixel less and a kernel pixel more.
    F3,
}

impl Transform {
    /// Output pixels of a tile.
    pub(super) fn tile(self) -> usize {
        match self {
            Transform::Identity => 1,
            Transform::F2 => 2,
            Transform::F3 => 3,
            Transform::F4 => 4,
        }
    }

    /// Input pixels of a tile.
    pub(super) fn patch(self) -> usize {
        match self {
            Transform::Identity => 1,
            Transform::F2 => 4,
            Transform::F3 | Transform::F4 => 6,
        }
    }

    /// The padding of a 3 or 1 wide convolution.
    pub(super) fn padding(self) -> usize {
        usize::from(self != Transform::Identity)
    }

    /// Pixels of the kernel.
    fn taps(self) -> usize {
        self.patch() + 1 - self.tile()
    }

    /// G: what each pixel of a transformed kernel takes of the kernel's pixels (three; four for F(3, 4)).
    fn kernel(self) -> &'static [[f64; 4]] {
        match self {
            Transform::Identity => &[],
            Transform::F2 => &[
                [1.0, 0.0, 0.0, 0.0],
                [0.5, 0.5, 0.5, 0.0],
                [0.5, -0.5, 0.5, 0.0],
                [0.0, 0.0, 1.0, 0.0],
            ],
            Transform::F4 => &[
                [1.0 / 4.0, 0.0, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, 0.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0, 0.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0, 0.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0, 0.0],
                [0.0, 0.0, 1.0, 0.0],
            ],
            Transform::F3 => &[
                [1.0 / 4.0, 0.0, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0, 1.0 / 3.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0, -1.0 / 3.0],
                [0.0, 0.0, 0.0, 1.0],
            ],
        }
    }
}

/// Kernels of adjacent columns, transformed together.
pub(super) const COLUMNS: usize = 8;

/// One pixel of [`COLUMNS`] kernels.
pub(super) type Column = [f64; COLUMNS];

/// G along every axis of [`COLUMNS`] kernels, in f64: `[depth][height][width]` at the start of `pixels` becomes the
/// transformed kernel. `spare` is as long.
pub(super) fn transform_kernel(
    axes: &[Transform],
    pixels: &mut Vec<Column>,
    spare: &mut Vec<Column>,
) {
    for axis in (0..axes.len()).rev() {
        let rows = axes[axis].kernel();
        if rows.is_empty() {
            continue;
        }
        // Axes behind this one have their new size.
        let inner: usize = axes[axis + 1..].iter().map(|a| a.patch()).product();
        spare.clear();
        let taps = axes[axis].taps();
        for kernel in pixels.chunks_exact(taps * inner) {
            for row in rows {
                spare.extend((0..inner).map(|i| -> Column {
                    let mut sum = [0.0; COLUMNS];
                    for (factor, tap) in row[..taps].iter().zip(kernel[i..].iter().step_by(inner)) {
                        for (s, v) in sum.iter_mut().zip(tap) {
                            *s += factor * v;
                        }
                    }
                    sum
                }));
            }
        }
        std::mem::swap(pixels, spare);
    }
}

/// A patch of one depth of the transform: where its pixels lie and where they go.
pub(super) struct Input<'a> {
    /// The patch's pixels `[height][width]`, channels of each side by side.
    pub pixels: &'a [*const f32],
    /// A second patch to add or subtract: the transform along the depth.
    pub second: Option<(&'a [*const f32], Sign)>,
    /// Pixels that will be read soon: those of the next patch and of the one to add to it.
    pub ahead: [&'a [*const f32]; 2],
    pub channels: usize,
    /// Where the first pixel of the transformed patch goes, and how far apart they lie.
    pub target: *mut f32,
    pub pitch: usize,
}

/// How a second operand takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

/// Bᵀ d B of one patch, for all channels.
///
/// # Safety
/// Every pixel has `channels` readable elements, every place of the target room for them rounded up to whole registers.
pub(super) unsafe fn input(isa: crate::Isa, plane: Transform, patch: &Input<'_>) {
    dispatch!(fn f2(patch: &Input<'_>) = input_body_f2);
    dispatch!(fn f4(patch: &Input<'_>) = input_body_f4);
    if plane == Transform::F2 {
        f2(isa, patch);
    } else {
        f4(isa, patch);
    }
}

#[inline(always)]
fn input_body_f2<S: Simd>(patch: &Input<'_>) {
    // SAFETY: the caller of `input` guarantees the operands; the shell around us has the instruction set.
    unsafe { input_body::<S, 4>(patch) }
}

#[inline(always)]
fn input_body_f4<S: Simd>(patch: &Input<'_>) {
    // SAFETY: as above.
    unsafe { input_body::<S, 6>(patch) }
}

/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn input_body<S: Simd, const P: usize>(patch: &Input<'_>) {
    // SAFETY: as ours.
    unsafe {
        match patch.second {
            None => input_pair::<S, P, 0>(patch, patch.pixels),
            Some((second, Sign::Plus)) => input_pair::<S, P, 1>(patch, second),
            Some((second, Sign::Minus)) => input_pair::<S, P, 2>(patch, second),
        }
    }
}

/// [`input`] with the sign of the second patch known: 0 for none, 1 for plus, 2 for minus.
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn input_pair<S: Simd, const P: usize, const SIGN: usize>(
    patch: &Input<'_>,
    second: &[*const f32],
) {
    let (pixels, second) = (&patch.pixels[..P * P], &second[..P * P]);
    // SAFETY: the caller guarantees `channels` elements behind every pixel and room behind every place.
    unsafe {
        let mut c = 0;
        while c < patch.channels {
            let many = S::LANES.min(patch.channels - c);
            // Columns first, then rows. Not zeroed: that would be a call of its own.
            for pixels in patch.ahead {
                for pixel in pixels {
                    S::prefetch(pixel.wrapping_add(c));
                }
            }
            let mut half = MaybeUninit::<[[S::V; P]; P]>::uninit();
            let half = half.as_mut_ptr().cast::<S::V>();
            for x in 0..P {
                let mut column = [S::zero(); P];
                for (y, v) in column.iter_mut().enumerate() {
                    *v = load_some::<S>(pixels[y * P + x].add(c), many);
                    if SIGN > 0 {
                        let other = load_some::<S>(second[y * P + x].add(c), many);
                        *v = if SIGN == 1 {
                            S::add(*v, other)
                        } else {
                            S::sub(*v, other)
                        };
                    }
                }
                let column = input_axis::<S, P>(column);
                for (y, v) in column.iter().enumerate() {
                    half.add(y * P + x).write(*v);
                }
            }
            for y in 0..P {
                let row = input_axis::<S, P>(half.add(y * P).cast::<[S::V; P]>().read());
                for (x, v) in row.iter().enumerate() {
                    S::store(patch.target.add((y * P + x) * patch.pitch + c), *v);
                }
            }
            c += S::LANES;
        }
    }
}

/// Bᵀ of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn input_axis<S: Simd, const P: usize>(d: [S::V; P]) -> [S::V; P] {
    let mut v = d;
    // SAFETY: the caller has the instruction set.
    unsafe {
        if P == 4 {
            v[0] = S::sub(d[0], d[2]);
            v[1] = S::add(d[1], d[2]);
            v[2] = S::sub(d[2], d[1]);
            v[3] = S::sub(d[1], d[3]);
        } else {
            let (minus_four, minus_five, four, two) =
                (S::set(-4.0), S::set(-5.0), S::set(4.0), S::set(2.0));
            let (a, b) = (
                S::fma(minus_four, d[2], d[4]),
                S::fma(minus_four, d[1], d[3]),
            );
            let (c, e) = (S::sub(d[4], d[2]), S::sub(d[3], d[1]));
            v[0] = S::fma(four, d[0], S::fma(minus_five, d[2], d[4]));
            v[1] = S::add(a, b);
            v[2] = S::sub(a, b);
            v[3] = S::fma(two, e, c);
            v[4] = S::fma(S::set(-2.0), e, c);
            v[5] = S::fma(four, d[1], S::fma(minus_five, d[3], d[5]));
        }
    }
    v
}

/// A product of transforms and the tile of outputs that it becomes.
pub(super) struct Output<'a> {
    /// The product's first pixel, and how far its `[depth][height][width]` pixels lie apart.
    pub product: *const f32,
    pub pitch: usize,
    /// F(2) along the depth instead of nothing.
    pub deep: bool,
    pub channels: usize,
    /// Where the outputs `[depth][height][width]` go; null where a tile reaches over the map's border.
    pub pixels: &'a [*mut f32],
    /// The norm after the convolution (`channels` values each), and whether to rectify.
    pub affine: Option<(&'a [f32], &'a [f32])>,
    pub relu: bool,
}

/// Aᵀ m A of one tile, for all channels.
///
/// # Safety
/// Every pixel of the product has `channels` elements rounded up to whole registers, every output that is not null room
/// for `channels`.
pub(super) unsafe fn output(isa: crate::Isa, plane: Transform, tile: &Output<'_>) {
    dispatch!(fn f2(tile: &Output<'_>) = output_body_f2);
    dispatch!(fn f3(tile: &Output<'_>) = output_body_f3);
    dispatch!(fn f4(tile: &Output<'_>) = output_body_f4);
    match plane {
        Transform::F2 => f2(isa, tile),
        Transform::F3 => f3(isa, tile),
        _ => f4(isa, tile),
    }
}

#[inline(always)]
fn output_body_f2<S: Simd>(tile: &Output<'_>) {
    // SAFETY: the caller of `output` guarantees the operands; the shell around us has the instruction set.
    unsafe { output_body::<S, 4, 2>(tile) }
}

#[inline(always)]
fn output_body_f3<S: Simd>(tile: &Output<'_>) {
    // SAFETY: as above.
    unsafe { output_body::<S, 6, 3>(tile) }
}

#[inline(always)]
fn output_body_f4<S: Simd>(tile: &Output<'_>) {
    // SAFETY: as above.
    unsafe { output_body::<S, 6, 4>(tile) }
}

/// # Safety
/// As [`output`].
#[inline(always)]
unsafe fn output_body<S: Simd, const P: usize, const M: usize>(tile: &Output<'_>) {
    // SAFETY: the caller guarantees whole registers behind every pixel of the product and room behind every output.
    unsafe {
        let mut c = 0;
        while c < tile.channels {
            let many = S::LANES.min(tile.channels - c);
            for z in 0..if tile.deep { 2 } else { 1 } {
                let mut half = MaybeUninit::<[[S::V; P]; M]>::uninit();
                let half = half.as_mut_ptr().cast::<S::V>();
                for x in 0..P {
                    let mut column = [S::zero(); P];
                    for (y, v) in column.iter_mut().enumerate() {
                        let place = tile.product.add((y * P + x) * tile.pitch + c);
                        let at = |depth: usize| place.add(depth * P * P * tile.pitch);
                        *v = match (tile.deep, z) {
                            (false, _) => S::load(place),
                            (true, 0) => {
                                let sum = S::add(S::load(place), S::load(at(1)));
                                S::add(sum, S::load(at(2)))
                            }
                            (true, _) => {
                                let difference = S::sub(S::load(at(1)), S::load(at(2)));
                                S::sub(difference, S::load(at(3)))
                            }
                        };
                    }
                    let column = output_axis::<S, P, M>(column);
                    for (y, v) in column.iter().enumerate() {
                        half.add(y * P + x).write(*v);
                    }
                }
                for y in 0..M {
                    let row = half.add(y * P).cast::<[S::V; P]>().read();
                    let row = output_axis::<S, P, M>(row);
                    for (x, v) in row.iter().enumerate() {
                        let pixel = tile.pixels[(z * M + y) * M + x];
                        if pixel.is_null() {
                            continue;
                        }
                        let v = finish::<S>(tile, *v, c, many);
                        if many == S::LANES {
                            S::store(pixel.add(c), v);
                        } else {
                            S::store_first(pixel.add(c), v, many);
                        }
                    }
                }
            }
            c += S::LANES;
        }
    }
}

/// The norm and ReLU behind a tile, for channels from `c` on.
///
/// # Safety
/// As [`output`].
#[inline(always)]
unsafe fn finish<S: Simd>(tile: &Output<'_>, mut v: S::V, c: usize, many: usize) -> S::V {
    // SAFETY: the affine map holds `channels` values, of which `many` are left.
    unsafe {
        if let Some((scale, shift)) = tile.affine {
            let scale = load_some::<S>(scale.as_ptr().add(c), many);
            v = S::fma(scale, v, load_some::<S>(shift.as_ptr().add(c), many));
        }
        if tile.relu { S::relu(v) } else { v }
    }
}

/// Aᵀ of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn output_axis<S: Simd, const P: usize, const M: usize>(m: [S::V; P]) -> [S::V; M] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let mut y = [S::zero(); M];
        if P == 4 {
            y[0] = S::add(S::add(m[0], m[1]), m[2]);
            y[1] = S::sub(S::sub(m[1], m[2]), m[3]);
        } else if M == 3 {
            let (a, b) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (c, d) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            y[0] = S::add(S::add(m[0], a), c);
            y[1] = S::fma(S::set(2.0), d, b);
            y[2] = S::add(S::fma(S::set(4.0), c, a), m[5]);
        } else {
            let (a, b) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (c, d) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            y[0] = S::add(S::add(m[0], a), c);
            y[1] = S::fma(S::set(2.0), d, b);
            y[2] = S::fma(S::set(4.0), c, a);
            y[3] = S::add(S::fma(S::set(8.0), d, b), m[5]);
        }
        y
    }
}
