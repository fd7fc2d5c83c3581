//! NEON: 32 registers of 4.

use std::arch::aarch64::*;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    // 24 accumulators, up to 4 operands, 1 broadcast: at most 29 of 32 registers.
    const MR: [usize; 4] = [14, 12, 8, 6];
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: the caller has NEON.
        unsafe { vdupq_n_f32(0.0) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> float32x4_t {
        // SAFETY: the caller has NEON and `p` is readable.
        unsafe { vdupq_n_f32(*p) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        // SAFETY: the caller has NEON and 4 elements are readable.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        // SAFETY: the caller has NEON and 4 elements are writable.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the caller has NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller has NEON.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller has NEON.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn at_least(floor: float32x4_t, v: float32x4_t) -> float32x4_t {
        // NEON's maximum lets NaN through, but may turn −0 into 0, which compares equal.
        // SAFETY: the caller has NEON.
        unsafe { vmaxq_f32(v, floor) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller has NEON, whose maximum lets NaN through.
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn where_positive(t: float32x4_t, v: float32x4_t) -> float32x4_t {
        // SAFETY: the caller has NEON.
        unsafe {
            let bits = vandq_u32(vcgtzq_f32(t), vreinterpretq_u32_f32(v));
            vreinterpretq_f32_u32(bits)
        }
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
    #[inline(always)]
    unsafe fn prefetch_to_write(_: *const f32) {}
    #[inline(always)]
    unsafe fn low(v: float32x4_t) -> float32x4_t {
        // SAFETY: the caller has NEON.
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(v))) }
    }
    #[inline(always)]
    unsafe fn high(v: float32x4_t) -> float32x4_t {
        // SAFETY: the caller has NEON.
        unsafe {
            let mask = vdupq_n_u32(0xffff_0000);
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), mask))
        }
    }
    #[inline(always)]
    unsafe fn set(x: f32) -> float32x4_t {
        // SAFETY: the caller has NEON.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> float32x4_t {
        let mut all = [0.0f32; 4];
        // SAFETY: the caller has NEON and says `n ≤ 4` elements are readable.
        unsafe {
            std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), n);
            vld1q_f32(all.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: float32x4_t, n: usize) {
        let mut all = [0.0f32; 4];
        // SAFETY: the caller has NEON and says `n ≤ 4` elements are writable.
        unsafe {
            vst1q_f32(all.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, n);
        }
    }
}
