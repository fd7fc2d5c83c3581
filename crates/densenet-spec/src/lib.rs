#![forbid(unsafe_code)]
//! The DenseNet architecture as data: configuration, presets, layers, shapes, counts.
