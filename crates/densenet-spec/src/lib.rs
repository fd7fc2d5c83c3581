//! The DenseNet architecture as data.
//!
//! [`DenseNetConfig`] says which network is meant, [`Architecture`] spells it out: the ordered list of [`Layer`]s under
//! torchvision's parameter paths, the [`Parameter`]s with their PyTorch shapes, and for a given input size the shape
//! and the multiply-adds of every layer. Everything else in the project walks that list; nobody writes the loop over
//! blocks twice.
//!
//! ```
//! use densenet_spec::{Architecture, preset};
//!
//! let config = preset("densenet121").unwrap().config(2).unwrap();
//! let architecture = Architecture::new(&config).unwrap();
//! assert_eq!(architecture.num_parameters(), 7_978_856);
//! assert_eq!(architecture.min_input(), [1, 29, 29]);
//! let trace = architecture.trace([1, 224, 224]).unwrap();
//! assert_eq!(trace.output("denseblock4").unwrap().spatial, [1, 7, 7]);
//! ```
//!
//! # Conventions
//! - Geometry is always `[depth, height, width]`; a 2-D network is a 3-D one with depth 1, kernel depth 1, depth stride
//!   1. `spatial_dims` only decides what people see: ranks of weights, defaults, printed shapes.
//! - A *layer* is one operation (`features.denseblock1.denselayer1.conv1`), a *stage* is what the paper's Table 1 calls
//!   a row: `stem`, `denseblock1`, `transition1`, …, `norm5`, `classifier`.
//! - A MAC is one multiply-add of a convolution or the classifier.
//!
//! This crate holds no tensors, reads no files and depends on the standard library alone.
//!
//! # Source
//! Huang, Liu, van der Maaten, Weinberger: *Densely Connected Convolutional Networks*, CVPR 2017, arXiv:1608.06993;
//! parameter paths of torchvision's `densenet.py`.
#![forbid(unsafe_code)]

mod architecture;
mod build;
mod compression;
mod concat;
mod config;
mod error;
mod layer;
mod philox;
mod preset;
mod suggest;
mod trace;
mod window;

pub use architecture::{Architecture, DenseBlock, DenseLayer, Named, Transition};
pub use compression::compression_of;
pub use concat::{ConcatOrder, physical_channels};
pub use config::{DenseNetConfig, Stem};
pub use error::ConfigError;
pub use layer::{Layer, Op, Parameter, ParameterKind, Stage, StageKind};
pub use philox::philox4x32;
pub use preset::{PRESETS, Preset, preset};
pub use suggest::closest;
pub use trace::{LayerShape, Trace};
pub use window::Window;
