//! An evaluation with all that is worth computing once.

use densenet_data::Dataset;
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
    /// Of an evaluation of samples of `dataset`, drawing whole groups where it has some.
    pub fn of(evaluation: Evaluation, dataset: &Dataset, bootstrap: Bootstrap) -> Self {
        let named: Vec<Option<u32>> = evaluation
            .indices
            .iter()
            .map(|&index| dataset.group(index))
            .collect();
        if named.iter().all(Option::is_none) {
            return Assessment::new(evaluation, None, bootstrap);
        }
        // A sample without a group is one of its own.
        let mut next = named.iter().flatten().max().map_or(0, |last| last + 1);
        let mut own = || {
            next += 1;
            next - 1
        };
        let groups: Vec<u32> = named
            .into_iter()
            .map(|g| g.unwrap_or_else(&mut own))
            .collect();
        Assessment::new(evaluation, Some(&groups), bootstrap)
    }

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
