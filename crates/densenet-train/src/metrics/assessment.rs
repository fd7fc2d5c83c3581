//! An evaluation with all that is worth computing once.

use serde::Serialize;

use super::{Bootstrap, Calibration, Evaluation, Intervals, bootstrap::Answers};

/// An [`Evaluation`], how well its probabilities are calibrated, and how sure its scores are.
///
/// Serialises to the document that `eval --json` prints: the evaluation's fields, `calibration` and `intervals`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assessment {
    /// The scores.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Whether probabilities mean what they say; `None` without samples.
    pub calibration: Option<Calibration>,
    /// Bootstrap intervals; `None` where none were asked for, or there are too many samples and classes for them.
    pub intervals: Option<Intervals>,
}

impl Assessment {
    /// Of an evaluation. `groups` says which of its samples belong together, one number for each; where it is given,
    /// whole groups are drawn.
    pub fn new(evaluation: Evaluation, groups: Option<&[u32]>, bootstrap: Bootstrap) -> Self {
        let answers = Answers {
            probabilities: &evaluation.probabilities,
            answers: &evaluation.answers,
            labels: &evaluation.labels,
            classes: evaluation.classes.len(),
            groups: groups.filter(|g| g.len() == evaluation.labels.len()),
        };
        let intervals = bootstrap.intervals(&answers);
        let calibration = Calibration::new(
            &evaluation.probabilities,
            &evaluation.answers,
            &evaluation.labels,
        );
        Assessment {
            calibration,
            intervals,
            evaluation,
        }
    }
}
