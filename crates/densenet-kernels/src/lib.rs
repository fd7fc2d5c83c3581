//! Fused CPU kernels for DenseNet.
