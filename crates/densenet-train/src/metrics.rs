//! What a network's answers are worth: loss, accuracy, top-5, macro AUROC, confusion matrix, calibration, intervals.
//!
//! [`Scores`] takes in logits batch by batch; [`Evaluation`] is what comes out, cheap enough for every epoch.
//! [`Assessment`] adds what is worth computing once: calibration and bootstrap intervals. All sums are f64 and run in the
//! order of the samples.

use serde::Serialize;

use crate::loss::{CrossEntropy, LossSum, rank, softmax};

mod assessment;
mod auroc;
mod bootstrap;
mod calibration;
mod curve;

pub use assessment::Assessment;
pub use auroc::auroc;
pub(crate) use bootstrap::paired_interval;
pub use bootstrap::{Bootstrap, ClassIntervals, Interval, Intervals};
pub use calibration::{Bin, Calibration};
pub use curve::{Curve, Point};

/// How well a network answers on one split.
///
/// Serialises to the document that `eval --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Samples looked at.
    pub samples: usize,
    /// Mean cross entropy, without smoothing and class weights unless the caller's loss has them.
    pub loss: f64,
    /// Share of samples whose highest probability is their label's.
    pub accuracy: f64,
    /// Mean recall over the classes that have samples.
    pub balanced_accuracy: Option<f64>,
    /// Mean F1 over the classes that have samples or were answered.
    pub macro_f1: Option<f64>,
    /// Share of samples whose label is among the five highest; `None` where there are five classes or fewer.
    pub top5: Option<f64>,
    /// Mean over the classes of the area under the one-versus-rest ROC curve; `None` where no class has both positives
    /// and negatives.
    pub macro_auroc: Option<f64>,
    /// Classes left out of `macro_auroc` because the split has no sample of them, or nothing else.
    pub auroc_skipped: Vec<String>,
    /// Names of the classes in the order of the logits.
    pub classes: Vec<String>,
    /// `confusion[label][predicted]` counts samples.
    pub confusion: Vec<Vec<u64>>,
    /// The same, class by class.
    pub per_class: Vec<ClassScores>,
    /// Softmax probabilities, `[samples, classes]`, in the order the samples were given.
    #[serde(skip)]
    pub probabilities: Vec<f32>,
    /// The true class of each sample.
    #[serde(skip)]
    pub labels: Vec<u32>,
    /// The class that was answered: the first of the highest logits.
    #[serde(skip)]
    pub answers: Vec<u32>,
    /// Where each sample stands in the data set; empty where the samples are no data set's.
    #[serde(skip)]
    pub indices: Vec<usize>,
}

/// One class's share of an [`Evaluation`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScores {
    /// The class.
    pub class: String,
    /// Samples that are of it.
    pub samples: u64,
    /// Share of the samples called it that are; `None` where none were called it.
    pub precision: Option<f64>,
    /// Share of its samples that were called it; `None` where it has none.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall; `None` where it has no samples and none were called it.
    pub f1: Option<f64>,
    /// Area under its ROC curve against all others; `None` without positives or without negatives.
    pub auroc: Option<f64>,
    /// Mean precision over its precision-recall curve; `None` without positives.
    pub average_precision: Option<f64>,
}

impl Evaluation {
    /// The curve of one class against all others.
    pub fn curve(&self, class: usize) -> Curve {
        class_curve(&self.probabilities, &self.labels, self.classes.len(), class)
    }
}

fn class_curve(probabilities: &[f32], labels: &[u32], classes: usize, class: usize) -> Curve {
    let scores = probabilities.iter().skip(class).step_by(classes.max(1));
    let positive = labels.iter().map(|&label| label as usize == class);
    Curve::new(scores.copied().zip(positive))
}

/// Collects a network's answers.
#[derive(Debug, Clone)]
pub struct Scores {
    loss: CrossEntropy,
    classes: usize,
    sum: LossSum,
    in_top5: u64,
    probabilities: Vec<f32>,
    labels: Vec<u32>,
    answers: Vec<u32>,
    confusion: Vec<u64>,
    row: Vec<f64>,
}

impl Scores {
    /// Nothing collected yet.
    pub fn new(loss: CrossEntropy, classes: usize) -> Self {
        Scores {
            loss,
            classes,
            sum: LossSum::default(),
            in_top5: 0,
            probabilities: Vec::new(),
            labels: Vec::new(),
            answers: Vec::new(),
            confusion: vec![0; classes * classes],
            row: vec![0.0; classes],
        }
    }

    /// Takes in a batch; false where its loss is not finite (the batch is not counted then).
    ///
    /// # Shapes
    /// `logits` `[batch, classes]`, `labels` `[batch]`, each below `classes`.
    pub fn add(&mut self, logits: &[f32], labels: &[u32]) -> bool {
        debug_assert_eq!(logits.len(), labels.len() * self.classes);
        let mut row = std::mem::take(&mut self.row);
        let mut sum = LossSum::default();
        for (logits, &label) in logits.chunks_exact(self.classes.max(1)).zip(labels) {
            sum.add(self.loss.sample(logits, label as usize, &mut row));
        }
        if sum.loss.is_finite() {
            self.sum.add(sum);
            for (logits, &label) in logits.chunks_exact(self.classes.max(1)).zip(labels) {
                softmax(logits, &mut row);
                self.probabilities.extend(row.iter().map(|&p| p as f32));
                self.labels.push(label);
                self.in_top5 += u64::from(rank(logits, label as usize) < 5);
                let predicted = (0..self.classes)
                    .find(|&c| rank(logits, c) == 0)
                    .unwrap_or(0);
                self.answers.push(predicted as u32);
                if let Some(count) = self
                    .confusion
                    .get_mut(label as usize * self.classes + predicted)
                {
                    *count += 1;
                }
            }
        }
        self.row = row;
        sum.loss.is_finite()
    }

    /// The evaluation of everything collected. `classes` are the names in the order of the logits; missing ones are
    /// called by their number.
    pub fn finish(self, classes: &[String]) -> Evaluation {
        let name = |c: usize| classes.get(c).cloned().unwrap_or_else(|| c.to_string());
        let confusion: Vec<Vec<u64>> = self
            .confusion
            .chunks(self.classes.max(1))
            .map(<[u64]>::to_vec)
            .collect();
        let per_class: Vec<ClassScores> = confusion
            .iter()
            .enumerate()
            .map(|(c, row)| {
                let hits = row.get(c).copied().unwrap_or(0);
                let samples: u64 = row.iter().sum();
                let called: u64 = confusion.iter().filter_map(|row| row.get(c)).sum();
                let curve = class_curve(&self.probabilities, &self.labels, self.classes, c);
                ClassScores {
                    class: name(c),
                    samples,
                    precision: share(hits, called),
                    recall: share(hits, samples),
                    f1: share(2 * hits, samples + called),
                    auroc: curve.area(),
                    average_precision: curve.average_precision(),
                }
            })
            .collect();
        Evaluation {
            samples: self.labels.len(),
            loss: self.sum.mean(),
            accuracy: self.sum.accuracy(),
            top5: if self.classes > 5 {
                share(self.in_top5, self.sum.samples)
            } else {
                None
            },
            balanced_accuracy: bootstrap::mean(per_class.iter().map(|c| c.recall)),
            macro_f1: bootstrap::mean(per_class.iter().map(|c| c.f1)),
            macro_auroc: bootstrap::mean(per_class.iter().map(|c| c.auroc)),
            auroc_skipped: per_class
                .iter()
                .filter(|c| c.auroc.is_none())
                .map(|c| c.class.clone())
                .collect(),
            classes: (0..self.classes).map(name).collect(),
            confusion,
            per_class,
            probabilities: self.probabilities,
            labels: self.labels,
            answers: self.answers,
            indices: Vec::new(),
        }
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
