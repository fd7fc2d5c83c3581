//! The operations, one file each: `forward`, and `backward` as the chain rule gives it.
//!
//! A backward function takes the gradient of the loss with respect to its output (`grad_output`) and returns the
//! gradient with respect to its input, and to its parameters where it has some.

pub mod avg_pool;
pub mod batch_norm;
pub mod concat;
pub mod conv;
pub mod dropout;
pub mod global_avg_pool;
pub mod linear;
pub mod max_pool;
pub mod relu;
mod sweep;

pub use sweep::{Row, sweep};
