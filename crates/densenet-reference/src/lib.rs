#![forbid(unsafe_code)]
//! The executable specification: naive DenseNet forward and backward with f64 sums.
