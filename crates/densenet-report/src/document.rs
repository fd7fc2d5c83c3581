//! What a report says, as plain data.

use crate::chart::Chart;

/// A run or an evaluation.
///
/// Parts that are empty are left out of the page.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The run's name, or the model's.
    pub title: String,
    /// What this is: `Training run`, `Evaluation`.
    pub kind: String,
    /// How it ended.
    pub status: Status,
    /// What the reader should know before believing the numbers.
    pub notes: Vec<String>,
    /// The numbers that matter most.
    pub figures: Vec<Figure>,
    /// The course of the training.
    pub curves: Vec<Chart>,
    /// The same as numbers.
    pub epochs: Table,
    /// How well the model does.
    pub scores: Option<Scores>,
    /// Lists of facts: data, network, training, throughput.
    pub facts: Vec<Facts>,
    /// The configuration as a file.
    pub configuration: String,
    /// Who made this: program and version.
    pub maker: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// In a few words.
    pub text: String,
    /// Whether it came to its end.
    pub complete: bool,
}

/// A number worth a large font.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// What it is.
    pub label: String,
    /// The number with its unit.
    pub value: String,
    /// What stands below it: an interval, where it was measured.
    pub below: String,
}

/// A table with a heading for each column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Cells, as many as columns in each row.
    pub rows: Vec<Vec<String>>,
}

/// A list of names and values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// What they are about.
    pub title: String,
    /// Names and values.
    pub rows: Vec<(String, String)>,
}

/// A model's answers on a split.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// `Test split`, `Validation split, best epoch so far`.
    pub title: String,
    /// What the intervals are; empty without any.
    pub intervals: String,
    /// One row for each class.
    pub classes: Vec<ClassRow>,
    /// `confusion[label][answer]` counts samples.
    pub confusion: Vec<Vec<u64>>,
    /// Whether probabilities mean what they say.
    pub calibration: Option<Calibration>,
    /// ROC and precision-recall curves.
    pub curves: Vec<Chart>,
    /// The most confident mistakes.
    pub mistakes: Vec<Mistake>,
    /// Mistakes in all.
    pub mistakes_total: u64,
}

/// One class's scores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClassRow {
    /// Its name.
    pub name: String,
    /// Its samples.
    pub samples: u64,
    /// Share of the samples called it that are.
    pub precision: Score,
    /// Share of its samples that were called it.
    pub recall: Score,
    /// Harmonic mean of both.
    pub f1: Score,
    /// Area under its ROC curve.
    pub auroc: Score,
    /// Mean precision over its precision-recall curve.
    pub average_precision: Score,
}

/// A score and its interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// The score, where it is defined.
    pub value: Option<f64>,
    /// Its interval, where there is one.
    pub interval: Option<[f64; 2]>,
}

/// Confidence against accuracy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    /// Expected calibration error.
    pub ece: f64,
    /// Largest calibration error of a bin.
    pub mce: f64,
    /// Brier score.
    pub brier: f64,
    /// Mean confidence.
    pub confidence: f64,
    /// Accuracy.
    pub accuracy: f64,
    /// Bins of equal width, from the lowest confidence on.
    pub bins: Vec<CalibrationBin>,
}

/// Answers of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CalibrationBin {
    /// Confidences above this.
    pub low: f64,
    /// Up to this.
    pub high: f64,
    /// Samples.
    pub samples: u64,
    /// Mean confidence and accuracy, where there are samples.
    pub means: Option<(f64, f64)>,
}

/// A wrong answer given with confidence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mistake {
    /// The sample.
    pub name: String,
    /// What it is, and the probability given to that.
    pub truth: (String, f64),
    /// What it was called, and with what probability.
    pub answer: (String, f64),
    /// How it looks, and what spoke for which class.
    pub evidence: Vec<Evidence>,
}

/// A picture of a sample with the maps that lie over it, as `data:` addresses of PNG files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Which plane it is; empty for an image.
    pub plane: String,
    /// Width and height as shown, in proportion.
    pub size: [usize; 2],
    /// The picture.
    pub picture: String,
    /// Where the evidence for the answer lies.
    pub answer: Option<String>,
    /// Where the evidence for the truth lies.
    pub truth: Option<String>,
}
