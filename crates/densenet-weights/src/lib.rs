#![forbid(unsafe_code)]
//! Named parameters, weight files in every dialect, and the model file.
//!
//! # What is here
//! - [`Tensor`] and [`StateDict`]: f32 tensors in PyTorch's layouts (`OIHW`, `OIDHW`) under torchvision's names.
//! - [`Model`]: configuration, weights, class names, preprocessing and provenance in one `.safetensors` file.
//! - [`import()`]: `.pth`, `.pt` and `.safetensors` in any [`dialect`](mod@dialect), the network inferred from names and
//!   shapes.
//! - [`export()`]: the way back; PyTorch loads the file with `strict=True`.
//! - [`initialize`]: fresh weights from a seed, the same bits on every machine.
//! - [`ConfigFile`]: a network's configuration as JSON or TOML.
//! - [`atomic::write`]: files that are the old one or the whole new one, whenever the machine stops.
//! - [`pth`] and [`safetensors`]: the formats alone, tensors under the file's own names.
//!
//! # What is not here
//! No arithmetic on networks, no ONNX, no optimiser state. Quantised and sparse tensors are refused, as is everything in
//! a pickle that is not plain weights.
//!
//! # What reading promises
//! Opening any file runs no code, reads no other file, and uses memory in proportion to the file, at most a fixed number
//! of times its length plus a few tens of megabytes. Every error is one line that names the file, what is wrong and what
//! to do ([`WeightsError`]). Weights that are NaN or infinite are neither loaded nor saved: the tensor is named instead.
//! Loading is strict: missing, surplus and misshaped tensors are listed ([`Mismatch`]) and refused. The head or the first
//! convolution is replaced only when [`ImportOptions`] ask for it.
//!
//! ```
//! use densenet_spec::{Architecture, preset};
//! use densenet_weights::{InitMode, Model, initialize};
//!
//! let mut config = preset("densenet-bc-100-12").unwrap().config(2).unwrap();
//! config.block_config = vec![2, 2];
//! let state = initialize(&Architecture::new(&config).unwrap(), 42, InitMode::default_for(2));
//! let model = Model::new(config, state).unwrap();
//!
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("tiny.safetensors");
//! model.save(&path).unwrap();
//! assert_eq!(Model::load(&path).unwrap(), model);
//! ```

pub mod atomic;
mod config_file;
pub mod dialect;
mod dtype;
mod error;
mod export;
mod files;
mod import;
mod initialize;
mod mismatch;
mod model;
pub mod pth;
mod raw;
pub mod safetensors;
mod tensor;

pub use config_file::{ConfigFile, StemFile, StemParts};
pub use dialect::{DIALECTS, Dialect, dialect};
pub use error::{Format, Problem, WeightsError};
pub use export::{Exported, export};
pub use import::{
    ImportOptions, Imported, Inflation, InputChange, NewHead, NewInput, import, import_from,
    read_weights, read_weights_from,
};
pub use initialize::{InitMode, initialize};
pub use mismatch::{Mismatch, Misshaped};
pub use model::{Model, OpenModel};
pub use raw::RawWeights;
pub use tensor::{StateDict, Tensor};
