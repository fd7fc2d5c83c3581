//! Grad-CAM: class activation maps at any layer.

use densenet_weights::StateDict;

use super::{ExplainError, Gradients, Map, one_hot, single};
use crate::{Input, Predictor};

/// Where a layer's channels speak for a class, in a single input.
///
/// ```text
/// α[c] = mean_p ∂logit[k] / ∂A[p, c],   map[p] = max(0, Σ_c α[c] · A[p, c])
/// ```
///
/// `A` is the output of `layer`, by any name of [`densenet_spec::Architecture::resolve`] before the global pooling. At the
/// layer that the pooling reads it is the positive part of the class activation map over the number of pixels.
///
/// # Errors
/// The input does not fit the network or holds several samples, there is no such class, the layer is unknown or has no
/// map, or a gradient is not finite.
///
/// # Numerics
/// Gradients in f32, the sums over channels and pixels in f64.
///
/// # Source
/// Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: *Grad-CAM*, ICCV 2017, eq. 1 and 2.
pub fn grad_cam(
    predictor: &Predictor,
    state: &StateDict,
    input: Input<'_>,
    (layer, class): (&str, usize),
) -> Result<Map, ExplainError> {
    single(&input)?;
    let seeds = one_hot(predictor, 1, class)?;
    let gradient = Gradients::new(predictor, state, Some(layer))?.run(input, &seeds)?;
    let [_, depth, height, width, channels] = gradient.shape;
    let mut weights = vec![0.0f64; channels];
    for pixel in gradient.data.chunks_exact(channels.max(1)) {
        let sums = weights.iter_mut().zip(pixel);
        sums.for_each(|(sum, &g)| *sum += f64::from(g));
    }
    let pixels = (depth * height * width).max(1) as f64;
    weights.iter_mut().for_each(|w| *w /= pixels);
    let activation = gradient.activation.map_or_else(Vec::new, |a| a.data);
    let values = activation.chunks_exact(channels.max(1)).map(|pixel| {
        let products = pixel.iter().zip(&weights);
        let sum: f64 = products.map(|(&a, w)| f64::from(a) * w).sum();
        // NaN stays NaN, to be found below.
        if sum < 0.0 { 0.0 } else { sum as f32 }
    });
    let map = Map {
        shape: [depth, height, width],
        data: values.collect(),
    };
    map.finite(&format!("the gradient at {layer}"))
}
