//! The mean of several answers for each sample, held against its label.

use std::sync::Arc;

use densenet::Input;
use densenet_data::{Batch, Dataset, Loader, LoaderOptions, Split};
use densenet_train::{CrossEntropy, EvaluateOptions, Evaluation, Reporter, Scores, StopFlag};
use serde_json::{Value, json};

use crate::{
    commands::panel::{Member, Panel, Views, first_of_the_largest, mirror, softmax},
    failure::{DATA, Failure, NON_FINITE},
};

/// How far several answers lie apart.
pub struct Spread {
    /// Answers that were averaged for each sample.
    pub votes: usize,
    /// The share of all answers whose likeliest class is another than the mean's.
    pub disagreement: f64,
    /// The accuracy of each answer alone, by model, then by copy.
    pub accuracies: Vec<f64>,
}

impl Spread {
    /// The fields that an evaluation's document has besides.
    pub fn fields(&self) -> [(&'static str, Value); 3] {
        [
            ("votes", json!(self.votes)),
            ("disagreement", json!(self.disagreement)),
            ("accuracies", json!(self.accuracies)),
        ]
    }
}

/// What is asked for.
pub struct Question<'a> {
    pub panel: &'a Panel,
    pub dataset: &'a Arc<Dataset>,
    pub split: Split,
    pub options: EvaluateOptions,
}

impl Question<'_> {
    /// The evaluation of the mean of all answers; `None` where `stop` was raised meanwhile.
    ///
    /// # Numerics
    /// Probabilities are added up in f64 in the order of models and copies, so batch size and threads change nothing.
    ///
    /// # Errors
    /// Samples that cannot be read, classes that do not match, answers that are not finite.
    pub fn answer(
        &self,
        reporter: &mut dyn Reporter,
        stop: &StopFlag,
    ) -> Result<Option<(Evaluation, Spread)>, Failure> {
        let classes = self.classes()?;
        let mut votes = Votes {
            classes: classes.len(),
            sums: vec![0.0; self.dataset.indices(self.split).len() * classes.len()],
            likeliest: Vec::new(),
        };
        let mut told = (
            0,
            self.panel.votes() * self.dataset.indices(self.split).len(),
        );
        let mut labels = Vec::new();
        for member in &self.panel.members {
            for pass in self.passes() {
                let loader = self.loader(member, pass.changed)?;
                let first = votes.likeliest.len();
                votes
                    .likeliest
                    .resize_with(first + pass.axes.len(), Vec::new);
                labels.clear();
                for batch in loader.epoch(pass.epoch, 0) {
                    let batch = batch?;
                    if stop.raised().is_some() {
                        return Ok(None);
                    }
                    for (copy, axes) in pass.axes.iter().enumerate() {
                        let logits = logits(member, &batch, *axes)?;
                        if !votes.add(first + copy, labels.len(), &logits, &member.order) {
                            return Err(not_finite(&loader, &batch));
                        }
                        told.0 += batch.len();
                        reporter.progress(&format!("evaluating {}", self.split), told.0, told.1);
                    }
                    labels.extend_from_slice(&batch.labels);
                    loader.recycle(batch);
                }
            }
        }
        Ok(Some(votes.finish(
            &classes,
            &labels,
            self.dataset.indices(self.split),
        )))
    }

    /// The names of the classes, as the data set's labels count them.
    fn classes(&self) -> Result<Vec<String>, Failure> {
        let own = &self.panel.first().classes;
        let data = self.dataset.classes();
        if data.len() > own.len() {
            return Err(Failure::new(
                DATA,
                format_args!(
                    "{}: {} classes, while the model tells {} apart — evaluate on data with the model's classes",
                    self.dataset.name(),
                    data.len(),
                    own.len()
                ),
            ));
        }
        Ok(own.clone())
    }

    /// Every reading of the data, and the copies that come out of it: mirror images are made of what was read once.
    fn passes(&self) -> Vec<Pass> {
        let plain = |axes| Pass {
            changed: false,
            epoch: 0,
            axes,
        };
        let views = self.panel.views;
        let count = views.map_or(1, |views| views.count(self.panel.takes_volumes()));
        match views {
            Some(views @ (Views::HorizontalFlip | Views::Flips)) => {
                vec![plain((0..count).filter_map(|v| views.axes(v)).collect())]
            }
            _ => {
                let mut passes = vec![plain(vec![[false; 3]])];
                let copies = 1..u32::try_from(count).unwrap_or(u32::MAX);
                passes.extend(copies.map(|epoch| Pass {
                    changed: true,
                    epoch,
                    axes: vec![[false; 3]],
                }));
                passes
            }
        }
    }

    fn loader(&self, member: &Member, changed: bool) -> Result<Loader, Failure> {
        let mut options = LoaderOptions {
            threads: self.options.threads,
            ..LoaderOptions::evaluation(self.options.batch_size)
        };
        if changed {
            options.augmentation = self.panel.changes.clone();
        }
        Ok(Loader::new(
            Arc::clone(self.dataset),
            self.split,
            member.preprocessing.clone(),
            options,
        )?)
    }
}

/// One reading of the data.
struct Pass {
    /// Whether samples are changed at random; `epoch` says how.
    changed: bool,
    epoch: u32,
    /// What each copy is mirrored along.
    axes: Vec<[bool; 3]>,
}

fn logits(member: &Member, batch: &Batch, axes: [bool; 3]) -> Result<Vec<f32>, Failure> {
    let mirrored;
    let data = if axes.contains(&true) {
        mirrored = mirror(&batch.data, batch.spatial, batch.channels, axes);
        &mirrored
    } else {
        &batch.data
    };
    let input = Input {
        data,
        batch: batch.len(),
        spatial: batch.spatial,
    };
    Ok(member.predictor.run(input)?)
}

fn not_finite(loader: &Loader, batch: &Batch) -> Failure {
    let first = batch.indices.first();
    let first = first.map_or(String::new(), |&i| loader.dataset().describe(i));
    Failure::new(
        NON_FINITE,
        format_args!(
            "{first}: the network's answer to it, or to one of the {} samples after it, is not finite — check the models with \
             another image",
            batch.len().saturating_sub(1)
        ),
    )
}

/// Answers as they come in.
struct Votes {
    classes: usize,
    /// Sums of probabilities, `[samples, classes]`.
    sums: Vec<f64>,
    /// By answer, then by sample.
    likeliest: Vec<Vec<usize>>,
}

impl Votes {
    /// Takes in the logits of samples from `start` on; false where they are not finite.
    fn add(&mut self, vote: usize, start: usize, logits: &[f32], order: &[usize]) -> bool {
        let classes = self.classes.max(1);
        let sums = self.sums.chunks_exact_mut(classes).skip(start);
        for (logits, sums) in logits.chunks_exact(classes).zip(sums) {
            let own = softmax(logits);
            let probabilities: Vec<f64> = order.iter().map(|&class| own[class]).collect();
            if probabilities.iter().any(|p| !p.is_finite()) {
                return false;
            }
            for (sum, p) in sums.iter_mut().zip(&probabilities) {
                *sum += p;
            }
            if let Some(likeliest) = self.likeliest.get_mut(vote) {
                likeliest.push(first_of_the_largest(&probabilities).unwrap_or(0));
            }
        }
        true
    }

    fn finish(self, classes: &[String], labels: &[u32], indices: &[usize]) -> (Evaluation, Spread) {
        let votes = self.likeliest.len();
        let mut scores = Scores::new(CrossEntropy::default(), self.classes);
        // The softmax of the logarithms of probabilities is these probabilities.
        let logarithm = |sum: &f64| (sum / votes as f64).max(f64::from(f32::MIN_POSITIVE)).ln();
        let logits: Vec<f32> = self.sums.iter().map(|s| logarithm(s) as f32).collect();
        scores.add(&logits, labels);
        let evaluation = Evaluation {
            indices: indices.to_vec(),
            ..scores.finish(classes)
        };
        let share = |right: &dyn Fn(usize, usize) -> bool| -> Vec<f64> {
            let of = |answers: &Vec<usize>| {
                let hits = answers.iter().enumerate().filter(|(i, a)| right(*i, **a));
                hits.count() as f64 / answers.len().max(1) as f64
            };
            self.likeliest.iter().map(of).collect()
        };
        let mean = |i: usize| evaluation.answers.get(i).map(|a| *a as usize);
        let agreement = share(&|i, answer| mean(i) == Some(answer));
        let spread = Spread {
            votes,
            disagreement: 1.0 - agreement.iter().sum::<f64>() / votes.max(1) as f64,
            accuracies: share(&|i, answer| labels.get(i).map(|l| *l as usize) == Some(answer)),
        };
        (evaluation, spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_the_answers_is_what_counts() {
        let mut votes = Votes {
            classes: 2,
            sums: vec![0.0; 4],
            likeliest: vec![Vec::new(); 2],
        };
        let logit = |p: f32| [p.ln(), (1.0 - p).ln()];
        let first = [logit(0.9), logit(0.4)].concat();
        // The second model has the classes the other way round.
        let second = [logit(0.7), logit(0.1)].concat();
        assert!(votes.add(0, 0, &first, &[0, 1]));
        assert!(votes.add(1, 0, &second, &[1, 0]));
        let names = ["a".to_string(), "b".to_string()];
        let (evaluation, spread) = votes.finish(&names, &[0, 1], &[5, 7]);
        let expected = [0.6, 0.4, 0.65, 0.35];
        for (p, e) in evaluation.probabilities.iter().zip(expected) {
            assert!((p - e).abs() < 1e-6, "{:?}", evaluation.probabilities);
        }
        assert_eq!(
            (evaluation.answers, evaluation.indices),
            (vec![0, 0], vec![5, 7])
        );
        // The first answers a and b, the second b and a; the mean says a and a.
        assert_eq!((spread.votes, spread.disagreement), (2, 0.5));
        assert_eq!(spread.accuracies, [1.0, 0.0]);
        let mut votes = Votes {
            classes: 2,
            sums: vec![0.0; 2],
            likeliest: vec![Vec::new()],
        };
        assert!(!votes.add(0, 0, &[f32::NAN, 0.0], &[0, 1]));
    }
}
