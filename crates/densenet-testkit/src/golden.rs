//! The golden files in `tests/golden`: what PyTorch computes in float64.
//!
//! # Layout
//! `index.json` describes every case; the numbers lie in the `.safetensors` file a case names, under these keys:
//!
//! ```text
//! logits case:    <case>/logits            f64 [batch, classes], evaluation mode
//!                 <case>/logits_f32        f32, the same computed by PyTorch in float32
//!                 <case>/tap/<stage>       f32 [batch, channels, (depth,) height, width]; norm5 is before the ReLU
//! training case:  logits, loss             f64, training mode, batch 0
//!                 grad_input               f64
//!                 grad/<parameter>         f64, every learned parameter
//!                 running/<buffer>         f64, running statistics after that one forward pass
//!                 sgd/<tensor>             f32, all parameters and buffers after ten steps
//!                 adamw/<tensor>           f32, likewise
//!                 sgd_losses adamw_losses  f64 [10]
//! ```
//!
//! Inputs, labels and weights are not stored: [`LogitsCase::parameters`] and its neighbours generate them. Everything
//! was computed in float64 from the generated float32 values, also what is stored as f32.
//! `tools/golden/make_golden.py` writes these files.
//!
//! # Example
//! ```
//! use densenet_testkit::{Tolerance, assert_close, channels_last, compare, goldens};
//! # fn logits_of(case: &densenet_testkit::LogitsCase, _: Vec<f32>) -> Vec<f64> { case.logits_f32.data.clone() }
//!
//! for case in &goldens().logits {
//!     let weights = case.parameters(); // name, shape and values of every tensor of the state dict
//!     let input = channels_last(&case.input(), &case.input_shape);
//!     let logits = logits_of(case, input); // the network under test
//!     assert_close(&logits, &case.logits.data, case.logits.tolerance(10.0), &case.name);
//! }
//! for case in &goldens().training {
//!     let (input, labels) = (case.input(0), case.labels(0));
//!     for (name, expected) in &case.gradients {
//!         let gradient = &expected.data; // the gradient under test, in PyTorch's order
//!         compare(gradient, &expected.data, expected.tolerance(10.0), name).unwrap();
//!     }
//! }
//! ```
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use densenet_spec::{Architecture, DenseNetConfig, ParameterKind};
use serde_json::Value;

use crate::{Generated, Tolerance, generate_input, generate_labels, generate_parameters};

mod parse;

/// Everything in the golden folder.
#[derive(Debug, Clone)]
pub struct Goldens {
    /// Versions of Python, torch, torchvision, monai, numpy and safetensors that wrote the files.
    pub versions: BTreeMap<String, String>,
    /// Logits in evaluation mode: every preset in 2-D and 3-D.
    pub logits: Vec<LogitsCase>,
    /// Training of small networks: gradients, running statistics, ten optimiser steps.
    pub training: Vec<TrainingCase>,
    /// The index itself, for what has no field here.
    pub index: Value,
}

/// A tensor of a golden file.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenTensor {
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Values in PyTorch's order.
    pub data: Vec<f64>,
    /// Largest |float32 − float64| of PyTorch's own two runs: how well conditioned the values are.
    pub float32_error: f64,
    /// Largest magnitude among the tensors of its group: all gradients of a case, all of its state after a run, ….
    pub group_peak: f64,
}

impl GoldenTensor {
    /// The bound for a float32 computation: `factor · (float32_error + ε₃₂ · (16 · peak + group_peak))`.
    ///
    /// PyTorch's float32 run strayed by `float32_error`; another order of the same sums strays by a like amount, and the
    /// other terms stand in where that run was lucky. The group's peak is there for gradients that cancel to nothing: a
    /// shift that every later norm removes has the gradient 0, with the rounding errors of its large summands.
    /// PyTorch without oneDNN (other convolution kernels, other sums) stays below 0.6 of the bound at factor 1, over all
    /// training cases; 10 leaves room for other sound orders of summation.
    pub fn tolerance(&self, factor: f64) -> Tolerance {
        let epsilon = f32::EPSILON as f64;
        let peak = Tolerance::of_peak(&self.data, 16.0 * epsilon).atol;
        Tolerance::absolute(factor * (self.float32_error + peak + epsilon * self.group_peak))
    }
}

/// Logits of one network in evaluation mode.
#[derive(Debug, Clone)]
pub struct LogitsCase {
    /// Unique name.
    pub name: String,
    /// The preset it is, if it is one; `config` then equals the preset's.
    pub preset: Option<String>,
    /// The network.
    pub config: DenseNetConfig,
    /// Seed of the generated parameters and input.
    pub seed: u64,
    /// `[batch, channels, (depth,) height, width]`
    pub input_shape: Vec<usize>,
    /// Which implementations agreed on the result: `generic` and, where they have the network, `torchvision`, `monai`.
    pub oracles: Vec<String>,
    /// Expected logits, `[batch, classes]`.
    pub logits: GoldenTensor,
    /// What PyTorch computes in float32.
    pub logits_f32: GoldenTensor,
    /// Output of every stage, where stored: `(stage name, tensor)` in order.
    pub taps: Vec<(String, GoldenTensor)>,
}

/// One small network, one training step, and ten steps of two optimisers.
#[derive(Debug, Clone)]
pub struct TrainingCase {
    /// Unique name.
    pub name: String,
    /// The network; its `drop_rate` is 0.
    pub config: DenseNetConfig,
    /// Seed of the generated parameters, inputs and labels.
    pub seed: u64,
    /// `[batch, channels, (depth,) height, width]`
    pub input_shape: Vec<usize>,
    /// Label smoothing of the cross entropy.
    pub label_smoothing: f64,
    /// The smallest distance of any pre-activation from its kink (ReLU) or of a maximum from its runner-up (max-pool)
    /// in the single step: float32 errors far below it cannot flip a derivative.
    pub kink_margin: f64,
    /// The same over the ten steps of both optimisers.
    pub run_kink_margin: f64,
    /// Logits of batch 0 in training mode.
    pub logits: GoldenTensor,
    /// Mean cross entropy of batch 0, one element.
    pub loss: GoldenTensor,
    /// Gradient of the loss with respect to the input.
    pub grad_input: GoldenTensor,
    /// Gradient of the loss with respect to every learned parameter, in the order of the state dict.
    pub gradients: Vec<(String, GoldenTensor)>,
    /// Running statistics after the forward pass of batch 0.
    pub running: Vec<(String, GoldenTensor)>,
    /// The SGD run: step t uses batch t.
    pub sgd: Sgd,
    /// The AdamW run: step t uses batch t.
    pub adamw: AdamW,
}

/// A run of `torch.optim.SGD` with momentum.
#[derive(Debug, Clone)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// Whether Nesterov's.
    pub nesterov: bool,
    /// L2 penalty, on every learned parameter.
    pub weight_decay: f64,
    /// Loss of each step, before its update.
    pub losses: GoldenTensor,
    /// Parameters and running statistics afterwards, in the order of the state dict.
    pub state: Vec<(String, GoldenTensor)>,
}

/// A run of `torch.optim.AdamW`.
#[derive(Debug, Clone)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on every learned parameter.
    pub weight_decay: f64,
    /// Loss of each step, before its update.
    pub losses: GoldenTensor,
    /// Parameters and running statistics afterwards, in the order of the state dict.
    pub state: Vec<(String, GoldenTensor)>,
}

/// A golden folder that cannot be read: which file, and what about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for GoldenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} — tools/golden/make_golden.py writes the golden files",
            self.path.display(),
            self.reason
        )
    }
}

impl std::error::Error for GoldenError {}

/// The project's golden files.
///
/// # Panics
/// They cannot be read; the message is the [`GoldenError`]'s.
pub fn goldens() -> Goldens {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    match Goldens::load(&folder) {
        Ok(goldens) => goldens,
        Err(error) => panic!("{error}"),
    }
}

impl Goldens {
    /// Reads the golden folder `folder`: the index and every file it names.
    ///
    /// # Errors
    /// A file is missing, is no JSON or safetensors, or lacks a field or tensor that its case needs.
    pub fn load(folder: &Path) -> Result<Goldens, GoldenError> {
        parse::load(folder)
    }

    /// The logits case called `name`.
    ///
    /// # Panics
    /// There is none; the message lists those there are.
    pub fn logits_case(&self, name: &str) -> &LogitsCase {
        find(&self.logits, name, |c| &c.name)
    }

    /// The training case called `name`.
    ///
    /// # Panics
    /// There is none; the message lists those there are.
    pub fn training_case(&self, name: &str) -> &TrainingCase {
        find(&self.training, name, |c| &c.name)
    }
}

fn find<'a, C>(cases: &'a [C], name: &str, name_of: impl Fn(&C) -> &String) -> &'a C {
    match cases.iter().find(|c| name_of(c) == name) {
        Some(case) => case,
        None => {
            let known: Vec<_> = cases.iter().map(name_of).collect();
            panic!("no golden case {name}; there are {known:?}")
        }
    }
}

impl LogitsCase {
    /// The network spelled out.
    pub fn architecture(&self) -> Architecture {
        architecture(&self.config)
    }

    /// Parameters and running statistics.
    pub fn parameters(&self) -> Vec<Generated> {
        generate_parameters(&self.architecture(), self.seed)
    }

    /// The input in PyTorch's order.
    pub fn input(&self) -> Vec<f32> {
        generate_input(&self.input_shape, self.seed, 0)
    }

    /// Samples in the batch.
    pub fn batch(&self) -> usize {
        self.input_shape[0]
    }

    /// `[depth, height, width]` of the input; depth is 1 in 2-D.
    pub fn spatial(&self) -> [usize; 3] {
        spatial(&self.input_shape)
    }
}

impl TrainingCase {
    /// The network spelled out.
    pub fn architecture(&self) -> Architecture {
        architecture(&self.config)
    }

    /// Parameters and running statistics before training.
    pub fn parameters(&self) -> Vec<Generated> {
        generate_parameters(&self.architecture(), self.seed)
    }

    /// Batch `step`'s input in PyTorch's order. The single step uses batch 0, step t of a run batch t.
    pub fn input(&self, step: usize) -> Vec<f32> {
        generate_input(&self.input_shape, self.seed, step)
    }

    /// Batch `step`'s labels.
    pub fn labels(&self, step: usize) -> Vec<usize> {
        generate_labels(self.batch(), self.config.num_classes, self.seed, step)
    }

    /// Samples in each batch.
    pub fn batch(&self) -> usize {
        self.input_shape[0]
    }

    /// `[depth, height, width]` of the input; depth is 1 in 2-D.
    pub fn spatial(&self) -> [usize; 3] {
        spatial(&self.input_shape)
    }
}

fn architecture(config: &DenseNetConfig) -> Architecture {
    Architecture::new(config).expect("golden configurations were checked when they were read")
}

fn spatial(input_shape: &[usize]) -> [usize; 3] {
    let mut spatial = [1; 3];
    let sizes = &input_shape[2..];
    spatial[3 - sizes.len()..].copy_from_slice(sizes);
    spatial
}

/// Names of the learned parameters, or of the running statistics, in order.
fn names(architecture: &Architecture, wanted: impl Fn(ParameterKind) -> bool) -> Vec<String> {
    let parameters = architecture.parameters().iter();
    parameters
        .filter(|p| wanted(p.kind))
        .map(|p| p.name.clone())
        .collect()
}

#[cfg(test)]
mod tests;
