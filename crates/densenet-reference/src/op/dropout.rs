//! Dropout with a given mask: which elements are kept is the caller's business.
//!
//! # Source
//! Srivastava et al.: *Dropout*, JMLR 2014, in the inverted form (scaled while training, the identity otherwise).

use crate::Tensor;

/// `y = x / (1 − drop_rate)` where the mask keeps, else 0.
///
/// # Panics
/// The mask is not as long as the input.
pub fn forward(input: &Tensor, keep: &[bool], drop_rate: f64) -> Tensor {
    assert_eq!(input.data.len(), keep.len());
    let scale = 1.0 / (1.0 - drop_rate);
    let mut output = input.clone();
    for (y, &keep) in output.data.iter_mut().zip(keep) {
        *y = if keep { *y * scale } else { 0.0 };
    }
    output
}

/// `∂L/∂x = ∂L/∂y / (1 − drop_rate)` where the mask keeps, else 0: the forward pass again, applied to the gradient.
///
/// # Panics
/// As [`forward`].
pub fn backward(grad_output: &Tensor, keep: &[bool], drop_rate: f64) -> Tensor {
    forward(grad_output, keep, drop_rate)
}
