//! What is to be done to volumes before the network sees them.

use densenet_data::{Clip, Dataset, Normalize, Preprocessing, VolumeSize, VolumeSteps};

use super::Source;
use crate::{
    config::{Fit, TrainConfig},
    error::TrainError,
};

/// The steps: as the configuration says, as the model learned them, or as the data suggests.
pub(super) fn steps(
    config: &TrainConfig,
    source: &Source,
    dataset: &Dataset,
    learned: Option<&Preprocessing>,
) -> Result<Preprocessing, TrainError> {
    if config.network.spatial_dims == Some(2) {
        return Err(TrainError::config(
            "--dims",
            "2, but the data are volumes",
            "leave it out, or give 3",
        ));
    }
    if let Some(given) = &config.preprocessing {
        return Ok(given.clone());
    }
    let asked = asked(config)?;
    if let Some(learned) = learned
        && asked.is_none()
    {
        return Ok(learned.clone());
    }
    let channels = source.channels().or(config.network.in_channels);
    let suggested = Preprocessing::suggest_volume(dataset, channels, None);
    let Some(asked) = asked else {
        return Ok(suggested);
    };
    let base = learned.unwrap_or(&suggested);
    let usual = base.volume.clone().unwrap_or_default();
    let steps = VolumeSteps {
        orientation: asked.orientation.or(usual.orientation),
        spacing: asked.spacing.or(usual.spacing),
        clip: asked.clip.or(usual.clip),
        normalize: config.normalize.unwrap_or(match asked.clip {
            // Fixed limits are there to be scaled by.
            Some(Clip::Window(_)) => Normalize::Minmax,
            _ => usual.normalize,
        }),
        non_finite: config.non_finite.unwrap_or(usual.non_finite),
        // A size that was found without these steps is no longer right.
        size: asked.size,
    };
    let sized = Preprocessing::suggest_volume(dataset, channels, Some(steps));
    Ok(Preprocessing {
        scale: base.scale,
        ..sized
    })
}

/// The steps that the configuration names; `None` where it names none.
fn asked(config: &TrainConfig) -> Result<Option<VolumeSteps>, TrainError> {
    let size = match config.image_size.as_deref() {
        None => None,
        Some(&[side]) => Some([side; 3]),
        Some(&[depth, height, width]) => Some([depth, height, width]),
        Some(other) => {
            return Err(TrainError::config(
                "--image-size",
                format!("{} sizes, but the data are volumes", other.len()),
                "give a depth, a height and a width, like 64x96x96",
            ));
        }
    };
    if config.fit == Some(Fit::Crop) && size.is_none() {
        return Err(TrainError::config(
            "--fit",
            "crop, without a size to cut out",
            "give --image-size, like 64x96x96",
        ));
    }
    if config.window.is_some() && config.percentiles.is_some() {
        return Err(TrainError::config(
            "--percentiles",
            "values are cut off by --window already",
            "give one of them",
        ));
    }
    let spacing = match config.spacing.as_deref() {
        None => None,
        Some(&[depth, height, width]) => Some([depth, height, width]),
        Some(list) => Some([list.first().copied().unwrap_or(1.0); 3]),
    };
    let window = config.window.map(|w| Clip::Window(w.map(|v| v as f32)));
    let steps = VolumeSteps {
        orientation: config.orientation,
        spacing,
        clip: window.or(config.percentiles.map(Clip::Percentiles)),
        normalize: config.normalize.unwrap_or_default(),
        size: size.map(|size| match config.fit {
            Some(Fit::Crop) => VolumeSize::Crop(size),
            _ => VolumeSize::Resize(size),
        }),
        non_finite: config.non_finite.unwrap_or_default(),
    };
    let said = config.normalize.is_some() || config.non_finite.is_some();
    Ok((said || steps != VolumeSteps::default()).then_some(steps))
}

/// Options of volumes have no meaning for images.
pub(super) fn refuse_for_images(config: &TrainConfig) -> Result<(), TrainError> {
    let given = [
        ("--orientation", config.orientation.is_some()),
        ("--spacing", config.spacing.is_some()),
        ("--window", config.window.is_some()),
        ("--percentiles", config.percentiles.is_some()),
        ("--normalize", config.normalize.is_some()),
        ("--fit", config.fit.is_some()),
        ("--non-finite", config.non_finite.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(TrainError::config(
            *option,
            "for volumes, but the data are images",
            "leave it out",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use densenet_data::{NonFiniteVoxels, Orientation};

    use super::*;

    #[test]
    fn options_become_steps() {
        assert_eq!(asked(&TrainConfig::default()).unwrap(), None);
        let config = TrainConfig {
            image_size: Some(vec![32]),
            fit: Some(Fit::Crop),
            spacing: Some(vec![1.5]),
            window: Some([-1000.0, 400.0]),
            orientation: Some(Orientation::RAS),
            non_finite: Some(NonFiniteVoxels::Zero),
            ..TrainConfig::default()
        };
        let steps = asked(&config).unwrap().unwrap();
        assert_eq!(steps.size, Some(VolumeSize::Crop([32; 3])));
        assert_eq!(steps.spacing, Some([1.5; 3]));
        assert_eq!(steps.clip, Some(Clip::Window([-1000.0, 400.0])));
        assert!(refuse_for_images(&config).is_err());
        let flat = TrainConfig {
            image_size: Some(vec![32, 32]),
            ..TrainConfig::default()
        };
        assert_eq!(asked(&flat).unwrap_err().exit_code(), 2);
    }
}
