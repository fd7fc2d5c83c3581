//! Running a network over a split.

use std::sync::Arc;

use densenet::Predictor;
use densenet_data::{Dataset, LastBatch, Loader, LoaderOptions, Preprocessing, Split};

use crate::{
    error::{NonFinite, TrainError},
    loss::CrossEntropy,
    metrics::{Evaluation, Scores},
    network::Scorer,
    report::Reporter,
    stop::StopFlag,
    weights::Model,
};

/// How an evaluation runs; none of it changes a result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaluateOptions {
    /// Images at a time.
    pub batch_size: usize,
    /// Threads that prepare images.
    pub threads: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        EvaluateOptions {
            batch_size: 32,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        }
    }
}

/// How well `model` does on a split; `None` where `stop` was raised meanwhile.
///
/// The data set must have been opened with the model's class names, so that labels mean the same. The loss is the plain
/// cross entropy, without smoothing and class weights.
///
/// # Errors
/// A model without preprocessing, an empty split, images that cannot be read, or answers that are not finite.
pub fn evaluate(
    model: &Model,
    dataset: &Arc<Dataset>,
    split: Split,
    options: EvaluateOptions,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Option<Evaluation>, TrainError> {
    let loader = evaluation_loader(dataset, split, preprocessing_of(model)?, options)?;
    let classes = model
        .classes
        .clone()
        .unwrap_or_else(|| dataset.classes().to_vec());
    if classes.len() != model.config.num_classes || dataset.classes().len() > classes.len() {
        return Err(TrainError::config(
            dataset.name(),
            format!(
                "{} classes, while the model tells {} apart",
                dataset.classes().len(),
                model.config.num_classes
            ),
            "evaluate on data with the model's classes",
        ));
    }
    let predictor = Predictor::new(&model.config, &model.state)?;
    score(&predictor, &loader, &classes, split.name(), reporter, stop)
}

/// The preprocessing that `model` was trained with.
///
/// # Errors
/// `Config` for a model that has none, as imported weights may.
pub fn preprocessing_of(model: &Model) -> Result<Preprocessing, TrainError> {
    match &model.preprocessing {
        Some(value) => Ok(Preprocessing::from_value(value)?),
        None => Err(TrainError::config(
            "model",
            "the model file does not say how images are prepared",
            "import it again with its preprocessing, or fine-tune it first",
        )),
    }
}

pub(crate) fn evaluation_loader(
    dataset: &Arc<Dataset>,
    split: Split,
    preprocessing: Preprocessing,
    options: EvaluateOptions,
) -> Result<Loader, TrainError> {
    let options = LoaderOptions {
        threads: options.threads,
        last: LastBatch::Keep,
        ..LoaderOptions::evaluation(options.batch_size)
    };
    Ok(Loader::new(
        Arc::clone(dataset),
        split,
        preprocessing,
        options,
    )?)
}

/// The evaluation of a scorer over a loader's samples; `None` where `stop` was raised.
pub(crate) fn score(
    scorer: &dyn Scorer,
    loader: &Loader,
    classes: &[String],
    what: &str,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Option<Evaluation>, TrainError> {
    let mut scores = Scores::new(CrossEntropy::default(), classes.len());
    let mut indices = Vec::new();
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        if stop.raised().is_some() {
            return Ok(None);
        }
        let logits = scorer.logits(&batch)?;
        if !scores.add(&logits, &batch.labels) {
            return Err(TrainError::NonFinite(Box::new(NonFinite {
                what: format!("{what} loss"),
                epoch: 0,
                step: 0,
                samples: batch
                    .indices
                    .iter()
                    .map(|&i| loader.dataset().describe(i))
                    .collect(),
                run: None,
            })));
        }
        indices.extend_from_slice(&batch.indices);
        reporter.progress(
            &format!("evaluating {what}"),
            indices.len(),
            loader.samples(),
        );
        loader.recycle(batch);
    }
    let evaluation = scores.finish(classes);
    Ok(Some(Evaluation {
        indices,
        ..evaluation
    }))
}
