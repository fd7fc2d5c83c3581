//! A stem's kernel as squares see it, transformed in f64 and packed for the products.

use std::array;

use densenet_spec::Window;

use super::{
    super::transform::{COLUMNS, Column, F3_KERNEL},
    Geometry, POINTS,
};
use crate::{
    Buffer, Isa, KernelError, Raster,
    error::exactly,
    parallel::{Shared, for_each},
    tile::TileShape,
};

/// A stem's kernel, transformed and packed.
#[derive(Debug)]
pub struct StemWeights {
    pub(super) isa: Isa,
    pub(super) shape: TileShape,
    pub(super) window: Window,
    pub(super) c_in: usize,
    pub(super) c_out: usize,
    /// `[point][panel][depth tap · 2 · 2 · c_in][register across]`
    pub(super) data: Buffer,
}

impl StemWeights {
    /// Whether a convolution with this window can be computed this way: 7 wide and of stride 2 along height and width.
    pub fn fits(window: &Window) -> bool {
        (1..3).all(|axis| window.kernel[axis] == 7 && window.stride[axis] == 2)
    }

    /// Whether tiles are faster than the direct convolution for a sample's output of this size: from a few tiles on.
    pub fn pays(window: &Window, output: [usize; 3]) -> bool {
        Self::fits(window) && output[1] * output[2] >= 64
    }

    /// Elements that [`Stem::prepare`](super::Stem::prepare) writes for an image of this raster.
    pub fn prepared(window: &Window, input: &Raster) -> usize {
        let geometry = Geometry::new(window, input);
        let [rows, columns] = geometry.squares;
        input.batch * rows * columns * geometry.line
    }

    /// Room for a kernel; [`StemWeights::pack`] gives it one.
    ///
    /// # Errors
    /// The window does not fit.
    pub fn new(isa: Isa, window: &Window, [c_in, c_out]: [usize; 2]) -> Result<Self, KernelError> {
        let fits = Self::fits(window);
        exactly("winograd stem", "window", 1, usize::from(fits))?;
        let shape = TileShape::of(isa);
        let rows = window.kernel[0] * 4 * c_in;
        Ok(StemWeights {
            isa,
            shape,
            window: *window,
            c_in,
            c_out,
            data: Buffer::zeroed(POINTS * rows * shape.padded(c_out)),
        })
    }

    /// Transforms and packs `weight`, which is `[tap][c_in][c_out]`.
    ///
    /// # Errors
    /// The window does not fit, or `weight` has another length.
    pub fn packed(
        isa: Isa,
        weight: &[f32],
        window: &Window,
        channels: [usize; 2],
    ) -> Result<Self, KernelError> {
        let mut weights = Self::new(isa, window, channels)?;
        weights.pack(weight)?;
        Ok(weights)
    }

    /// Transforms and packs `weight`, `[tap][c_in][c_out]`, in place of the one before.
    ///
    /// # Errors
    /// `weight` has another length.
    pub fn pack(&mut self, weight: &[f32]) -> Result<(), KernelError> {
        let (c_in, c_out, shape) = (self.c_in, self.c_out, self.shape);
        let needed = self.window.taps() * c_in * c_out;
        exactly("winograd stem", "weight", needed, weight.len())?;
        let (rows, pitch) = (self.rows(), self.pitch());
        let shared = Shared::new(&mut self.data);
        let value = |row: usize, [j, i]: [usize; 2], column: usize| match tap(row, [j, i], c_in) {
            Some(tap) if column < c_out => f64::from(weight[tap * c_out + column]),
            _ => 0.0,
        };
        for_each(rows, |row| {
            for (start, vectors) in shape.panels(c_out) {
                let width = vectors * shape.lanes;
                for first in (0..width).step_by(COLUMNS.min(shape.lanes)) {
                    let many = COLUMNS.min(width - first);
                    let pixels = array::from_fn(|p| {
                        array::from_fn(|k| value(row, [p / 4, p % 4], start + first + k))
                    });
                    for (p, values) in transform(&pixels).iter().enumerate() {
                        let place = p * pitch + start * rows + row * width + first;
                        // SAFETY: every row of every panel belongs to one task.
                        let target = unsafe { shared.slice(place, many) };
                        for (t, v) in target.iter_mut().zip(values) {
                            *t = *v as f32;
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// Elements of one packed row of all depth taps.
    pub(super) fn rows(&self) -> usize {
        self.window.kernel[0] * 4 * self.c_in
    }

    /// Elements from one point's weight to the next.
    pub(super) fn pitch(&self) -> usize {
        self.rows() * self.shape.padded(self.c_out)
    }
}

/// Which row of a weight `[tap][c_in]` the pixel `[j, i]` of the 4×4 kernel is, for the row `[depth tap][φy][φx][c_in]` of the
/// packed one; none in the eighth row and column.
pub(super) fn tap(row: usize, [j, i]: [usize; 2], c_in: usize) -> Option<usize> {
    let (c, phase) = (row % c_in, row / c_in);
    let (x, y) = (2 * i + phase % 2, 2 * j + phase / 2 % 2);
    (x < 7 && y < 7).then_some(((phase / 4 * 7 + y) * 7 + x) * c_in + c)
}

/// G along both axes of [`COLUMNS`] kernels.
fn transform(kernel: &[Column; 16]) -> [Column; POINTS] {
    let half: [Column; 24] =
        array::from_fn(|p| combine(&F3_KERNEL[p % 6], |tap| kernel[p / 6 * 4 + tap]));
    array::from_fn(|p| combine(&F3_KERNEL[p / 6], |tap| half[tap * 6 + p % 6]))
}

/// Gᵀ along both axes, the way back.
pub(super) fn transposed(points: &[Column; POINTS]) -> [Column; 16] {
    let column = |tap: usize| -> [f64; 6] { array::from_fn(|p| F3_KERNEL[p][tap]) };
    let half: [Column; 24] =
        array::from_fn(|p| combine(&column(p % 4), |point| points[p / 4 * 6 + point]));
    array::from_fn(|p| combine(&column(p / 4), |point| half[point * 4 + p % 4]))
}

/// `Σ_k factors[k] · values(k)`, ascending.
fn combine(factors: &[f64], values: impl Fn(usize) -> Column) -> Column {
    let mut sum = [0.0; COLUMNS];
    for (k, factor) in factors.iter().enumerate() {
        for (s, v) in sum.iter_mut().zip(values(k)) {
            *s += factor * v;
        }
    }
    sum
}
