//! Fused CPU kernels for DenseNet: slices in, slices out.
//!
//! # What is here
//! - [`conv`]: every convolution, forward and with respect to its input, as one tile kernel walking over windows of a
//!   channels-last map; the classifier is its 1×1 case, forward in training [`linear`].
//! - [`weight_gradient`]: every convolution with respect to its weight, by the same tile kernel.
//! - [`norm`]: batch statistics, normalise + rectify, and the one-pass batch-norm backward.
//! - [`pool`]: max-pool, the transitions' norm–ReLU–average-pool, global average pooling, forward and backward.
//! - [`dropout`]: elementwise dropout with a counter-based generator.
//! - [`Raster`] says where a pixel lies in a buffer, [`Buffer`] is 64-byte aligned memory, [`Isa`] the instruction set.
//!
//! # What is not here
//! No layers, no network, no parameters by name: that is the `densenet` crate. Instruction sets are chosen at run time;
//! compile flags change nothing.
//!
//! # Letters
//! `batch depth height width channels`; `c_in`, `c_out`; `pixels` = batch · depth · height · width. GEMM letters (`mr`,
//! `nr`, `k`) appear in `tile.rs` and `panels.rs` alone. All sizes and strides count `f32` elements.
//!
//! # Determinism
//! Work is cut into chunks by the problem's shape alone and partial sums are combined in chunk order, so every result
//! has the same bits at any thread count. An output of a convolution is one chain of multiply-adds in a fixed order:
//! it does not depend on which tile, chunk or batch it was computed in.
//!
//! # Safety
//! This is the only crate of the project with `unsafe`. Shapes are checked at the public functions, which are safe;
//! pointers live in `tile.rs`, `simd`, `parallel.rs` and `buffer.rs`.

mod buffer;
mod error;
mod isa;
mod linear;
mod panels;
mod parallel;
mod peak;
mod raster;
mod simd;
mod tile;

pub mod conv;
pub mod dropout;
pub mod norm;
pub mod pointwise;
pub mod pool;
pub mod weight_gradient;
pub mod winograd;

pub use buffer::Buffer;
pub use error::KernelError;
pub use isa::Isa;
pub use linear::linear;
pub use panels::{Operand, Panels};
pub use parallel::{in_chunks, together};
pub use peak::peak_gflops;
pub use raster::Raster;
