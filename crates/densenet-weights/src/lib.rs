#![forbid(unsafe_code)]
//! Named parameters, weight files in every dialect, and the model file.
//!
//! # What is here
//! - [`Tensor`] and [`StateDict`]: f32 tensors in PyTorch's layouts under torchvision's names.
//! - [`Model`]: configuration, weights, class names, preprocessing and provenance in one `.safetensors` file.
//! - [`initialize`]: fresh weights from a seed, the same bits on every machine.
//! - [`safetensors`]: reading plain tensor files with every check the format allows.
//! - [`ConfigFile`]: a network's configuration as JSON or TOML.
//! - [`atomic::write`]: files that are the old one or the whole new one, whenever the machine stops.
//!
//! # What reading promises
//! Opening any file runs no code, reads no other file, and uses memory in proportion to the file. Weights that are NaN
//! or infinite are refused with the tensor's name. Loading is strict: missing, surplus and misshaped tensors are listed
//! ([`Mismatch`]) and refused.
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
    ImportOptions, Imported, InputChange, NewHead, NewInput, import, import_from, read_weights,
    read_weights_from,
};
pub use initialize::{InitMode, initialize};
pub use mismatch::{Mismatch, Misshaped};
pub use model::Model;
pub use raw::RawWeights;
pub use tensor::{StateDict, Tensor};
