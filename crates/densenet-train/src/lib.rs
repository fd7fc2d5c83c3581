#![forbid(unsafe_code)]
//! The training loop: optimisers, schedules, metrics, checkpoints.

pub(crate) use densenet_spec as spec;
pub(crate) use densenet_weights as weights;

mod checkpoint;
mod early_stopping;
mod ema;
mod error;
mod exact;
#[cfg(test)]
mod golden;
mod gradient;
mod loss;
mod metrics;
mod optimizer;
mod run_dir;
mod schedule;
mod stop;

pub use checkpoint::EpochMetrics;
pub use early_stopping::{Best, Monitor, Watch};
pub use ema::Ema;
pub use error::{NonFinite, TrainError};
pub use gradient::{clip_factor, norm};
pub use loss::{CrossEntropy, LossSum};
pub use metrics::{ClassScores, Evaluation, Scores, auroc};
pub use optimizer::{Optimizer, OptimizerKind, Rule, Segment};
pub use schedule::{Schedule, ScheduleKind};
pub use stop::{StopFlag, install_signal_handlers};
