//! Products on their way back: Aᵀ of a tile, masked if a norm + ReLU follows, into the pixels of the output.

use std::mem::MaybeUninit;

use super::{super::pairs::PLANE, Mask, NOWHERE, OUTPUTS};
use crate::{
    isa::dispatch,
    simd::{Simd, load_some, store_some},
};

/// The outputs of a group of tiles.
pub(super) struct Fetch<'a> {
    pub outputs: &'a [([usize; OUTPUTS], [*const f32; OUTPUTS])],
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
    for (places, inputs) in fetch.outputs {
        for (place, input) in places.iter().zip(inputs) {
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
}

/// A product and the tile of outputs that it becomes.
pub(super) struct Output<'a> {
    /// The product's first pixel, and how far its `[depth][height][width]` pixels lie apart.
    pub product: *const f32,
    pub pitch: usize,
    pub deep: bool,
    pub channels: usize,
    pub output: *mut f32,
    pub places: &'a [usize; OUTPUTS],
    /// The norm's input at each output that lies in the map, if there is a mask.
    pub inputs: &'a [*const f32; OUTPUTS],
    pub mask: Option<&'a Mask<'a>>,
    /// Σ m and Σ m·(x − μ), whole registers.
    pub sums: [*mut f32; 2],
}

dispatch! {
    /// Aᵀ m A of one tile, masked if asked for.
    pub(super) fn store_tile(tile: &Output<'_>) = store_tile_body
}

#[inline(always)]
fn store_tile_body<S: Simd>(tile: &Output<'_>) {
    // SAFETY: whoever made the tile guarantees whole registers of the product and the sums, and room for the channels at
    // every place in the map; the shell around us has the instruction set.
    unsafe {
        match tile.mask {
            Some(mask) => tile_planes::<S, true>(tile, [mask.scale, mask.shift, mask.mean]),
            None => tile_planes::<S, false>(tile, [&[]; 3]),
        }
    }
}

/// # Safety
/// As [`store_tile_body`] says.
#[inline(always)]
unsafe fn tile_planes<S: Simd, const MASK: bool>(
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
                let mut half = MaybeUninit::<[[S::V; 4]; 2]>::uninit();
                let half = half.as_mut_ptr().cast::<S::V>();
                for x in 0..4 {
                    let mut column = [S::zero(); 4];
                    for (y, v) in column.iter_mut().enumerate() {
                        let place = tile.product.add((y * 4 + x) * tile.pitch + c);
                        let at = |depth: usize| place.add(depth * PLANE * tile.pitch);
                        *v = if !tile.deep {
                            S::load(place)
                        } else if z == 0 {
                            S::add(S::add(S::load(place), S::load(at(1))), S::load(at(2)))
                        } else {
                            S::sub(S::sub(S::load(at(1)), S::load(at(2))), S::load(at(3)))
                        };
                    }
                    let [top, bottom] = output_axis::<S>(column);
                    half.add(x).write(top);
                    half.add(4 + x).write(bottom);
                }
                for y in 0..2 {
                    let row = output_axis::<S>(half.add(y * 4).cast::<[S::V; 4]>().read());
                    for (x, v) in row.into_iter().enumerate() {
                        let i = (z * 2 + y) * 2 + x;
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

/// Aᵀ of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn output_axis<S: Simd>(m: [S::V; 4]) -> [S::V; 2] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        [
            S::add(S::add(m[0], m[1]), m[2]),
            S::sub(S::sub(m[1], m[2]), m[3]),
        ]
    }
}
