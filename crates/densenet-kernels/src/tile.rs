//! The one inner kernel: a tile of a product of two strided operands, summed over taps.
//!
//! ```text
//! c[r, j] (+)= Σ_t Σ_k a[taps[t] + r·a_row + k·a_k] · b[t·b_tap + k·b_k + j]        r < rows, j < columns
//! ```
//!
//! A convolution has the pixels as rows, the input channels as `k`, the kernel's rows as taps and packed weights as `b`.
//! A weight gradient has the input channels as rows, the pixels as `k` and the output's gradient as `b`. Both are this
//! sum, so both are this kernel.

use crate::{isa::dispatch, simd::Simd};

/// Widest tile of any instruction set, in elements: the size of a scratch tile.
pub(crate) const MAX_TILE: usize = 14 * 32;

/// Most rows of a tile of any instruction set.
pub(crate) const MAX_MR: usize = 14;

/// The operands of one tile; see the module's formula.
///
/// Whoever makes one guarantees that every element the formula names is readable (`a`, `b`; `b` for whole registers
/// across the columns) or writable (`c`), and that `c` is not written by anyone else meanwhile.
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
    pub c: *mut f32,
    pub c_row: usize,
    /// 1 to `mr(isa)`.
    pub rows: usize,
    /// Registers across: 1 to `NV`.
    pub vectors: usize,
    /// Add to what `c` holds instead of overwriting it.
    pub accumulate: bool,
}

/// The tile of an instruction set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileShape {
    /// Rows of a full tile.
    pub mr: usize,
    /// Registers across a full tile.
    pub vectors: usize,
    /// `f32` values in a register.
    pub lanes: usize,
}

impl TileShape {
    pub(crate) fn of(isa: crate::Isa) -> Self {
        dispatch!(fn shape() -> TileShape = shape_of);
        shape(isa)
    }

    /// Columns of a full tile.
    pub(crate) fn nr(self) -> usize {
        self.vectors * self.lanes
    }

    /// Cuts `columns` into tiles: the start and the registers of each, full ones first.
    pub(crate) fn panels(self, columns: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        (0..columns).step_by(self.nr()).map(move |start| {
            (
                start,
                (columns - start).div_ceil(self.lanes).min(self.vectors),
            )
        })
    }

    /// Elements a row of all those tiles takes.
    pub(crate) fn padded(self, columns: usize) -> usize {
        columns.next_multiple_of(self.lanes)
    }
}

#[inline(always)]
fn shape_of<S: Simd>() -> TileShape {
    TileShape {
        mr: S::MR,
        vectors: S::NV,
        lanes: S::LANES,
    }
}

/// Computes one tile.
///
/// # Safety
/// As [`Tile`] says.
pub(crate) unsafe fn compute(isa: crate::Isa, tile: &Tile<'_>) {
    dispatch!(fn run(tile: &Tile<'_>) = any_size);
    run(isa, tile)
}

/// Picks the body with the right number of rows and registers.
#[inline(always)]
fn any_size<S: Simd>(tile: &Tile<'_>) {
    match tile.vectors {
        1 => any_rows::<S, 1>(tile),
        2 => any_rows::<S, 2>(tile),
        3 if S::NV >= 3 => any_rows::<S, 3>(tile),
        4 if S::NV >= 4 => any_rows::<S, 4>(tile),
        n => unreachable!("a tile of {n} registers"),
    }
}

#[inline(always)]
fn any_rows<S: Simd, const NV: usize>(tile: &Tile<'_>) {
    macro_rules! rows {
        ($($rows:literal)*) => {
            match tile.rows {
                // SAFETY: `compute`'s caller guarantees the operands; the shell around us has the instruction set.
                $($rows if $rows <= S::MR => unsafe { body::<S, $rows, NV>(tile) },)*
                n => unreachable!("a tile of {n} rows"),
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// # Safety
/// The operands are as [`Tile`] says; the processor has `S`.
#[inline(always)]
unsafe fn body<S: Simd, const MR: usize, const NV: usize>(tile: &Tile<'_>) {
    // SAFETY: every pointer below is one that the formula names, which `Tile`'s maker guarantees.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        if tile.accumulate {
            for (r, row) in acc.iter_mut().enumerate() {
                for (j, v) in row.iter_mut().enumerate() {
                    *v = S::load(tile.c.add(r * tile.c_row + j * S::LANES));
                }
            }
        }
        for (t, &tap) in tile.taps.iter().enumerate() {
            let mut a = tile.a.add(tap);
            let mut b = tile.b.add(t * tile.b_tap);
            for _ in 0..tile.k {
                let mut operand = [S::zero(); NV];
                for (j, v) in operand.iter_mut().enumerate() {
                    *v = S::load(b.add(j * S::LANES));
                }
                for (r, row) in acc.iter_mut().enumerate() {
                    let value = S::splat(a.add(r * tile.a_row));
                    for (v, o) in row.iter_mut().zip(operand) {
                        *v = S::fma(value, o, *v);
                    }
                }
                a = a.add(tile.a_k);
                b = b.add(tile.b_k);
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (j, v) in row.iter().enumerate() {
                S::store(tile.c.add(r * tile.c_row + j * S::LANES), *v);
            }
        }
    }
}
