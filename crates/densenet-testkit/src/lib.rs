//! What the tests of every room share: a comparator, seeded values, golden files, finite differences.
//!
//! This crate is a development dependency only. It may panic: a failed assertion is what it is for.
//!
//! - [`assert_close`] and [`compare`] say whether two lists of numbers agree within a [`Tolerance`], and if not, where
//!   they differ most. NaN, infinities and vacuous comparisons never pass by accident.
//! - [`generate_parameters`], [`generate_input`] and [`generate_labels`] make the values of a test from a seed and a name.
//!   `tools/golden/generator.py` is the same few lines in Python and yields the same bits, so that golden files store
//!   outputs only, never weights.
//! - [`goldens`] reads `tests/golden`: what PyTorch computes for every preset and for a training step of small networks.
//! - [`central_difference`] differentiates a function numerically.
//! - [`channels_last`] and [`channels_first`] translate between PyTorch's layout and the CPU engine's.
//!
//! # Example
//! ```
//! use densenet_spec::{Architecture, preset};
//! use densenet_testkit::{Tolerance, assert_close, generate_parameters};
//!
//! let architecture = Architecture::new(&preset("densenet-40-12").unwrap().config(2).unwrap()).unwrap();
//! let parameters = generate_parameters(&architecture, 7);
//! assert_eq!(parameters[0].name, "features.conv0.weight");
//! assert_close(&[1.0f32, 2.0], &[1.0, 2.000001], Tolerance::absolute(1e-5), "two numbers");
//! ```
#![forbid(unsafe_code)]

mod compare;
mod generate;
mod golden;
mod gradient;
mod layout;

pub use compare::{
    Comparison, Mismatch, Tolerance, assert_close, compare, compare_each, compare_shapes,
};
pub use generate::{
    Distribution, Generated, fill, generate_input, generate_labels, generate_parameters,
};
pub use golden::{
    AdamW, GoldenError, GoldenTensor, Goldens, LogitsCase, Sgd, TrainingCase, goldens,
};
pub use gradient::{central_difference, central_difference_at, difference_tolerance};
pub use layout::{channels_first, channels_last};
