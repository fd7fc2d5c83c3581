//! Weights in the forms that the way back takes them in.

use densenet_kernels::{Isa, Operand, Panels};
use densenet_spec::{Architecture, Op};
use densenet_weights::{StateDict, Tensor};

use crate::NetworkError;

/// What a layer's gradient is multiplied with.
pub(super) enum Weight {
    /// The layer has none, or lies before the target.
    None,
    /// A norm with its running statistics: `scale · x + shift`.
    Norm { scale: Vec<f32>, shift: Vec<f32> },
    /// A convolution that keeps its map's size, packed for the gradient at its input.
    Panels(Panels),
    /// The stem's convolution, `[c_in][tap][c_out]`.
    Kernel(Vec<f32>),
    /// The classifier, `[c_out][c_in]`.
    Linear(Vec<f32>),
}

impl Weight {
    pub(super) fn of(
        architecture: &Architecture,
        index: usize,
        state: &StateDict,
        isa: Isa,
    ) -> Result<Self, NetworkError> {
        let layer = &architecture.layers()[index];
        let tensors = architecture.parameters()[layer.parameters.clone()]
            .iter()
            .map(|p| tensor(state, &p.name, &p.shape))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(match (&layer.op, &tensors[..]) {
            (Op::BatchNorm, [gamma, beta, mean, var]) => {
                let eps = architecture.config().bn_eps;
                let statistics = mean.data.iter().zip(&var.data);
                let learned = gamma.data.iter().zip(&beta.data);
                let (scale, shift) = learned
                    .zip(statistics)
                    .map(|((&gamma, &beta), (&mean, &var))| {
                        let factor = f64::from(gamma) / (f64::from(var) + eps).sqrt();
                        let shift = f64::from(beta) - factor * f64::from(mean);
                        (factor as f32, shift as f32)
                    })
                    .unzip();
                Weight::Norm { scale, shift }
            }
            (Op::Conv(window), [weight]) => {
                let sizes = [window.taps(), layer.c_in, layer.c_out];
                let keeps_size = window.stride == [1; 3]
                    && (0..3).all(|axis| window.kernel[axis] == 2 * window.padding[axis] + 1);
                match index > 0 && keeps_size {
                    true => {
                        let weight = by_tap(&weight.data, sizes);
                        let operand = Operand::BackwardInput;
                        Weight::Panels(Panels::packed(isa, &weight, sizes, operand)?)
                    }
                    false => Weight::Kernel(by_channel(&weight.data, sizes)),
                }
            }
            (Op::Linear, [weight, _]) => Weight::Linear(weight.data.clone()),
            _ => Weight::None,
        })
    }
}

/// A tensor of the state dict, if it has the shape that the architecture gives it.
fn tensor<'a>(
    state: &'a StateDict,
    name: &str,
    shape: &[usize],
) -> Result<&'a Tensor, NetworkError> {
    let found = state.get(name);
    let fits = |t: &&Tensor| t.shape == shape && t.len() == shape.iter().product::<usize>();
    found.filter(fits).ok_or_else(|| NetworkError::Tensor {
        name: name.to_string(),
        expected: shape.to_vec(),
        found: found.map_or("none".into(), |t| format!("{:?}", t.shape)),
    })
}

/// A kernel `[c_out][c_in][tap]` as `[tap][c_in][c_out]`.
fn by_tap(weight: &[f32], [taps, c_in, c_out]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(weight.len());
    for tap in 0..taps {
        for c in 0..c_in {
            out.extend((0..c_out).map(|o| weight[(o * c_in + c) * taps + tap]));
        }
    }
    out
}

/// A kernel `[c_out][c_in][tap]` as `[c_in][tap][c_out]`.
fn by_channel(weight: &[f32], [taps, c_in, c_out]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(weight.len());
    for c in 0..c_in {
        for tap in 0..taps {
            out.extend((0..c_out).map(|o| weight[(o * c_in + c) * taps + tap]));
        }
    }
    out
}
