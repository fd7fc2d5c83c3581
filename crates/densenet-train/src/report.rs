//! What a run says while it runs.
//!
//! The loop speaks to a [`Reporter`] and prints nothing itself. [`Bar`] draws on a terminal, [`Plain`] writes lines, `()`
//! keeps silent. All of them leave standard output to the caller.

use std::{path::Path, time::Duration};

use crate::checkpoint::EpochMetrics;

mod bar;
mod plain;

pub use bar::Bar;
pub use plain::Plain;

/// What is known when training starts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// The data set.
    pub data: &'a str,
    /// Samples of the training, validation and test splits.
    pub samples: [usize; 3],
    /// Classes.
    pub classes: usize,
    /// The input, `[depth, height, width, channels]`.
    pub input: [usize; 4],
    /// Learned elements of the network.
    pub parameters: usize,
    /// Those of them that are trained.
    pub trainable: usize,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Optimiser steps of the whole run.
    pub steps: u64,
}

/// The run after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInfo {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Batches done in this epoch.
    pub batch: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// Optimiser steps taken in the whole run, this one included.
    pub step: u64,
    /// Mean loss of this step's samples.
    pub step_loss: f64,
    /// Mean loss of the epoch so far.
    pub loss: f64,
    /// Accuracy of the epoch so far.
    pub accuracy: f64,
    /// The step's learning rate.
    pub lr: f64,
    /// Images per second since this epoch began or was resumed.
    pub images_per_second: f64,
    /// Share of the time that the network stood waiting for images.
    pub loader_share: f64,
}

/// Listens to a run. Every method may be left out.
pub trait Reporter: Send {
    /// Something worth knowing.
    fn note(&mut self, _text: &str) {}
    /// Something that may be wrong.
    fn warning(&mut self, _text: &str) {}
    /// So many of all samples have been looked at before training or in an evaluation; `what` says which.
    fn progress(&mut self, _what: &str, _done: usize, _total: usize) {}
    /// Training starts, or goes on.
    fn started(&mut self, _run: &RunInfo<'_>) {}
    /// An optimiser step was taken.
    fn step(&mut self, _step: &StepInfo) {}
    /// An epoch was trained and evaluated, in so much time.
    fn epoch(&mut self, _epochs: usize, _metrics: &EpochMetrics, _took: Duration) {}
    /// The run has ended; whatever is drawn should go.
    fn finished(&mut self) {}
}

/// Says nothing.
impl Reporter for () {}

/// `epoch  3/15  loss 0.4211  accuracy 91.2 %  val loss 0.3012  val accuracy 94.0 %  (best)`
fn epoch_line(epochs: usize, m: &EpochMetrics, took: Duration) -> String {
    let width = epochs.to_string().len();
    let mut line = format!(
        "epoch {:>width$}/{epochs}  loss {:.4}  accuracy {:.1} %",
        m.epoch,
        m.train_loss,
        100.0 * m.train_accuracy
    );
    if let (Some(loss), Some(accuracy)) = (m.val_loss, m.val_accuracy) {
        line.push_str(&format!(
            "  val loss {loss:.4}  val accuracy {:.2} %",
            100.0 * accuracy
        ));
    }
    if let Some(auroc) = m.val_macro_auroc {
        line.push_str(&format!("  AUROC {auroc:.4}"));
    }
    line.push_str(&format!("  {}", duration(took)));
    if m.best {
        line.push_str("  best so far");
    }
    line
}

fn start_lines(run: &RunInfo<'_>) -> String {
    let [depth, height, width, channels] = run.input;
    let size = if depth == 1 {
        format!("{height}×{width}")
    } else {
        format!("{depth}×{height}×{width}")
    };
    let [train, val, test] = run.samples;
    let frozen = match run.parameters - run.trainable {
        0 => String::new(),
        n => format!(", {} of them frozen", grouped(n)),
    };
    format!(
        "data     {}: {train} for training, {val} for validation, {test} for testing; {} classes, {size} pixels, {channels} channel{}\n\
         network  {} parameters{frozen}\n\
         run      {} ({} epochs, {} steps)",
        run.data,
        run.classes,
        if channels == 1 { "" } else { "s" },
        grouped(run.parameters),
        run.folder.display(),
        run.epochs,
        grouped(usize::try_from(run.steps).unwrap_or(usize::MAX)),
    )
}

/// `1,234,567`
pub(crate) fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `3.2s`, `4m 05s`, `2h 07m`
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{:.1}s", d.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        _ => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn metrics() -> EpochMetrics {
        EpochMetrics {
            epoch: 3,
            step: 120,
            lr: 0.05,
            train_loss: 0.42,
            train_accuracy: 0.912,
            val_loss: Some(0.3),
            val_accuracy: Some(0.94),
            val_top5: None,
            val_macro_auroc: Some(0.99),
            best: true,
        }
    }

    #[test]
    fn lines_read_well() {
        assert_eq!(
            epoch_line(15, &metrics(), Duration::from_millis(3210)),
            "epoch  3/15  loss 0.4200  accuracy 91.2 %  val loss 0.3000  val accuracy 94.00 %  AUROC 0.9900  3.2s  best so far"
        );
        let run = RunInfo {
            folder: Path::new("runs/digits-1"),
            data: "digits",
            samples: [1167, 130, 500],
            classes: 10,
            input: [1, 8, 8, 1],
            parameters: 123_456,
            trainable: 123_000,
            epochs: 15,
            steps: 1095,
        };
        let lines = start_lines(&run);
        assert!(lines.contains("digits: 1167 for training, 130 for validation, 500 for testing; 10 classes, 8×8 pixels, 1 channel\n"), "{lines}");
        assert!(
            lines.contains("123,456 parameters, 456 of them frozen"),
            "{lines}"
        );
        assert_eq!(
            (grouped(7), grouped(1000), grouped(1_234_567)),
            ("7".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!(duration(Duration::from_secs(245)), "4m 05s");
        assert_eq!(duration(Duration::from_secs(7620)), "2h 07m");
    }
}
