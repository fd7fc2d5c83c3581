#![forbid(unsafe_code)]
//! Image data sets, preprocessing, augmentation and batches.
