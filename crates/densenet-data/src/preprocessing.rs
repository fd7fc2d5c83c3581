//! From a decoded image to the numbers a network sees: one function for training, evaluation and prediction.
//!
//! ```text
//! channels (grey <-> RGB, alpha) -> resize -> centre crop -> scale to 0..1 -> (x - mean) / std
//! ```
//!
//! A [`Preprocessing`] is stored in the model file as JSON, so that what was trained is what is run. Augmentation
//! (training only) hooks in before and after the last step, see [`crate::augmentation`].
//!
//! Volumes have steps of their own in place of the first three, see [`volume`].
//!
//! The steps are torchvision's (`Resize`, `CenterCrop`, `ToTensor`, `Normalize`) on PIL images, sizes rounded
//! as there; 8-bit results agree bit for bit up to the decoding of lossy files.

mod channels;
mod form;
mod place;
mod suggest;
pub mod volume;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::augmentation::{Augmentation, SampleKey};
use crate::dataset::Stage;
use crate::decoded::{DecodedImage, Samples, volume as voxels};
use crate::error::DataError;
use crate::resample::{self, Filter, PixelBox};

use crate::volume::{MAX_CHANNELS, Space};
pub use channels::Alpha;
pub use volume::{Clip, NonFiniteVoxels, Normalize, VolumeSize, VolumeSteps};

/// The most numbers one resized sample may have (512 MiB as f32).
const MAX_VALUES: usize = 1 << 27;

/// How an image is brought to size, before the centre crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side gets this length, the longer follows in proportion (rounded down, as torchvision does).
    ShorterSide(usize),
    /// Exactly `[height, width]`, whatever the proportions were.
    Exact([usize; 2]),
}

/// What happens to sample values before the mean is subtracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// To 0..1: divided by 255 (8-bit) or 65535 (16-bit); floating-point samples stay as they are.
    #[default]
    Unit,
    /// Taken as they are.
    None,
}

/// Everything between a decoded image and the network's input.
///
/// In JSON the keys are the field names, unknown keys are refused, and everything but `channels`, `mean` and
/// `std` may be left out:
///
/// ```json
/// {"channels": 3, "resize": {"shorter_side": 256}, "crop": [224, 224],
///  "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Channels of the network's input: 1 or 3, of volumes 1 to 64. Grey becomes RGB by repetition; RGB becomes grey with PIL's
    /// weights (0.299 R + 0.587 G + 0.114 B, in 16-bit fixed point).
    pub channels: usize,
    /// What becomes of transparency.
    #[serde(default)]
    pub alpha: Alpha,
    /// The change of size, if any. Only height and width change; a volume keeps its depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// The interpolation used by `resize`, with antialiasing.
    #[serde(default)]
    pub filter: Filter,
    /// `[height, width]` cut from the middle after resizing; an image that is smaller gets black borders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<[usize; 2]>,
    /// The steps of volumes, in place of `alpha`, `resize`, `filter` and `crop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSteps>,
    /// The unit of the values that `mean` and `std` refer to.
    #[serde(default)]
    pub scale: Scale,
    /// Subtracted from each channel.
    #[serde(with = "form::decimals")]
    pub mean: Vec<f32>,
    /// Each channel is divided by it; above zero.
    #[serde(with = "form::decimals")]
    pub std: Vec<f32>,
}

/// A sample as the network takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The numbers, `[depth][height][width][channel]`.
    pub data: Vec<f32>,
    /// `[depth, height, width]`.
    pub spatial: [usize; 3],
    /// Channels a pixel.
    pub channels: usize,
    /// Where a volume's voxels lie in the patient, after all steps; nothing for an image.
    pub space: Option<Space>,
}

impl Preprocessing {
    /// Mean and standard deviation of ImageNet's RGB channels: what torchvision's weights expect.
    pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// See [`IMAGENET_MEAN`](Self::IMAGENET_MEAN).
    pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

    /// No change of size, mean 0, standard deviation 1.
    pub fn plain(channels: usize) -> Preprocessing {
        Preprocessing {
            channels,
            alpha: Alpha::Drop,
            resize: None,
            filter: Filter::Bilinear,
            crop: None,
            volume: None,
            scale: Scale::Unit,
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        }
    }

    /// torchvision's evaluation transform for its ImageNet weights: shorter side 256, crop 224, ImageNet's mean.
    pub fn imagenet() -> Preprocessing {
        Preprocessing {
            resize: Some(Resize::ShorterSide(256)),
            crop: Some([224, 224]),
            mean: Self::IMAGENET_MEAN.to_vec(),
            std: Self::IMAGENET_STD.to_vec(),
            ..Preprocessing::plain(3)
        }
    }

    /// Images of any size brought to exactly `size` = `[height, width]`; mean 0, standard deviation 1.
    pub fn exact(channels: usize, size: [usize; 2]) -> Preprocessing {
        Preprocessing {
            resize: Some(Resize::Exact(size)),
            ..Preprocessing::plain(channels)
        }
    }

    /// Volumes as they are, but for their orientation: to the right, the front and upwards.
    pub fn of_volumes(channels: usize) -> Preprocessing {
        Preprocessing {
            volume: Some(VolumeSteps {
                orientation: Some(crate::volume::Orientation::RAS),
                ..VolumeSteps::default()
            }),
            ..Preprocessing::plain(channels)
        }
    }

    /// Read what [`to_value`](Self::to_value) wrote, or a user wrote by hand, and check it.
    ///
    /// # Errors
    /// Configuration errors naming the field and what it may be.
    pub fn from_value(value: &Value) -> Result<Preprocessing, DataError> {
        let read: Preprocessing = serde_json::from_value(value.clone()).map_err(|e| {
            DataError::config(
                "preprocessing",
                e.to_string(),
                "see the fields of `Preprocessing` in the manual",
            )
        })?;
        read.validate()?;
        Ok(read)
    }

    /// As JSON, for the model file.
    pub fn to_value(&self) -> Value {
        // Serialising a struct of numbers, names and lists of them to a `Value` has no way to fail.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// Check that the fields make sense.
    ///
    /// # Errors
    /// Configuration errors naming the field, the value and what it may be.
    pub fn validate(&self) -> Result<(), DataError> {
        let wrong = |field: &str, what: String, cure: &str| {
            Err(DataError::config(
                format!("preprocessing.{field}"),
                what,
                cure,
            ))
        };
        if let Some(steps) = &self.volume {
            steps.validate()?;
            if self.resize.is_some() || self.crop.is_some() {
                return wrong(
                    "volume",
                    "a size for images beside the steps of volumes".into(),
                    "give `size` among the steps of volumes",
                );
            }
            if !(1..=MAX_CHANNELS).contains(&self.channels) {
                return wrong(
                    "channels",
                    format!("{} channels", self.channels),
                    "use 1 to 64",
                );
            }
        } else if self.channels != 1 && self.channels != 3 {
            return wrong(
                "channels",
                format!("{} channels", self.channels),
                "use 1 (grey) or 3 (RGB)",
            );
        }
        for (name, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.len() != self.channels {
                let what = format!("{} numbers for {} channels", list.len(), self.channels);
                return wrong(name, what, "give one number per channel");
            }
            if let Some(bad) = list.iter().find(|v| !v.is_finite()) {
                return wrong(
                    name,
                    format!("{bad} is not a finite number"),
                    "give finite numbers",
                );
            }
        }
        if let Some(bad) = self.std.iter().find(|v| **v <= 0.0) {
            return wrong(
                "std",
                format!("{bad} is not above zero"),
                "give numbers above zero, or 1 for no scaling",
            );
        }
        let sizes: [(&str, &[usize]); 2] = [
            (
                "resize",
                match &self.resize {
                    Some(Resize::Exact(size)) => size,
                    Some(Resize::ShorterSide(side)) => std::slice::from_ref(side),
                    None => &[],
                },
            ),
            ("crop", self.crop.as_ref().map_or(&[], |size| size)),
        ];
        for (name, size) in sizes {
            if let Some(bad) = size.iter().find(|&&n| n == 0 || n > 1 << 16) {
                return wrong(name, format!("a side of {bad} pixels"), "use 1 to 65536");
            }
        }
        Ok(())
    }

    /// Prepare one image: the function that training, evaluation and prediction share.
    ///
    /// # Errors
    /// A limit error if resizing in proportion would give an absurdly long picture; configuration errors if the
    /// fields do not [make sense](Self::validate).
    pub fn apply(&self, image: &DecodedImage) -> Result<Prepared, DataError> {
        self.apply_with(image, None)
    }

    /// Prepare one image for training: as [`apply`](Self::apply), with the random changes of `augmentation`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_with(
        &self,
        image: &DecodedImage,
        augmentation: Option<(&Augmentation, SampleKey)>,
    ) -> Result<Prepared, DataError> {
        self.validate()?;
        let fitted = match augmentation {
            Some((augmentation, key)) if augmentation.resizes() => {
                self.resized_crop(&self.convert_channels(image)?, augmentation, key)?
            }
            _ => self.fit(image)?,
        };
        let mut data = vec![0.0; fitted.samples().len()];
        self.finish(&fitted, augmentation, &mut data);
        Ok(Prepared {
            data,
            spatial: fitted.spatial(),
            channels: fitted.channels(),
            space: fitted.space(),
        })
    }

    /// `[depth, height, width]` that [`apply`](Self::apply) gives for an image of that size.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn output_spatial(&self, spatial: [usize; 3]) -> Result<[usize; 3], DataError> {
        let [depth, height, width] = match self.crop {
            Some([height, width]) => {
                self.resized(spatial)?;
                [spatial[0], height, width]
            }
            None => self.resized(spatial)?,
        };
        Ok([depth, height, width])
    }

    /// `[depth, height, width]` of every prepared volume, if these settings alone decide it.
    pub fn fixed_volume(&self) -> Option<[usize; 3]> {
        Some(self.volume.as_ref()?.size?.spatial())
    }

    /// `[height, width]` of every output, if these settings alone decide it.
    pub fn fixed_size(&self) -> Option<[usize; 2]> {
        match (self.crop, self.resize) {
            (Some(size), _) | (None, Some(Resize::Exact(size))) => Some(size),
            _ => None,
        }
    }

    /// Size after resizing, before cropping.
    fn resized(&self, [depth, height, width]: [usize; 3]) -> Result<[usize; 3], DataError> {
        let [new_height, new_width] = match self.resize {
            None => [height, width],
            Some(Resize::Exact(size)) => size,
            Some(Resize::ShorterSide(side)) if height <= width => {
                [side, side * width / height.max(1)]
            }
            Some(Resize::ShorterSide(side)) => [side * height / width.max(1), side],
        };
        let out = [depth, new_height, new_width];
        if voxels(&out)
            .and_then(|v| v.checked_mul(self.channels))
            .is_none_or(|v| v > MAX_VALUES)
        {
            return Err(DataError::limit(
                "preprocessing.resize",
                format!("{height} × {width} pixels would become {new_height} × {new_width}"),
                "resize to an exact height and width instead of by the shorter side",
            ));
        }
        Ok(out)
    }

    /// All that a sample prepared up to `stage` depends on, beside its files.
    pub(crate) fn recipe(&self, stage: Stage) -> Vec<u8> {
        let plain = Preprocessing {
            // The last step is not part of it.
            mean: vec![0.0; self.channels],
            std: vec![1.0; self.channels],
            ..self.clone()
        };
        format!("{stage:?}{}", plain.to_value()).into_bytes()
    }

    /// The first step alone: what a cache keeps when the crop is random.
    pub(crate) fn convert_channels(&self, image: &DecodedImage) -> Result<DecodedImage, DataError> {
        match (&self.volume, image.is_volume()) {
            (Some(steps), _) => steps.convert(image, self.channels, self.scale),
            (None, false) => Ok(channels::convert(image, self.channels, self.alpha)),
            (None, true) => Err(DataError::data(
                "",
                "a volume, while the model was trained on images",
                "give images, or a model for volumes",
            )),
        }
    }

    /// The deterministic first half: channels, resize, centre crop, in the samples' own type.
    pub(crate) fn fit(&self, image: &DecodedImage) -> Result<DecodedImage, DataError> {
        if let Some(steps) = &self.volume {
            return steps.sized(self.convert_channels(image)?);
        }
        let [_, height, width] = self.resized(image.spatial())?;
        let image = self.convert_channels(image)?;
        let image = resample::resize(&image, [height, width], self.filter);
        Ok(match self.crop {
            Some(size) => form::centre_crop(&image, size),
            None => image,
        })
    }

    /// The random first half: a random box of the source, resized to the size `fit` would have given.
    pub(crate) fn resized_crop(
        &self,
        converted: &DecodedImage,
        augmentation: &Augmentation,
        key: SampleKey,
    ) -> Result<DecodedImage, DataError> {
        if let Some(steps) = &self.volume {
            let (middle, extent) = augmentation.crop_cuboid(converted.spatial(), key);
            return steps.cut(converted, middle, extent);
        }
        let [_, height, width] = self.output_spatial(converted.spatial())?;
        let [_, source_height, source_width] = converted.spatial();
        let from: PixelBox = augmentation.crop_box([source_height, source_width], key);
        Ok(resample::resize_box(
            converted,
            from,
            [height, width],
            self.filter,
        ))
    }

    /// The second half: to f32, augment, normalise; `out` has one place per sample.
    pub(crate) fn finish(
        &self,
        fitted: &DecodedImage,
        augmentation: Option<(&Augmentation, SampleKey)>,
        out: &mut [f32],
    ) {
        // A volume's values have their unit since the first step.
        let scale = match self.volume {
            Some(_) => Scale::None,
            None => self.scale,
        };
        form::to_f32(fitted.samples(), scale, out);
        let (spatial, channels) = (fitted.spatial(), fitted.channels());
        if let Some((augmentation, key)) = augmentation
            && self.volume.is_some()
        {
            augmentation.change_volume(out, spatial, channels, key);
        } else if let Some((augmentation, key)) = augmentation {
            let top = match (self.scale, fitted.samples()) {
                (_, Samples::F32(_)) => None,
                (Scale::Unit, _) => Some(1.0),
                (Scale::None, Samples::U8(_)) => Some(255.0),
                (Scale::None, Samples::U16(_)) => Some(65535.0),
            };
            augmentation.change(out, spatial, channels, top, key);
        }
        for pixel in out.chunks_exact_mut(channels) {
            for ((value, mean), std) in pixel.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = (*value - mean) / std;
            }
        }
        if let Some((augmentation, key)) = augmentation {
            augmentation.erase(out, spatial, channels, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_short_and_comes_back_the_same() {
        let preprocessing = Preprocessing::imagenet();
        let value = preprocessing.to_value();
        assert_eq!(
            value.to_string(),
            r#"{"channels":3,"alpha":"drop","resize":{"shorter_side":256},"filter":"bilinear","crop":[224,224],"scale":"unit","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}"#
        );
        assert_eq!(Preprocessing::from_value(&value), Ok(preprocessing));
        let text = Preprocessing {
            mean: vec![1.0 / 3.0],
            std: vec![f32::MIN_POSITIVE],
            ..Preprocessing::plain(1)
        };
        let back: Value = serde_json::from_str(&text.to_value().to_string()).unwrap();
        assert_eq!(Preprocessing::from_value(&back), Ok(text));
    }

    #[test]
    fn what_cannot_work_is_named() {
        let message = |value: Value| Preprocessing::from_value(&value).unwrap_err().to_string();
        assert!(
            message(json!({"channels": 1, "mean": [0], "std": [1], "sise": 3}))
                .contains("unknown field `sise`")
        );
        assert_eq!(
            message(json!({"channels": 2, "mean": [0, 0], "std": [1, 1]})),
            "preprocessing.channels: 2 channels — use 1 (grey) or 3 (RGB)"
        );
        assert_eq!(
            message(json!({"channels": 3, "mean": [0], "std": [1, 1, 1]})),
            "preprocessing.mean: 1 numbers for 3 channels — give one number per channel"
        );
        assert!(
            message(json!({"channels": 1, "mean": [0], "std": [0]}))
                .contains("0 is not above zero")
        );
        assert!(
            message(json!({"channels": 1, "mean": [0], "std": [1], "crop": [0, 4]}))
                .contains("preprocessing.crop")
        );
        assert!(message(json!([])).starts_with("preprocessing: "));
    }

    #[test]
    fn sizes_follow_torchvision() {
        let p = Preprocessing {
            resize: Some(Resize::ShorterSide(256)),
            ..Preprocessing::plain(3)
        };
        assert_eq!(p.output_spatial([1, 333, 500]), Ok([1, 256, 384]));
        assert_eq!(p.output_spatial([1, 500, 333]), Ok([1, 384, 256]));
        assert_eq!(
            Preprocessing::imagenet().output_spatial([1, 40, 3000]),
            Ok([1, 224, 224])
        );
        let error = p
            .output_spatial([1, 1, 600])
            .and_then(|_| p.output_spatial([1, 1, 60_000]))
            .unwrap_err();
        assert_eq!(error.exit_code(), 7);
    }

    #[test]
    fn values_are_scaled_and_normalised() {
        let image = DecodedImage::assembled([1, 1, 2], 1, Samples::U8(vec![0, 255]));
        let p = Preprocessing {
            mean: vec![0.5],
            std: vec![0.25],
            ..Preprocessing::plain(1)
        };
        assert_eq!(p.apply(&image).unwrap().data, [-2.0, 2.0]);
        let wide = DecodedImage::assembled([1, 1, 2], 1, Samples::U16(vec![0, 65535]));
        assert_eq!(p.apply(&wide).unwrap().data, [-2.0, 2.0]);
        let raw = Preprocessing {
            scale: Scale::None,
            ..Preprocessing::plain(3)
        };
        let out = raw.apply(&image).unwrap();
        assert_eq!(
            (out.data, out.channels),
            (vec![0.0, 0.0, 0.0, 255.0, 255.0, 255.0], 3)
        );
    }
}
