//! Option groups and argument types that several subcommands share.

pub mod config;
pub mod model;
pub mod number;
pub mod onnx;
pub mod run;
pub mod size;
pub mod train;
pub mod usual;
