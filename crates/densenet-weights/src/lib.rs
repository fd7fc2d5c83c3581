#![forbid(unsafe_code)]
//! Named parameters, weight files in every dialect, and the model file.
