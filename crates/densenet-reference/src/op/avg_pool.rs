//! Mean over a window.

use densenet_spec::Window;

use super::{conv::output_size, sweep};
use crate::Tensor;

/// `y[n, c, o] = 1/taps Σ_k x[n, c, o · stride + k]`
///
/// Rows and columns that no whole window covers are ignored: a 2/2 pooling of 7 pixels reads 6.
///
/// # Panics
/// The window does not fit.
pub fn forward(input: &Tensor, window: Window) -> Tensor {
    let share = 1.0 / window.taps() as f64;
    let rows = sweep(window, input.spatial);
    let spatial = output_size(window, input.spatial);
    let mut output = Tensor::zeros(input.batch, input.channels, spatial);
    for n in 0..input.batch {
        for c in 0..input.channels {
            let (x, y) = (input.map(n, c), output.map_mut(n, c));
            for (o, i) in rows.iter().flat_map(|row| row.pairs()) {
                y[o] += share * x[i];
            }
        }
    }
    output
}

/// `∂L/∂x[n, c, i] = 1/taps Σ_o ∂L/∂y[n, c, o]` over the windows o that cover i.
///
/// # Panics
/// The window does not fit.
pub fn backward(grad_output: &Tensor, window: Window, input_spatial: [usize; 3]) -> Tensor {
    let share = 1.0 / window.taps() as f64;
    let rows = sweep(window, input_spatial);
    let mut grad_input = Tensor::zeros(grad_output.batch, grad_output.channels, input_spatial);
    for n in 0..grad_output.batch {
        for c in 0..grad_output.channels {
            let (gy, gx) = (grad_output.map(n, c), grad_input.map_mut(n, c));
            for (o, i) in rows.iter().flat_map(|row| row.pairs()) {
                gx[i] += share * gy[o];
            }
        }
    }
    grad_input
}
