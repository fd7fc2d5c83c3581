//! The one inner kernel: a product of two strided operands, summed over taps, as tiles of registers.
//!
//! ```text
//! c[r, j] (+)= Σ_t Σ_k a[taps[t] + r·a_row + k·a_k] · b[t·b_tap + k·b_k + j]        r < rows, j < columns
//! ```
//!
//! A convolution has the pixels as rows, the input channels as `k`, the kernel's rows as taps and packed weights as `b`.
//! A weight gradient has the input channels as rows, the pixels as `k` and the output's gradient as `b`. Both are this
//! sum, so both are this kernel. In bf16 an element is a pair: `k` counts pairs, and a multiply-add takes two of each.

use crate::{
    isa::dispatch,
    simd::{InSteps, Round, Simd},
};

/// Most elements of a tile of any instruction set: the size of a scratch tile.
pub(crate) const MAX_TILE: usize = 14 * 32;

/// The operands of a column of tiles, one panel of `b` wide; see the module's formula.
///
/// Whoever makes one guarantees that every element the formula names is readable (`a`, `b`; `b` for whole registers
/// across the columns), and that what the tile is stored to is writable and not written by anyone else meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    pub a: *const f32,
    pub a_row: usize,
    pub a_k: usize,
    pub taps: &'a [usize],
    pub b: *const f32,
    pub b_tap: usize,
    pub b_k: usize,
    /// Length of the inner sum.
    pub k: usize,
    /// Cut into tiles of at most [`TileShape::mr`] of `vectors`, as equal as they get.
    pub rows: usize,
    /// Registers across: 1 to 4.
    pub vectors: usize,
}

/// Tiles stored as they are, whole registers, rows `row` apart.
pub(crate) struct Product {
    pub start: *mut f32,
    pub row: usize,
    /// Add to what is there instead of overwriting it.
    pub accumulate: bool,
}

/// Tiles stored to pixels: `output[places[r] + j] = scale[j]·c + shift[j]`, rectified if asked for, `j < columns`.
pub(crate) struct Pixels<'a> {
    pub output: *mut f32,
    pub places: &'a [usize],
    pub columns: usize,
    /// `columns` values each; without them the product itself is stored.
    pub affine: Option<(*const f32, *const f32)>,
    pub relu: bool,
    /// Store bf16, two to an element: `places` then count pairs.
    pub bf16: bool,
}

/// The tiles of an instruction set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileShape {
    /// Rows of a full tile by its registers across, from 1 on; 0 where there is none.
    rows: [usize; 4],
    /// `f32` values in a register.
    pub lanes: usize,
}

impl TileShape {
    pub(crate) fn of(isa: crate::Isa) -> Self {
        dispatch!(fn shape() -> TileShape = shape_of);
        shape(isa)
    }

    /// Rows of a full tile of `vectors` registers across.
    pub(crate) fn mr(&self, vectors: usize) -> usize {
        self.rows[vectors - 1]
    }

    /// The widest tile that `columns` are cut into, as rows × columns.
    pub(crate) fn name(self, columns: usize) -> String {
        let vectors = self.panels(columns).next().map_or(1, |(_, v)| v);
        format!("{}x{}", self.mr(vectors), vectors * self.lanes)
    }

    /// Rows of a full tile of the widest panel of `columns`.
    pub(crate) fn widest_rows(self, columns: usize) -> usize {
        let widest = self.panels(columns).next();
        widest.map_or(1, |(_, vectors)| self.mr(vectors))
    }

    /// Rows of the tallest tile.
    pub(crate) fn most_rows(&self) -> usize {
        self.rows.into_iter().max().unwrap_or(1)
    }

    /// Registers across the widest tile.
    fn widest(&self) -> usize {
        self.rows.iter().filter(|rows| **rows > 0).count()
    }

    /// Cuts `columns` into panels as equal as they get: the start and the registers of each, wide ones first.
    pub(crate) fn panels(self, columns: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let vectors = columns.div_ceil(self.lanes);
        let count = self.count(columns);
        (0..count).map(move |panel| {
            // The first `vectors % count` panels are one register wider.
            let (each, wider) = (vectors / count, vectors % count);
            let start = panel * each + panel.min(wider);
            (start * self.lanes, each + usize::from(panel < wider))
        })
    }

    /// Number of panels.
    pub(crate) fn count(&self, columns: usize) -> usize {
        columns.div_ceil(self.lanes).div_ceil(self.widest())
    }

    /// Elements a row of all those panels takes.
    pub(crate) fn padded(self, columns: usize) -> usize {
        columns.next_multiple_of(self.lanes)
    }
}

#[inline(always)]
fn shape_of<S: Simd>() -> TileShape {
    TileShape {
        rows: S::MR,
        lanes: S::LANES,
    }
}

/// Computes tiles into memory of their own.
///
/// # Safety
/// As [`Tile`] says; `product` has room for `rows` rows of `vectors` registers.
pub(crate) unsafe fn compute(isa: crate::Isa, tile: &Tile<'_>, product: &Product) {
    dispatch!(fn run(tile: &Tile<'_>, product: &Product) = f32_size);
    run(isa, tile, product)
}

/// [`compute`] of operands that are pairs of bf16, summed in f32; see [`compute_pixels_bf16`].
///
/// # Safety
/// As [`compute`].
pub(crate) unsafe fn compute_bf16(isa: crate::Isa, tile: &Tile<'_>, product: &Product) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    fn native(tile: &Tile<'_>, product: &Product) {
        any_size::<crate::simd::Avx512, Dot>(tile, product)
    }
    #[cfg(target_arch = "x86_64")]
    if isa.has_bf16() {
        // SAFETY: the processor has these features, as `has_bf16` detected.
        return unsafe { native(tile, product) };
    }
    dispatch!(fn run(tile: &Tile<'_>, product: &Product) = widened_size);
    run(isa, tile, product)
}

/// Computes tiles and stores them to their pixels.
///
/// # Safety
/// As [`Tile`] says; `pixels` has a place for every row, with room for its columns, and the columns fit the registers.
pub(crate) unsafe fn compute_pixels(isa: crate::Isa, tile: &Tile<'_>, pixels: &Pixels<'_>) {
    dispatch!(fn run(tile: &Tile<'_>, pixels: &Pixels<'_>) = f32_size);
    run(isa, tile, pixels)
}

/// [`compute_pixels`] of operands that are pairs of bf16, summed in f32: by the processor's own dot product, or by
/// widening both halves.
///
/// # Safety
/// As [`compute_pixels`].
pub(crate) unsafe fn compute_pixels_bf16(isa: crate::Isa, tile: &Tile<'_>, pixels: &Pixels<'_>) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    fn native(tile: &Tile<'_>, pixels: &Pixels<'_>) {
        any_size::<crate::simd::Avx512, Dot>(tile, pixels)
    }
    #[cfg(target_arch = "x86_64")]
    if isa.has_bf16() {
        // SAFETY: the processor has these features, as `has_bf16` detected.
        return unsafe { native(tile, pixels) };
    }
    dispatch!(fn run(tile: &Tile<'_>, pixels: &Pixels<'_>) = widened_size);
    run(isa, tile, pixels)
}

/// How an element of both operands adds to a sum.
trait MultiplyAdd<S: Simd> {
    /// How sums are rounded to bf16 as the shell around us can do it best.
    type Round: Round<S>;

    /// # Safety
    /// The processor has `S` and what else the shell around us asks for.
    unsafe fn step(a: S::V, b: S::V, sum: S::V) -> S::V;
}

/// f32.
struct Fused;

impl<S: Simd> MultiplyAdd<S> for Fused {
    type Round = InSteps;

    #[inline(always)]
    unsafe fn step(a: S::V, b: S::V, sum: S::V) -> S::V {
        // SAFETY: the caller has the instruction set.
        unsafe { S::fma(a, b, sum) }
    }
}

/// Pairs of bf16, by the processor's dot product.
#[cfg(target_arch = "x86_64")]
struct Dot;

#[cfg(target_arch = "x86_64")]
impl MultiplyAdd<crate::simd::Avx512> for Dot {
    type Round = crate::simd::Native;

    #[inline(always)]
    unsafe fn step(
        a: std::arch::x86_64::__m512,
        b: std::arch::x86_64::__m512,
        sum: std::arch::x86_64::__m512,
    ) -> std::arch::x86_64::__m512 {
        // SAFETY: the shell has AVX512_BF16.
        unsafe { crate::simd::Avx512::dot(a, b, sum) }
    }
}

/// Pairs of bf16, widened to f32.
struct Widened;

impl<S: Simd> MultiplyAdd<S> for Widened {
    type Round = InSteps;

    #[inline(always)]
    unsafe fn step(a: S::V, b: S::V, sum: S::V) -> S::V {
        // SAFETY: the caller has the instruction set.
        unsafe { S::fma(S::high(a), S::high(b), S::fma(S::low(a), S::low(b), sum)) }
    }
}

#[inline(always)]
fn f32_size<S: Simd>(tile: &Tile<'_>, target: &impl Target) {
    any_size::<S, Fused>(tile, target)
}

#[inline(always)]
fn widened_size<S: Simd>(tile: &Tile<'_>, target: &impl Target) {
    any_size::<S, Widened>(tile, target)
}

/// What becomes of a tile's sums; `first` is its first row.
trait Target {
    /// What the sums start from.
    ///
    /// # Safety
    /// As [`compute`] and [`compute_pixels`].
    #[inline(always)]
    unsafe fn start<S: Simd, const MR: usize, const NV: usize>(
        &self,
        _first: usize,
    ) -> [[S::V; NV]; MR] {
        // SAFETY: the shell around us has the instruction set.
        unsafe { [[S::zero(); NV]; MR] }
    }

    /// Takes the sums.
    ///
    /// # Safety
    /// As [`compute`] and [`compute_pixels`].
    unsafe fn finish<S: Simd, A: MultiplyAdd<S>, const MR: usize, const NV: usize>(
        &self,
        first: usize,
        sums: [[S::V; NV]; MR],
    );
}

impl Target for Product {
    #[inline(always)]
    unsafe fn start<S: Simd, const MR: usize, const NV: usize>(
        &self,
        first: usize,
    ) -> [[S::V; NV]; MR] {
        // SAFETY: every element lies in the tile's rows, which the caller guarantees.
        unsafe {
            let mut sums = [[S::zero(); NV]; MR];
            if self.accumulate {
                for (r, row) in sums.iter_mut().enumerate() {
                    for (j, v) in row.iter_mut().enumerate() {
                        *v = S::load(self.start.add((first + r) * self.row + j * S::LANES));
                    }
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd, A: MultiplyAdd<S>, const MR: usize, const NV: usize>(
        &self,
        first: usize,
        sums: [[S::V; NV]; MR],
    ) {
        for (r, row) in sums.iter().enumerate() {
            for (j, v) in row.iter().enumerate() {
                // SAFETY: as in `start`.
                unsafe { S::store(self.start.add((first + r) * self.row + j * S::LANES), *v) };
            }
        }
    }
}

impl Target for Pixels<'_> {
    #[inline(always)]
    unsafe fn finish<S: Simd, A: MultiplyAdd<S>, const MR: usize, const NV: usize>(
        &self,
        first: usize,
        mut sums: [[S::V; NV]; MR],
    ) {
        // SAFETY: the caller guarantees a place with room for `columns` elements for each of the `MR` rows, `columns`
        // values of the affine map, and that all but the last register are full.
        unsafe {
            let last = self.columns - (NV - 1) * S::LANES;
            if let Some((scale, shift)) = self.affine {
                for j in 0..NV {
                    let width = if j + 1 < NV { S::LANES } else { last };
                    let scale = S::load_first(scale.add(j * S::LANES), width);
                    let shift = S::load_first(shift.add(j * S::LANES), width);
                    for row in sums.iter_mut() {
                        row[j] = S::fma(scale, row[j], shift);
                    }
                }
            }
            if self.relu {
                for v in sums.iter_mut().flatten() {
                    *v = S::relu(*v);
                }
            }
            for (row, place) in sums.iter().zip(&self.places[first..]) {
                let pixel = self.output.add(*place);
                let mut j = 0;
                while j < NV {
                    let full = j + 1 < NV || last == S::LANES;
                    let pair = j + 2 < NV || j + 2 == NV && last == S::LANES;
                    if self.bf16 && pair {
                        let place = pixel.cast::<u16>().add(j * S::LANES);
                        A::Round::store_both(place, row[j], row[j + 1]);
                        j += 1;
                    } else if self.bf16 {
                        let width = if full { S::LANES } else { last };
                        A::Round::store(pixel.cast::<u16>().add(j * S::LANES), row[j], width);
                    } else if full {
                        S::store(pixel.add(j * S::LANES), row[j]);
                    } else {
                        S::store_first(pixel.add(j * S::LANES), row[j], last);
                    }
                    j += 1;
                }
            }
        }
    }
}

/// Picks the body with the right number of registers.
#[inline(always)]
fn any_size<S: Simd, A: MultiplyAdd<S>>(tile: &Tile<'_>, target: &impl Target) {
    match tile.vectors {
        1 => any_rows::<S, A, 1>(tile, target),
        2 => any_rows::<S, A, 2>(tile, target),
        3 if S::MR[2] > 0 => any_rows::<S, A, 3>(tile, target),
        4 if S::MR[3] > 0 => any_rows::<S, A, 4>(tile, target),
        n => unreachable!("a tile of {n} registers"),
    }
}

/// Cuts the rows into tiles and picks the body with the right number of them for each.
#[inline(always)]
fn any_rows<S: Simd, A: MultiplyAdd<S>, const NV: usize>(tile: &Tile<'_>, target: &impl Target) {
    let parts = tile.rows.div_ceil(S::MR[NV - 1]).max(1);
    let (each, larger) = (tile.rows / parts, tile.rows % parts);
    let mut first = 0;
    macro_rules! rows {
        ($many:ident: $($rows:literal)*) => {
            match $many {
                $($rows if $rows <= S::MR[NV - 1] => {
                    // SAFETY: the caller of `compute` guarantees the operands; the shell around us has the instruction
                    // set.
                    unsafe { body::<S, A, $rows, NV>(tile, first, target) }
                })*
                n => unreachable!("a tile of {n} rows"),
            }
        };
    }
    for part in 0..parts {
        let many = each + usize::from(part < larger);
        rows!(many: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        first += many;
    }
}

/// # Safety
/// The operands are as [`Tile`] says; the processor has `S`.
#[inline(always)]
unsafe fn body<S: Simd, A: MultiplyAdd<S>, const MR: usize, const NV: usize>(
    tile: &Tile<'_>,
    first: usize,
    target: &impl Target,
) {
    // SAFETY: every pointer below is one that the formula names, which `Tile`'s maker guarantees.
    unsafe {
        let mut sums = target.start::<S, MR, NV>(first);
        for (t, &tap) in tile.taps.iter().enumerate() {
            let mut a = tile.a.add(tap + first * tile.a_row);
            let mut b = tile.b.add(t * tile.b_tap);
            for _ in 0..tile.k {
                let mut operand = [S::zero(); NV];
                for (j, v) in operand.iter_mut().enumerate() {
                    *v = S::load(b.add(j * S::LANES));
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let value = S::splat(a.add(r * tile.a_row));
                    for (v, o) in row.iter_mut().zip(operand) {
                        *v = A::step(value, o, *v);
                    }
                }
                a = a.add(tile.a_k);
                b = b.add(tile.b_k);
            }
        }
        target.finish::<S, A, MR, NV>(first, sums);
    }
}
