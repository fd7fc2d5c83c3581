//! Weights packed in the order the tile kernel reads them.

use crate::{
    Buffer, Isa, KernelError,
    error::exactly,
    parallel::{Shared, for_each},
    simd::bf16,
    tile::TileShape,
};

/// Which product a weight takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// The convolution itself: sums over taps and `c_in`, gives `c_out`.
    Forward,
    /// Its input gradient: taps mirrored, sums over taps and `c_out`, gives `c_in`.
    BackwardInput,
}

/// What a weight's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// One f32.
    F32,
    /// Two bf16 of consecutive `k`.
    Bf16Pair,
}

impl Element {
    /// Values in an element.
    pub(crate) fn values(self) -> usize {
        match self {
            Element::F32 => 1,
            Element::Bf16Pair => 2,
        }
    }
}

/// A convolution's weight as panels: `[panel][tap · channel][register across]`, columns padded to whole registers.
#[derive(Debug, Clone)]
pub struct Panels {
    isa: Isa,
    shape: TileShape,
    element: Element,
    /// Taps times channels summed over, in elements.
    k: usize,
    columns: usize,
    data: Buffer,
}

impl Panels {
    /// Panels without a weight; [`Panels::pack`] gives them one.
    pub fn new(isa: Isa) -> Self {
        Panels {
            isa,
            shape: TileShape::of(isa),
            element: Element::F32,
            k: 0,
            columns: 0,
            data: Buffer::default(),
        }
    }

    /// Packs `weight`, which is `[tap][c_in][c_out]`, in place of the one before. Memory is reused where it suffices.
    ///
    /// # Errors
    /// `weight` does not have `taps · c_in · c_out` elements.
    pub fn pack(
        &mut self,
        weight: &[f32],
        [taps, c_in, c_out]: [usize; 3],
        operand: Operand,
    ) -> Result<(), KernelError> {
        exactly("pack", "weight", taps * c_in * c_out, weight.len())?;
        let (k, columns) = match operand {
            Operand::Forward => (taps * c_in, c_out),
            Operand::BackwardInput => (taps * c_out, c_in),
        };
        let len = k * self.shape.padded(columns);
        if self.data.len() < len {
            self.data = Buffer::zeroed(len);
        }
        (self.k, self.columns) = (k, columns);
        let shape = self.shape;
        let shared = Shared::new(&mut self.data[..len]);
        for_each(shape.count(columns), |panel| {
            let Some((start, vectors)) = shape.panels(columns).nth(panel) else {
                return;
            };
            let width = vectors * shape.lanes;
            let used = width.min(columns - start);
            // SAFETY: panels do not overlap, and each belongs to one task.
            let panel = unsafe { shared.slice(start * k, width * k) };
            match operand {
                Operand::Forward => {
                    for (row, source) in panel
                        .chunks_exact_mut(width)
                        .zip(weight.chunks_exact(c_out))
                    {
                        row[..used].copy_from_slice(&source[start..start + used]);
                        row[used..].fill(0.0);
                    }
                }
                Operand::BackwardInput => {
                    for tap in 0..taps {
                        let mirrored = &weight[(taps - 1 - tap) * c_in * c_out..][..c_in * c_out];
                        let rows = &mut panel[tap * c_out * width..][..c_out * width];
                        for (j, source) in mirrored[start * c_out..]
                            .chunks_exact(c_out)
                            .take(used)
                            .enumerate()
                        {
                            for (o, value) in source.iter().enumerate() {
                                rows[o * width + j] = *value;
                            }
                        }
                        for row in rows.chunks_exact_mut(width) {
                            row[used..].fill(0.0);
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// New panels holding `weight`; see [`Panels::pack`].
    ///
    /// # Errors
    /// As [`Panels::pack`].
    pub fn packed(
        isa: Isa,
        weight: &[f32],
        sizes: [usize; 3],
        operand: Operand,
    ) -> Result<Self, KernelError> {
        let mut panels = Panels::new(isa);
        panels.pack(weight, sizes, operand)?;
        Ok(panels)
    }

    /// New panels holding `weight`, `[tap][c_in][c_out]`, rounded to bf16.
    ///
    /// # Errors
    /// As [`Panels::pack`].
    pub fn packed_bf16(
        isa: Isa,
        weight: &[f32],
        [taps, c_in, c_out]: [usize; 3],
    ) -> Result<Self, KernelError> {
        let rows = taps * c_in;
        exactly("pack", "weight", rows * c_out, weight.len())?;
        let shape = TileShape::of(isa);
        let k = rows.div_ceil(2);
        let mut data = Buffer::zeroed(k * shape.padded(c_out));
        let value = |row: usize, column: usize| {
            let inside = row < rows && column < c_out;
            u32::from(bf16(if inside {
                weight[row * c_out + column]
            } else {
                0.0
            }))
        };
        for (start, vectors) in shape.panels(c_out) {
            let width = vectors * shape.lanes;
            let panel = &mut data[start * k..][..width * k];
            for (row, line) in panel.chunks_exact_mut(width).enumerate() {
                for (j, pair) in line.iter_mut().enumerate() {
                    let [first, second] = [2 * row, 2 * row + 1].map(|r| value(r, start + j));
                    *pair = f32::from_bits(second << 16 | first);
                }
            }
        }
        Ok(Panels {
            isa,
            shape,
            element: Element::Bf16Pair,
            k,
            columns: c_out,
            data,
        })
    }

    /// The f32 weight as it was packed, `[row][column]`: `[tap][c_in][c_out]` for [`Operand::Forward`].
    pub fn unpacked(&self) -> Vec<f32> {
        let mut weight = vec![0.0; self.k * self.columns];
        for (start, vectors, panel) in self.iter() {
            let width = vectors * self.shape.lanes;
            let used = width.min(self.columns - start);
            for (target, source) in weight
                .chunks_exact_mut(self.columns)
                .zip(panel.chunks_exact(width))
            {
                target[start..start + used].copy_from_slice(&source[..used]);
            }
        }
        weight
    }

    /// The instruction set whose tiles these panels fit.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The tiles that these panels fit.
    pub(crate) fn shape(&self) -> TileShape {
        self.shape
    }

    /// What the elements are.
    pub(crate) fn element(&self) -> Element {
        self.element
    }

    /// Taps times channels summed over; pairs of them in bf16.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Channels produced.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The panels in order: first column, registers across, packed elements.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        self.shape.panels(self.columns).map(|(start, vectors)| {
            let width = vectors * self.shape.lanes;
            (
                start,
                vectors,
                &self.data[start * self.k..][..width * self.k],
            )
        })
    }

    /// Number of panels.
    pub(crate) fn count(&self) -> usize {
        self.shape.count(self.columns)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.data)
    }
}
