//! The end of a run: the best model on samples held back, and what is left to be read.

use densenet::Network;
use densenet_data::Split;

use super::{Outcome, Summary};
use crate::{
    checkpoint::Progress,
    error::TrainError,
    evaluate::{EvaluateOptions, evaluate},
    metrics::{Assessment, Bootstrap, Evaluation},
    records::{EpochTiming, Findings, HeldOut, Pace, REPORT, TIMING, Training},
    report::Reporter,
    session::{BEST, LAST, Parts},
    stop::StopFlag,
    weights::Model,
};

/// A run whose training has ended, one way or another.
pub(super) struct Close {
    pub(super) parts: Parts<Network>,
    pub(super) progress: Progress,
}

impl Close {
    /// A complete run: evaluates the best model and writes the report.
    pub(super) fn finish(
        self,
        reason: String,
        reporter: &mut dyn Reporter,
        stop: &StopFlag,
    ) -> Result<Outcome, TrainError> {
        let run = &self.parts.run;
        let best_model = run.file(BEST);
        let model = Model::load(&best_model)?;
        let dataset = self.parts.train.dataset();
        let split = [Split::Test, Split::Val]
            .into_iter()
            .find(|&split| !dataset.indices(split).is_empty());
        let mut held_out = None;
        if let Some(split) = split {
            let options = EvaluateOptions {
                batch_size: self.parts.config.batch_size,
                threads: self.parts.config.threads(),
            };
            match evaluate(&model, dataset, split, options, reporter, stop)? {
                Some(evaluation) => held_out = Some((split, evaluation)),
                // The run itself is saved as complete; resuming repeats this evaluation only.
                None => return Ok(self.interrupted(stop.raised().unwrap_or(2))),
            }
        }
        let test = held_out
            .as_ref()
            .filter(|(split, _)| *split == Split::Test)
            .map(|(_, evaluation)| evaluation.clone());
        let held_out = held_out.map(|(split, evaluation)| HeldOut {
            split,
            assessment: Assessment::of(evaluation, dataset, Bootstrap::default()),
            explained: true,
        });
        let findings = self.findings(&model, &reason, true, held_out);
        let written = findings.try_write(run.path(), reporter);
        let Close {
            parts, progress, ..
        } = self;
        let run = &parts.run;
        Ok(Outcome::Finished(Box::new(Summary {
            last_model: run.file(LAST),
            config: run.file("config.toml"),
            metrics: run.file("metrics.csv"),
            report: written.then(|| run.file(REPORT)),
            run: run.path().to_path_buf(),
            best_model,
            data: parts.config.data.clone().unwrap_or_else(|| "digits".into()),
            reason,
            best: progress.watch.best,
            epochs: progress.rows,
            pace: Pace::new(&EpochTiming::read(&run.file(TIMING))),
            test,
        })))
    }

    /// A run that was stopped, or had to stop: a report of what there is, without computing anything that takes long.
    pub(super) fn leave(
        &self,
        reason: &str,
        best: Option<Evaluation>,
        reporter: &mut dyn Reporter,
    ) {
        if self.progress.rows.is_empty() {
            return;
        }
        let held_out = best.map(|evaluation| HeldOut {
            split: Split::Val,
            assessment: Assessment::of(
                evaluation,
                self.parts.train.dataset(),
                Bootstrap::default(),
            ),
            explained: false,
        });
        let findings = self.findings(&self.parts.template, reason, false, held_out);
        findings.try_write(self.parts.run.path(), reporter);
    }

    pub(super) fn interrupted(&self, signal: i32) -> Outcome {
        Outcome::Interrupted {
            signal,
            run: Some(self.parts.run.path().to_path_buf()),
        }
    }

    fn findings<'a>(
        &'a self,
        model: &'a Model,
        reason: &str,
        complete: bool,
        held_out: Option<HeldOut>,
    ) -> Findings<'a> {
        let run = &self.parts.run;
        let name = run.path().file_name().map(|n| n.to_string_lossy());
        let trained = self.parts.net.views().iter().filter(|v| v.trainable);
        Findings {
            title: name.map_or_else(|| "run".into(), |n| n.into_owned()),
            dataset: self.parts.train.dataset(),
            model,
            spatial: Some(self.parts.train.spatial()),
            training: Some(Training {
                config: &self.parts.config,
                rows: &self.progress.rows,
                timing: EpochTiming::read(&run.file(TIMING)),
                best: self.progress.watch.best,
                trainable: trained.map(|v| v.range.len()).sum(),
                reason: reason.to_string(),
                complete,
            }),
            held_out,
        }
    }
}

/// What people call a signal.
pub(super) fn signal_name(signal: i32) -> String {
    match signal {
        2 => "Ctrl-C".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}
