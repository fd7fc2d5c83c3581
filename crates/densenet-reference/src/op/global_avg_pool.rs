//! Mean over all pixels.

use crate::Tensor;

/// `y[n, c] = 1/pixels Σ_p x[n, c, p]`
pub fn forward(input: &Tensor) -> Tensor {
    let pixels = input.pixels() as f64;
    let mut output = Tensor::zeros(input.batch, input.channels, [1; 3]);
    for n in 0..input.batch {
        for c in 0..input.channels {
            output.map_mut(n, c)[0] = input.map(n, c).iter().sum::<f64>() / pixels;
        }
    }
    output
}

/// `∂L/∂x[n, c, p] = 1/pixels · ∂L/∂y[n, c]`
pub fn backward(grad_output: &Tensor, input_spatial: [usize; 3]) -> Tensor {
    let mut grad_input = Tensor::zeros(grad_output.batch, grad_output.channels, input_spatial);
    let pixels = grad_input.pixels() as f64;
    for n in 0..grad_output.batch {
        for c in 0..grad_output.channels {
            let share = grad_output.map(n, c)[0] / pixels;
            grad_input.map_mut(n, c).fill(share);
        }
    }
    grad_input
}
