//! From files to likely classes.

use std::path::{Path, PathBuf};

use densenet::{Input, Predictor};
use densenet_data::{DataError, Prepared, Preprocessing, decode_file, decode_volume};
use densenet_weights::Model;
use rayon::prelude::*;

use super::{Candidate, Prediction, files::Found};
use crate::failure::{Failure, MODEL};

/// A network, how its images are prepared, and what its classes are called.
pub struct Classifier {
    predictor: Predictor,
    preprocessing: Preprocessing,
    classes: Vec<String>,
}

/// Images decoded at a time: enough to keep every core busy, few enough to stay small.
const AT_A_TIME: usize = 32;

impl Classifier {
    /// Takes from the model file everything that classifying needs.
    ///
    /// # Errors
    /// The model does not say how images are prepared, or prepares them for another kind of network.
    pub fn new(model: Model, path: &Path) -> Result<Self, Failure> {
        let place = path.display();
        let Some(preprocessing) = &model.preprocessing else {
            let inputs = match model.config.spatial_dims {
                3 => "volumes",
                _ => "images",
            };
            return Err(Failure::new(
                MODEL,
                format_args!(
                    "{place}: does not say how {inputs} are prepared — import it with --preprocessing, or use `densenet infer`"
                ),
            ));
        };
        let preprocessing = Preprocessing::from_value(preprocessing)
            .map_err(|error| Failure::new(MODEL, format_args!("{place}: {error}")))?;
        let own_dims = if preprocessing.volume.is_some() { 3 } else { 2 };
        if model.config.spatial_dims != own_dims {
            return Err(Failure::new(
                MODEL,
                format_args!(
                    "{place}: a {}-D network whose preprocessing is for {own_dims}-D data — import it again with --preprocessing, or use `densenet infer`",
                    model.config.spatial_dims
                ),
            ));
        }
        let predictor = Predictor::new(&model.config, &model.state)?;
        let numbered = || {
            (0..model.config.num_classes)
                .map(|i| i.to_string())
                .collect()
        };
        Ok(Classifier {
            predictor,
            preprocessing,
            classes: model.classes.unwrap_or_else(numbered),
        })
    }

    /// Whether it takes volumes rather than images.
    pub fn takes_volumes(&self) -> bool {
        self.preprocessing.volume.is_some()
    }

    /// The `top_k` likeliest classes of every file, in the order of `files`.
    pub fn classify(&self, files: Vec<Found>, top_k: usize) -> Vec<Prediction> {
        let mut predictions = Vec::with_capacity(files.len());
        // A volume takes as much as many images.
        let at_a_time = if self.takes_volumes() { 2 } else { AT_A_TIME };
        for some in files.chunks(at_a_time) {
            let prepared: Vec<_> = some.par_iter().map(|file| self.prepare(file)).collect();
            for (path, image) in prepared {
                let answer = image
                    .map_err(|error| error.to_string())
                    .and_then(|image| self.likeliest(&path, &image, top_k));
                predictions.push(Prediction { path, answer });
            }
        }
        predictions
    }

    fn prepare(&self, file: &Found) -> (PathBuf, Result<Prepared, DataError>) {
        match file {
            Ok(path) => {
                let decoded = if self.takes_volumes() {
                    decode_volume(path)
                } else {
                    decode_file(path)
                };
                let prepared = decoded.and_then(|image| self.preprocessing.apply(&image));
                let place = path.display().to_string();
                (path.clone(), prepared.map_err(|error| error.at(&place)))
            }
            Err((path, error)) => (path.clone(), Err(error.clone())),
        }
    }

    fn likeliest(
        &self,
        path: &Path,
        image: &Prepared,
        top_k: usize,
    ) -> Result<Vec<Candidate>, String> {
        let input = Input {
            data: &image.data,
            batch: 1,
            spatial: image.spatial,
        };
        let logits = self
            .predictor
            .run(input)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let probabilities = softmax(&logits);
        if probabilities.iter().any(|p| !p.is_finite()) {
            return Err(format!(
                "{}: the network's answer is not finite — check the model with another image",
                path.display()
            ));
        }
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        Ok(order
            .into_iter()
            .take(top_k)
            .map(|index| Candidate {
                class: self
                    .classes
                    .get(index)
                    .cloned()
                    .unwrap_or_else(|| index.to_string()),
                index,
                probability: probabilities[index],
            })
            .collect())
    }
}

/// exp(z) / Σ exp(z), taken at the maximum so that nothing overflows.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits
        .iter()
        .map(|&z| (f64::from(z) - f64::from(top)).exp())
        .collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_for_any_logits() {
        for logits in [&[0.0f32, 0.0][..], &[1000.0, -1000.0, 999.0], &[-5e4, -5e4]] {
            let sum: f64 = softmax(logits).iter().sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        }
        assert!(softmax(&[f32::NAN, 1.0]).iter().any(|p| p.is_nan()));
    }
}
