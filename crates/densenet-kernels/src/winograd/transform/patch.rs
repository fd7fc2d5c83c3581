//! Bᵀ d B: patches of pixels on their way into products of f32.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{FAR, FAR_2, NEAR, NEAR_2, Transform, pairs};
use crate::{
    isa::dispatch,
    simd::{Simd, load_some},
};

/// A patch of one depth of the transform, or of two: where its pixels lie and where they go.
pub(in crate::winograd) struct Input<'a> {
    /// The patch's pixels `[height][width]`, channels of each side by side, of as many planes as `mix` takes.
    pub planes: [&'a [*const f32]; 4],
    /// What becomes of the planes.
    pub mix: Mix,
    /// Pixels that will be read soon: those of the next patch.
    pub ahead: [&'a [*const f32]; 4],
    /// Channels, from the pixels' places on.
    pub channels: Range<usize>,
    /// What is read and written.
    pub numbers: Numbers,
    /// Where the first pixel of the transformed patch goes, how far apart they lie, and how far from them those of the
    /// second depth, if there are two.
    pub target: *mut f32,
    pub pitch: usize,
    pub twin: usize,
}

/// What a patch's channels are, and what they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::winograd) enum Numbers {
    /// f32.
    F32,
    /// bf16, two to an element, that become f32.
    Widened,
    /// bf16, two to an element, that stay so: transformed in f32 and rounded (`pairs.rs`).
    Bf16,
}

/// Bᵀ along the depth: how planes become one of the transform, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::winograd) enum Mix {
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
    pub(in crate::winograd) fn depths(self) -> usize {
        1 + usize::from(matches!(self, Mix::Near | Mix::Far))
    }
}

/// One step of a transform along the depth: the planes it takes and how.
pub(in crate::winograd) struct Step {
    pub planes: &'static [usize],
    pub mix: Mix,
}

impl Transform {
    /// The steps that make all depths of the transform, in order.
    pub(in crate::winograd) fn steps(self) -> &'static [Step] {
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
/// Every pixel has `channels` readable, every place of the target room for them rounded up to whole registers. Two depths
/// are f32.
pub(in crate::winograd) unsafe fn input(isa: crate::Isa, plane: [Transform; 2], patch: &Input<'_>) {
    dispatch!(fn f2(patch: &Input<'_>) = f2_body);
    dispatch!(fn f2_widened(patch: &Input<'_>) = f2_widened_body);
    dispatch!(fn f4(patch: &Input<'_>) = f4_body);
    dispatch!(fn f4_widened(patch: &Input<'_>) = f4_widened_body);
    match (plane[1], patch.numbers) {
        // SAFETY: as ours.
        (_, Numbers::Bf16) => unsafe { pairs::input(isa, plane, patch) },
        (Transform::F2, Numbers::F32) => f2(isa, patch),
        (Transform::F2, Numbers::Widened) => f2_widened(isa, patch),
        (_, Numbers::F32) => f4(isa, patch),
        (_, Numbers::Widened) => f4_widened(isa, patch),
    }
}

macro_rules! bodies {
    ($($name:ident: $pixels:literal, $widened:literal;)*) => {
        $(#[inline(always)]
        fn $name<S: Simd>(patch: &Input<'_>) {
            // SAFETY: the caller of `input` guarantees the operands; the shell around us has the instruction set.
            unsafe { body::<S, $pixels, $widened>(patch) }
        })*
    };
}

bodies! {
    f2_body: 4, false;
    f2_widened_body: 4, true;
    f4_body: 6, false;
    f4_widened_body: 6, true;
}

/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn body<S: Simd, const P: usize, const WIDENED: bool>(patch: &Input<'_>) {
    // SAFETY: as ours.
    unsafe {
        match patch.mix {
            Mix::One => mixed::<S, P, WIDENED, { Mix::One as u8 }>(patch),
            Mix::Sum => mixed::<S, P, WIDENED, { Mix::Sum as u8 }>(patch),
            Mix::Difference => mixed::<S, P, WIDENED, { Mix::Difference as u8 }>(patch),
            Mix::Edge => mixed::<S, P, WIDENED, { Mix::Edge as u8 }>(patch),
            Mix::Near => mixed::<S, P, WIDENED, { Mix::Near as u8 }>(patch),
            Mix::Far => mixed::<S, P, WIDENED, { Mix::Far as u8 }>(patch),
        }
    }
}

/// [`input`] with the [`Mix`] known.
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn mixed<S: Simd, const P: usize, const WIDENED: bool, const MIX: u8>(patch: &Input<'_>) {
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
            // A line of the cache holds 16 channels in f32, 32 in bf16.
            if !WIDENED || c.is_multiple_of(32) {
                for pixels in patch.ahead {
                    for pixel in pixels {
                        S::prefetch(pixel.wrapping_add(if WIDENED { c / 2 } else { c }));
                    }
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
                        match WIDENED {
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
pub(in crate::winograd) unsafe fn input_axis<S: Simd, const P: usize>(d: [S::V; P]) -> [S::V; P] {
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
