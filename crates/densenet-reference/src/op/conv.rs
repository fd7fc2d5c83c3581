//! Convolution without bias, any window, 2-D and 3-D.

use densenet_spec::Window;

use super::sweep;
use crate::Tensor;

/// `y[n, c_out, o] = Σ_{c_in, k} w[c_out, c_in, k] · x[n, c_in, o · stride + k − padding]`
///
/// Pixels outside the input count as 0. As everywhere in deep learning this is a cross-correlation: the kernel is not
/// mirrored.
///
/// # Shapes
/// input `[n, c_in, …]`, weight `[c_out, c_in, kd, kh, kw]` flat, output `[n, c_out, …]`.
///
/// # Panics
/// The weight's length is no multiple of c_in · taps, or the window does not fit.
pub fn forward(input: &Tensor, weight: &[f64], window: Window) -> Tensor {
    let (c_in, taps) = (input.channels, window.taps());
    let c_out = count_outputs(weight, c_in, taps);
    let rows = sweep(window, input.spatial);
    let spatial = output_size(window, input.spatial);
    let mut output = Tensor::zeros(input.batch, c_out, spatial);
    for n in 0..input.batch {
        for co in 0..c_out {
            let y = output.map_mut(n, co);
            for ci in 0..c_in {
                let x = input.map(n, ci);
                let w = &weight[(co * c_in + ci) * taps..][..taps];
                for row in &rows {
                    for (o, i) in row.pairs() {
                        y[o] += w[row.tap] * x[i];
                    }
                }
            }
        }
    }
    output
}

/// `∂L/∂x[n, c_in, i] = Σ_{c_out, k, o: o · stride + k − padding = i} w[c_out, c_in, k] · ∂L/∂y[n, c_out, o]`
///
/// Every product of the forward pass is visited again; what it took from x it gives back.
///
/// # Panics
/// As [`forward`].
pub fn backward_input(
    grad_output: &Tensor,
    weight: &[f64],
    window: Window,
    input_spatial: [usize; 3],
) -> Tensor {
    let (c_out, taps) = (grad_output.channels, window.taps());
    let c_in = weight.len() / (c_out * taps);
    let rows = sweep(window, input_spatial);
    let mut grad_input = Tensor::zeros(grad_output.batch, c_in, input_spatial);
    for n in 0..grad_output.batch {
        for ci in 0..c_in {
            let gx = grad_input.map_mut(n, ci);
            for co in 0..c_out {
                let gy = grad_output.map(n, co);
                let w = &weight[(co * c_in + ci) * taps..][..taps];
                for row in &rows {
                    for (o, i) in row.pairs() {
                        gx[i] += w[row.tap] * gy[o];
                    }
                }
            }
        }
    }
    grad_input
}

/// `∂L/∂w[c_out, c_in, k] = Σ_{n, o} ∂L/∂y[n, c_out, o] · x[n, c_in, o · stride + k − padding]`
///
/// # Panics
/// As [`forward`].
pub fn backward_weight(input: &Tensor, grad_output: &Tensor, window: Window) -> Vec<f64> {
    let (c_in, c_out, taps) = (input.channels, grad_output.channels, window.taps());
    let rows = sweep(window, input.spatial);
    let mut grad_weight = vec![0.0; c_out * c_in * taps];
    for n in 0..input.batch {
        for co in 0..c_out {
            let gy = grad_output.map(n, co);
            for ci in 0..c_in {
                let x = input.map(n, ci);
                let gw = &mut grad_weight[(co * c_in + ci) * taps..][..taps];
                for row in &rows {
                    for (o, i) in row.pairs() {
                        gw[row.tap] += gy[o] * x[i];
                    }
                }
            }
        }
    }
    grad_weight
}

fn count_outputs(weight: &[f64], c_in: usize, taps: usize) -> usize {
    assert_eq!(
        weight.len() % (c_in * taps),
        0,
        "weight of {c_in} inputs and {taps} taps"
    );
    weight.len() / (c_in * taps)
}

pub(super) fn output_size(window: Window, input: [usize; 3]) -> [usize; 3] {
    window
        .output(input)
        .unwrap_or_else(|axis| panic!("{window:?} does not fit into {input:?} along axis {axis}"))
}
