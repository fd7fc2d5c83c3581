//! DenseNet for images and volumes on the CPU.
//!
//! - [`Predictor`]: a network compiled for inference. `run` gives logits, `features` the pyramid of stages,
//!   `run_with_taps` the output of any named layer.
//! - [`Network`]: the same network for training: forward with batch statistics, backward, and the parameters,
//!   gradients and running statistics as flat arenas with named views.
//! - [`explain`]: maps that show where in the input an answer comes from.
//! - [`memory::estimate`]: what either will need.
//!
//! Weights come from [`weights`], architectures from [`spec`]; both crates are re-exported.
//!
//! ```
//! use densenet::{Input, Predictor, spec, weights};
//!
//! let config = spec::preset("densenet-40-12")?.config(2)?;
//! let architecture = spec::Architecture::new(&config)?;
//! let state = weights::initialize(&architecture, 0, weights::InitMode::FanIn);
//! let predictor = Predictor::new(&config, &state)?;
//! let image = vec![0.5; 32 * 32 * 3];
//! let logits = predictor.run(Input { data: &image, batch: 1, spatial: [1, 32, 32] })?;
//! assert_eq!(logits.len(), 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//! Inputs and features are channels-last, `[batch][depth][height][width][channel]`, depth 1 in 2-D;
//! [`input::to_channels_last`] and [`input::to_channels_first`] convert from and to PyTorch's order.
//!
//! # Determinism
//! Results have the same bits at any number of threads, and a sample's logits do not depend on the rest of its batch.
#![forbid(unsafe_code)]

pub use densenet_spec as spec;
pub use densenet_weights as weights;

mod error;
pub mod explain;
mod fold;
pub mod input;
pub mod memory;
mod network;
mod parameters;
mod plan;
mod predictor;

pub use densenet_kernels::{Isa, in_chunks, peak_gflops};
pub use error::NetworkError;
pub use input::Input;
pub use network::{Network, NetworkOptions, Part};
pub use parameters::ParameterView;
pub use predictor::{
    Dtype, Feature, KernelTime, Output, Predictor, PredictorOptions, StageTime, Weights,
};
