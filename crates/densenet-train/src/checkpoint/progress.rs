//! Where a run stands.

use serde::{Deserialize, Serialize};

use crate::{early_stopping::Watch, exact, loss::LossSum};

/// Position, history and identity of a run: all of its state that is not an arena.
///
/// Randomness needs no generator's state: every random number is a function of the seed, the epoch and the sample (data)
/// or the forward pass (dropout), so the counters here are enough.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// [`Progress::FORMAT`]
    pub(crate) format: u32,
    /// Counts saves; the newest state has the highest.
    pub(crate) generation: u64,
    /// The epoch in progress, from 0; equal to the number of epochs once all are done.
    pub(crate) epoch: usize,
    /// The next batch of the epoch, from 0; equal to the number of batches while only the evaluation is missing.
    pub(crate) batch: usize,
    /// Optimiser steps taken.
    pub(crate) step: u64,
    /// Forward passes taken; keys dropout.
    pub(crate) forwards: u64,
    /// Batches in the running statistics, those of a model the run started from included.
    pub(crate) batches_tracked: u64,
    /// Steps the optimiser counts (AdamW's bias correction).
    pub(crate) optimizer_steps: u64,
    /// Sums over the epoch so far.
    pub(crate) sums: Sums,
    /// The best epoch so far and the epochs since.
    pub(crate) watch: Watch,
    /// One row per finished epoch: the whole of `metrics.csv`.
    pub(crate) rows: Vec<EpochMetrics>,
    /// Set once the run has come to its end; says why.
    pub(crate) finished: Option<String>,
    /// The resolved configuration as TOML, less what cannot change a result.
    pub(crate) config: String,
    /// What the data was: [`densenet_data::Dataset::fingerprint`].
    pub(crate) data: String,
    /// Names of the classes in the order of the logits.
    pub(crate) classes: Vec<String>,
    /// Names and places of the parameters within their arena.
    pub(crate) layout: String,
}

impl Progress {
    /// Version of this document.
    pub(crate) const FORMAT: u32 = 1;
}

/// [`LossSum`] as JSON, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sums {
    #[serde(with = "exact")]
    loss: f64,
    #[serde(with = "exact")]
    weight: f64,
    correct: u64,
    samples: u64,
}

impl From<LossSum> for Sums {
    fn from(sum: LossSum) -> Self {
        Sums {
            loss: sum.loss,
            weight: sum.weight,
            correct: sum.correct,
            samples: sum.samples,
        }
    }
}

impl From<Sums> for LossSum {
    fn from(sum: Sums) -> Self {
        LossSum {
            loss: sum.loss,
            weight: sum.weight,
            correct: sum.correct,
            samples: sum.samples,
        }
    }
}

/// One row of `metrics.csv`.
///
/// No clock times: a resumed run's file is the same, byte for byte, as an uninterrupted one's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochMetrics {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Optimiser steps taken by its end.
    pub step: u64,
    /// Learning rate of its last step.
    #[serde(with = "exact")]
    pub lr: f64,
    /// Mean training loss over the epoch, as the weights changed.
    #[serde(with = "exact")]
    pub train_loss: f64,
    /// Training accuracy over the epoch, as the weights changed.
    #[serde(with = "exact")]
    pub train_accuracy: f64,
    /// Validation loss; `None` without a validation split.
    #[serde(with = "exact::option")]
    pub val_loss: Option<f64>,
    /// Validation accuracy.
    #[serde(with = "exact::option")]
    pub val_accuracy: Option<f64>,
    /// Validation top-5 accuracy; `None` with five classes or fewer.
    #[serde(with = "exact::option")]
    pub val_top5: Option<f64>,
    /// Validation macro AUROC.
    #[serde(with = "exact::option")]
    pub val_macro_auroc: Option<f64>,
    /// Whether it was the best epoch so far.
    pub best: bool,
}

impl EpochMetrics {
    /// The rows of a `metrics.csv`; `None` where it is none. No text is no rows.
    pub(crate) fn parse(text: &str) -> Option<Vec<EpochMetrics>> {
        let Some(lines) = text.strip_prefix(Self::HEADER) else {
            return text.is_empty().then(Vec::new);
        };
        let maybe = |field: &str| match field {
            "" => Some(None),
            number => Some(Some(number.parse().ok()?)),
        };
        let row = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            let [epoch, step, lr, loss, accuracy, rest @ ..] = fields.as_slice() else {
                return None;
            };
            let [val_loss, val_accuracy, val_top5, val_macro_auroc, best] = rest else {
                return None;
            };
            Some(EpochMetrics {
                epoch: epoch.parse().ok()?,
                step: step.parse().ok()?,
                lr: lr.parse().ok()?,
                train_loss: loss.parse().ok()?,
                train_accuracy: accuracy.parse().ok()?,
                val_loss: maybe(val_loss)?,
                val_accuracy: maybe(val_accuracy)?,
                val_top5: maybe(val_top5)?,
                val_macro_auroc: maybe(val_macro_auroc)?,
                best: *best == "1",
            })
        };
        lines.lines().map(row).collect()
    }

    const HEADER: &str = "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,val_top5,val_macro_auroc,best\n";

    /// `metrics.csv`: a header and one line per epoch; every number as the shortest text that reads back the same.
    pub fn csv(rows: &[EpochMetrics]) -> String {
        let shown = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
        let mut text = Self::HEADER.to_string();
        for r in rows {
            text.push_str(&format!(
                "{},{},{},{},{},{},{},{},{},{}\n",
                r.epoch,
                r.step,
                r.lr,
                r.train_loss,
                r.train_accuracy,
                shown(r.val_loss),
                shown(r.val_accuracy),
                shown(r.val_top5),
                shown(r.val_macro_auroc),
                u8::from(r.best),
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_comes_back() {
        let row = |epoch, val_loss| EpochMetrics {
            epoch,
            step: 10,
            lr: 0.1,
            train_loss: 1.0 / 3.0,
            train_accuracy: 0.5,
            val_loss,
            val_accuracy: val_loss,
            val_top5: None,
            val_macro_auroc: val_loss,
            best: epoch == 1,
        };
        let rows = [row(1, Some(0.2)), row(2, None)];
        let text = EpochMetrics::csv(&rows);
        assert_eq!(EpochMetrics::parse(&text).as_deref(), Some(&rows[..]));
        assert_eq!(EpochMetrics::parse(""), Some(Vec::new()));
        for broken in ["x", &text[..text.len() - 3], "epoch,step\n1,2\n"] {
            assert_eq!(EpochMetrics::parse(broken), None, "{broken}");
        }
    }
}
