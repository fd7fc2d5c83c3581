//! From a volume as its file has it to one of known orientation, spacing, values and size.
//!
//! ```text
//! unit -> orientation -> spacing -> clip -> normalise -> size -> (x - mean) / std
//! ```
//!
//! Every step is optional and stored in the model file. Positions are followed through all of them, so that what is found in
//! the result can be shown in the scan.

mod grid;
mod values;

use serde::{Deserialize, Serialize};

use super::{MAX_VALUES, Scale, form};
use crate::decoded::{DecodedImage, Samples, volume as product};
use crate::error::DataError;
use crate::volume::{MAX_CHANNELS, Orientation, Space};

/// The steps that only volumes have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSteps {
    /// Turned and mirrored, without resampling, until the axes point so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<Orientation>,
    /// Millimetres from voxel to voxel along `[depth, height, width]`, after turning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing: Option<[f64; 3]>,
    /// Limits that values are cut off at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
    /// How values of different scanners are brought together.
    #[serde(default)]
    pub normalize: Normalize,
    /// The size of the result, where it is not the volume's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<VolumeSize>,
    /// What to do about voxels that are NaN or infinite.
    #[serde(default)]
    pub non_finite: NonFiniteVoxels,
}

/// Limits that values are cut off at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clip {
    /// From the first value to the second, such as −1000 to 400 Hounsfield units.
    Window([f32; 2]),
    /// Two percentiles of each channel's values, such as 0.5 and 99.5; between values, linear as in NumPy.
    Percentiles([f64; 2]),
}

/// How each channel's values are brought to a common scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Not at all.
    #[default]
    None,
    /// Mean 0, standard deviation 1, over all voxels.
    Zscore,
    /// The same over the voxels that are not zero; zeros stay zero.
    ZscoreNonzero,
    /// To 0..1: from the limits of the clip, or else the smallest and the largest value.
    Minmax,
}

impl Normalize {
    /// The name in files and options.
    pub fn from_name(name: &str) -> Option<Normalize> {
        Some(match name {
            "none" => Normalize::None,
            "zscore" => Normalize::Zscore,
            "zscore_nonzero" | "zscore-nonzero" => Normalize::ZscoreNonzero,
            "minmax" => Normalize::Minmax,
            _ => return None,
        })
    }
}

/// How a volume is brought to its size, `[depth, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSize {
    /// Stretched or shrunk to it: trilinear, antialiased when shrinking.
    Resize([usize; 3]),
    /// Cut out of the middle; what is missing is filled with each channel's smallest value.
    Crop([usize; 3]),
}

impl VolumeSize {
    /// The size.
    pub fn spatial(self) -> [usize; 3] {
        match self {
            VolumeSize::Resize(size) | VolumeSize::Crop(size) => size,
        }
    }
}

/// What to do about voxels that are NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFiniteVoxels {
    /// The volume cannot be used.
    #[default]
    Refuse,
    /// They become zero.
    Zero,
}

impl VolumeSteps {
    /// What `Preprocessing::validate` asks.
    pub(super) fn validate(&self) -> Result<(), DataError> {
        let wrong = |field: &str, what: String, cure: &str| {
            Err(DataError::config(
                format!("preprocessing.volume.{field}"),
                what,
                cure,
            ))
        };
        if let Some(spacing) = self.spacing
            && !spacing.iter().all(|v| (1e-3..=1e3).contains(v))
        {
            return wrong(
                "spacing",
                format!("{spacing:?}"),
                "give millimetres from 0.001 to 1000",
            );
        }
        match self.clip {
            Some(Clip::Window([low, high]))
                if !(low.is_finite() && high.is_finite() && low < high) =>
            {
                return wrong(
                    "clip",
                    format!("a window from {low} to {high}"),
                    "give a smaller and a larger number",
                );
            }
            Some(Clip::Percentiles([low, high]))
                if !((0.0..=100.0).contains(&low)
                    && (0.0..=100.0).contains(&high)
                    && low < high) =>
            {
                return wrong(
                    "clip",
                    format!("percentiles {low} to {high}"),
                    "give two rising numbers from 0 to 100, like 0.5 and 99.5",
                );
            }
            _ => {}
        }
        if let Some(size) = self.size
            && size.spatial().iter().any(|&n| n == 0 || n > 4096)
        {
            return wrong(
                "size",
                format!("{:?}", size.spatial()),
                "give sides of 1 to 4096 voxels",
            );
        }
        Ok(())
    }

    /// Everything before the change of size: what a cache keeps when the crop is random.
    pub(super) fn convert(
        &self,
        image: &DecodedImage,
        channels: usize,
        scale: Scale,
    ) -> Result<DecodedImage, DataError> {
        self.validate()?;
        if image.channels() != channels || channels > MAX_CHANNELS {
            return Err(DataError::data(
                "",
                format!("{} channels, where {channels} are needed", image.channels()),
                "give every sample the same channels in the same order",
            ));
        }
        let mut values = vec![0.0; image.samples().len()];
        form::to_f32(image.samples(), scale, &mut values);
        values::finite(&mut values, self.non_finite)?;
        let mut spatial = image.spatial();
        let mut space = image.space().unwrap_or(Space::UNKNOWN);
        if let Some(orientation) = self.orientation {
            let turn = space.turn_to(orientation);
            if !turn.is_none() {
                values = grid::turned(&values, spatial, channels, &turn);
                space = space.turned(&turn, spatial);
                spatial = turn.axes.map(|(axis, _)| spatial[axis]);
            }
        }
        if let Some(wanted) = self.spacing {
            let own = space.spacing();
            let steps: [f64; 3] = std::array::from_fn(|axis| wanted[axis] / own[axis]);
            let size: [usize; 3] = std::array::from_fn(|axis| {
                (spatial[axis] as f64 / steps[axis]).round().max(1.0) as usize
            });
            fits(spatial, size, channels, "spacing")?;
            let grid = grid::Resampling { size, steps };
            values = grid.apply(values, spatial, channels);
            space = space.resampled(grid.first(spatial), steps);
            spatial = size;
        }
        for channel in 0..channels {
            values::normalise(&mut values, channels, channel, self.clip, self.normalize);
        }
        Ok(DecodedImage::of_volume(
            spatial,
            channels,
            Samples::F32(values),
            space,
        ))
    }

    /// The change of size, of a [converted](Self::convert) volume.
    pub(super) fn sized(&self, volume: DecodedImage) -> Result<DecodedImage, DataError> {
        let (spatial, channels) = (volume.spatial(), volume.channels());
        let Some(size) = self.size else {
            fits(spatial, spatial, channels, "size")?;
            return Ok(volume);
        };
        fits(spatial, size.spatial(), channels, "size")?;
        if size.spatial() == spatial {
            return Ok(volume);
        }
        let middle = match self.size {
            // MONAI's `ResizeWithPadOrCrop`: of an odd number of voxels, the one more is cut off before an even size and
            // put on behind.
            Some(VolumeSize::Crop(size)) => std::array::from_fn(|axis| {
                let (n, size) = (spatial[axis] as isize, size[axis] as isize);
                let first = if size <= n {
                    n / 2 - size / 2
                } else {
                    -((size - n) / 2)
                };
                first as f64 + size as f64 / 2.0
            }),
            _ => spatial.map(|n| n as f64 / 2.0),
        };
        self.cut(&volume, middle, spatial.map(|n| n as f64))
    }

    /// A part of a [converted](Self::convert) volume brought to the wanted size: for `Resize` the box `extent` around
    /// `middle`, for `Crop` a window of that size around it.
    pub(super) fn cut(
        &self,
        volume: &DecodedImage,
        middle: [f64; 3],
        extent: [f64; 3],
    ) -> Result<DecodedImage, DataError> {
        let (spatial, channels) = (volume.spatial(), volume.channels());
        let Samples::F32(values) = volume.samples() else {
            return Ok(volume.clone());
        };
        let space = volume.space().unwrap_or(Space::UNKNOWN);
        let (size, values, first, steps) = match self.size {
            Some(VolumeSize::Crop(size)) => {
                let first: [isize; 3] = std::array::from_fn(|axis| {
                    (middle[axis] - size[axis] as f64 / 2.0).floor() as isize
                });
                let values = grid::window(values, spatial, channels, first, size);
                (size, values, first.map(|v| v as f64), [1.0; 3])
            }
            resize => {
                let size = resize.map_or(spatial, VolumeSize::spatial);
                let begin: [usize; 3] = std::array::from_fn(|axis| {
                    (middle[axis] - extent[axis] / 2.0).round().max(0.0) as usize
                });
                let part: [usize; 3] = std::array::from_fn(|axis| {
                    (extent[axis].round() as usize)
                        .clamp(1, spatial[axis].saturating_sub(begin[axis]).max(1))
                });
                let picked = if part == spatial {
                    values.clone()
                } else {
                    grid::window(values, spatial, channels, begin.map(|v| v as isize), part)
                };
                let steps: [f64; 3] =
                    std::array::from_fn(|axis| part[axis] as f64 / size[axis] as f64);
                let grid = grid::Resampling { size, steps };
                let first = grid.first(part);
                let first = std::array::from_fn(|axis| first[axis] + begin[axis] as f64);
                (size, grid.apply(picked, part, channels), first, steps)
            }
        };
        Ok(DecodedImage::of_volume(
            size,
            channels,
            Samples::F32(values),
            space.resampled(first, steps),
        ))
    }
}

fn fits(from: [usize; 3], to: [usize; 3], channels: usize, step: &str) -> Result<(), DataError> {
    if product(&to)
        .and_then(|v| v.checked_mul(channels))
        .is_some_and(|v| v <= MAX_VALUES)
    {
        return Ok(());
    }
    Err(DataError::limit(
        "",
        format!("{from:?} voxels would become {to:?} (preprocessing.volume.{step})"),
        "choose a coarser spacing, or give a smaller size",
    ))
}
