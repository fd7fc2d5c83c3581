//! A convolution of stride 2 in bf16: pixels of the image in pairs.

use densenet_spec::Window;

use super::{Conv, Source};
use crate::{
    Isa, KernelError, Panels, Raster,
    error::{at_least, exactly},
    parallel::{Shared, for_each},
    simd::bf16,
};

/// A convolution of stride 2 along the width, as one of stride 1 over pairs of pixels.
///
/// An element of a bf16 map is two channels, and an image of 3 has no two of them. Two pixels side by side have, and
/// stepping over them is a step of 1:
///
/// ```text
/// output x reads pixels 2x − padding …              with an odd padding from 2x − padding − 1 on, times 0
///        =       pairs  x − ⌈padding / 2⌉ …
/// ```
///
/// # Numerics
/// Image and kernel are rounded to bf16, products are exact, sums are f32 in one chain: bit-identical at any thread count.
#[derive(Debug)]
pub struct Paired {
    weights: Panels,
    /// The convolution's own window.
    window: Window,
    c_in: usize,
}

impl Paired {
    /// Whether a convolution with this window can be computed this way.
    pub fn fits(window: &Window) -> bool {
        window.stride[2] == 2
    }

    /// Packs `weight`, which is `[tap][c_in][c_out]`.
    ///
    /// # Errors
    /// `weight` has another length, or the window does not fit.
    pub fn packed(
        isa: Isa,
        weight: &[f32],
        window: &Window,
        [c_in, c_out]: [usize; 2],
    ) -> Result<Self, KernelError> {
        const OP: &str = "pairs of pixels";
        exactly(OP, "window", 1, usize::from(Self::fits(window)))?;
        exactly(OP, "weight", window.taps() * c_in * c_out, weight.len())?;
        let (row, wide) = (
            window.kernel[2] * c_in * c_out,
            2 * pairs(window) * c_in * c_out,
        );
        let before = window.padding[2] % 2 * c_in * c_out;
        let rows = window.kernel[0] * window.kernel[1];
        let mut padded = vec![0.0; rows * wide];
        for (to, from) in padded.chunks_exact_mut(wide).zip(weight.chunks_exact(row)) {
            to[before..before + row].copy_from_slice(from);
        }
        let sizes = [rows * 2 * pairs(window), c_in, c_out];
        Ok(Paired {
            weights: Panels::packed_bf16(isa, &padded, sizes)?,
            window: *window,
            c_in,
        })
    }

    /// The window over pairs of pixels.
    fn paired(&self) -> Window {
        let Window {
            kernel,
            stride,
            padding,
        } = self.window;
        Window {
            kernel: [kernel[0], kernel[1], pairs(&self.window)],
            stride: [stride[0], stride[1], 1],
            padding: [padding[0], padding[1], padding[2].div_ceil(2)],
        }
    }

    /// The map of pairs of an image of this size, border included; its width is what the outputs need.
    fn map(window: &Window, image: &Raster) -> Raster {
        let outputs = window.output(image.spatial).map_or(0, |size| size[2]);
        let border = window.padding[2].div_ceil(2);
        let width = (outputs + pairs(window)).saturating_sub(1 + 2 * border);
        let [depth, height, _] = image.spatial;
        Raster::dense(image.batch, [depth, height, width], image.stride).with_halo([
            window.padding[0],
            window.padding[1],
            border,
        ])
    }

    /// Whether an image of this size has pairs enough: more than one output along the width.
    pub fn holds(window: &Window, image: &Raster) -> bool {
        Self::map(window, image).spatial[2] > 0
    }

    /// Elements that [`Paired::prepare`] writes for an image.
    pub fn prepared(window: &Window, image: &Raster) -> usize {
        Self::map(window, image).len()
    }

    /// Writes an image without border, rounded and in pairs of pixels, to `output`.
    ///
    /// # Errors
    /// A buffer is too small or the channels differ.
    pub fn prepare(
        &self,
        (data, image): (&[f32], &Raster),
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        const OP: &str = "pairs of pixels";
        let map = Self::map(&self.window, image);
        exactly(OP, "channels of the image", self.c_in, image.stride)?;
        at_least(OP, "image", image.len(), data.len())?;
        at_least(OP, "output", map.len(), output.len())?;
        let [depth, height, width] = image.spatial;
        let padding = self.window.padding;
        let pitch = map.row_pitch();
        let (rows, planes) = (height + 2 * padding[1], depth + 2 * padding[0]);
        let shared = Shared::new(output);
        for_each(map.batch * planes * rows, |row| {
            // SAFETY: rows of `pitch` elements do not overlap, each belongs to one task, and the map fits.
            let target = unsafe { shared.slice(row * pitch, pitch) };
            target.fill(0.0);
            let (y, z) = (row % rows, row / rows % planes);
            let inside = y
                .checked_sub(padding[1])
                .filter(|y| *y < height)
                .zip(z.checked_sub(padding[0]).filter(|z| *z < depth));
            let Some((y, z)) = inside else {
                return;
            };
            let source = image.row((row / rows / planes * depth + z) * height + y);
            let values = &data[source..][..width * self.c_in];
            let border = map.halo[2] * self.c_in;
            let pair = |low: f32, high: f32| {
                f32::from_bits(u32::from(bf16(high)) << 16 | u32::from(bf16(low)))
            };
            let (pairs, rest) = values.as_chunks::<2>();
            for (element, [low, high]) in target[border..].iter_mut().zip(pairs) {
                *element = pair(*low, *high);
            }
            // An odd last pixel, if an output needs it.
            if let (Some(element), [last]) = (target.get_mut(border + pairs.len()), rest) {
                *element = pair(*last, 0.0);
            }
        });
        Ok(())
    }

    /// The convolution of an image that [`Paired::prepare`] wrote to `pairs`.
    pub fn conv<'a>(&'a self, pairs: &'a [f32], image: &Raster) -> Conv<'a> {
        Conv {
            window: self.paired(),
            c_in: self.c_in,
            source: Source::Bf16(pairs, Self::map(&self.window, image)),
            weights: &self.weights,
        }
    }
}

/// Pairs of pixels that the window covers along the width.
fn pairs(window: &Window) -> usize {
    (window.kernel[2] + window.padding[2] % 2).div_ceil(2)
}
