//! The small products between the transforms.

use std::ops::Range;

use crate::{
    Isa,
    panels::Element,
    tile::{self, Product, Tile, TileShape},
};

/// The packed weight of one pixel of a transform: `[panel][k][register across]`, in bf16 pairs of k.
pub(super) struct Weight<'a> {
    pub isa: Isa,
    pub shape: TileShape,
    pub columns: usize,
    pub element: Element,
    pub data: &'a [f32],
}

impl Weight<'_> {
    /// Length of the whole sum, in elements.
    pub(super) fn rows(&self) -> usize {
        self.data.len() / self.shape.padded(self.columns)
    }

    /// `product[row, o] (+)= Σ rows[row · step + i] · weight[part.start + i, o]`, `i` over the length of `part`, rows of whole
    /// registers; added to what is there if the part is not the first.
    pub(super) fn multiply(
        &self,
        (rows, step): (&[f32], usize),
        part: Range<usize>,
        product: &mut [f32],
    ) {
        let width = self.shape.padded(self.columns);
        let (all, k, count) = (self.rows(), part.len(), product.len() / width);
        assert!(count > 0 && part.end <= all && rows.len() >= (count - 1) * step + k);
        for (start, vectors) in self.shape.panels(self.columns) {
            let columns = vectors * self.shape.lanes;
            let panel = &self.data[start * all..][part.start * columns..part.end * columns];
            let tile = Tile {
                a: rows.as_ptr(),
                a_row: step,
                a_k: 1,
                taps: &[0],
                b: panel.as_ptr(),
                b_tap: 0,
                b_k: columns,
                k,
                rows: count,
                vectors,
            };
            let target = Product {
                start: product[start..].as_mut_ptr(),
                row: width,
                accumulate: part.start > 0,
            };
            // SAFETY: `rows` holds `count` rows (asserted), the panel `k` rows of its registers, `product` `count` rows of
            // all panels' registers.
            unsafe {
                match self.element {
                    Element::F32 => tile::compute(self.isa, &tile, &target),
                    Element::Bf16Pair => tile::compute_bf16(self.isa, &tile, &target),
                }
            }
        }
    }
}
