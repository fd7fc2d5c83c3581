//! A product on its way through a norm + ReLU, into the gradient at the norm's input.

use crate::{
    isa::dispatch,
    simd::{Simd, load_some, store_some},
};

/// A tile of the product and where it goes.
pub(super) struct Masked<'a> {
    /// Rows of `width`, whole registers.
    pub product: *mut f32,
    pub width: usize,
    pub places: &'a [usize],
    /// `columns` elements from `input + place` and `grad + place` on belong to this tile.
    pub columns: usize,
    pub input: *const f32,
    pub grad: *mut f32,
    /// `columns` values each.
    pub scale: *const f32,
    pub shift: *const f32,
    pub mean: *const f32,
    /// `width` values each.
    pub sum_m: *mut f32,
    pub sum_mx: *mut f32,
}

dispatch! {
    /// Asks for the gradient that a tile will be added to.
    pub(super) fn fetch_gradient(tile: &Masked<'_>) = fetch_gradient_body
}

#[inline(always)]
fn fetch_gradient_body<S: Simd>(tile: &Masked<'_>) {
    for place in tile.places {
        for c in (0..tile.columns + 15).step_by(16) {
            // SAFETY: the shell around us has the instruction set; any address may be asked for.
            unsafe { S::prefetch(tile.grad.wrapping_add(place + c)) };
        }
    }
}

dispatch! {
    /// `grad += scale·m` with m the product where `scale·x + shift` is positive; Σ m and Σ m·(x − μ) go to the sums.
    pub(super) fn store_masked(tile: &Masked<'_>) = store_masked_body
}

#[inline(always)]
fn store_masked_body<S: Simd>(tile: &Masked<'_>) {
    for c in (0..tile.columns).step_by(S::LANES) {
        let many = S::LANES.min(tile.columns - c);
        // SAFETY: whoever made the tile guarantees `columns` elements behind every place and whole registers of the
        // product and the sums, and that nobody else touches them; the shell around us has the instruction set.
        unsafe {
            let scale = load_some::<S>(tile.scale.add(c), many);
            let shift = load_some::<S>(tile.shift.add(c), many);
            let mean = load_some::<S>(tile.mean.add(c), many);
            let mut sum_m = S::load(tile.sum_m.add(c));
            let mut sum_mx = S::load(tile.sum_mx.add(c));
            for (r, place) in tile.places.iter().enumerate() {
                let product = S::load(tile.product.add(r * tile.width + c));
                let x = load_some::<S>(tile.input.add(place + c), many);
                let target = tile.grad.add(place + c);
                let m = S::where_positive(S::fma(scale, x, shift), product);
                let grad = S::fma(scale, m, load_some::<S>(target, many));
                store_some::<S>(target, grad, many);
                sum_m = S::add(sum_m, m);
                sum_mx = S::fma(m, S::sub(x, mean), sum_mx);
            }
            S::store(tile.sum_m.add(c), sum_m);
            S::store(tile.sum_mx.add(c), sum_mx);
        }
    }
}
