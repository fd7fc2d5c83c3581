//! The 1-D transforms, and their application along the axes of a patch in registers.

use std::mem::MaybeUninit;
use std::ops::Range;

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
    /// F(4, 3): interpolation points 0, ±[`NEAR`], ±[`FAR`], ∞.
    F4,
    /// F(3, 4): the same points, shared out between an output pixel less and a kernel pixel more.
    F3,
}

/// The points of F(4, 3) and F(3, 4): 0, ±3/4, ±3/2, ∞. Smaller than the usual ±1 and ±2, so that powers of theirs
/// neither grow nor cancel as much: a third of the error (docs/numerics.md).
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;
const NEAR_2: f32 = NEAR * NEAR;
const FAR_2: f32 = FAR * FAR;

/// A row of G for the point `x`: its powers over the product of its distances to the other points.
const fn at_point(x: f64, distances: f64) -> [f64; 4] {
    [
        1.0 / distances,
        x / distances,
        x * x / distances,
        x * x * x / distances,
    ]
}

/// G for the six points, as wide as F(3, 4) needs it. Its last row takes the kernel's last pixel, whichever that is.
const SIX_POINTS: [[f64; 4]; 5] = {
    let (near, far) = (NEAR as f64, FAR as f64);
    let (near_2, far_2) = (near * near, far * far);
    let at_near = 2.0 * near_2 * (near_2 - far_2);
    let at_far = 2.0 * far_2 * (far_2 - near_2);
    [
        at_point(0.0, near_2 * far_2),
        at_point(near, at_near),
        at_point(-near, at_near),
        at_point(far, at_far),
        at_point(-far, at_far),
    ]
};

/// [`SIX_POINTS`] and the point ∞ of a kernel of 3 pixels, and of 4.
const F4_KERNEL: [[f64; 4]; 6] = with_infinity([0.0, 0.0, 1.0, 0.0]);
const F3_KERNEL: [[f64; 4]; 6] = with_infinity([0.0, 0.0, 0.0, 1.0]);

const fn with_infinity(last: [f64; 4]) -> [[f64; 4]; 6] {
    let [a, b, c, d, e] = SIX_POINTS;
    [a, b, c, d, e, last]
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
            Transform::F4 => &F4_KERNEL,
            Transform::F3 => &F3_KERNEL,
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

/// A patch of one depth of the transform, or of two: where its pixels lie and where they go.
pub(super) struct Input<'a> {
    /// The patch's pixels `[height][width]`, channels of each side by side, of as many planes as `mix` takes.
    pub planes: [&'a [*const f32]; 4],
    /// What becomes of the planes.
    pub mix: Mix,
    /// Pixels that will be read soon: those of the next patch.
    pub ahead: [&'a [*const f32]; 4],
    /// Channels, from the pixels' places on.
    pub channels: Range<usize>,
    /// Whether a channel is a bf16, two to an element.
    pub bf16: bool,
    /// Where the first pixel of the transformed patch goes, how far apart they lie, and how far from them those of the
    /// second depth, if there are two.
    pub target: *mut f32,
    pub pitch: usize,
    pub twin: usize,
}

/// Bᵀ along the depth: how planes become one of the transform, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mix {
    /// One plane as it is.
    One,
    /// F(2): the sum or the difference of two.
    Sum,
    Difference,
    /// F(4) at 0 or ∞: three planes.
    Edge,
    /// F(4) at the two near points or at the two far ones: two planes out of four.
    Near,
    Far,
}

impl Mix {
    /// Depths of the transform that come of it.
    pub(super) fn depths(self) -> usize {
        1 + usize::from(matches!(self, Mix::Near | Mix::Far))
    }
}

/// One step of a transform along the depth: the planes it takes and how.
pub(super) struct Step {
    pub planes: &'static [usize],
    pub mix: Mix,
}

impl Transform {
    /// The steps that make all depths of the transform, in order.
    pub(super) fn steps(self) -> &'static [Step] {
        const fn step(planes: &'static [usize], mix: Mix) -> Step {
            Step { planes, mix }
        }
        match self {
            Transform::Identity => const { &[step(&[0], Mix::One)] },
            Transform::F2 => {
                const {
                    &[
                        step(&[0, 2], Mix::Difference),
                        step(&[1, 2], Mix::Sum),
                        step(&[2, 1], Mix::Difference),
                        step(&[1, 3], Mix::Difference),
                    ]
                }
            }
            Transform::F3 | Transform::F4 => {
                const {
                    &[
                        step(&[0, 2, 4], Mix::Edge),
                        step(&[2, 4, 1, 3], Mix::Near),
                        step(&[2, 4, 1, 3], Mix::Far),
                        step(&[1, 3, 5], Mix::Edge),
                    ]
                }
            }
        }
    }
}

/// Bᵀ d B of one patch, for all channels.
///
/// # Safety
/// Every pixel has `channels` readable, every place of the target room for them rounded up to whole registers.
pub(super) unsafe fn input(isa: crate::Isa, plane: Transform, patch: &Input<'_>) {
    dispatch!(fn f2(patch: &Input<'_>) = input_body_f2);
    dispatch!(fn f4(patch: &Input<'_>) = input_body_f4);
    dispatch!(fn f4_bf16(patch: &Input<'_>) = input_body_f4_bf16);
    match (plane, patch.bf16) {
        (Transform::F2, _) => f2(isa, patch),
        (_, false) => f4(isa, patch),
        (_, true) => f4_bf16(isa, patch),
    }
}

#[inline(always)]
fn input_body_f2<S: Simd>(patch: &Input<'_>) {
    // SAFETY: the caller of `input` guarantees the operands; the shell around us has the instruction set.
    unsafe {
        match patch.bf16 {
            false => input_body::<S, 4, false>(patch),
            true => input_body::<S, 4, true>(patch),
        }
    }
}

#[inline(always)]
fn input_body_f4<S: Simd>(patch: &Input<'_>) {
    // SAFETY: as above.
    unsafe { input_body::<S, 6, false>(patch) }
}

#[inline(always)]
fn input_body_f4_bf16<S: Simd>(patch: &Input<'_>) {
    // SAFETY: as above.
    unsafe { input_body::<S, 6, true>(patch) }
}

/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn input_body<S: Simd, const P: usize, const BF16: bool>(patch: &Input<'_>) {
    // SAFETY: as ours.
    unsafe {
        match patch.mix {
            Mix::One => input_mixed::<S, P, BF16, { Mix::One as u8 }>(patch),
            Mix::Sum => input_mixed::<S, P, BF16, { Mix::Sum as u8 }>(patch),
            Mix::Difference => input_mixed::<S, P, BF16, { Mix::Difference as u8 }>(patch),
            Mix::Edge => input_mixed::<S, P, BF16, { Mix::Edge as u8 }>(patch),
            Mix::Near => input_mixed::<S, P, BF16, { Mix::Near as u8 }>(patch),
            Mix::Far => input_mixed::<S, P, BF16, { Mix::Far as u8 }>(patch),
        }
    }
}

/// [`input`] with the [`Mix`] known.
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn input_mixed<S: Simd, const P: usize, const BF16: bool, const MIX: u8>(patch: &Input<'_>) {
    let mix = |mix: Mix| MIX == mix as u8;
    let twins = mix(Mix::Near) || mix(Mix::Far);
    let planes: [&[*const f32]; 4] = std::array::from_fn(|i| {
        let taken = match i {
            0 => true,
            1 => !mix(Mix::One),
            2 => twins || mix(Mix::Edge),
            _ => twins,
        };
        &patch.planes[i][..if taken { P * P } else { 0 }]
    });
    // SAFETY: the caller guarantees `channels` elements behind every pixel and room behind every place.
    unsafe {
        let mut c = patch.channels.start;
        let mut target = patch.target;
        while c < patch.channels.end {
            let many = S::LANES.min(patch.channels.end - c);
            for pixels in patch.ahead {
                for pixel in pixels {
                    S::prefetch(pixel.wrapping_add(if BF16 { c / 2 } else { c }));
                }
            }
            for i in 0..P * P {
                S::prefetch_to_write(target.add(i * patch.pitch));
                if twins {
                    S::prefetch_to_write(target.add(patch.twin + i * patch.pitch));
                }
            }
            // Columns first, then rows. Not zeroed: that would be a call of its own.
            let mut half = MaybeUninit::<[[S::V; P]; P]>::uninit();
            let half = half.as_mut_ptr().cast::<S::V>();
            let mut twin = MaybeUninit::<[[S::V; P]; P]>::uninit();
            let twin = twin.as_mut_ptr().cast::<S::V>();
            for x in 0..P {
                let (mut column, mut second) = ([S::zero(); P], [S::zero(); P]);
                for y in 0..P {
                    let at = |plane: usize| {
                        let pixel = planes[plane][y * P + x];
                        match BF16 {
                            false => load_some::<S>(pixel.add(c), many),
                            true => S::load_bf16(pixel.cast::<u16>().add(c), many),
                        }
                    };
                    column[y] = if mix(Mix::One) {
                        at(0)
                    } else if mix(Mix::Sum) {
                        S::add(at(0), at(1))
                    } else if mix(Mix::Difference) {
                        S::sub(at(0), at(1))
                    } else if mix(Mix::Edge) {
                        six_edge::<S>(at(0), at(1), at(2))
                    } else {
                        let (point, other) = match mix(Mix::Near) {
                            true => (NEAR, FAR_2),
                            false => (FAR, NEAR_2),
                        };
                        let pair = six_pair::<S>([at(0), at(1), at(2), at(3)], point, other);
                        second[y] = pair[1];
                        pair[0]
                    };
                }
                let column = input_axis::<S, P>(column);
                for (y, v) in column.iter().enumerate() {
                    half.add(y * P + x).write(*v);
                }
                if twins {
                    let second = input_axis::<S, P>(second);
                    for (y, v) in second.iter().enumerate() {
                        twin.add(y * P + x).write(*v);
                    }
                }
            }
            for y in 0..P {
                let row = input_axis::<S, P>(half.add(y * P).cast::<[S::V; P]>().read());
                for (x, v) in row.iter().enumerate() {
                    S::store(target.add((y * P + x) * patch.pitch), *v);
                }
            }
            if twins {
                for y in 0..P {
                    let row = input_axis::<S, P>(twin.add(y * P).cast::<[S::V; P]>().read());
                    for (x, v) in row.iter().enumerate() {
                        S::store(target.add(patch.twin + (y * P + x) * patch.pitch), *v);
                    }
                }
            }
            c += S::LANES;
            target = target.add(S::LANES);
        }
    }
}

/// Bᵀ of six points at 0 (of pixels 0, 2, 4) or at ∞ (of pixels 1, 3, 5).
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn six_edge<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let inner = S::fma(S::set(-(NEAR_2 + FAR_2)), b, c);
        S::fma(S::set(NEAR_2 * FAR_2), a, inner)
    }
}

/// Bᵀ of six points at ±`point` (of pixels 2, 4, 1, 3), where the other pair's square is `other`.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn six_pair<S: Simd>([d2, d4, d1, d3]: [S::V; 4], point: f32, other: f32) -> [S::V; 2] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let even = S::fma(S::set(-other), d2, d4);
        let odd = S::fma(S::set(-other), d1, d3);
        [
            S::fma(S::set(point), odd, even),
            S::fma(S::set(-point), odd, even),
        ]
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
            v[0] = six_edge::<S>(d[0], d[2], d[4]);
            [v[1], v[2]] = six_pair::<S>([d[2], d[4], d[1], d[3]], NEAR, FAR_2);
            [v[3], v[4]] = six_pair::<S>([d[2], d[4], d[1], d[3]], FAR, NEAR_2);
            v[5] = six_edge::<S>(d[1], d[3], d[5]);
        }
    }
    v
}

/// A product of transforms and the tile of outputs that it becomes.
pub(super) struct Output<'a> {
    /// The product's first pixel, and how far its `[depth][height][width]` pixels lie apart.
    pub product: *const f32,
    pub pitch: usize,
    /// The transform along the depth.
    pub deep: Transform,
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
        // Aᵀ along the depth: up to four planes.
        let mut deep = MaybeUninit::<[[[S::V; P]; P]; 4]>::uninit();
        let deep = deep.as_mut_ptr().cast::<S::V>();
        while c < tile.channels {
            let many = S::LANES.min(tile.channels - c);
            let place = |i: usize| tile.product.add(i * tile.pitch + c);
            let at = |depth: usize, i: usize| S::load(place(depth * P * P + i));
            for i in 0..P * P {
                match tile.deep {
                    Transform::Identity => break,
                    Transform::F2 => {
                        let m = [at(0, i), at(1, i), at(2, i), at(3, i)];
                        let y = output_axis::<S, 4, 2>(m);
                        (0..2).for_each(|z| deep.add(z * P * P + i).write(y[z]));
                    }
                    Transform::F3 | Transform::F4 => {
                        let m = [at(0, i), at(1, i), at(2, i), at(3, i), at(4, i), at(5, i)];
                        let y = output_axis::<S, 6, 4>(m);
                        (0..4).for_each(|z| deep.add(z * P * P + i).write(y[z]));
                    }
                }
            }
            for z in 0..tile.deep.tile() {
                let mut half = MaybeUninit::<[[S::V; P]; M]>::uninit();
                let half = half.as_mut_ptr().cast::<S::V>();
                for x in 0..P {
                    let mut column = [S::zero(); P];
                    for (y, v) in column.iter_mut().enumerate() {
                        *v = match tile.deep {
                            Transform::Identity => at(0, y * P + x),
                            _ => deep.add((z * P + y) * P + x).read(),
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
        } else {
            let (near, far) = (S::add(m[1], m[2]), S::add(m[3], m[4]));
            let (near_1, far_1) = (S::sub(m[1], m[2]), S::sub(m[3], m[4]));
            // Σ point^power of both pairs.
            let both = |power: i32, near: S::V, far: S::V, sum: S::V| {
                let sum = S::fma(S::set(NEAR.powi(power)), near, sum);
                S::fma(S::set(FAR.powi(power)), far, sum)
            };
            let zero = S::zero();
            y[0] = S::add(S::add(m[0], near), far);
            y[1] = both(1, near_1, far_1, zero);
            y[2] = both(2, near, far, if M == 3 { m[5] } else { zero });
            if M == 4 {
                y[3] = both(3, near_1, far_1, m[5]);
            }
        }
        y
    }
}
