//! From files to likely classes.

use std::path::{Path, PathBuf};

use densenet::Input;
use densenet_data::{DataError, DecodedImage, Prepared, decode_file, decode_volume};
use rayon::prelude::*;

use super::{Answer, Candidate, Prediction, explain::Explainer, files::Found};
use crate::{
    commands::panel::{Mean, Member, Panel, softmax},
    failure::Failure,
};

/// Classifies files.
pub struct Classifier {
    panel: Panel,
}

/// Images decoded at a time: enough to keep every core busy, few enough to stay small.
const AT_A_TIME: usize = 32;

/// One file as it was read, and as each member and copy takes it.
struct Ready {
    /// Only where the answer is explained.
    image: Option<DecodedImage>,
    /// By member, then by copy.
    prepared: Vec<Vec<Prepared>>,
}

impl Classifier {
    /// Everybody who is asked about a file.
    pub fn new(panel: Panel) -> Self {
        Classifier { panel }
    }

    /// The first model.
    pub fn first(&self) -> &Member {
        self.panel.first()
    }

    /// Whether it takes volumes rather than images.
    pub fn takes_volumes(&self) -> bool {
        self.panel.takes_volumes()
    }

    /// Answers that are averaged for each file.
    pub fn votes(&self) -> usize {
        self.panel.votes()
    }

    /// The `top_k` likeliest classes of every file, in the order of `files`.
    ///
    /// # Errors
    /// An explanation is impossible or cannot be written. Whatever else goes wrong with a file is in its prediction.
    pub fn classify(
        &self,
        files: Vec<Found>,
        top_k: usize,
        explainer: Option<&Explainer<'_>>,
    ) -> Result<Vec<Prediction>, Failure> {
        let mut predictions = Vec::with_capacity(files.len());
        // A volume takes as much as many images, and so do many copies.
        let at_a_time = match self.takes_volumes() {
            true => 2,
            false => (AT_A_TIME / self.votes()).max(2),
        };
        let keep = explainer.is_some();
        for some in files.chunks(at_a_time) {
            let ready: Vec<_> = some
                .par_iter()
                .map(|file| self.prepare(file, keep))
                .collect();
            for (path, ready) in ready {
                let answer = ready
                    .map_err(|error| error.to_string())
                    .and_then(|ready| Ok((self.likeliest(&path, &ready, top_k)?, ready)));
                let answer = match answer {
                    Err(reason) => Err(reason),
                    Ok(((mut answer, probabilities), ready)) => {
                        if let (Some(explainer), Some(image)) = (explainer, &ready.image) {
                            let prepared = &ready.prepared[0][0];
                            let sample = (path.as_path(), image, prepared);
                            answer.explained = explainer.explain(sample, &probabilities)?;
                        }
                        Ok(answer)
                    }
                };
                predictions.push(Prediction { path, answer });
            }
        }
        Ok(predictions)
    }

    fn prepare(&self, file: &Found, keep: bool) -> (PathBuf, Result<Ready, DataError>) {
        match file {
            Ok(path) => {
                let decoded = if self.takes_volumes() {
                    decode_volume(path)
                } else {
                    decode_file(path)
                };
                let ready = decoded.and_then(|image| {
                    Ok(Ready {
                        prepared: self.panel.prepare(&image)?,
                        image: keep.then_some(image),
                    })
                });
                let place = path.display().to_string();
                (path.clone(), ready.map_err(|error| error.at(&place)))
            }
            Err((path, error)) => (path.clone(), Err(error.clone())),
        }
    }

    /// The likeliest classes, and the probabilities of all.
    fn likeliest(
        &self,
        path: &Path,
        ready: &Ready,
        top_k: usize,
    ) -> Result<(Answer, Vec<f64>), String> {
        let mut answers = Vec::with_capacity(self.votes());
        for (member, views) in self.panel.members.iter().zip(&ready.prepared) {
            for view in views {
                let input = Input {
                    data: &view.data,
                    batch: 1,
                    spatial: view.spatial,
                };
                let logits = member
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
                answers.push(member.order.iter().map(|&i| probabilities[i]).collect());
            }
        }
        let several = answers.len() > 1;
        let mean = Mean::of(&answers);
        let mut order: Vec<usize> = (0..mean.probabilities.len()).collect();
        order.sort_by(|&a, &b| mean.probabilities[b].total_cmp(&mean.probabilities[a]));
        let candidate = |index: usize| Candidate {
            class: self.first().classes[index].clone(),
            index,
            probability: mean.probabilities[index],
            spread: several.then(|| mean.spread[index]),
        };
        let answer = Answer {
            top: order.into_iter().take(top_k).map(candidate).collect(),
            votes: several.then_some((answers.len(), mean.disagreement)),
            explained: Vec::new(),
        };
        Ok((answer, mean.probabilities))
    }
}
