//! AVX-512: 32 registers of 16.

use std::arch::x86_64::*;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    // 28 accumulators, 2 operands, 1 broadcast: 31 of 32 registers; 27 and 3; 24 and 4. On one Zen 4 core, whose peak is
    // 115 GFLOP/s, the tiles ran at 105 (14×32) and 108 (9×48, 6×64) with weights from the second-level cache.
    const MR: [usize; 4] = [14, 14, 9, 6];
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> __m512 {
        // SAFETY: the caller has AVX-512 and `p` is readable.
        unsafe { _mm512_set1_ps(*p) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the caller has AVX-512 and 16 elements are readable.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the caller has AVX-512 and 16 elements are writable.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn at_least(floor: __m512, v: __m512) -> __m512 {
        // The instruction gives its second operand where either is NaN.
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_max_ps(floor, v) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // The instruction gives `b` where either is NaN, so a NaN in `a` is put back.
        // SAFETY: the caller has AVX-512.
        unsafe {
            _mm512_mask_mov_ps(
                _mm512_max_ps(a, b),
                _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q),
                a,
            )
        }
    }
    #[inline(always)]
    unsafe fn where_positive(t: __m512, v: __m512) -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(t, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(mask, v)
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        // SAFETY: the caller has AVX-512; any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_to_write(p: *const f32) {
        // SAFETY: the caller has AVX-512; any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn low(v: __m512) -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(v))) }
    }
    #[inline(always)]
    unsafe fn high(v: __m512) -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let mask = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), mask))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, n: usize) -> __m512 {
        // SAFETY: the caller has AVX-512; masked elements are not touched.
        unsafe {
            let halves = match n {
                16 => _mm256_loadu_si256(p.cast()),
                _ => _mm256_maskz_loadu_epi16(first(n), p.cast()),
            };
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
    #[inline(always)]
    unsafe fn pairs(low: __m512, high: __m512) -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let [low, high] = [rounded(low), rounded(high)];
            _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: __m512, n: usize) {
        // SAFETY: the caller has AVX-512; masked elements are not touched.
        unsafe { store_halves(p, _mm512_cvtepi32_epi16(rounded(v)), n) }
    }
    #[inline(always)]
    unsafe fn set(x: f32) -> __m512 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
        // SAFETY: the caller has AVX-512; masked elements are not touched.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m512, n: usize) {
        // SAFETY: the caller has AVX-512; masked elements are not touched.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }
}

impl Avx512 {
    /// Adds the products of pairs of bf16.
    ///
    /// # Safety
    /// The processor has AVX512_BF16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(crate) unsafe fn dot(a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: both are 64 bytes of plain data.
        let pairs = |v: __m512| unsafe { std::mem::transmute::<__m512, __m512bh>(v) };
        _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
    }
}

impl Avx512 {
    /// [`Simd::store_bf16`] by one instruction.
    ///
    /// # Safety
    /// The processor has AVX512_BF16; `n ≤ 16` elements from `p` are writable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(crate) unsafe fn store_bf16_native(p: *mut u16, v: __m512, n: usize) {
        let rounded = _mm512_cvtneps_pbh(v);
        // SAFETY: both are 32 bytes of plain data; masked elements are not touched.
        unsafe {
            store_halves(p, std::mem::transmute::<__m256bh, __m256i>(rounded), n);
        }
    }

    /// Both rounded by one instruction, one behind the other.
    ///
    /// # Safety
    /// The processor has AVX512_BF16; 32 elements from `p` are writable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(crate) unsafe fn store_both_native(p: *mut u16, first: __m512, second: __m512) {
        let rounded = _mm512_cvtne2ps_pbh(second, first);
        // SAFETY: both are 64 bytes of plain data; the caller says they are writable.
        unsafe { _mm512_storeu_si512(p.cast(), std::mem::transmute::<__m512bh, __m512i>(rounded)) }
    }

    /// [`Simd::pairs`] by the processor's rounding.
    ///
    /// # Safety
    /// The processor has AVX512_BF16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(crate) unsafe fn pairs_native(low: __m512, high: __m512) -> __m512 {
        // All low halves, then all high ones.
        let both = _mm512_cvtne2ps_pbh(high, low);
        // SAFETY: both are 64 bytes of plain data.
        let both = unsafe { std::mem::transmute::<__m512bh, __m512i>(both) };
        // Word 2i takes word i, word 2i + 1 word i + 16: each lane's number beside itself.
        let turns = _mm512_setr_epi32(
            0x10_0000, 0x11_0001, 0x12_0002, 0x13_0003, 0x14_0004, 0x15_0005, 0x16_0006, 0x17_0007,
            0x18_0008, 0x19_0009, 0x1a_000a, 0x1b_000b, 0x1c_000c, 0x1d_000d, 0x1e_000e, 0x1f_000f,
        );
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(turns, both))
    }
}

/// The nearest bf16, ties to even, each in the lower half of its lane.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn rounded(v: __m512) -> __m512i {
    // SAFETY: as ours.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0))
    }
}

/// Stores the first `n` of 16 values of 16 bits; a store without a mask takes a fraction of the time.
///
/// # Safety
/// The processor has AVX-512; `n` values from `p` are writable.
#[inline(always)]
unsafe fn store_halves(p: *mut u16, v: __m256i, n: usize) {
    // SAFETY: as ours; masked elements are not touched.
    unsafe {
        if n == 16 {
            _mm256_storeu_si256(p.cast(), v);
        } else {
            _mm256_mask_storeu_epi16(p.cast(), first(n), v);
        }
    }
}

/// A mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}
