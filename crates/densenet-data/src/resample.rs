//! Resizing with antialiasing, exactly as the Python Imaging Library does it.
//!
//! An image is resized in two passes, along x and along y. An output sample at position `o` of a pass is
//!
//! ```text
//! out[o] = Σ_i w[i] · in[i],   w[i] ∝ f((i + ½ − c) / s),   c = (o + ½) · n_in / n_out,   s = max(1, n_in / n_out)
//! ```
//!
//! where `f` is the triangle (bilinear) or Keys' cubic with a = −½ (bicubic) and the weights sum to one. When an
//! image shrinks, the filter widens by `s`, so every input pixel counts: that is the antialiasing.
//!
//! # Numerics
//! 8-bit samples: weights rounded to 22 fractional bits, sums in `i32`, result rounded to 8 bits after each pass: bit
//! for bit what PIL 13 gives (golden files in the tests). Earlier versions always took x first, which moves a sample
//! by a level now and then where the height shrinks much more than the width. 16-bit and float samples: sums in
//! `f64`, rounded to the sample type after each pass.
//!
//! Written here rather than taken from a general SIMD resizer: networks trained elsewhere saw PIL's numbers, and with
//! 22-bit weights and two roundings in its order they can be met exactly.

use serde::{Deserialize, Serialize};

use crate::decoded::{DecodedImage, Samples};

/// The interpolation filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle filter: torchvision's default for classification.
    #[default]
    Bilinear,
    /// Keys' cubic with a = −½: sharper, may overshoot (results are clipped to the sample type's range).
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic => {
                const A: f64 = -0.5;
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
        }
    }
}

/// A rectangle of pixels within an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelBox {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Resize every slice of `image` to `size` = `[height, width]`; equal sizes are copied unchanged.
pub(crate) fn resize(image: &DecodedImage, size: [usize; 2], filter: Filter) -> DecodedImage {
    let [_, height, width] = image.spatial();
    resize_box(
        image,
        PixelBox {
            top: 0,
            left: 0,
            height,
            width,
        },
        size,
        filter,
    )
}

/// Cut `from` out of every slice of `image` and resize it to `size` = `[height, width]`.
///
/// `from` lies within the image and has at least one pixel; so has `size`.
pub(crate) fn resize_box(
    image: &DecodedImage,
    from: PixelBox,
    size: [usize; 2],
    filter: Filter,
) -> DecodedImage {
    let [depth, ..] = image.spatial();
    let channels = image.channels();
    let samples = match image.samples() {
        Samples::U8(v) => Samples::U8(resize_slices(v, image, from, size, filter)),
        Samples::U16(v) => Samples::U16(resize_slices(v, image, from, size, filter)),
        Samples::F32(v) => Samples::F32(resize_slices(v, image, from, size, filter)),
    };
    DecodedImage::assembled([depth, size[0], size[1]], channels, samples)
}

fn resize_slices<S: Resample>(
    samples: &[S],
    image: &DecodedImage,
    from: PixelBox,
    size: [usize; 2],
    filter: Filter,
) -> Vec<S> {
    let [_, height, width] = image.spatial();
    let channels = image.channels();
    let along_x =
        (from.width != size[1]).then(|| Weights::<S::Weight>::new(from.width, size[1], filter));
    let along_y =
        (from.height != size[0]).then(|| Weights::<S::Weight>::new(from.height, size[0], filter));
    let mut out = Vec::with_capacity(image.spatial()[0] * size[0] * size[1] * channels);
    let mut between = Vec::new();
    for slice in samples.chunks_exact(height * width * channels) {
        let picked = slice
            .chunks_exact(width * channels)
            .skip(from.top)
            .take(from.height)
            .map(|row| &row[from.left * channels..(from.left + from.width) * channels]);
        between.clear();
        match (&along_x, &along_y) {
            (None, None) => picked.for_each(|row| out.extend_from_slice(row)),
            (Some(x), None) => picked.for_each(|row| along_row(row, channels, x, &mut out)),
            (None, Some(y)) => {
                picked.for_each(|row| between.extend_from_slice(row));
                vertical(&between, from.width * channels, y, &mut out);
            }
            (Some(x), Some(y)) if vertical_first([from.height, from.width], size) => {
                let rows: Vec<S> = picked.flatten().copied().collect();
                vertical(&rows, from.width * channels, y, &mut between);
                between
                    .chunks_exact(from.width * channels)
                    .for_each(|row| along_row(row, channels, x, &mut out));
            }
            (Some(x), Some(y)) => {
                picked.for_each(|row| along_row(row, channels, x, &mut between));
                vertical(&between, size[1] * channels, y, &mut out);
            }
        }
    }
    out
}

/// Which pass comes first; each rounds, so it shows. PIL 13 shrinks the height first where that takes away more than
/// twice the rows that shrinking the width would take away in columns (observed on 4,000 random sizes).
fn vertical_first(from: [usize; 2], to: [usize; 2]) -> bool {
    let fewer = |axis: usize| from[axis] as i64 - to[axis] as i64;
    fewer(0) > 0 && fewer(0) > 2 * fewer(1)
}

fn along_row<S: Resample>(
    row: &[S],
    channels: usize,
    weights: &Weights<S::Weight>,
    out: &mut Vec<S>,
) {
    match channels {
        1 => horizontal::<S, 1>(row, weights, out),
        2 => horizontal::<S, 2>(row, weights, out),
        3 => horizontal::<S, 3>(row, weights, out),
        _ => horizontal::<S, 4>(row, weights, out),
    }
}

/// For each output position: where its inputs begin, and their weights.
struct Weights<W> {
    spans: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<W>,
}

impl<W: From64> Weights<W> {
    fn new(n_in: usize, n_out: usize, filter: Filter) -> Weights<W> {
        let scale = n_in as f64 / n_out as f64;
        let widening = scale.max(1.0);
        let support = filter.support() * widening;
        let mut spans = Vec::with_capacity(n_out);
        let mut weights = Vec::new();
        let mut raw = Vec::new();
        for o in 0..n_out {
            let center = (o as f64 + 0.5) * scale;
            // Truncation, as in C; both bounds are clipped to the image.
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(n_in);
            raw.clear();
            // Multiplying by the reciprocal is what PIL does; dividing would differ in the last bit.
            let narrowing = 1.0 / widening;
            raw.extend((first..end).map(|i| filter.at((i as f64 - center + 0.5) * narrowing)));
            let total: f64 = raw.iter().sum();
            let begin = weights.len();
            weights.extend(
                raw.iter()
                    .map(|&w| W::from64(if total != 0.0 { w / total } else { w })),
            );
            spans.push((first, begin..weights.len()));
        }
        Weights { spans, weights }
    }

    fn placed(line: &Line) -> Weights<W> {
        let widening = line.step.max(1.0);
        let last = line.n_in.saturating_sub(1);
        let mut spans = Vec::with_capacity(line.n_out);
        let mut weights = Vec::new();
        for o in 0..line.n_out {
            let centre = (line.first + line.step * o as f64).clamp(0.0, last as f64);
            let begin = (centre - widening).ceil().max(0.0) as usize;
            let end = ((centre + widening).floor() as usize).min(last);
            let raw: Vec<f64> = (begin..=end)
                .map(|i| Filter::Bilinear.at((i as f64 - centre) / widening))
                .collect();
            let total: f64 = raw.iter().sum();
            let from = weights.len();
            weights.extend(raw.iter().map(|w| W::from64(w / total)));
            spans.push((begin, from..weights.len()));
        }
        Weights { spans, weights }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[W])> {
        self.spans
            .iter()
            .map(|(first, range)| (*first, &self.weights[range.clone()]))
    }
}

fn horizontal<S: Resample, const C: usize>(
    row: &[S],
    weights: &Weights<S::Weight>,
    out: &mut Vec<S>,
) {
    let (pixels, _) = row.as_chunks::<C>();
    for (first, weights) in weights.iter() {
        let mut sums = [S::START; C];
        for (pixel, &w) in pixels[first..].iter().zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                *sum = S::add(*sum, sample, w);
            }
        }
        out.extend(sums.map(S::finish));
    }
}

fn vertical<S: Resample>(
    rows: &[S],
    stride: usize,
    weights: &Weights<S::Weight>,
    out: &mut Vec<S>,
) {
    let mut sums = vec![S::START; stride];
    for (first, weights) in weights.iter() {
        sums.fill(S::START);
        for (row, &w) in rows[first * stride..].chunks_exact(stride).zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum = S::add(*sum, sample, w);
            }
        }
        out.extend(sums.iter().map(|&sum| S::finish(sum)));
    }
}

/// How one axis is resampled: output `o` lies at input position `first + step · o`.
pub(crate) struct Line {
    pub n_in: usize,
    pub n_out: usize,
    pub first: f64,
    pub step: f64,
}

/// Resample the middle axis of an array `[before][n_in][after]` with the triangle filter, widened where `step` exceeds 1.
///
/// Positions outside take the value at the border.
pub(crate) fn along_axis(values: &[f32], before: usize, after: usize, line: &Line) -> Vec<f32> {
    let weights = Weights::<f64>::placed(line);
    let mut out = Vec::with_capacity(before * line.n_out * after);
    for part in values.chunks_exact((line.n_in * after).max(1)) {
        vertical(part, after, &weights, &mut out);
    }
    out
}

/// Fractional bits of 8-bit weights: 32 minus 8 for the sample and 2 for the cubic's overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

trait From64 {
    fn from64(weight: f64) -> Self;
}

impl From64 for f64 {
    fn from64(weight: f64) -> f64 {
        weight
    }
}

impl From64 for i32 {
    fn from64(weight: f64) -> i32 {
        (weight * f64::from(1u32 << PRECISION_BITS) + 0.5f64.copysign(weight)) as i32
    }
}

/// How samples of one type are weighted, summed and rounded.
trait Resample: Copy {
    type Weight: From64 + Copy;
    type Sum: Copy;
    const START: Self::Sum;
    fn add(sum: Self::Sum, sample: Self, weight: Self::Weight) -> Self::Sum;
    fn finish(sum: Self::Sum) -> Self;
}

impl Resample for u8 {
    type Weight = i32;
    type Sum = i32;
    const START: i32 = 1 << (PRECISION_BITS - 1);
    fn add(sum: i32, sample: u8, weight: i32) -> i32 {
        // |Σ| < 1.7 · 255 · 2²² < 2³¹ for both filters; wrapping only spares the check.
        sum.wrapping_add(i32::from(sample).wrapping_mul(weight))
    }
    fn finish(sum: i32) -> u8 {
        (sum >> PRECISION_BITS).clamp(0, 255) as u8
    }
}

impl Resample for u16 {
    type Weight = f64;
    type Sum = f64;
    const START: f64 = 0.5;
    fn add(sum: f64, sample: u16, weight: f64) -> f64 {
        sum + f64::from(sample) * weight
    }
    fn finish(sum: f64) -> u16 {
        // `as` clips to the range of the type.
        sum as u16
    }
}

impl Resample for f32 {
    type Weight = f64;
    type Sum = f64;
    const START: f64 = 0.0;
    fn add(sum: f64, sample: f32, weight: f64) -> f64 {
        sum + f64::from(sample) * weight
    }
    fn finish(sum: f64) -> f32 {
        sum as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(spatial: [usize; 3], samples: Vec<u8>) -> DecodedImage {
        DecodedImage::assembled(spatial, 1, Samples::U8(samples))
    }

    #[test]
    fn a_flat_image_stays_flat() {
        for (from, to) in [
            ([5, 7], [3, 2]),
            ([5, 7], [50, 70]),
            ([1, 1], [4, 4]),
            ([200, 3], [1, 9]),
        ] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                for value in [0, 1, 128, 255] {
                    let image = grey([1, from[0], from[1]], vec![value; from[0] * from[1]]);
                    let out = resize(&image, to, filter);
                    assert_eq!(out.samples(), &Samples::U8(vec![value; to[0] * to[1]]));
                }
            }
        }
    }

    #[test]
    fn a_box_is_a_crop_and_then_a_resize() {
        let image = grey([1, 6, 5], (0..30).map(|i| i * 8).collect());
        let from = PixelBox {
            top: 1,
            left: 2,
            height: 4,
            width: 3,
        };
        let cut = resize_box(&image, from, [4, 3], Filter::Bilinear);
        let expected: Vec<u8> = (1..5)
            .flat_map(|y| (2..5).map(move |x| (y * 5 + x) * 8))
            .collect();
        assert_eq!(cut.samples(), &Samples::U8(expected));
        assert_eq!(
            resize_box(&image, from, [2, 7], Filter::Bicubic),
            resize(&cut, [2, 7], Filter::Bicubic),
        );
    }

    #[test]
    fn slices_of_a_volume_are_resized_one_by_one() {
        let first: Vec<u8> = (0..12).collect();
        let second: Vec<u8> = (100..112).collect();
        let both = grey([2, 3, 4], [first.clone(), second.clone()].concat());
        let out = resize(&both, [5, 2], Filter::Bilinear);
        let Samples::U8(out) = out.samples() else {
            panic!("8-bit in, 8-bit out")
        };
        let one = |v: Vec<u8>| match resize(&grey([1, 3, 4], v), [5, 2], Filter::Bilinear).samples()
        {
            Samples::U8(v) => v.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(*out, [one(first), one(second)].concat());
    }

    #[test]
    fn wider_types_follow_the_same_weights() {
        let bytes: Vec<u8> = (0..64u32).map(|i| (i * 37 % 251) as u8).collect();
        let eight = resize(&grey([1, 8, 8], bytes.clone()), [3, 5], Filter::Bilinear);
        let float = DecodedImage::assembled(
            [1, 8, 8],
            1,
            Samples::F32(bytes.iter().map(|&b| b.into()).collect()),
        );
        let float = resize(&float, [3, 5], Filter::Bilinear);
        let (Samples::U8(eight), Samples::F32(float)) = (eight.samples(), float.samples()) else {
            panic!("types are kept")
        };
        // Two roundings of half a level each.
        assert!(
            eight
                .iter()
                .zip(float)
                .all(|(&a, &b)| (f32::from(a) - b).abs() <= 1.0)
        );
        let sixteen = DecodedImage::assembled([1, 1, 2], 1, Samples::U16(vec![0, 65535]));
        let out = resize(&sixteen, [1, 1], Filter::Bilinear);
        assert_eq!(out.samples(), &Samples::U16(vec![32768]));
    }
}
