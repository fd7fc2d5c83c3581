//! Norm, ReLU and a 1×1 convolution, forward and back, in one pass over the pixels each: the first half of a dense layer.
//!
//! A chunk of pixels is normalised once and stays in the second-level cache for everything that is done with it.

mod backward;
mod forward;
mod masked;

pub use backward::{OutputGradient, PointwiseBackward, PointwiseTargets};
pub use forward::PointwiseForward;
pub(crate) use forward::{Written, add_powers};

use crate::{
    isa::dispatch,
    simd::{Simd, load_some, store_some},
};

/// Pixels handled at a time: 84 rows of 128 gradients and 512 inputs are half of a 1 MiB second-level cache. A multiple of
/// most tiles' rows.
const CHUNK: usize = 84;

/// The places of a chunk's pixels.
type Places = [usize; CHUNK];

/// Pixels to be normalised.
struct Normal<'a> {
    input: &'a [f32],
    places: &'a [usize],
    /// The first channel.
    start: usize,
    scale: &'a [f32],
    shift: &'a [f32],
}

dispatch! {
    /// `output[r·pitch + c] = relu(scale[c]·x + shift[c])`
    fn normalise(rows: &Normal<'_>, output: &mut [f32], pitch: usize) = normalise_body
}

#[inline(always)]
fn normalise_body<S: Simd>(rows: &Normal<'_>, output: &mut [f32], pitch: usize) {
    let n = rows.scale.len().min(rows.shift.len());
    assert!(n <= pitch);
    for (row, place) in output.chunks_exact_mut(pitch).zip(rows.places) {
        let place = place + rows.start;
        let (x, y) = (rows.input[place..place + n].as_ptr(), row.as_mut_ptr());
        for c in (0..n).step_by(S::LANES) {
            let many = S::LANES.min(n - c);
            // SAFETY: the pixel, the norm and the row hold `n` elements; the shell around us has the instruction set.
            unsafe {
                let scale = load_some::<S>(rows.scale.as_ptr().add(c), many);
                let shift = load_some::<S>(rows.shift.as_ptr().add(c), many);
                let v = load_some::<S>(x.add(c), many);
                store_some::<S>(y.add(c), S::relu(S::fma(scale, v, shift)), many);
            }
        }
    }
}

dispatch! {
    /// Asks for some pixels that will be read soon.
    fn prefetch(input: &[f32], places: &[usize], channels: usize) = prefetch_body
}

#[inline(always)]
fn prefetch_body<S: Simd>(input: &[f32], places: &[usize], channels: usize) {
    for place in places {
        for c in (0..channels).step_by(16) {
            // SAFETY: the shell around us has the instruction set; any address may be asked for.
            unsafe { S::prefetch(input.as_ptr().wrapping_add(place + c)) };
        }
    }
}
