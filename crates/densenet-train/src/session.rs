//! The loop: epochs of steps, evaluation, and saving, for any [`Net`].
//!
//! All of the run's changing state is in [`Session`]; [`Session::save`] writes it, [`Session::restore`] takes it back, and
//! nothing else has to survive. No state is ever saved that a number which is not finite has touched.

use std::time::Instant;

use densenet_data::{Batch, Loader};

use crate::{
    checkpoint::{EpochMetrics, Progress, SaveHook, Store},
    config::TrainConfig,
    early_stopping::Monitor,
    ema::Ema,
    error::TrainError,
    evaluate::score,
    loss::{CrossEntropy, LossSum},
    metrics::Evaluation,
    network::{Net, View, layout, segments},
    optimizer::Optimizer,
    records::{EpochTiming, TIMING},
    report::{Reporter, StepInfo},
    run_dir::RunDir,
    schedule::Schedule,
    stop::StopFlag,
    weights::Model,
};

mod save;
mod step;

/// What a run works with, prepared and checked.
pub(crate) struct Parts<N> {
    pub(crate) config: TrainConfig,
    pub(crate) net: N,
    pub(crate) train: Loader,
    pub(crate) val: Option<Loader>,
    pub(crate) run: RunDir,
    /// A model of this run but for its weights: classes, preprocessing, provenance.
    pub(crate) template: Model,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// All epochs are done, or none was better for long enough: the reason.
    Finished(String),
    /// Saved and stopped by this signal.
    Interrupted(i32),
}

/// A run in progress.
pub(crate) struct Session<'a, N> {
    parts: Parts<N>,
    views: Vec<View>,
    store: Store,
    optimizer: Optimizer,
    schedule: Schedule,
    loss: CrossEntropy,
    ema: Option<Ema>,
    progress: Progress,
    /// Loss and accuracy over the epoch so far.
    sums: LossSum,
    reporter: &'a mut dyn Reporter,
    stop: &'a StopFlag,
    hook: SaveHook<'a>,
    /// Models whose writing failed: tried again before the next state is saved.
    unwritten: Vec<(&'static str, Model)>,
    last_save: Instant,
    steps_since_save: u64,
    failed_save: Option<TrainError>,
    /// Scratch of a step.
    scratch: step::Scratch,
    /// The pace of the epoch's training, from where it began or was resumed.
    pace: EpochTiming,
    /// The best epoch's evaluation, if it was in this process.
    best_evaluation: Option<Evaluation>,
}

pub(crate) const BEST: &str = "best.safetensors";
pub(crate) const LAST: &str = "last.safetensors";

impl<'a, N: Net> Session<'a, N> {
    /// A run at its beginning.
    pub(crate) fn new(
        parts: Parts<N>,
        reporter: &'a mut dyn Reporter,
        stop: &'a StopFlag,
        hook: SaveHook<'a>,
    ) -> Result<Self, TrainError> {
        let config = &parts.config;
        let views = parts.net.views();
        let dataset = parts.train.dataset();
        let progress = Progress {
            format: Progress::FORMAT,
            config: config.identity()?,
            data: format!("{:016x}", dataset.fingerprint()),
            classes: dataset.classes().to_vec(),
            layout: layout(&views, parts.net.buffers().len()),
            ..Progress::default()
        };
        let steps_per_epoch = parts.train.batches().div_ceil(config.accumulate) as u64;
        let len = parts.net.parameters().len();
        Ok(Session {
            store: Store::new(parts.run.path()),
            optimizer: Optimizer::new(
                config.rule(),
                segments(&views, config.no_decay_norm_bias),
                len,
            ),
            schedule: config.schedule(steps_per_epoch),
            loss: config.loss(&dataset.class_counts(densenet_data::Split::Train)),
            ema: config
                .ema
                .map(|decay| Ema::new(decay, parts.net.parameters(), parts.net.buffers())),
            progress,
            sums: LossSum::default(),
            unwritten: Vec::new(),
            last_save: Instant::now(),
            steps_since_save: 0,
            failed_save: None,
            scratch: step::Scratch::default(),
            pace: EpochTiming::default(),
            best_evaluation: None,
            views,
            parts,
            reporter,
            stop,
            hook,
        })
    }

    /// Trains to the end, or until asked to stop.
    ///
    /// # Errors
    /// `NonFinite` (the state before that step is saved), unreadable data, or a disk that in the end kept refusing.
    pub(crate) fn run(&mut self) -> Result<End, TrainError> {
        if self.progress.generation == 0 {
            // Proves before the first step that the disk takes a whole state.
            self.write()?;
        } else {
            // A kill may have come between the state and this file.
            self.write_metrics()?;
        }
        let end = self.epochs();
        // A failed save in between may have been made good since; what counts is the last word.
        if end.is_ok() && self.failed_save.is_some() {
            self.write()?;
        }
        end
    }

    fn epochs(&mut self) -> Result<End, TrainError> {
        loop {
            if let Some(reason) = &self.progress.finished {
                return Ok(End::Finished(reason.clone()));
            }
            let began = Instant::now();
            if let Some(end) = self.train_epoch()? {
                return Ok(end);
            }
            if let Some(end) = self.close_epoch(began)? {
                return Ok(end);
            }
        }
    }

    /// The rest of the epoch's steps; `Some` where interrupted.
    fn train_epoch(&mut self) -> Result<Option<End>, TrainError> {
        let epoch = u32::try_from(self.progress.epoch).unwrap_or(u32::MAX);
        let mut batches = self.parts.train.epoch(epoch, self.progress.batch);
        let began = Instant::now();
        let mut images = 0;
        let mut group = step::Group::default();
        loop {
            // Between two steps, and before the first.
            if group.is_empty()
                && let Some(end) = self.interrupted()?
            {
                return Ok(Some(end));
            }
            let Some(batch) = batches.next() else {
                let seconds = began.elapsed().as_secs_f64();
                self.pace = EpochTiming {
                    epoch: self.progress.epoch + 1,
                    train_seconds: seconds,
                    samples: images,
                    waiting_share: batches.waited().as_secs_f64() / seconds.max(1e-9),
                    evaluation_seconds: 0.0,
                };
                return Ok(None);
            };
            let batch = batch?;
            images += batch.len();
            self.accumulate(&batch, &mut group)?;
            let done = batch.number + 1;
            self.parts.train.recycle(batch);
            if group.passes() < self.parts.config.accumulate && done < self.parts.train.batches() {
                continue;
            }
            let step_loss = group.loss();
            let lr = self.apply(std::mem::take(&mut group), done);
            let seconds = began.elapsed().as_secs_f64().max(1e-9);
            self.reporter.step(&StepInfo {
                epoch: self.progress.epoch + 1,
                epochs: self.parts.config.epochs,
                batch: done,
                batches: self.parts.train.batches(),
                step: self.progress.step,
                step_loss,
                loss: self.sums.mean(),
                accuracy: self.sums.accuracy(),
                lr,
                images_per_second: images as f64 / seconds,
                loader_share: batches.waited().as_secs_f64() / seconds,
            });
            if self.save_is_due() {
                self.save();
            }
        }
    }

    /// Evaluates and writes down a finished epoch; `Some` where the run ends with it.
    fn close_epoch(&mut self, began: Instant) -> Result<Option<End>, TrainError> {
        let evaluating = Instant::now();
        let evaluation = match self.evaluate()? {
            Ok(evaluation) => evaluation,
            Err(end) => return Ok(Some(end)),
        };
        self.pace.evaluation_seconds = evaluating.elapsed().as_secs_f64();
        self.write_timing();
        let monitor = self.parts.config.monitor;
        let epoch = self.progress.epoch + 1;
        let best = match &evaluation {
            Some(e) => {
                let value = match monitor {
                    Monitor::Accuracy => e.accuracy,
                    Monitor::Loss => e.loss,
                    Monitor::MacroAuroc => e.macro_auroc.unwrap_or(f64::NAN),
                };
                self.progress.watch.observe(monitor, epoch, value, e.loss)
            }
            // Nothing to choose by: the last epoch is the best.
            None => {
                self.progress.watch.best = None;
                self.progress.watch.observe(
                    Monitor::Loss,
                    epoch,
                    self.sums.mean(),
                    self.sums.mean(),
                )
            }
        };
        let row = EpochMetrics {
            epoch,
            step: self.progress.step,
            lr: self.schedule.at(self.progress.step.saturating_sub(1)),
            train_loss: self.sums.mean(),
            train_accuracy: self.sums.accuracy(),
            val_loss: evaluation.as_ref().map(|e| e.loss),
            val_accuracy: evaluation.as_ref().map(|e| e.accuracy),
            val_top5: evaluation.as_ref().and_then(|e| e.top5),
            val_macro_auroc: evaluation.as_ref().and_then(|e| e.macro_auroc),
            best,
        };
        let model = self.model(&row);
        let evaluated = evaluation.is_some();
        if best {
            self.best_evaluation = evaluation;
            self.unwritten.retain(|(file, _)| *file != BEST);
            self.unwritten.push((BEST, model.clone()));
        }
        self.unwritten.retain(|(file, _)| *file != LAST);
        self.unwritten.push((LAST, model));
        self.reporter
            .epoch(self.parts.config.epochs, &row, began.elapsed());
        self.progress.rows.push(row);
        self.progress.epoch = epoch;
        self.progress.batch = 0;
        self.sums = LossSum::default();
        if epoch >= self.parts.config.epochs {
            self.progress.finished = Some(format!("all {epoch} epochs are done"));
        } else if evaluated && self.progress.watch.exhausted(self.parts.config.patience) {
            let waited = self.progress.watch.waited;
            self.progress.finished = Some(format!("no better epoch for {waited} epochs"));
        }
        self.save();
        Ok(None)
    }

    /// The validation split's evaluation (`None` without one), or the end where interrupted.
    fn evaluate(&mut self) -> Result<Result<Option<Evaluation>, End>, TrainError> {
        let Some(val) = &self.parts.val else {
            return Ok(Ok(None));
        };
        let (parameters, buffers) = averaged(&self.parts.net, &self.ema);
        let scorer = self.parts.net.scorer(parameters, buffers)?;
        let classes = val.dataset().classes();
        let result = score(
            scorer.as_ref(),
            val,
            classes,
            "validation",
            self.reporter,
            self.stop,
        );
        match result {
            Ok(Some(evaluation)) => Ok(Ok(Some(evaluation))),
            // Without a signal there is no reason to stop, but then the loop must not spin either.
            Ok(None) => Ok(Err(self.interrupted()?.unwrap_or(End::Interrupted(2)))),
            Err(TrainError::NonFinite(mut error)) => {
                error.epoch = self.progress.epoch + 1;
                error.step = self.progress.step;
                error.run = Some(self.parts.run.path().to_path_buf());
                Err(TrainError::NonFinite(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Saves and ends where a signal asks for it.
    fn interrupted(&mut self) -> Result<Option<End>, TrainError> {
        let Some(signal) = self.stop.raised() else {
            return Ok(None);
        };
        self.write()?;
        Ok(Some(End::Interrupted(signal)))
    }

    /// The model as it stands after an epoch.
    fn model(&self, row: &EpochMetrics) -> Model {
        let (parameters, buffers) = averaged(&self.parts.net, &self.ema);
        let mut model = self.parts.template.clone();
        model.state = self.parts.net.state_dict_of(parameters, buffers);
        model.num_batches_tracked = self.parts.net.batches_tracked();
        if let Some(serde_json::Value::Object(provenance)) = &mut model.provenance {
            provenance.insert("epoch".into(), row.epoch.into());
            provenance.insert("step".into(), row.step.into());
            for (key, value) in [
                ("val_loss", row.val_loss),
                ("val_accuracy", row.val_accuracy),
            ] {
                if let Some(value) = value {
                    provenance.insert(key.into(), value.into());
                }
            }
        }
        model
    }

    /// Names of a batch's samples.
    fn names(&self, batch: &Batch) -> Vec<String> {
        batch
            .indices
            .iter()
            .map(|&i| self.parts.train.dataset().describe(i))
            .collect()
    }

    /// Appends the epoch's pace. Nothing depends on it, so a refusal is only told.
    fn write_timing(&mut self) {
        let path = self.parts.run.file(TIMING);
        if let Err(error) = self.pace.append(&path) {
            let path = path.display();
            self.reporter
                .warning(&format!("{path}: cannot write: {error}; training goes on"));
        }
    }

    /// What was learned and when, the best epoch's evaluation where it was in this process, and the parts back.
    pub(crate) fn into_parts(self) -> (Parts<N>, Progress, Option<Evaluation>) {
        (self.parts, self.progress, self.best_evaluation)
    }
}

/// The arenas that are evaluated and saved as models: the averaged ones where there are.
fn averaged<'n, N: Net>(net: &'n N, ema: &'n Option<Ema>) -> (&'n [f32], &'n [f32]) {
    match ema {
        Some(ema) => (ema.parameters(), ema.buffers()),
        None => (net.parameters(), net.buffers()),
    }
}

#[cfg(test)]
mod tests;
