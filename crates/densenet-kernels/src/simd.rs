//! Vectors of `f32` of one instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// What the tile kernel needs of a vector register, and the tile that fits the registers.
pub(crate) trait Simd: Copy {
    /// A register.
    type V: Copy;
    /// `f32` values in a register.
    const LANES: usize;
    /// Rows of a tile that is 1, 2, 3, 4 registers across; 0 where there is no such tile. `MR[n] · (n + 1)`
    /// accumulators, `n + 1` operands and a broadcast must fit the register file.
    const MR: [usize; 4];
    /// Whether `fma` rounds once; plain loops use it through [`fma`].
    const FUSED: bool;

    /// # Safety
    /// The processor has this instruction set.
    unsafe fn zero() -> Self::V;
    /// # Safety
    /// As [`Simd::zero`]; `p` is readable.
    unsafe fn splat(p: *const f32) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`]; `LANES` elements from `p` are readable.
    unsafe fn load(p: *const f32) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`]; `LANES` elements from `p` are writable.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `a · b + c`
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `max(v, floor)` that lets a NaN of `v` through.
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn at_least(floor: Self::V, v: Self::V) -> Self::V;
    /// `max(v, 0)` that lets NaN through, as [`relu`].
    ///
    /// # Safety
    /// As [`Simd::zero`].
    #[inline(always)]
    unsafe fn relu(v: Self::V) -> Self::V {
        // SAFETY: as ours.
        unsafe { Self::at_least(Self::zero(), v) }
    }
    /// The larger of two; NaN where either is.
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `v` where `t` is positive, 0 elsewhere (and where `t` is NaN).
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn where_positive(t: Self::V, v: Self::V) -> Self::V;
    /// Asks for the cache line at `p` into the second-level cache, where there is an instruction for it.
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn prefetch(p: *const f32);
    /// Asks for the cache line at `p` into the first-level cache, to be written: stores leave in order, and one whose line is
    /// not there holds up all behind it.
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn prefetch_to_write(p: *const f32);
    /// A register holding `x` everywhere.
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn set(x: f32) -> Self::V;
    /// The first `n` elements from `p`, then zeros.
    ///
    /// # Safety
    /// As [`Simd::zero`]; `n ≤ LANES` elements from `p` are readable.
    unsafe fn load_first(p: *const f32, n: usize) -> Self::V;
    /// Stores the first `n` elements.
    ///
    /// # Safety
    /// As [`Simd::zero`]; `n ≤ LANES` elements from `p` are writable.
    unsafe fn store_first(p: *mut f32, v: Self::V, n: usize);
    /// Of pairs of bf16 the first halves as f32.
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn low(v: Self::V) -> Self::V;
    /// Of pairs of bf16 the second halves as f32.
    ///
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn high(v: Self::V) -> Self::V;
    /// The first `n` bf16 from `p` as f32, then zeros.
    ///
    /// # Safety
    /// As [`Simd::zero`]; `n ≤ LANES` elements from `p` are readable.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, n: usize) -> Self::V {
        let mut all = [0.0f32; 16];
        // SAFETY: no register has more than 16 lanes; the caller says `n` elements are readable.
        unsafe {
            for (i, x) in all[..n].iter_mut().enumerate() {
                *x = f32::from_bits(u32::from(p.add(i).read()) << 16);
            }
            Self::load(all.as_ptr())
        }
    }
    /// Both rounded to bf16, as pairs: [`Simd::low`] and [`Simd::high`] give them back.
    ///
    /// # Safety
    /// As [`Simd::zero`].
    #[inline(always)]
    unsafe fn pairs(low: Self::V, high: Self::V) -> Self::V {
        let (mut all, mut others) = ([0.0f32; 16], [0.0f32; 16]);
        // SAFETY: no register has more than 16 lanes.
        unsafe {
            Self::store(all.as_mut_ptr(), low);
            Self::store(others.as_mut_ptr(), high);
            for (x, y) in all.iter_mut().zip(others).take(Self::LANES) {
                *x = f32::from_bits(u32::from(bf16(*x)) | u32::from(bf16(y)) << 16);
            }
            Self::load(all.as_ptr())
        }
    }
    /// Stores the first `n` elements rounded to bf16.
    ///
    /// # Safety
    /// As [`Simd::zero`]; `n ≤ LANES` elements from `p` are writable.
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::V, n: usize) {
        let mut all = [0.0f32; 16];
        // SAFETY: no register has more than 16 lanes; the caller says `n` elements are writable.
        unsafe {
            Self::store(all.as_mut_ptr(), v);
            for (i, x) in all[..n].iter().enumerate() {
                p.add(i).write(bf16(*x));
            }
        }
    }
}

/// `x` rounded to the nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    // Of the bits, so that a loop of these needs no branch.
    match bits & 0x7fff_ffff > 0x7f80_0000 {
        true => 0x7fc0,
        false => rounded,
    }
}

/// A whole register from `p`, or its first `many` elements.
///
/// # Safety
/// As [`Simd::load_first`].
#[inline(always)]
pub(crate) unsafe fn load_some<S: Simd>(p: *const f32, many: usize) -> S::V {
    // SAFETY: the caller guarantees the elements.
    unsafe {
        if many == S::LANES {
            S::load(p)
        } else {
            S::load_first(p, many)
        }
    }
}

/// Stores a whole register to `p`, or its first `many` elements.
///
/// # Safety
/// As [`Simd::store_first`].
#[inline(always)]
pub(crate) unsafe fn store_some<S: Simd>(p: *mut f32, v: S::V, many: usize) {
    // SAFETY: the caller guarantees the elements.
    unsafe {
        if many == S::LANES {
            S::store(p, v);
        } else {
            S::store_first(p, v, many);
        }
    }
}

/// `a · b + c`, fused where the instruction set does it in hardware.
#[inline(always)]
pub(crate) fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `max(x, 0)` that lets NaN through, so that a broken value is seen at the end instead of turning into 0.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// How values are rounded to bf16.
pub(crate) trait Round<S: Simd> {
    /// Stores the first `n` elements rounded to bf16.
    ///
    /// # Safety
    /// As [`Simd::store_bf16`], and the processor has what the shell around us asks for.
    unsafe fn store(p: *mut u16, v: S::V, n: usize);

    /// Stores both rounded to bf16, one behind the other.
    ///
    /// # Safety
    /// As [`Round::store`]; `2 · LANES` elements from `p` are writable.
    #[inline(always)]
    unsafe fn store_both(p: *mut u16, first: S::V, second: S::V) {
        // SAFETY: as ours.
        unsafe {
            Self::store(p, first, S::LANES);
            Self::store(p.add(S::LANES), second, S::LANES);
        }
    }

    /// Both as pairs of bf16.
    ///
    /// # Safety
    /// As [`Simd::pairs`], and the processor has what the shell around us asks for.
    unsafe fn pairs(low: S::V, high: S::V) -> S::V;
}

/// By shifts and additions.
pub(crate) struct InSteps;

impl<S: Simd> Round<S> for InSteps {
    #[inline(always)]
    unsafe fn store(p: *mut u16, v: S::V, n: usize) {
        // SAFETY: as ours.
        unsafe { S::store_bf16(p, v, n) }
    }

    #[inline(always)]
    unsafe fn pairs(low: S::V, high: S::V) -> S::V {
        // SAFETY: as ours.
        unsafe { S::pairs(low, high) }
    }
}

/// By the processor's own instruction.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Native;

#[cfg(target_arch = "x86_64")]
impl Round<Avx512> for Native {
    #[inline(always)]
    unsafe fn store(p: *mut u16, v: std::arch::x86_64::__m512, n: usize) {
        // SAFETY: as ours; the shell has AVX512_BF16.
        unsafe { Avx512::store_bf16_native(p, v, n) }
    }

    #[inline(always)]
    unsafe fn store_both(
        p: *mut u16,
        first: std::arch::x86_64::__m512,
        second: std::arch::x86_64::__m512,
    ) {
        // SAFETY: as ours; the shell has AVX512_BF16.
        unsafe { Avx512::store_both_native(p, first, second) }
    }

    #[inline(always)]
    unsafe fn pairs(
        low: std::arch::x86_64::__m512,
        high: std::arch::x86_64::__m512,
    ) -> std::arch::x86_64::__m512 {
        // SAFETY: as ours; the shell has AVX512_BF16.
        unsafe { Avx512::pairs_native(low, high) }
    }
}
