//! Centre crop, conversion to f32, and how numbers are written in JSON.

use super::Scale;
use crate::decoded::{DecodedImage, Samples};

/// Cut `[height, width]` from the middle; where the image is smaller, zeros surround it.
///
/// The offset of a cut is rounded half to even, the border of a small image down at the top and left: both as
/// torchvision's `CenterCrop`.
pub(super) fn centre_crop(image: &DecodedImage, size: [usize; 2]) -> DecodedImage {
    let [depth, height, width] = image.spatial();
    let channels = image.channels();
    if [height, width] == size {
        return image.clone();
    }
    let rows = Cut::new(height, size[0]);
    let columns = Cut::new(width, size[1]);
    let samples = match image.samples() {
        Samples::U8(v) => Samples::U8(cut(v, width, channels, height, &rows, &columns)),
        Samples::U16(v) => Samples::U16(cut(v, width, channels, height, &rows, &columns)),
        Samples::F32(v) => Samples::F32(cut(v, width, channels, height, &rows, &columns)),
    };
    DecodedImage::assembled([depth, size[0], size[1]], channels, samples)
}

/// Where a [`centre_crop`] of `n` pixels to `out` begins; below zero where the border is added.
pub(super) fn first_kept(n: usize, out: usize) -> isize {
    let cut = Cut::new(n, out);
    cut.first as isize - cut.before as isize
}

/// One axis of a crop: zeros before, what is kept, zeros after.
struct Cut {
    before: usize,
    first: usize,
    kept: usize,
    out: usize,
}

impl Cut {
    fn new(n: usize, out: usize) -> Cut {
        if n >= out {
            let surplus = n - out;
            let half = surplus / 2;
            // Python's round(): half to even.
            let first = if surplus % 2 == 1 && half % 2 == 1 {
                half + 1
            } else {
                half
            };
            Cut {
                before: 0,
                first,
                kept: out,
                out,
            }
        } else {
            Cut {
                before: (out - n) / 2,
                first: 0,
                kept: n,
                out,
            }
        }
    }
}

fn cut<S: Copy + Default>(
    samples: &[S],
    width: usize,
    channels: usize,
    height: usize,
    rows: &Cut,
    columns: &Cut,
) -> Vec<S> {
    let out_row = columns.out * channels;
    let depth = samples.len() / (height * width * channels);
    let mut out = vec![S::default(); depth * rows.out * out_row];
    let slices = samples
        .chunks_exact(height * width * channels)
        .zip(out.chunks_exact_mut(rows.out * out_row));
    for (slice, out_slice) in slices {
        let source = slice
            .chunks_exact(width * channels)
            .skip(rows.first)
            .take(rows.kept);
        for (row, out_row) in source.zip(out_slice.chunks_exact_mut(out_row).skip(rows.before)) {
            let kept = &row[columns.first * channels..(columns.first + columns.kept) * channels];
            let begin = columns.before * channels;
            out_row[begin..begin + kept.len()].copy_from_slice(kept);
        }
    }
    out
}

/// Samples as f32 in the unit that `scale` says.
pub(super) fn to_f32(samples: &Samples, scale: Scale, out: &mut [f32]) {
    match (samples, scale) {
        (Samples::U8(v), Scale::Unit) => fill(v, out, |s| f32::from(s) / 255.0),
        (Samples::U8(v), Scale::None) => fill(v, out, f32::from),
        (Samples::U16(v), Scale::Unit) => fill(v, out, |s| f32::from(s) / 65535.0),
        (Samples::U16(v), Scale::None) => fill(v, out, f32::from),
        (Samples::F32(v), _) => fill(v, out, |s| s),
    }
}

fn fill<S: Copy>(samples: &[S], out: &mut [f32], convert: impl Fn(S) -> f32) {
    for (o, &s) in out.iter_mut().zip(samples) {
        *o = convert(s);
    }
}

/// f32 lists in JSON with the fewest digits that give the same f32 back: 0.485, not 0.48500001430511475.
pub(super) mod decimals {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        values: &[f32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            values
                .iter()
                .map(|v| v.to_string().parse().unwrap_or(f64::from(*v))),
        )
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<f32>, D::Error> {
        let values = Vec::<f64>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|v| v as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_as_torchvision_does() {
        // Offsets of `int(round((n - out) / 2))` in Python, and paddings of `(out - n) // 2`.
        let firsts: Vec<usize> = (4..10).map(|n| Cut::new(n, 4).first).collect();
        assert_eq!(firsts, [0, 0, 1, 2, 2, 2]);
        let image = DecodedImage::assembled([1, 2, 3], 1, Samples::U8(vec![1, 2, 3, 4, 5, 6]));
        let out = centre_crop(&image, [4, 2]);
        assert_eq!(out.spatial(), [1, 4, 2]);
        assert_eq!(out.samples(), &Samples::U8(vec![0, 0, 1, 2, 4, 5, 0, 0]));
        let out = centre_crop(&image, [1, 6]);
        assert_eq!(out.samples(), &Samples::U8(vec![0, 1, 2, 3, 0, 0]));
    }
}
