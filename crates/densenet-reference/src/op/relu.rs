//! The rectifier.

use crate::Tensor;

/// `y = max(x, 0)`; NaN stays NaN.
pub fn forward(input: &Tensor) -> Tensor {
    let mut output = input.clone();
    for y in &mut output.data {
        if *y < 0.0 {
            *y = 0.0;
        }
    }
    output
}

/// `∂L/∂x = ∂L/∂y` where x > 0, else 0. At x = 0, where there is no derivative, PyTorch's choice: 0.
pub fn backward(input: &Tensor, grad_output: &Tensor) -> Tensor {
    let mut grad_input = grad_output.clone();
    for (g, x) in grad_input.data.iter_mut().zip(&input.data) {
        if *x <= 0.0 {
            *g = 0.0;
        }
    }
    grad_input
}
