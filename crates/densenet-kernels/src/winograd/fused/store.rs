//! Products on their way back: Aᵀ of a tile, masked if a norm + ReLU follows, into the pixels of the output.

use std::mem::MaybeUninit;

use super::{
    super::transform::{Transform, output_axis},
    Mask, NOWHERE,
};
use crate::{
    Isa,
    isa::dispatch,
    simd::{Simd, load_some, store_some},
};

/// The outputs of a group of tiles.
pub(super) struct Fetch<'a> {
    pub places: &'a [usize],
    pub inputs: &'a [*const f32],
    pub output: *const f32,
    pub channels: usize,
}

dispatch! {
    /// Asks for the memory that a group's outputs go to, and the norm's inputs there: a few channels of each pixel of a
    /// block's buffer, which no prefetcher guesses.
    pub(super) fn fetch_outputs(fetch: &Fetch<'_>) = fetch_outputs_body
}

#[inline(always)]
fn fetch_outputs_body<S: Simd>(fetch: &Fetch<'_>) {
    for (place, input) in fetch.places.iter().zip(fetch.inputs) {
        if *place == NOWHERE {
            continue;
        }
        for c in (0..fetch.channels + 15).step_by(16) {
            // SAFETY: the shell around us has the instruction set; any address may be asked for.
            unsafe {
                S::prefetch(fetch.output.wrapping_add(place + c));
                S::prefetch(input.wrapping_add(c));
            }
        }
    }
}

/// A product and the tile of outputs that it becomes.
pub(super) struct Output<'a> {
    /// The product's first pixel, and how far its `[depth][height][width]` pixels lie apart.
    pub product: *const f32,
    pub pitch: usize,
    pub deep: bool,
    pub channels: usize,
    pub output: *mut f32,
    /// Of its outputs `[depth][height][width]`.
    pub places: &'a [usize],
    /// The norm's input at each output that lies in the map, if there is a mask.
    pub inputs: &'a [*const f32],
    pub mask: Option<&'a Mask<'a>>,
    /// Σ m and Σ m·(x − μ), whole registers.
    pub sums: [*mut f32; 2],
}

/// Aᵀ m A of one tile, masked if asked for.
///
/// # Safety
/// The product and the sums have whole registers, every place in the map room for the channels; a mask comes with inputs.
pub(super) unsafe fn store_tile(isa: Isa, plane: Transform, tile: &Output<'_>) {
    dispatch!(fn f2(tile: &Output<'_>) = f2_body);
    dispatch!(fn f4(tile: &Output<'_>) = f4_body);
    match plane {
        Transform::F2 => f2(isa, tile),
        _ => f4(isa, tile),
    }
}

#[inline(always)]
fn f2_body<S: Simd>(tile: &Output<'_>) {
    // SAFETY: the caller of `store_tile` guarantees the operands; the shell around us has the instruction set.
    unsafe { tile_body::<S, 4, 2>(tile) }
}

#[inline(always)]
fn f4_body<S: Simd>(tile: &Output<'_>) {
    // SAFETY: as above.
    unsafe { tile_body::<S, 6, 4>(tile) }
}

/// # Safety
/// As [`store_tile`]; the processor has `S`.
#[inline(always)]
unsafe fn tile_body<S: Simd, const P: usize, const M: usize>(tile: &Output<'_>) {
    // SAFETY: as ours.
    unsafe {
        match tile.mask {
            Some(mask) => {
                tile_planes::<S, P, M, true>(tile, [mask.scale, mask.shift, mask.mean]);
            }
            None => tile_planes::<S, P, M, false>(tile, [&[]; 3]),
        }
    }
}

/// # Safety
/// As [`tile_body`].
#[inline(always)]
unsafe fn tile_planes<S: Simd, const P: usize, const M: usize, const MASK: bool>(
    tile: &Output<'_>,
    [scale, shift, mean]: [&[f32]; 3],
) {
    // SAFETY: as ours.
    unsafe {
        for c in (0..tile.channels).step_by(S::LANES) {
            let many = S::LANES.min(tile.channels - c);
            let mut norm = [S::zero(); 3];
            let mut sums = [S::zero(); 2];
            if MASK {
                for (v, from) in norm.iter_mut().zip([scale, shift, mean]) {
                    *v = load_some::<S>(from.as_ptr().add(c), many);
                }
                sums = [S::load(tile.sums[0].add(c)), S::load(tile.sums[1].add(c))];
            }
            for z in 0..if tile.deep { 2 } else { 1 } {
                let mut half = MaybeUninit::<[[S::V; P]; M]>::uninit();
                let half = half.as_mut_ptr().cast::<S::V>();
                for x in 0..P {
                    let mut column = [S::zero(); P];
                    for (y, v) in column.iter_mut().enumerate() {
                        let place = tile.product.add((y * P + x) * tile.pitch + c);
                        let at = |depth: usize| place.add(depth * P * P * tile.pitch);
                        *v = if !tile.deep {
                            S::load(place)
                        } else if z == 0 {
                            S::add(S::add(S::load(place), S::load(at(1))), S::load(at(2)))
                        } else {
                            S::sub(S::sub(S::load(at(1)), S::load(at(2))), S::load(at(3)))
                        };
                    }
                    let column = output_axis::<S, P, M>(column);
                    for (y, v) in column.into_iter().enumerate() {
                        half.add(y * P + x).write(v);
                    }
                }
                for y in 0..M {
                    let row = half.add(y * P).cast::<[S::V; P]>().read();
                    for (x, v) in output_axis::<S, P, M>(row).into_iter().enumerate() {
                        let i = (z * M + y) * M + x;
                        if tile.places[i] == NOWHERE {
                            continue;
                        }
                        let mut v = v;
                        if MASK {
                            let input = load_some::<S>(tile.inputs[i].add(c), many);
                            v = S::where_positive(S::fma(norm[0], input, norm[1]), v);
                            sums[0] = S::add(sums[0], v);
                            sums[1] = S::fma(v, S::sub(input, norm[2]), sums[1]);
                        }
                        store_some::<S>(tile.output.add(tile.places[i] + c), v, many);
                    }
                }
            }
            if MASK {
                S::store(tile.sums[0].add(c), sums[0]);
                S::store(tile.sums[1].add(c), sums[1]);
            }
        }
    }
}
