//! The classifier: fully connected, with bias.

use crate::Tensor;

/// What the backward pass returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// ∂L/∂x
    pub input: Tensor,
    /// ∂L/∂w
    pub weight: Vec<f64>,
    /// ∂L/∂b
    pub bias: Vec<f64>,
}

/// `y[n, j] = Σ_c w[j, c] · x[n, c] + b[j]`
///
/// # Shapes
/// input `[n, c, 1, 1, 1]`, weight `[j, c]` flat, bias `[j]`, output `[n, j, 1, 1, 1]`.
///
/// # Panics
/// The shapes do not fit.
pub fn forward(input: &Tensor, weight: &[f64], bias: &[f64]) -> Tensor {
    let c_in = input.channels;
    assert_eq!((input.pixels(), weight.len()), (1, c_in * bias.len()));
    let mut output = Tensor::zeros(input.batch, bias.len(), [1; 3]);
    for (x, y) in rows(&input.data, c_in).zip(output.data.chunks_exact_mut(bias.len())) {
        for (j, y) in y.iter_mut().enumerate() {
            let w = &weight[j * c_in..][..c_in];
            *y = bias[j] + x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        }
    }
    output
}

/// `∂L/∂x[n, c] = Σ_j w[j, c] g[n, j]`, `∂L/∂w[j, c] = Σ_n g[n, j] x[n, c]`, `∂L/∂b[j] = Σ_n g[n, j]`, g = ∂L/∂y.
///
/// # Panics
/// As [`forward`].
pub fn backward(input: &Tensor, weight: &[f64], grad_output: &Tensor) -> Gradients {
    let (c_in, classes) = (input.channels, grad_output.channels);
    let mut gradients = Gradients {
        input: input.zeros_like(),
        weight: vec![0.0; weight.len()],
        bias: vec![0.0; classes],
    };
    for n in 0..input.batch {
        let x = &input.data[n * c_in..][..c_in];
        let gx = &mut gradients.input.data[n * c_in..][..c_in];
        for j in 0..classes {
            let g = grad_output.data[n * classes + j];
            gradients.bias[j] += g;
            for c in 0..c_in {
                gx[c] += weight[j * c_in + c] * g;
                gradients.weight[j * c_in + c] += g * x[c];
            }
        }
    }
    gradients
}

fn rows(data: &[f64], width: usize) -> impl Iterator<Item = &[f64]> {
    data.chunks_exact(width)
}
