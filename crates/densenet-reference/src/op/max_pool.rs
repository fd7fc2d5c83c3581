//! Maximum over a window.

use densenet_spec::Window;

use super::{conv::output_size, sweep};
use crate::Tensor;

/// `y[n, c, o] = max_k x[n, c, o · stride + k − padding]`; the border counts as −∞, NaN as larger than everything.
///
/// # Panics
/// The window does not fit.
pub fn forward(input: &Tensor, window: Window) -> Tensor {
    let spatial = output_size(window, input.spatial);
    let mut output = Tensor::zeros(input.batch, input.channels, spatial);
    for (n, c) in maps(input) {
        let x = input.map(n, c);
        let winners = winners(x, window, input.spatial);
        for (y, i) in output.map_mut(n, c).iter_mut().zip(winners) {
            *y = i.map_or(f64::NEG_INFINITY, |i| x[i]);
        }
    }
    output
}

/// The gradient goes to the pixel that won; of equals, to the first one (PyTorch's choice).
///
/// # Panics
/// The window does not fit.
pub fn backward(input: &Tensor, grad_output: &Tensor, window: Window) -> Tensor {
    let mut grad_input = input.zeros_like();
    for (n, c) in maps(input) {
        let winners = winners(input.map(n, c), window, input.spatial);
        let gx = grad_input.map_mut(n, c);
        for (g, i) in grad_output.map(n, c).iter().zip(winners) {
            if let Some(i) = i {
                gx[i] += g;
            }
        }
    }
    grad_input
}

fn maps(input: &Tensor) -> impl Iterator<Item = (usize, usize)> + use<> {
    let channels = input.channels;
    (0..input.batch).flat_map(move |n| (0..channels).map(move |c| (n, c)))
}

/// For every output pixel the input pixel with the maximum; none where the whole window lies in the border.
fn winners(x: &[f64], window: Window, spatial: [usize; 3]) -> Vec<Option<usize>> {
    let pixels = output_size(window, spatial).iter().product();
    let mut winners: Vec<Option<usize>> = vec![None; pixels];
    for row in sweep(window, spatial) {
        for (o, i) in row.pairs() {
            let beaten = winners[o]
                .is_none_or(|best| x[i] > x[best] || (x[i].is_nan() && !x[best].is_nan()));
            if beaten {
                winners[o] = Some(i);
            }
        }
    }
    winners
}
