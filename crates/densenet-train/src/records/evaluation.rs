//! Files about an evaluation that belongs to no run.

use std::{fs, path::Path, sync::Arc};

use densenet_data::{Dataset, Split};

use super::{Findings, HeldOut};
use crate::{error::TrainError, metrics::Assessment, weights::Model};

/// Writes `predictions.csv`, `summary.json` and `report.html` about `model` on a split into `folder`, which is made where
/// there is none. `title` names the model.
///
/// # Errors
/// The system refuses.
pub fn report_evaluation(
    folder: &Path,
    title: &str,
    model: &Model,
    dataset: &Arc<Dataset>,
    split: Split,
    assessment: &Assessment,
) -> Result<(), TrainError> {
    fs::create_dir_all(folder)
        .map_err(|cause| TrainError::io(folder, "create the folder", cause))?;
    let findings = Findings {
        title: title.to_string(),
        dataset,
        model,
        spatial: None,
        training: None,
        held_out: Some(HeldOut {
            split,
            assessment: assessment.clone(),
            explained: true,
        }),
    };
    findings.write(folder)
}
