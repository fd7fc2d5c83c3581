//! The executable specification: every operation of a DenseNet, forward and backward, written to be read.
//!
//! Start with [`network`]: its forward pass is the paper in a page, its backward pass the chain rule in another. Each
//! operation has a file of its own under [`op`], with the formula above the loop that computes it. [`loss`] and
//! [`optimizer`] complete a training step.
//!
//! Everything is f64, nothing is fused, nothing is parallel. Fast code elsewhere in the project is right when it agrees
//! with this crate, and this crate is right because it agrees with finite differences and with PyTorch (`tests/`).
//!
//! # Letters
//! `n` sample of the batch, `c` channel (`c_in`, `c_out`), `p` pixel (or voxel), `o` pixel of an output. A superscript
//! `l` numbers the dense layers of a block.
//!
//! # Layout
//! Channels first, PyTorch's: `[batch][channel][depth][height][width]`; an image has depth 1. Weights as in PyTorch.
//!
//! # Example
//! ```
//! use densenet_reference::{CrossEntropy, Network, Parameters, Tensor, Training};
//! use densenet_spec::{Architecture, ParameterKind, preset};
//!
//! let config = preset("densenet-40-12").unwrap().config(2).unwrap();
//! let architecture = Architecture::new(&config).unwrap();
//! // Any values will do here: small weights, norms of 1 and 0.
//! let value = |kind| match kind {
//!     ParameterKind::ConvWeight | ParameterKind::LinearWeight => 0.01,
//!     ParameterKind::NormWeight | ParameterKind::RunningVar => 1.0,
//!     _ => 0.0,
//! };
//! let parameters: Parameters = architecture
//!     .parameters()
//!     .iter()
//!     .map(|p| (p.name.clone(), vec![value(p.kind); p.len()]))
//!     .collect();
//! let mut network = Network::new(&architecture, parameters).unwrap();
//!
//! let images = Tensor::new(2, 3, [1, 8, 8], (0..2 * 3 * 64).map(|i| (i as f64).sin()).collect());
//! let tape = network.forward_train(&images, &Training::default()).unwrap();
//! let loss = CrossEntropy::default().forward(tape.logits(), &[3, 7]).unwrap();
//! let gradients = network.backward(&tape, &loss.grad_logits).unwrap();
//! network.update_running_statistics(&tape);
//! assert_eq!(gradients.parameters["classifier.bias"].len(), 10);
//! ```
//!
//! # Source
//! Huang, Liu, van der Maaten, Weinberger: *Densely Connected Convolutional Networks*, CVPR 2017, arXiv:1608.06993.
#![forbid(unsafe_code)]

mod error;
pub mod loss;
pub mod network;
pub mod op;
pub mod optimizer;
mod tensor;

pub use error::ReferenceError;
pub use loss::{CrossEntropy, Loss};
pub use network::{Gradients, Network, Parameters, Tape, Training};
pub use tensor::Tensor;
