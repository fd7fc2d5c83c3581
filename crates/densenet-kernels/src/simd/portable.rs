//! Plain Rust: the twin that every processor runs.

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    // 12 accumulators, up to 3 operands, 1 broadcast fit the 16 registers that baseline x86-64 has.
    const MR: [usize; 4] = [12, 6, 4, 0];
    const FUSED: bool = false;

    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller says `p` is readable.
        [unsafe { *p }; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller says 4 elements are readable; the read does not ask for alignment.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller says 4 elements are writable; the write does not ask for alignment.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn at_least(floor: [f32; 4], v: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if v[i] < floor[i] { floor[i] } else { v[i] })
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| {
            if b[i] > a[i] || b[i].is_nan() {
                b[i]
            } else {
                a[i]
            }
        })
    }
    #[inline(always)]
    unsafe fn where_positive(t: [f32; 4], v: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if t[i] > 0.0 { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
    #[inline(always)]
    unsafe fn prefetch_to_write(_: *const f32) {}
    #[inline(always)]
    unsafe fn low(v: [f32; 4]) -> [f32; 4] {
        v.map(|x| f32::from_bits(x.to_bits() << 16))
    }
    #[inline(always)]
    unsafe fn high(v: [f32; 4]) -> [f32; 4] {
        v.map(|x| f32::from_bits(x.to_bits() & 0xffff_0000))
    }
    #[inline(always)]
    unsafe fn set(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> [f32; 4] {
        let mut all = [0.0; 4];
        // SAFETY: the caller says `n ≤ 4` elements are readable.
        unsafe { std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), n) };
        all
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: [f32; 4], n: usize) {
        // SAFETY: the caller says `n ≤ 4` elements are writable.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, n) };
    }
}
