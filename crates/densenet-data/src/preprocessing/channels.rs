//! Grey, colour and transparency: to the channel count the network wants.

use serde::{Deserialize, Serialize};

use crate::decoded::{DecodedImage, Samples};

/// What becomes of an image's alpha channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alpha {
    /// Left out; transparent pixels show the colour stored under them. PIL's `convert("RGB")` does the same.
    #[default]
    Drop,
    /// The image is laid over black.
    Black,
    /// The image is laid over white.
    White,
}

/// `image` with exactly `channels` (1 or 3) channels and no alpha.
pub(super) fn convert(image: &DecodedImage, channels: usize, alpha: Alpha) -> DecodedImage {
    let from = image.channels();
    if from == channels {
        return image.clone();
    }
    let samples = match image.samples() {
        Samples::U8(v) => Samples::U8(convert_samples(v, from, channels, alpha)),
        Samples::U16(v) => Samples::U16(convert_samples(v, from, channels, alpha)),
        Samples::F32(v) => Samples::F32(convert_samples(v, from, channels, alpha)),
    };
    DecodedImage::assembled(image.spatial(), channels, samples)
}

fn convert_samples<S: Tone>(samples: &[S], from: usize, to: usize, alpha: Alpha) -> Vec<S> {
    let mut out = Vec::with_capacity(samples.len() / from * to);
    for pixel in samples.chunks_exact(from) {
        let (colour, opacity) = match *pixel {
            [grey] => ([grey; 3], None),
            [grey, a] => ([grey; 3], Some(a)),
            [r, g, b] => ([r, g, b], None),
            [r, g, b, a, ..] => ([r, g, b], Some(a)),
            [] => continue,
        };
        let colour = match (opacity, alpha) {
            (None, _) | (_, Alpha::Drop) => colour,
            (Some(a), Alpha::Black) => colour.map(|c| c.over(S::BLACK, a)),
            (Some(a), Alpha::White) => colour.map(|c| c.over(S::WHITE, a)),
        };
        if to == 3 {
            out.extend(colour);
        } else if from < 3 {
            out.push(colour[0]);
        } else {
            out.push(S::luma(colour));
        }
    }
    out
}

/// A sample type's black, white and mixing.
trait Tone: Copy {
    const BLACK: Self;
    const WHITE: Self;
    /// `self · a + below · (1 − a)`, rounded to nearest.
    fn over(self, below: Self, a: Self) -> Self;
    /// 0.299 R + 0.587 G + 0.114 B (ITU-R 601), with PIL's 16-bit fixed-point weights for whole numbers.
    fn luma(rgb: [Self; 3]) -> Self;
}

const LUMA: [u64; 3] = [19595, 38470, 7471];

macro_rules! whole_tone {
    ($type:ty) => {
        impl Tone for $type {
            const BLACK: $type = 0;
            const WHITE: $type = <$type>::MAX;
            fn over(self, below: $type, a: $type) -> $type {
                let (top, below, a, full) = (
                    u64::from(self),
                    u64::from(below),
                    u64::from(a),
                    u64::from(<$type>::MAX),
                );
                ((top * a + below * (full - a) + full / 2) / full) as $type
            }
            fn luma(rgb: [$type; 3]) -> $type {
                let sum: u64 = rgb.iter().zip(LUMA).map(|(&c, w)| u64::from(c) * w).sum();
                ((sum + 0x8000) >> 16) as $type
            }
        }
    };
}

whole_tone!(u8);
whole_tone!(u16);

impl Tone for f32 {
    const BLACK: f32 = 0.0;
    const WHITE: f32 = 1.0;
    fn over(self, below: f32, a: f32) -> f32 {
        self * a + below * (1.0 - a)
    }
    fn luma([r, g, b]: [f32; 3]) -> f32 {
        0.299 * r + 0.587 * g + 0.114 * b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(from: usize, samples: Samples, to: usize, alpha: Alpha) -> Samples {
        let pixels = samples.len() / from;
        convert(
            &DecodedImage::assembled([1, 1, pixels], from, samples),
            to,
            alpha,
        )
        .samples()
        .clone()
    }

    #[test]
    fn grey_repeats_and_colour_weighs() {
        let grey = Samples::U8(vec![0, 200]);
        assert_eq!(
            converted(1, grey, 3, Alpha::Drop),
            Samples::U8(vec![0, 0, 0, 200, 200, 200])
        );
        let primaries = Samples::U8(vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(
            converted(3, primaries, 1, Alpha::Drop),
            Samples::U8(vec![76, 150, 29, 255])
        );
        let wide = Samples::U16(vec![65535, 65535, 65535]);
        assert_eq!(
            converted(3, wide, 1, Alpha::Drop),
            Samples::U16(vec![65535])
        );
    }

    #[test]
    fn transparency_is_dropped_or_laid_over_a_ground() {
        let rgba = || Samples::U8(vec![10, 20, 30, 0, 10, 20, 30, 255, 100, 100, 100, 128]);
        assert_eq!(
            converted(4, rgba(), 3, Alpha::Drop),
            Samples::U8(vec![10, 20, 30, 10, 20, 30, 100, 100, 100])
        );
        assert_eq!(
            converted(4, rgba(), 3, Alpha::Black),
            Samples::U8(vec![0, 0, 0, 10, 20, 30, 50, 50, 50])
        );
        assert_eq!(
            converted(4, rgba(), 3, Alpha::White),
            Samples::U8(vec![255, 255, 255, 10, 20, 30, 177, 177, 177])
        );
        let grey_alpha = Samples::U16(vec![1000, 0]);
        assert_eq!(
            converted(2, grey_alpha.clone(), 1, Alpha::Drop),
            Samples::U16(vec![1000])
        );
        assert_eq!(
            converted(2, grey_alpha, 1, Alpha::White),
            Samples::U16(vec![65535])
        );
    }
}
