//! The image or volume that the network looks at.

use std::path::Path;

use densenet::Input;
use densenet_data::{Preprocessing, decode_file, decode_volume, npy};
use densenet_spec::Architecture;
use densenet_view::Picture;
use densenet_weights::Model;

use crate::{
    commands::infer::layout,
    failure::{DATA, Failure, MODEL, NON_FINITE},
};

/// A file as the network reads it, and as people see it.
pub struct Sample {
    file: String,
    /// `[depth, height, width]`
    pub spatial: [usize; 3],
    /// What the network reads, channels last.
    pub data: Vec<f32>,
    /// The same picture without the mean and deviation of the preprocessing.
    picture: Vec<f32>,
    channels: usize,
}

impl Sample {
    /// Reads an image or a volume, prepared as the model file says, or the raw numbers of a `.npy` file.
    ///
    /// # Errors
    /// The file cannot be read or does not fit the network, or the model does not say how such files are prepared.
    pub fn read(path: &Path, model: &Model, model_path: &str) -> Result<Self, Failure> {
        // A folder of DICOM files may be called `.`, which has no name.
        let name = path.file_name().unwrap_or(path.as_os_str());
        let file = name.to_string_lossy().into_owned();
        let numbers = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("npy"));
        let sample = if numbers {
            Sample::from_array(path, file, model)?
        } else {
            Sample::from_scan(path, file, model, model_path)?
        };
        if sample.data.iter().any(|value| !value.is_finite()) {
            return Err(Failure::new(
                NON_FINITE,
                format_args!(
                    "{}: some of its numbers are infinite or not numbers — check how it was made",
                    path.display()
                ),
            ));
        }
        Architecture::new(&model.config)?
            .trace(sample.spatial)
            .map_err(|error| {
                Failure::new(
                    DATA,
                    format_args!("{}: {} — give a larger one", path.display(), error.reason),
                )
            })?;
        Ok(sample)
    }

    fn from_array(path: &Path, file: String, model: &Model) -> Result<Self, Failure> {
        let place = |what: String| Failure::new(DATA, format_args!("{}: {what}", path.display()));
        let mut array = npy::read(path)?;
        if array.shape.len() == model.config.spatial_dims + 1 {
            array.shape.insert(0, 1);
        }
        let mut batch = layout::from_array(&array, &model.config).map_err(place)?;
        if batch.batch != 1 {
            return Err(place(format!(
                "{} samples — the page shows one; save one of them alone",
                batch.batch
            )));
        }
        Ok(Sample {
            file,
            spatial: batch.spatial,
            picture: batch.data.clone(),
            data: std::mem::take(&mut batch.data),
            channels: model.config.in_channels,
        })
    }

    /// An image or a volume, prepared as the model file says.
    fn from_scan(
        path: &Path,
        file: String,
        model: &Model,
        model_path: &str,
    ) -> Result<Self, Failure> {
        let unfit = |what: String| {
            let cure = "import it with another --preprocessing, or give a .npy file";
            Failure::new(MODEL, format_args!("{model_path}: {what} — {cure}"))
        };
        let dims = model.config.spatial_dims;
        let inputs = if dims == 3 { "volumes" } else { "images" };
        let Some(preprocessing) = &model.preprocessing else {
            return Err(unfit(format!("does not say how {inputs} are prepared")));
        };
        let preprocessing = Preprocessing::from_value(preprocessing)
            .map_err(|error| Failure::new(MODEL, format_args!("{model_path}: {error}")))?;
        if preprocessing.volume.is_some() != (dims == 3) {
            return Err(unfit(format!(
                "a {dims}-D network whose preprocessing is not for {inputs}"
            )));
        }
        let place = path.display().to_string();
        let decoded = if dims == 3 {
            decode_volume(path)
        } else {
            decode_file(path)
        };
        let image = decoded.map_err(|error| error.at(&place))?;
        let apply = |steps: &Preprocessing| steps.apply(&image).map_err(|error| error.at(&place));
        let prepared = apply(&preprocessing)?;
        if prepared.channels != model.config.in_channels {
            return Err(unfit(format!(
                "prepares {inputs} with {} channels for a network of {}",
                prepared.channels, model.config.in_channels
            )));
        }
        let picture = apply(&Preprocessing {
            mean: vec![0.0; preprocessing.channels],
            std: vec![1.0; preprocessing.channels],
            ..preprocessing
        })?;
        Ok(Sample {
            file,
            spatial: prepared.spatial,
            data: prepared.data,
            picture: picture.data,
            channels: picture.channels,
        })
    }

    /// In the words of the page.
    pub fn shown<'a>(&'a self, classes: Option<&'a [String]>) -> densenet_view::Sample<'a> {
        densenet_view::Sample {
            file: &self.file,
            input: Input {
                data: &self.data,
                batch: 1,
                spatial: self.spatial,
            },
            picture: Picture {
                data: &self.picture,
                channels: self.channels,
            },
            classes,
        }
    }
}
