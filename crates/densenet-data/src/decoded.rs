//! A decoded image or volume: samples as the file had them, channels last.

use crate::error::DataError;
use crate::volume::Space;

/// The numbers of an image, in the type the file stored them.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// 8-bit samples, 0 to 255.
    U8(Vec<u8>),
    /// 16-bit samples, 0 to 65535.
    U16(Vec<u16>),
    /// Floating-point samples, whose range the file does not state; they are used as they are.
    F32(Vec<f32>),
}

impl Samples {
    /// The number of samples.
    pub fn len(&self) -> usize {
        match self {
            Samples::U8(v) => v.len(),
            Samples::U16(v) => v.len(),
            Samples::F32(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory they take.
    pub fn size_bytes(&self) -> usize {
        match self {
            Samples::U8(v) => v.len(),
            Samples::U16(v) => 2 * v.len(),
            Samples::F32(v) => 4 * v.len(),
        }
    }

    /// A copy of the samples in `range`, or nothing if it reaches past the end.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Option<Samples> {
        Some(match self {
            Samples::U8(v) => Samples::U8(v.get(range)?.to_vec()),
            Samples::U16(v) => Samples::U16(v.get(range)?.to_vec()),
            Samples::F32(v) => Samples::F32(v.get(range)?.to_vec()),
        })
    }
}

/// One image (`depth` 1) or volume.
///
/// # Layout
/// `[depth][height][width][channel]`. Channels are 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; alpha is straight
/// (not premultiplied). The picture stands upright: EXIF orientation has been applied. A volume's channels are what its
/// files hold, up to 64, none of them alpha.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedImage {
    spatial: [usize; 3],
    channels: usize,
    samples: Samples,
    space: Option<Space>,
}

impl DecodedImage {
    /// An image from its parts.
    ///
    /// # Errors
    /// [`DataErrorKind::Data`](crate::DataErrorKind::Data) if a dimension is zero, `channels` is not 1 to 4, or
    /// the number of samples is not `depth · height · width · channels`. `place` names the source in the message.
    pub fn new(
        place: &str,
        spatial: [usize; 3],
        channels: usize,
        samples: Samples,
    ) -> Result<DecodedImage, DataError> {
        let expected = volume(&spatial).and_then(|v| v.checked_mul(channels));
        if spatial.contains(&0) {
            return Err(DataError::data(
                place,
                "the image has no pixels",
                "remove it or replace it",
            ));
        }
        if !(1..=4).contains(&channels) {
            return Err(DataError::data(
                place,
                format!("{channels} channels a pixel"),
                "use grey, grey with alpha, RGB or RGBA images (1 to 4 channels)",
            ));
        }
        if expected != Some(samples.len()) {
            return Err(DataError::data(
                place,
                format!(
                    "{} samples where {spatial:?} × {channels} were announced",
                    samples.len()
                ),
                "write the file anew",
            ));
        }
        Ok(DecodedImage {
            spatial,
            channels,
            samples,
            space: None,
        })
    }

    /// A volume and where it lies, from parts whose fit the caller has established.
    pub(crate) fn of_volume(
        spatial: [usize; 3],
        channels: usize,
        samples: Samples,
        space: Space,
    ) -> DecodedImage {
        DecodedImage {
            space: Some(space),
            ..DecodedImage::assembled(spatial, channels, samples)
        }
    }

    /// From parts whose fit the caller has established.
    pub(crate) fn assembled(
        spatial: [usize; 3],
        channels: usize,
        samples: Samples,
    ) -> DecodedImage {
        debug_assert_eq!(
            Some(samples.len()),
            volume(&spatial).and_then(|v| v.checked_mul(channels))
        );
        DecodedImage {
            spatial,
            channels,
            samples,
            space: None,
        }
    }

    /// `[depth, height, width]`; depth is 1 for an image.
    pub fn spatial(&self) -> [usize; 3] {
        self.spatial
    }

    /// Channels a pixel: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The samples, channels last.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Where a volume lies in the patient; nothing for an image.
    pub fn space(&self) -> Option<Space> {
        self.space
    }

    /// Whether it is a volume, even one of a single slice.
    pub fn is_volume(&self) -> bool {
        self.space.is_some()
    }

    /// Whether the last channel is alpha.
    pub fn has_alpha(&self) -> bool {
        !self.is_volume() && (self.channels == 2 || self.channels == 4)
    }

    /// In words, such as `8-bit RGB`.
    pub(crate) fn kind(&self) -> String {
        let depth = match self.samples {
            Samples::U8(_) => "8-bit",
            Samples::U16(_) => "16-bit",
            Samples::F32(_) => "float",
        };
        if self.is_volume() {
            return match self.channels {
                1 => format!("{depth} volume"),
                n => format!("{depth} volume with {n} channels"),
            };
        }
        let colour = match self.channels {
            1 => "grey",
            2 => "grey with alpha",
            3 => "RGB",
            _ => "RGB with alpha",
        };
        format!("{depth} {colour}")
    }

    /// A 64-bit FNV-1a hash of shape and samples: equal images have equal hashes.
    pub fn content_hash(&self) -> u64 {
        let mut hash = Fnv::new();
        for n in self.spatial {
            hash.bytes(&(n as u64).to_le_bytes());
        }
        hash.bytes(&[self.channels as u8]);
        match &self.samples {
            Samples::U8(v) => hash.bytes(v),
            Samples::U16(v) => v.iter().for_each(|s| hash.bytes(&s.to_le_bytes())),
            Samples::F32(v) => v
                .iter()
                .for_each(|s| hash.bytes(&s.to_bits().to_le_bytes())),
        }
        hash.finish()
    }
}

/// `depth · height · width`, if it fits.
pub(crate) fn volume(spatial: &[usize; 3]) -> Option<usize> {
    spatial
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n))
}

/// The FNV-1a hash: tiny, the same everywhere, not against an adversary.
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_samples_must_agree() {
        let make = |spatial, channels, n| {
            DecodedImage::new("x.png", spatial, channels, Samples::U8(vec![0; n]))
        };
        assert!(make([1, 2, 3], 3, 18).is_ok());
        let error = make([1, 2, 3], 3, 17).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.png: 17 samples where [1, 2, 3] × 3 were announced — write the file anew"
        );
        assert!(
            make([1, 0, 3], 3, 0)
                .unwrap_err()
                .what()
                .contains("no pixels")
        );
        assert!(
            make([1, 1, 1], 5, 5)
                .unwrap_err()
                .what()
                .contains("5 channels")
        );
        assert!(make([usize::MAX, 2, 2], 1, 4).is_err());
    }

    #[test]
    fn hash_sees_shape_and_samples() {
        let make = |spatial, v: Vec<u8>| {
            DecodedImage::assembled(spatial, 1, Samples::U8(v)).content_hash()
        };
        assert_eq!(make([1, 1, 2], vec![1, 2]), make([1, 1, 2], vec![1, 2]));
        assert_ne!(make([1, 1, 2], vec![1, 2]), make([1, 2, 1], vec![1, 2]));
        assert_ne!(make([1, 1, 2], vec![1, 2]), make([1, 1, 2], vec![1, 3]));
    }
}
