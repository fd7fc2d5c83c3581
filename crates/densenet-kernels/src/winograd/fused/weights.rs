//! A kernel's transform in f32, packed for the products: computed anew for every step, so in registers.

use std::ops::Range;

use densenet_spec::Window;

use super::super::{Tiles, WinogradWeights, product::Weight, transform::Transform};
use crate::{
    Buffer, Isa, KernelError, Operand,
    error::exactly,
    isa::dispatch,
    panels::Element,
    parallel::{Shared, border, for_each},
    simd::{Simd, load_some},
    tile::TileShape,
};

/// A 3×3 or 3×3×3 kernel, transformed in f32 and packed for the products.
pub struct FusedWeights {
    pub(super) isa: Isa,
    pub(super) shape: TileShape,
    window: Window,
    pub(super) axes: [Transform; 3],
    pub(super) c_in: usize,
    pub(super) c_out: usize,
    /// `[pixel][panel][c_in][register across]`
    data: Buffer,
}

impl FusedWeights {
    /// Room for a kernel of this window; [`FusedWeights::pack`] gives it one.
    ///
    /// # Errors
    /// Tiles do not fit the window.
    pub fn new(isa: Isa, window: &Window) -> Result<Self, KernelError> {
        let fits = WinogradWeights::fits(window);
        exactly("winograd", "window", 1, usize::from(fits))?;
        Ok(FusedWeights {
            isa,
            shape: TileShape::of(isa),
            window: *window,
            axes: Tiles::Two.axes(window),
            c_in: 0,
            c_out: 0,
            data: Buffer::default(),
        })
    }

    /// Transforms and packs `weight`, `[tap][c_in][c_out]`, in place of the one before, for the convolution itself or for
    /// its input gradient, and for tiles that [`FusedWinograd::choose`](super::FusedWinograd::choose) gives. Memory is
    /// reused where it suffices.
    ///
    /// # Errors
    /// `weight` has another length, or training has no such tiles.
    pub fn pack(
        &mut self,
        weight: &[f32],
        [c_in, c_out]: [usize; 2],
        operand: Operand,
        tiles: Tiles,
    ) -> Result<(), KernelError> {
        let known = super::CHOICE.contains(&tiles);
        exactly("winograd", "tiles", 1, usize::from(known))?;
        let taps = self.window.taps();
        exactly("winograd", "weight", taps * c_in * c_out, weight.len())?;
        (self.c_in, self.c_out) = match operand {
            Operand::Forward => (c_in, c_out),
            Operand::BackwardInput => (c_out, c_in),
        };
        self.axes = tiles.axes(&self.window);
        let points: usize = self.axes.iter().map(|axis| axis.patch()).product();
        let len = points * self.pitch();
        if self.data.len() < len {
            self.data = Buffer::zeroed(len);
        }
        let packing = Packing {
            weight,
            taps,
            c_in,
            c_out,
            operand,
            shape: self.shape,
            pitch: self.pitch(),
            data: Shared::new(&mut self.data[..len]),
        };
        let rows = self.c_in;
        let tasks = rows.min(32);
        for_each(tasks, |task| {
            let rows = border(rows, tasks, task)..border(rows, tasks, task + 1);
            match self.axes[1] {
                Transform::F2 => pack_rows_f2(self.isa, &packing, rows),
                _ => pack_rows_f4(self.isa, &packing, rows),
            }
        });
        Ok(())
    }

    /// Elements of one pixel's weight.
    fn len(&self) -> usize {
        self.c_in * self.shape.padded(self.c_out)
    }

    /// Elements from one pixel's weight to the next: a cache line more, which keeps those that are written together out of
    /// one set of the cache.
    fn pitch(&self) -> usize {
        self.len() + 16
    }

    /// The packed weight of one pixel of the transform.
    pub(super) fn point(&self, point: usize) -> Weight<'_> {
        Weight {
            isa: self.isa,
            shape: self.shape,
            columns: self.c_out,
            element: Element::F32,
            data: &self.data[point * self.pitch()..][..self.len()],
        }
    }
}

/// A weight on its way into packed form.
struct Packing<'a> {
    weight: &'a [f32],
    taps: usize,
    c_in: usize,
    c_out: usize,
    operand: Operand,
    shape: TileShape,
    pitch: usize,
    data: Shared<f32>,
}

dispatch!(fn pack_rows_f2(packing: &Packing<'_>, rows: Range<usize>) = f2_body);
dispatch!(fn pack_rows_f4(packing: &Packing<'_>, rows: Range<usize>) = f4_body);

#[inline(always)]
fn f2_body<S: Simd>(packing: &Packing<'_>, rows: Range<usize>) {
    pack_rows::<S, 4>(packing, rows);
}

#[inline(always)]
fn f4_body<S: Simd>(packing: &Packing<'_>, rows: Range<usize>) {
    pack_rows::<S, 6>(packing, rows);
}

/// Transforms some rows of a packed weight, which belong to the caller. The shell around us has the instruction set.
#[inline(always)]
fn pack_rows<S: Simd, const P: usize>(p: &Packing<'_>, rows: Range<usize>) {
    let (all, columns) = match p.operand {
        Operand::Forward => (p.c_in, p.c_out),
        Operand::BackwardInput => (p.c_out, p.c_in),
    };
    for row in rows {
        for (start, vectors) in p.shape.panels(columns) {
            let width = vectors * S::LANES;
            for first in (0..width).step_by(S::LANES) {
                let column = start + first;
                let many = S::LANES.min(columns - column);
                // SAFETY: the shell around us has the instruction set.
                let mut taps = [unsafe { S::zero() }; 27];
                for (tap, v) in taps.iter_mut().take(p.taps).enumerate() {
                    let mut strided = [0.0f32; 16];
                    let from = match p.operand {
                        Operand::Forward => {
                            &p.weight[(tap * p.c_in + row) * p.c_out + column..][..many]
                        }
                        Operand::BackwardInput => {
                            let tap = p.taps - 1 - tap;
                            let from = &p.weight[(tap * p.c_in + column) * p.c_out + row..];
                            for (s, w) in strided
                                .iter_mut()
                                .zip(from.iter().step_by(p.c_out))
                                .take(many)
                            {
                                *s = *w;
                            }
                            &strided[..many]
                        }
                    };
                    // SAFETY: `many` elements are readable; the shell around us has the instruction set.
                    *v = unsafe { load_some::<S>(from.as_ptr(), many) };
                }
                let place = start * all + row * width + first;
                let depths = if p.taps == 27 { 4 } else { 1 };
                let last = (depths * P * P - 1) * p.pitch;
                let target = p.data.pointer(place + last, S::LANES).wrapping_sub(last);
                // SAFETY: the last register written was checked, and this row's belong to the caller; the shell around us
                // has the instruction set.
                unsafe { transform_kernel::<S, P>(&taps, depths, target, p.pitch) };
            }
        }
    }
}

/// G along every axis of a kernel.
///
/// # Safety
/// The processor has `S`; a register may be written every `pitch` elements from `target` on.
#[inline(always)]
unsafe fn transform_kernel<S: Simd, const P: usize>(
    taps: &[S::V; 27],
    depths: usize,
    target: *mut f32,
    pitch: usize,
) {
    // SAFETY: as ours.
    unsafe {
        let mut planes = [[S::zero(); 9]; 4];
        if depths == 1 {
            planes[0].copy_from_slice(&taps[..9]);
        } else {
            for tap in 0..9 {
                let along = kernel_axis::<S, 4>([taps[tap], taps[9 + tap], taps[18 + tap]]);
                for (plane, v) in planes.iter_mut().zip(along) {
                    plane[tap] = v;
                }
            }
        }
        for (depth, plane) in planes.iter().take(depths).enumerate() {
            let mut columns = [[S::zero(); P]; 3];
            for (x, column) in columns.iter_mut().enumerate() {
                *column = kernel_axis::<S, P>([plane[x], plane[3 + x], plane[6 + x]]);
            }
            let [left, middle, right] = columns;
            for y in 0..P {
                let row = kernel_axis::<S, P>([left[y], middle[y], right[y]]);
                for (x, v) in row.into_iter().enumerate() {
                    S::store(target.add(((depth * P + y) * P + x) * pitch), v);
                }
            }
        }
    }
}

/// G of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn kernel_axis<S: Simd, const P: usize>(g: [S::V; 3]) -> [S::V; P] {
    let mut v = [g[0]; P];
    // SAFETY: the caller has the instruction set.
    unsafe {
        if P == 4 {
            let half = S::set(0.5);
            let ends = S::fma(half, S::add(g[0], g[2]), S::zero());
            v[1] = S::fma(half, g[1], ends);
            v[2] = S::fma(S::set(-0.5), g[1], ends);
        } else {
            // Rows of opposite points differ in their middle's sign.
            let rows = Transform::F4.kernel();
            let factor = |point: usize, tap: usize| S::set(rows[point][tap] as f32);
            let first = |point| S::fma(factor(point, 0), g[0], S::zero());
            v[0] = first(0);
            for (point, v) in v.iter_mut().enumerate().take(P - 1).skip(1) {
                let ends = S::fma(factor(point, 2), g[2], first(point));
                *v = S::fma(factor(point, 1), g[1], ends);
            }
        }
    }
    v[P - 1] = g[2];
    v
}
