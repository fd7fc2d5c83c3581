//! Random changes to training images, written as a short text: `crop:4,hflip,rotate:10`.
//!
//! | operation | meaning | default |
//! |---|---|---|
//! | `rrc[:min_area]` | a random box of `min_area`..1 of the image's area and 3:4 to 4:3 shape, resized to the output size; replaces resize and centre crop | 0.08 |
//! | `crop:n` | shifted by up to `n` pixels along each axis, black moving in (pad by `n`, crop back) | |
//! | `hflip[:p]`, `vflip[:p]` | mirrored left–right, upside down, with probability `p` | 0.5 |
//! | `rotate:degrees` | rotated about the centre by up to that many degrees either way, bilinear, black corners | |
//! | `jitter:s` | short for `brightness:s,contrast:s,saturation:s` | |
//! | `brightness:s`, `contrast:s`, `saturation:s` | each scaled by a factor from 1 − s to 1 + s | |
//! | `dflip[:p]` | volumes: mirrored along the depth | 0.5 |
//! | `rot90[:p]` | volumes: turned by right angles about each axis whose other two are equally long | 0.5 |
//! | `scale:s` | volumes: enlarged or shrunk by a factor from 1 − s to 1 + s, together with `rotate` | |
//! | `gamma:s` | volumes: values between their smallest and largest to the power e^±s | |
//! | `noise:s` | volumes: normal noise of up to `s` of the values' standard deviation | |
//! | `erase[:p]` | with probability `p`, a random box (2 to 33 % of the area) set to the mean colour | 0.25 |
//!
//! The order of the text does not matter: the operations always run in the order of this table. Each draws its
//! random numbers from (seed, epoch, sample, operation), see [`crate::random`]; so adding one does not change
//! what the others do, and neither threads nor resuming change anything.
//!
//! In volumes `crop` shifts along all three axes, `rotate` turns about each of them, `rrc` takes a random box (or, where the
//! size comes from a crop, a window in a random place), and each channel's smallest value moves in from outside. `saturation`
//! does nothing to them, `erase` sets a box through all slices. The operations for volumes are refused for images.
//!
//! # Numerics
//! The same bits for any number of threads and wherever a run is resumed. Between platforms, `rotate` (sine) and `rrc`
//! and `erase` (logarithm) may differ in the last bit of the system's mathematical functions.

mod change;
mod volume;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, did_you_mean};

/// Which sample of which epoch of which run is being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleKey {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: u32,
    /// The sample's index in its [`Dataset`](crate::Dataset).
    pub index: u64,
}

/// A set of random changes. The text form is described in the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augmentation {
    /// Random resized crop: the smallest share of the area, in (0, 1].
    pub resized_crop: Option<f32>,
    /// Padded crop: the padding in pixels; 0 for none.
    pub padded_crop: usize,
    /// Probability of a horizontal flip.
    pub horizontal_flip: f32,
    /// Probability of a vertical flip.
    pub vertical_flip: f32,
    /// Rotation: the largest angle in degrees.
    pub rotation: f32,
    /// Brightness factor 1 ± this.
    pub brightness: f32,
    /// Contrast factor 1 ± this.
    pub contrast: f32,
    /// Saturation factor 1 ± this; does nothing to grey images.
    pub saturation: f32,
    /// Probability of erasing a box.
    pub erasing: f32,
    /// Volumes: probability of a flip along the depth.
    pub depth_flip: f32,
    /// Volumes: probability of turns by right angles.
    pub quarter_turns: f32,
    /// Volumes: size factor 1 ± this.
    pub scaling: f32,
    /// Volumes: gamma e^± this.
    pub gamma: f32,
    /// Volumes: the largest noise, in standard deviations of the values.
    pub noise: f32,
}

const OPERATIONS: [&str; 15] = [
    "rrc",
    "crop",
    "hflip",
    "vflip",
    "rotate",
    "jitter",
    "brightness",
    "contrast",
    "saturation",
    "erase",
    "dflip",
    "rot90",
    "scale",
    "gamma",
    "noise",
];

impl Augmentation {
    /// The paper's for CIFAR: padded by 4 and cropped back, mirrored half the time.
    pub fn cifar() -> Augmentation {
        Augmentation {
            padded_crop: 4,
            horizontal_flip: 0.5,
            ..Augmentation::default()
        }
    }

    /// The usual for ImageNet: random resized crop, mirrored half the time.
    pub fn imagenet() -> Augmentation {
        Augmentation {
            resized_crop: Some(0.08),
            horizontal_flip: 0.5,
            ..Augmentation::default()
        }
    }

    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        *self == Augmentation::default()
    }

    /// Whether there are operations that only volumes know.
    pub fn needs_volumes(&self) -> bool {
        [
            self.depth_flip,
            self.quarter_turns,
            self.scaling,
            self.gamma,
            self.noise,
        ]
        .iter()
        .any(|&v| v != 0.0)
    }

    /// Whether the crop is taken from the source image, so that prepared images cannot be kept between epochs.
    pub(crate) fn resizes(&self) -> bool {
        self.resized_crop.is_some()
    }

    /// Check the values of a hand-made `Augmentation`.
    ///
    /// # Errors
    /// Configuration errors naming the operation, its value and what it may be.
    pub fn validate(&self) -> Result<(), DataError> {
        let probability = |name, value| within(name, value, 0.0, 1.0, "a probability from 0 to 1");
        if let Some(area) = self.resized_crop {
            within(
                "rrc",
                area,
                0.01,
                1.0,
                "the smallest share of the area, from 0.01 to 1",
            )?;
        }
        if self.padded_crop > 1024 {
            return Err(outside(
                "crop",
                &self.padded_crop.to_string(),
                "0 to 1024 pixels",
            ));
        }
        probability("hflip", self.horizontal_flip)?;
        probability("vflip", self.vertical_flip)?;
        within(
            "rotate",
            self.rotation,
            0.0,
            180.0,
            "the largest angle, from 0 to 180 degrees",
        )?;
        for (name, value) in [
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
        ] {
            within(name, value, 0.0, 1.0, "a strength from 0 to 1")?;
        }
        probability("dflip", self.depth_flip)?;
        probability("rot90", self.quarter_turns)?;
        within("scale", self.scaling, 0.0, 0.9, "a strength from 0 to 0.9")?;
        within("gamma", self.gamma, 0.0, 3.0, "a strength from 0 to 3")?;
        within(
            "noise",
            self.noise,
            0.0,
            10.0,
            "standard deviations from 0 to 10",
        )?;
        probability("erase", self.erasing)
    }
}

fn within(name: &str, value: f32, low: f32, high: f32, meaning: &str) -> Result<(), DataError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(outside(name, &value.to_string(), meaning))
    }
}

fn outside(name: &str, value: &str, meaning: &str) -> DataError {
    DataError::config(
        "augment",
        format!("`{name}:{value}` is out of range"),
        format!("give {meaning}"),
    )
}

impl FromStr for Augmentation {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Augmentation, DataError> {
        let mut out = Augmentation::default();
        if matches!(text.trim(), "" | "none") {
            return Ok(out);
        }
        let mut seen: Vec<&str> = Vec::new();
        for item in text.split(',').map(str::trim) {
            let (name, value) = match item.split_once(':') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (item, None),
            };
            if seen.contains(&name) {
                return Err(DataError::config(
                    "augment",
                    format!("`{name}` is given twice"),
                    "give it once",
                ));
            }
            seen.push(name);
            let number = |default: Option<f32>| match value {
                Some(value) => value.parse::<f32>().map_err(|_| {
                    DataError::config(
                        "augment",
                        format!("`{value}` in `{item}` is not a number"),
                        format!("write `{name}:NUMBER`"),
                    )
                }),
                None => default.ok_or_else(|| {
                    DataError::config(
                        "augment",
                        format!("`{name}` needs a number"),
                        format!("write `{name}:{}`", example(name)),
                    )
                }),
            };
            match name {
                "rrc" => out.resized_crop = Some(number(Some(0.08))?),
                "crop" => {
                    let pixels = number(None)?;
                    if !(0.0..=1024.0).contains(&pixels) || pixels.fract() != 0.0 {
                        return Err(outside(
                            "crop",
                            &pixels.to_string(),
                            "a whole number of pixels from 0 to 1024",
                        ));
                    }
                    out.padded_crop = pixels as usize;
                }
                "hflip" => out.horizontal_flip = number(Some(0.5))?,
                "vflip" => out.vertical_flip = number(Some(0.5))?,
                "rotate" => out.rotation = number(None)?,
                "jitter" => {
                    let strength = number(None)?;
                    (out.brightness, out.contrast, out.saturation) = (strength, strength, strength);
                    seen.extend(["brightness", "contrast", "saturation"]);
                }
                "brightness" => out.brightness = number(None)?,
                "contrast" => out.contrast = number(None)?,
                "saturation" => out.saturation = number(None)?,
                "erase" => out.erasing = number(Some(0.25))?,
                "dflip" => out.depth_flip = number(Some(0.5))?,
                "rot90" => out.quarter_turns = number(Some(0.5))?,
                "scale" => out.scaling = number(None)?,
                "gamma" => out.gamma = number(None)?,
                "noise" => out.noise = number(None)?,
                other => {
                    return Err(DataError::config(
                        "augment",
                        format!("unknown operation `{other}`"),
                        format!(
                            "{}known are {}",
                            did_you_mean(other, OPERATIONS),
                            OPERATIONS.join(", ")
                        ),
                    ));
                }
            }
        }
        out.validate()?;
        Ok(out)
    }
}

fn example(name: &str) -> &'static str {
    match name {
        "crop" => "4",
        "rotate" => "10",
        _ => "0.2",
    }
}

impl fmt::Display for Augmentation {
    /// The text form that parses to the same; `none` for no change.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(area) = self.resized_crop {
            parts.push(format!("rrc:{area}"));
        }
        if self.padded_crop > 0 {
            parts.push(format!("crop:{}", self.padded_crop));
        }
        let colours = [self.brightness, self.contrast, self.saturation];
        let alike = colours.iter().all(|&s| s == self.brightness);
        let named = [
            ("hflip", self.horizontal_flip),
            ("vflip", self.vertical_flip),
            ("rotate", self.rotation),
            ("jitter", if alike { self.brightness } else { 0.0 }),
            ("brightness", if alike { 0.0 } else { self.brightness }),
            ("contrast", if alike { 0.0 } else { self.contrast }),
            ("saturation", if alike { 0.0 } else { self.saturation }),
            ("erase", self.erasing),
            ("dflip", self.depth_flip),
            ("rot90", self.quarter_turns),
            ("scale", self.scaling),
            ("gamma", self.gamma),
            ("noise", self.noise),
        ];
        parts.extend(
            named
                .iter()
                .filter(|(_, value)| *value != 0.0)
                .map(|(name, value)| format!("{name}:{value}")),
        );
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

impl TryFrom<String> for Augmentation {
    type Error = DataError;
    fn try_from(text: String) -> Result<Augmentation, DataError> {
        text.parse()
    }
}

impl From<Augmentation> for String {
    fn from(augmentation: Augmentation) -> String {
        augmentation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        text.parse::<Augmentation>().unwrap_err().to_string()
    }

    #[test]
    fn text_parses_and_comes_back() {
        let all: Augmentation = "hflip,crop:4,rotate:10,jitter:0.2,erase:0.25"
            .parse()
            .unwrap();
        assert_eq!(
            all,
            Augmentation {
                padded_crop: 4,
                horizontal_flip: 0.5,
                rotation: 10.0,
                brightness: 0.2,
                contrast: 0.2,
                saturation: 0.2,
                erasing: 0.25,
                ..Augmentation::default()
            }
        );
        assert_eq!(
            all.to_string(),
            "crop:4,hflip:0.5,rotate:10,jitter:0.2,erase:0.25"
        );
        for text in [
            "",
            "none",
            "rrc",
            " rrc:0.3 , vflip ",
            "brightness:0.1,saturation:1",
            &all.to_string(),
        ] {
            let parsed: Augmentation = text.parse().unwrap();
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        assert!("none".parse::<Augmentation>().unwrap().is_none());
        assert_eq!(Augmentation::default().to_string(), "none");
        assert_eq!("crop:4,hflip".parse(), Ok(Augmentation::cifar()));
        assert_eq!("rrc,hflip".parse(), Ok(Augmentation::imagenet()));
    }

    #[test]
    fn json_is_the_text() {
        let value = serde_json::to_value(Augmentation::cifar()).unwrap();
        assert_eq!(value, serde_json::json!("crop:4,hflip:0.5"));
        assert_eq!(
            serde_json::from_value::<Augmentation>(value).unwrap(),
            Augmentation::cifar()
        );
        assert!(serde_json::from_value::<Augmentation>(serde_json::json!("flop")).is_err());
    }

    #[test]
    fn mistakes_are_explained() {
        assert_eq!(
            message("hflp"),
            "augment: unknown operation `hflp` — did you mean `hflip`? known are rrc, crop, hflip, vflip, rotate, \
             jitter, brightness, contrast, saturation, erase, dflip, rot90, scale, gamma, noise"
        );
        assert_eq!(
            message("crop"),
            "augment: `crop` needs a number — write `crop:4`"
        );
        assert_eq!(
            message("rotate:x"),
            "augment: `x` in `rotate:x` is not a number — write `rotate:NUMBER`"
        );
        assert_eq!(
            message("hflip:2"),
            "augment: `hflip:2` is out of range — give a probability from 0 to 1"
        );
        assert_eq!(
            message("hflip,hflip"),
            "augment: `hflip` is given twice — give it once"
        );
        assert!(message("jitter:0.1,contrast:0.2").contains("`contrast` is given twice"));
        assert!(message("erase:NaN").contains("out of range"));
        assert!(message("crop:1.5").contains("a whole number of pixels"));
        assert!(message("hflip,,vflip").contains("unknown operation ``"));
        assert!(message("rrc:0").contains("out of range"));
    }
}
