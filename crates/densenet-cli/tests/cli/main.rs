//! The built command, as people and scripts use it: output, messages and exit codes.

mod bench;
mod calibrate;
mod check;
mod eval;
mod explain;
mod images;
mod infer;
mod init;
mod onnx;
mod reports;
#[cfg(unix)]
mod signals;
mod summary;
mod support;
mod train;
mod usage;
mod view;
mod volumes;
mod weights;
