#![forbid(unsafe_code)]
//! The training loop: optimisers, schedules, metrics, checkpoints.

pub(crate) use densenet::{spec, weights};

mod checkpoint;
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
mod metrics;
mod network;
mod optimizer;
pub mod report;
mod run_dir;
mod schedule;
mod session;
mod stop;
mod train;

pub use checkpoint::EpochMetrics;
pub use config::{BadFiles, ClassWeights, DIGITS_MODEL, Layer, TrainConfig, WeightRule};
pub use early_stopping::{Best, Monitor, Watch};
pub use ema::Ema;
pub use error::{NonFinite, TrainError};
pub use evaluate::{EvaluateOptions, evaluate, preprocessing_of};
pub use gradient::{clip_factor, norm};
pub use loss::{CrossEntropy, LossSum};
pub use metrics::{ClassScores, Evaluation, Scores, auroc};
pub use optimizer::{Optimizer, OptimizerKind, Rule, Segment};
pub use report::Reporter;
pub use schedule::{Schedule, ScheduleKind};
pub use stop::{StopFlag, install_signal_handlers};
pub use train::{Outcome, Summary, resume, train};
