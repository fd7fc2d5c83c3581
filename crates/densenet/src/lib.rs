#![forbid(unsafe_code)]
//! DenseNet for images and volumes on the CPU: inference plan and training step.
