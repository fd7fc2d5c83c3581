//! From a configuration to a trained model.

use std::path::{Path, PathBuf};

use densenet::Network;
use densenet_data::{Dataset, Loader, Split};

use crate::{
    checkpoint::{EpochMetrics, SavedState, Store},
    config::{Layer, TrainConfig},
    early_stopping::Best,
    error::TrainError,
    metrics::Evaluation,
    records::Pace,
    report::{Reporter, RunInfo},
    run_dir::RunDir,
    session::{End, Parts, Session},
    stop::StopFlag,
    tensorboard::EventLog,
};

mod close;
mod prepare;

use close::{Close, signal_name};
pub use prepare::{Finding, Preflight, preflight};
use prepare::{Prepared, Source};

/// How a call of [`train`] or [`resume`] ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The run is complete.
    Finished(Box<Summary>),
    /// A signal asked to stop; the run is saved and can be resumed.
    Interrupted {
        /// The signal's number.
        signal: i32,
        /// The run's folder; `None` where it was stopped before there was one.
        run: Option<PathBuf>,
    },
}

impl Outcome {
    /// 0, or 128 + the signal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Outcome::Finished(_) => 0,
            Outcome::Interrupted { signal, .. } => u8::try_from(128 + signal).unwrap_or(130),
        }
    }

    /// The command that goes on from here, where there is one.
    pub fn next_commands(&self) -> Vec<String> {
        match self {
            Outcome::Finished(summary) => summary.next_commands(),
            Outcome::Interrupted { run: Some(run), .. } => {
                vec![format!("densenet train --resume {}", quoted(run))]
            }
            Outcome::Interrupted { run: None, .. } => Vec::new(),
        }
    }
}

/// What a complete run made.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The run's folder.
    pub run: PathBuf,
    /// The model of the best epoch.
    pub best_model: PathBuf,
    /// The model of the last epoch.
    pub last_model: PathBuf,
    /// Every option as resolved.
    pub config: PathBuf,
    /// One line per epoch.
    pub metrics: PathBuf,
    /// The page about the run; `None` where it could not be written.
    pub report: Option<PathBuf>,
    /// The data set, as it was given.
    pub data: String,
    /// Why it ended.
    pub reason: String,
    /// The best epoch.
    pub best: Option<Best>,
    /// Every epoch.
    pub epochs: Vec<EpochMetrics>,
    /// How fast it went, and how long it waited for samples.
    pub pace: Pace,
    /// The best model on the test split; `None` where the data has none.
    pub test: Option<Evaluation>,
}

impl Summary {
    /// Commands worth typing next, each with what it does.
    pub fn next_commands(&self) -> Vec<String> {
        let (model, data) = (quoted(&self.best_model), quoted(Path::new(&self.data)));
        vec![
            format!("densenet eval {model} {data}"),
            format!("densenet predict {model} IMAGE"),
            format!("densenet summary {model}"),
            format!("densenet train --config {}", quoted(&self.config)),
        ]
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:,=%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Trains a new run in a folder of its own.
///
/// # Errors
/// Whatever is wrong with configuration, data or model file, found before the first step; `NonFinite`; a disk that refuses.
pub fn train(
    config: &TrainConfig,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Outcome, TrainError> {
    config.validate()?;
    let result = new_run(config, reporter, stop);
    reporter.finished();
    result
}

/// Data, network and resolved configuration as a run would begin with them, without a run's folder.
pub(crate) fn start(
    config: &TrainConfig,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Option<(TrainConfig, Network, Loader)>, TrainError> {
    let Some(prepared) = Prepared::new(config, Source::find(config)?, reporter, stop)? else {
        return Ok(None);
    };
    let network = prepared.network()?;
    Ok(Some((prepared.config, network, prepared.train)))
}

fn new_run(
    config: &TrainConfig,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Outcome, TrainError> {
    let Some(prepared) = Prepared::new(config, Source::find(config)?, reporter, stop)? else {
        return Ok(Outcome::Interrupted {
            signal: stop.raised().unwrap_or(2),
            run: None,
        });
    };
    // Whatever can be refused has been by now, and no folder is left behind by a refusal.
    let network = prepared.network()?;
    let run = RunDir::create(&prepared.config.out, &prepared.run_name())?;
    run.write_text("config.toml", &prepared.config.to_toml()?)?;
    run_session(prepared, network, run, None, reporter, stop)
}

/// Continues the run in `folder`, bit for bit as if it had never stopped.
///
/// `changes` may hold keys that cannot change a result (`loader_threads`, `cache_mb`, `cache_dir`, `memory_efficient`,
/// `save_every`, `save_every_steps`); others must be those of the run.
///
/// # Errors
/// `Locked` where another process trains there, `State` where no saved state is usable or something that decides the
/// result has changed, and as [`train`].
pub fn resume(
    folder: &Path,
    changes: &[Layer],
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Outcome, TrainError> {
    let result = resumed_run(folder, changes, reporter, stop);
    reporter.finished();
    result
}

fn resumed_run(
    folder: &Path,
    changes: &[Layer],
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Outcome, TrainError> {
    let run = RunDir::open(folder)?;
    let mut layers = vec![Layer::read(&run.file("config.toml"))?];
    layers.extend_from_slice(changes);
    let config = TrainConfig::layered(&layers)?;
    let loaded = Store::new(run.path()).load()?.ok_or_else(|| {
        TrainError::state(
            run.path(),
            "there is no saved state",
            "the run stopped before its first step; start it again with --config",
        )
    })?;
    for warning in &loaded.warnings {
        reporter.warning(&format!("{warning}; an earlier state is used"));
    }
    let source = Source::Resumed(loaded.state.progress.classes.clone());
    let Some(prepared) = Prepared::new(&config, source, reporter, stop)? else {
        let signal = stop.raised().unwrap_or(2);
        return Ok(Outcome::Interrupted {
            signal,
            run: Some(run.path().to_path_buf()),
        });
    };
    let network = prepared.network()?;
    run_session(prepared, network, run, Some(loaded.state), reporter, stop)
}

fn run_session(
    prepared: Prepared,
    net: Network,
    run: RunDir,
    saved: Option<SavedState>,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Outcome, TrainError> {
    let template = prepared.template();
    let parts = Parts {
        net,
        template,
        config: prepared.config,
        train: prepared.train,
        val: prepared.val,
        run,
    };
    announce(&parts, parts.train.dataset(), reporter);
    if !parts.config.tensorboard {
        return to_the_end(parts, saved, reporter, stop);
    }
    let run = parts.run.path().to_path_buf();
    let step = saved.as_ref().map_or(0, |s| s.progress.step);
    let mut log = EventLog::new(reporter, &run, step, &parts.config.to_toml()?)
        .map_err(|cause| TrainError::io(&run, "make an event file", cause))?;
    to_the_end(parts, saved, &mut log, stop)
}

fn to_the_end(
    parts: Parts<Network>,
    saved: Option<SavedState>,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Outcome, TrainError> {
    let mut keep = |_| Ok(());
    let mut session = Session::new(parts, reporter, stop, &mut keep)?;
    if let Some(saved) = saved {
        session.restore(saved)?;
    }
    let end = session.run();
    let (parts, progress, best) = session.into_parts();
    let close = Close { parts, progress };
    match end {
        Ok(End::Finished(reason)) => close.finish(reason, reporter, stop),
        Ok(End::Interrupted(signal)) => {
            close.leave(
                &format!("stopped by {}", signal_name(signal)),
                best,
                reporter,
            );
            Ok(close.interrupted(signal))
        }
        Err(error) => {
            close.leave(&error.to_string(), best, reporter);
            Err(error)
        }
    }
}

fn announce(parts: &Parts<Network>, dataset: &Dataset, reporter: &mut dyn Reporter) {
    let [depth, height, width] = parts.train.spatial();
    let count = |trainable: bool| {
        let views = parts
            .net
            .views()
            .iter()
            .filter(|v| v.trainable || !trainable);
        views.map(|v| v.range.len()).sum()
    };
    let steps = parts.train.batches().div_ceil(parts.config.accumulate) as u64;
    reporter.started(&RunInfo {
        folder: parts.run.path(),
        data: dataset.name(),
        samples: Split::ALL.map(|split| dataset.indices(split).len()),
        classes: dataset.classes().len(),
        input: [depth, height, width, parts.train.channels()],
        parameters: count(false),
        trainable: count(true),
        epochs: parts.config.epochs,
        steps: steps * parts.config.epochs as u64,
    });
}
