//! `predictions.csv`: what was answered, sample by sample.

use std::path::Path;

use densenet_data::{Dataset, Split};

use crate::{error::TrainError, metrics::Assessment};

/// The table read back, as far as comparing runs needs it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Predictions {
    /// Sample, its class, the answer.
    pub(crate) rows: Vec<(String, String, String)>,
}

/// Columns before the probabilities, which are called `p:CLASS`.
const COLUMNS: [&str; 5] = ["sample", "split", "label", "answer", "probability"];

impl Predictions {
    /// The table of an evaluation: one line for each sample, in the data set's order.
    pub(crate) fn csv(
        dataset: &Dataset,
        split: Split,
        assessment: &Assessment,
    ) -> Result<String, TrainError> {
        let bug = |e: csv::Error| TrainError::Bug(format!("the table of predictions: {e}"));
        let evaluation = &assessment.evaluation;
        let mut table = csv::Writer::from_writer(Vec::new());
        let probabilities = evaluation.classes.iter().map(|class| format!("p:{class}"));
        let header = COLUMNS.iter().map(|c| c.to_string()).chain(probabilities);
        table.write_record(header).map_err(bug)?;
        let name = |class: u32| evaluation.classes.get(class as usize).map_or("", |c| c);
        let rows = evaluation
            .probabilities
            .chunks_exact(evaluation.classes.len().max(1));
        let answers = evaluation.labels.iter().zip(&evaluation.answers);
        for ((row, (&label, &answer)), &index) in rows.zip(answers).zip(&evaluation.indices) {
            let probability = row.get(answer as usize).copied().unwrap_or(0.0);
            let first = [
                dataset.describe(index),
                split.name().to_string(),
                name(label).to_string(),
                name(answer).to_string(),
                probability.to_string(),
            ];
            let fields = first.into_iter().chain(row.iter().map(f32::to_string));
            table.write_record(fields).map_err(bug)?;
        }
        let bytes = table
            .into_inner()
            .map_err(|e| TrainError::Bug(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| TrainError::Bug(e.to_string()))
    }

    /// The table in a run's folder; `None` where there is none, or none that can be read.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let mut table = csv::Reader::from_path(path).ok()?;
        let header = table.headers().ok()?.clone();
        let column = |name: &str| header.iter().position(|c| c == name);
        let (sample, label, answer) = (column("sample")?, column("label")?, column("answer")?);
        let mut rows = Vec::new();
        for record in table.records() {
            let record = record.ok()?;
            let field = |i: usize| Some(record.get(i)?.to_string());
            rows.push((field(sample)?, field(label)?, field(answer)?));
        }
        Some(Predictions { rows })
    }
}
