//! A kernel's transform, packed for the products.

use densenet_spec::Window;

use super::{
    product::Weight,
    transform::{COLUMNS, Column, Transform, transform_kernel},
};
use crate::{
    Buffer, Isa, KernelError, Operand,
    error::exactly,
    panels::Element,
    parallel::{Shared, border, for_each},
    simd::bf16,
    tile::TileShape,
};

/// Output pixels of a tile along each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiles {
    /// F(2×2) and F(2×2×2): 2.25 and 3.4 times fewer multiplications.
    Two,
    /// F(4×4) and F(2×4×4): 4 and 6 times fewer.
    TwoFour,
    /// F(4×4) and F(4×4×4): 4 and 8 times fewer.
    Four,
    /// F(2×2) and F(2×2×2) of a bf16 map, multiplied in bf16: as few as [`Tiles::Two`], at twice the rate. The transforms
    /// are computed in f32 and rounded, which strays 1.7 times (2-D) and 2.1 times (3-D) as far as a direct convolution in
    /// bf16.
    TwoBf16,
    /// F(2×4) and F(2×2×4), the same way: a quarter fewer. Strays 2.6 and 3.4 times as far, so that few of a network's layers
    /// should.
    WideBf16,
}

impl Tiles {
    /// Every kind.
    pub const ALL: [Tiles; 5] = [
        Tiles::Four,
        Tiles::TwoFour,
        Tiles::Two,
        Tiles::TwoBf16,
        Tiles::WideBf16,
    ];

    /// The transforms along depth, height and width.
    pub(super) fn axes(self, window: &Window) -> [Transform; 3] {
        let depth = match (window.kernel[0], self) {
            (3, Tiles::Four) => Transform::F4,
            (3, _) => Transform::F2,
            _ => Transform::Identity,
        };
        let (height, width) = match self {
            Tiles::Two | Tiles::TwoBf16 => (Transform::F2, Transform::F2),
            Tiles::WideBf16 => (Transform::F2, Transform::F4),
            Tiles::TwoFour | Tiles::Four => (Transform::F4, Transform::F4),
        };
        [depth, height, width]
    }

    fn element(self) -> Element {
        match self {
            Tiles::TwoBf16 | Tiles::WideBf16 => Element::Bf16Pair,
            Tiles::Two | Tiles::TwoFour | Tiles::Four => Element::F32,
        }
    }

    /// Whether these may multiply such factors.
    fn suit(self, factors: Factors) -> bool {
        match self {
            Tiles::Two | Tiles::TwoFour | Tiles::Four => true,
            Tiles::TwoBf16 => factors != Factors::F32,
            Tiles::WideBf16 => factors == Factors::Bf16 { wide: true },
        }
    }

    /// What a tile's pixel costs, in tenths of a product in f32: its product, and its share of both transforms.
    fn cost(self) -> usize {
        match self {
            Tiles::Two | Tiles::TwoFour | Tiles::Four => 14,
            Tiles::TwoBf16 => 9,
            Tiles::WideBf16 => 10,
        }
    }
}

/// What tiles may multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factors {
    /// f32 only.
    F32,
    /// A map of bf16 may be multiplied in bf16, which the processor does by itself; `wide`: by [`Tiles::WideBf16`] too.
    Bf16 {
        /// Whether the layer may stray that far.
        wide: bool,
    },
}

/// A 3×3 or 3×3×3 kernel, transformed: one packed weight for every pixel of a transformed patch.
#[derive(Debug)]
pub struct WinogradWeights {
    isa: Isa,
    shape: TileShape,
    axes: [Transform; 3],
    c_in: usize,
    c_out: usize,
    element: Element,
    /// `[pixel][panel][c_in][register across]`, in bf16 with pairs of `c_in`.
    data: Buffer,
}

impl WinogradWeights {
    /// Whether a convolution with this window can be computed this way: 3 wide along height and width, 3 or 1 along
    /// depth, stride 1, padded to keep the size.
    pub fn fits(window: &Window) -> bool {
        let axis = |a: usize| {
            window.stride[a] == 1
                && matches!((window.kernel[a], window.padding[a]), (3, 1) | (1, 0))
        };
        (0..3).all(axis) && window.kernel[1] == 3 && window.kernel[2] == 3
    }

    /// The tiles that compute a convolution over a sample's map of this size fastest; `None` if that is the direct one.
    ///
    /// ```text
    /// cost = tiles · points · (1 + 0.4) + points · 24        direct: pixels · taps + taps · 24
    /// ```
    ///
    /// in multiply-adds per pair of an input and an output channel. A transform costs about 0.4 of a product in f32; to
    /// fetch a weight from memory once takes as long as 24 multiply-adds (two Zen 4 cores at 115 GFLOP/s each, 20 GB/s),
    /// and on small maps that counts. The batch does not, so that a sample's result does not depend on it. In bf16 direct
    /// convolutions and some tiles multiply and fetch at half the cost.
    pub fn choose(window: &Window, spatial: [usize; 3], factors: Factors) -> Option<Tiles> {
        if !Self::fits(window) {
            return None;
        }
        let fetch = |weights: usize| 24 * weights;
        let direct = spatial.iter().product::<usize>() * window.taps() + fetch(window.taps());
        let direct = match factors {
            Factors::F32 => direct,
            Factors::Bf16 { .. } => direct / 2,
        };
        let cost = |tiles: Tiles| {
            let axes = tiles.axes(window);
            let count: usize = (0..3)
                .map(|a| spatial[a].div_ceil(axes[a].tile()))
                .product();
            let points: usize = axes.iter().map(|a| a.patch()).product();
            count * points * tiles.cost() / 10 + fetch(points) / tiles.element().values()
        };
        let best = Tiles::ALL
            .into_iter()
            .filter(|tiles| tiles.suit(factors))
            .min_by_key(|t| cost(*t));
        best.filter(|tiles| cost(*tiles) < direct)
    }

    /// Room for a kernel of this window; [`WinogradWeights::pack`] gives it one.
    ///
    /// # Errors
    /// The window does not fit.
    pub fn new(isa: Isa, window: &Window, tiles: Tiles) -> Result<Self, KernelError> {
        exactly("winograd", "window", 1, usize::from(Self::fits(window)))?;
        Ok(WinogradWeights {
            isa,
            shape: TileShape::of(isa),
            axes: tiles.axes(window),
            c_in: 0,
            c_out: 0,
            element: tiles.element(),
            data: Buffer::default(),
        })
    }

    /// Transforms and packs `weight`, which is `[tap][c_in][c_out]`, in place of the one before, for the convolution
    /// itself or for its input gradient. Memory is reused where it suffices.
    ///
    /// # Errors
    /// `weight` has another length.
    pub fn pack(
        &mut self,
        weight: &[f32],
        [c_in, c_out]: [usize; 2],
        operand: Operand,
    ) -> Result<(), KernelError> {
        let taps = if self.axes[0] == Transform::Identity {
            9
        } else {
            27
        };
        exactly("winograd", "weight", taps * c_in * c_out, weight.len())?;
        (self.c_in, self.c_out) = match operand {
            Operand::Forward => (c_in, c_out),
            Operand::BackwardInput => (c_out, c_in),
        };
        let pitch = self.pitch();
        let len = self.points() * pitch;
        if self.data.len() < len {
            self.data = Buffer::zeroed(len);
        }
        let (rows, columns, axes) = (self.c_in, self.c_out, self.axes);
        let (element, k, values) = (self.element, self.k(), self.element.values());
        let pair = |first: f32, second: f32| {
            f32::from_bits(first.to_bits() | u32::from(bf16(second)) << 16)
        };
        let shape = self.shape;
        let shared = Shared::new(&mut self.data[..len]);
        let value = |tap: usize, row: usize, column: usize| match operand {
            Operand::Forward => weight[(tap * c_in + row) * c_out + column],
            Operand::BackwardInput => weight[((taps - 1 - tap) * c_in + column) * c_out + row],
        };
        let tasks = k.min(32);
        for_each(tasks, |task| {
            let (mut pixels, mut spare) = (Vec::new(), Vec::new());
            let elements = border(k, tasks, task)..border(k, tasks, task + 1);
            for row in elements.start * values..rows.min(elements.end * values) {
                for (start, vectors) in shape.panels(columns) {
                    let width = vectors * shape.lanes;
                    for first in (0..width).step_by(COLUMNS.min(shape.lanes)) {
                        let many = COLUMNS.min(width - first);
                        let left = start + first;
                        pixels.clear();
                        pixels.extend((0..taps).map(|tap| -> Column {
                            std::array::from_fn(|j| match left + j < columns {
                                true => f64::from(value(tap, row, left + j)),
                                false => 0.0,
                            })
                        }));
                        transform_kernel(&axes, &mut pixels, &mut spare);
                        for (p, column) in pixels.iter().enumerate() {
                            let place = p * pitch + start * k + row / values * width + first;
                            // SAFETY: every element of every panel belongs to one task.
                            let target = unsafe { shared.slice(place, many) };
                            for (t, v) in target.iter_mut().zip(column) {
                                *t = match (element, row % 2) {
                                    (Element::F32, _) => *v as f32,
                                    (_, 0) => f32::from_bits(u32::from(bf16(*v as f32))),
                                    _ => pair(*t, *v as f32),
                                };
                            }
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// New weights holding `weight`; see [`WinogradWeights::pack`].
    ///
    /// # Errors
    /// The window does not fit, or `weight` has another length.
    pub fn packed(
        isa: Isa,
        weight: &[f32],
        (window, tiles): (&Window, Tiles),
        sizes: [usize; 2],
    ) -> Result<Self, KernelError> {
        let mut weights = Self::new(isa, window, tiles)?;
        weights.pack(weight, sizes, Operand::Forward)?;
        Ok(weights)
    }

    /// Elements that a transformed kernel takes.
    pub fn elements(window: &Window, tiles: Tiles, c_in: usize, c_out: usize) -> usize {
        let points: usize = tiles.axes(window).iter().map(|a| a.patch()).product();
        points * c_in.div_ceil(tiles.element().values()) * c_out
    }

    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    pub(super) fn axes(&self) -> [Transform; 3] {
        self.axes
    }

    /// Channels read.
    pub(super) fn c_in(&self) -> usize {
        self.c_in
    }

    /// Channels produced.
    pub(super) fn c_out(&self) -> usize {
        self.c_out
    }

    /// Elements of a product's row: all panels' registers.
    pub(super) fn width(&self) -> usize {
        self.shape.padded(self.c_out)
    }

    /// Rows of the register tile of the widest panel.
    pub(super) fn widest_rows(&self) -> usize {
        self.shape.widest_rows(self.c_out)
    }

    /// What the elements are.
    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// Elements that a product sums over.
    pub(super) fn k(&self) -> usize {
        self.c_in.div_ceil(self.element.values())
    }

    fn points(&self) -> usize {
        self.axes.iter().map(|a| a.patch()).product()
    }

    /// Elements from one pixel's weight to the next.
    fn pitch(&self) -> usize {
        self.k() * self.width()
    }

    /// The packed weight of one pixel of the transform.
    pub(super) fn point(&self, point: usize) -> Weight<'_> {
        Weight {
            isa: self.isa,
            shape: self.shape,
            columns: self.c_out,
            element: self.element,
            data: &self.data[point * self.pitch()..][..self.pitch()],
        }
    }
}
