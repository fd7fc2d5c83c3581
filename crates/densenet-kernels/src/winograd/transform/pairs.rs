//! Bᵀ d B of a map of bf16 that stays bf16: both channels of a pair are transformed in f32, rounded, and put together again.

use std::mem::MaybeUninit;

use super::{Input, Mix, Transform, input_axis};
use crate::{
    isa::dispatch,
    simd::{InSteps, Round, Simd, load_some},
};

/// Bᵀ d B of one patch, for all channels: [`super::input`] of [`super::Numbers::Bf16`].
///
/// # Safety
/// As [`super::input`].
pub(super) unsafe fn input(isa: crate::Isa, plane: [Transform; 2], patch: &Input<'_>) {
    dispatch!(fn f2x2(patch: &Input<'_>) = f2x2_body);
    dispatch!(fn f2x4(patch: &Input<'_>) = f2x4_body);
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    fn native(plane: [Transform; 2], patch: &Input<'_>) {
        use crate::simd::{Avx512, Native};
        // SAFETY: the caller of `input` guarantees the operands; the shell has the instruction set.
        unsafe {
            match plane {
                [Transform::F2, Transform::F2] => body::<Avx512, Native, 4, 4>(patch),
                [Transform::F2, Transform::F4] => body::<Avx512, Native, 4, 6>(patch),
                _ => unreachable!("tiles of other shapes in bf16"),
            }
        }
    }
    match plane {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has these features, as `has_bf16` detected.
        plane if isa.has_bf16() => unsafe { native(plane, patch) },
        [Transform::F2, Transform::F2] => f2x2(isa, patch),
        [Transform::F2, Transform::F4] => f2x4(isa, patch),
        _ => unreachable!("tiles of other shapes in bf16"),
    }
}

macro_rules! bodies {
    ($($name:ident: $height:literal, $width:literal;)*) => {
        $(#[inline(always)]
        fn $name<S: Simd>(patch: &Input<'_>) {
            // SAFETY: the caller of `input` guarantees the operands; the shell around us has the instruction set.
            unsafe { body::<S, InSteps, $height, $width>(patch) }
        })*
    };
}

bodies! {
    f2x2_body: 4, 4;
    f2x4_body: 4, 6;
}

/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn body<S: Simd, R: Round<S>, const PY: usize, const PX: usize>(patch: &Input<'_>) {
    // SAFETY: as ours.
    unsafe {
        match patch.mix {
            Mix::One => mixed::<S, R, PY, PX, { Mix::One as u8 }>(patch),
            Mix::Sum => mixed::<S, R, PY, PX, { Mix::Sum as u8 }>(patch),
            Mix::Difference => mixed::<S, R, PY, PX, { Mix::Difference as u8 }>(patch),
            Mix::Edge | Mix::Near | Mix::Far => unreachable!("deeper tiles in bf16"),
        }
    }
}

/// [`input`] with the [`Mix`] known.
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn mixed<S: Simd, R: Round<S>, const PY: usize, const PX: usize, const MIX: u8>(
    patch: &Input<'_>,
) {
    let mix = |mix: Mix| MIX == mix as u8;
    let used = if mix(Mix::One) { 1 } else { 2 };
    let planes: [&[*const f32]; 2] =
        std::array::from_fn(|i| &patch.planes[i][..if i < used { PY * PX } else { 0 }]);
    // In pairs.
    let (mut at, end) = (patch.channels.start / 2, patch.channels.end.div_ceil(2));
    let mut target = patch.target;
    // SAFETY: the caller guarantees `channels` behind every pixel and room behind every place.
    unsafe {
        while at < end {
            let many = S::LANES.min(end - at);
            // As many as a line of the cache holds.
            if at.is_multiple_of(16) {
                for pixels in &patch.ahead[..used] {
                    for pixel in *pixels {
                        S::prefetch(pixel.wrapping_add(at));
                    }
                }
                for i in 0..PY * PX {
                    S::prefetch_to_write(target.add(i * patch.pitch));
                }
            }
            // Columns first, then rows. Not zeroed: that would be a call of its own.
            let mut half = MaybeUninit::<[[[S::V; PX]; PY]; 2]>::uninit();
            let half = half.as_mut_ptr().cast::<S::V>();
            for x in 0..PX {
                let (mut low, mut high) = ([S::zero(); PY], [S::zero(); PY]);
                for y in 0..PY {
                    let pixel = |plane: usize| planes[plane][y * PX + x].add(at);
                    let pair = load_some::<S>(pixel(0), many);
                    (low[y], high[y]) = (S::low(pair), S::high(pair));
                    if !mix(Mix::One) {
                        let other = load_some::<S>(pixel(1), many);
                        let (a, b) = (S::low(other), S::high(other));
                        (low[y], high[y]) = match mix(Mix::Sum) {
                            true => (S::add(low[y], a), S::add(high[y], b)),
                            false => (S::sub(low[y], a), S::sub(high[y], b)),
                        };
                    }
                }
                let (low, high) = (input_axis::<S, PY>(low), input_axis::<S, PY>(high));
                for y in 0..PY {
                    half.add(y * PX + x).write(low[y]);
                    half.add((PY + y) * PX + x).write(high[y]);
                }
            }
            for y in 0..PY {
                let low = half.add(y * PX).cast::<[S::V; PX]>().read();
                let high = half.add((PY + y) * PX).cast::<[S::V; PX]>().read();
                let (low, high) = (input_axis::<S, PX>(low), input_axis::<S, PX>(high));
                for x in 0..PX {
                    let place = target.add((y * PX + x) * patch.pitch);
                    S::store(place, R::pairs(low[x], high[x]));
                }
            }
            at += S::LANES;
            target = target.add(S::LANES);
        }
    }
}
