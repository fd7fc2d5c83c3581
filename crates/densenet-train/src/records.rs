//! What a run or an evaluation leaves to be read: `predictions.csv`, `summary.json`, `report.html`.
//!
//! All three say the same: the table has every sample's probabilities, the document the scores, the page both, drawn. The
//! models, `metrics.csv` and the saved state are on disk before any of them is begun; what goes wrong here is a warning,
//! never the end of a run.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use densenet_data::{Dataset, Split};

use crate::{
    checkpoint::EpochMetrics,
    config::TrainConfig,
    early_stopping::Best,
    error::TrainError,
    metrics::Assessment,
    report::Reporter,
    weights::{Model, atomic},
};

mod evaluation;
pub(crate) mod facts;
mod mistakes;
mod page;
mod predictions;
mod summary;
mod timing;

pub use evaluation::report_evaluation;
pub(crate) use predictions::Predictions;
pub(crate) use timing::EpochTiming;
pub use timing::Pace;

/// The page of a run or an evaluation.
pub const REPORT: &str = "report.html";
/// Every sample's probabilities.
pub const PREDICTIONS: &str = "predictions.csv";
/// The scores.
pub const SUMMARY: &str = "summary.json";
/// How long each epoch took.
pub(crate) const TIMING: &str = "timing.csv";

/// The program and its version, as files name it.
pub(crate) const PROGRAM: &str = concat!("densenet ", env!("CARGO_PKG_VERSION"));

/// What is known of a run, or of a model alone.
pub(crate) struct Findings<'a> {
    /// The run's name, or the model's.
    pub(crate) title: String,
    pub(crate) dataset: &'a Arc<Dataset>,
    /// The network, its classes and preprocessing; the weights are those of the model that was evaluated.
    pub(crate) model: &'a Model,
    /// `[depth, height, width]`, where it is known.
    pub(crate) spatial: Option<[usize; 3]>,
    /// What was learned and when; `None` for an evaluation alone.
    pub(crate) training: Option<Training<'a>>,
    pub(crate) held_out: Option<HeldOut>,
}

/// The course of a run.
pub(crate) struct Training<'a> {
    pub(crate) config: &'a TrainConfig,
    pub(crate) rows: &'a [EpochMetrics],
    pub(crate) timing: Vec<EpochTiming>,
    pub(crate) best: Option<Best>,
    /// Learned elements that are trained.
    pub(crate) trainable: usize,
    /// Why it ended.
    pub(crate) reason: String,
    /// Whether it came to its end.
    pub(crate) complete: bool,
}

/// How well a model does on samples it was not trained on.
pub(crate) struct HeldOut {
    pub(crate) split: Split,
    pub(crate) assessment: Assessment,
    /// Whether the weights in [`Findings::model`] are those that answered, so that its mistakes can be explained.
    pub(crate) explained: bool,
}

impl Findings<'_> {
    /// Writes all files into `folder`, each atomically.
    ///
    /// # Errors
    /// The system refuses; the other files are written all the same.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let write = |file: &str, text: String| {
            let path = folder.join(file);
            Ok::<_, TrainError>(atomic::write(&path, |w| w.write_all(text.as_bytes()))?)
        };
        let predictions = match &self.held_out {
            Some(held_out) => Predictions::csv(self.dataset, held_out.split, &held_out.assessment)
                .and_then(|text| write(PREDICTIONS, text)),
            None => Ok(()),
        };
        let summary = self.summary().and_then(|text| write(SUMMARY, text));
        let page = write(REPORT, self.page().html());
        predictions.and(summary).and(page)
    }

    /// [`Findings::write`], with every failure turned into a warning; whether the page was written.
    pub(crate) fn try_write(&self, folder: &Path, reporter: &mut dyn Reporter) -> bool {
        // The run is complete and saved: not even a defect of ours may take it away now.
        match catch_unwind(AssertUnwindSafe(|| self.write(folder))) {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                reporter.warning(&format!("no report: {error}; the run itself is saved"));
                false
            }
            Err(_) => {
                reporter.warning("no report: a defect of this program, please report it; the run itself is saved");
                false
            }
        }
    }
}
