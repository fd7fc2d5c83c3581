//! Training DenseNets: from a folder of images and a few options to a model file.
//!
//! - [`TrainConfig`]: every option, from defaults, a file and the command line ([`TrainConfig::layered`]).
//! - [`train()`]: a new run in a folder of its own; [`resume()`]: an interrupted one, bit for bit as if it had never
//!   stopped. Both speak to a [`Reporter`], listen to a [`StopFlag`], and give an [`Outcome`].
//! - [`evaluate()`]: a model on a split; [`Assessment`] adds calibration and intervals, [`report_evaluation`] writes files.
//! - [`lr_find()`]: which learning rate; [`compare()`]: which run.
//!
//! The parts can be used alone: [`Optimizer`], [`Schedule`], [`CrossEntropy`], [`Ema`], [`Scores`], [`auroc`].
//!
//! ```
//! use densenet_train::{Layer, Outcome, StopFlag, TrainConfig, train};
//!
//! let runs = tempfile::tempdir()?;
//! let options = format!(
//!     "epochs = 1\nbatch_size = 128\nblock_config = [1, 1]\ngrowth_rate = 4\nout = {:?}",
//!     runs.path().display().to_string(),
//! );
//! let config = TrainConfig::layered(&[Layer::parse("example", &options)?])?;
//! let Outcome::Finished(summary) = train(&config, &mut (), &StopFlag::new())? else { panic!("nobody stopped it") };
//! assert!(summary.best_model.ends_with("digits-1/best.safetensors"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A run
//! ```text
//! open and check every image -> decide preprocessing and network -> refuse what cannot work -> run folder
//!   epoch: batches -> forward -> loss finite? -> backward -> gradient finite? -> running statistics -> optimiser
//!   evaluation on the validation split -> best.safetensors, last.safetensors, state.safetensors, metrics.csv
//! best model on the test split -> predictions.csv, summary.json, report.html
//! ```
//!
//! # Promises
//! - The same configuration, data and program give the same bits, for any number of threads, and however often the run
//!   was interrupted, killed and resumed. (Instruction sets differ in rounding: `DENSENET_ISA` fixes one.)
//! - Whenever the process is killed or the disk is full, a whole saved state is left; damage to it is found and the
//!   state before is used. A save that did not reach the disk is never called one.
//! - A NaN never reaches weights or running statistics.
//! - What was trained is what is run: classes and preprocessing are in the model file.
//!
//! # What it does not do
//! It parses no command line and prints nothing by itself, trains on one machine, and knows one task: telling classes apart.
#![forbid(unsafe_code)]

pub(crate) use densenet::{spec, weights};

mod checkpoint;
mod compare;
mod config;
mod early_stopping;
mod ema;
mod error;
mod evaluate;
mod exact;
#[cfg(test)]
mod golden;
mod gradient;
mod loss;
mod lr_find;
mod metrics;
mod network;
mod optimizer;
mod records;
pub mod report;
mod run_dir;
mod schedule;
mod session;
mod stop;
mod tensorboard;
mod train;

pub use checkpoint::EpochMetrics;
pub use compare::{Comparison, Difference, RunRecord, compare};
pub use config::{
    BadFiles, ClassWeights, DIGITS_MODEL, Fit, Layer, SHAPES3D_MODEL, TrainConfig, WeightRule,
};
pub use early_stopping::{Best, Monitor, Watch};
pub use ema::Ema;
pub use error::{NonFinite, TrainError};
pub use evaluate::{EvaluateOptions, evaluate, preprocessing_of};
pub use gradient::{clip_factor, norm};
pub use loss::{CrossEntropy, LossSum};
pub use lr_find::{LrPoint, LrSweep, SweepOptions, lr_find};
pub use metrics::{
    Assessment, Bin, Bootstrap, Calibration, ClassIntervals, ClassScores, Curve, Evaluation,
    Interval, Intervals, Point, Scores, auroc,
};
pub use optimizer::{Optimizer, OptimizerKind, Rule, Segment};
pub use records::{PREDICTIONS, Pace, REPORT, SUMMARY, report_evaluation};
pub use report::Reporter;
pub use schedule::{Schedule, ScheduleKind};
pub use stop::{StopFlag, install_signal_handlers};
pub use train::{Finding, Outcome, Preflight, Summary, preflight, resume, train};
