//! Integrated gradients: a share of the answer for every number of the input.

use densenet_weights::StateDict;

use super::{ExplainError, Gradients, Map, check_baseline, one_hot, single};
use crate::{Input, Predictor};

/// From where to where, and in how many steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Integration {
    /// Points of the path at which the gradient is taken.
    pub steps: usize,
    /// Where the path begins: one value per channel, in the unit of the input.
    pub baseline: Vec<f32>,
    /// Points that the network sees at a time.
    pub batch: usize,
}

impl Integration {
    /// 50 steps from `baseline`.
    pub fn from_baseline(baseline: Vec<f32>) -> Self {
        Integration {
            steps: 50,
            baseline,
            batch: 8,
        }
    }
}

/// What each number of the input contributes to a logit.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// `[depth, height, width]`
    pub shape: [usize; 3],
    /// Numbers of a pixel.
    pub channels: usize,
    /// `[depth][height][width][channel]`
    pub data: Vec<f32>,
    /// The logit of the input.
    pub logit: f32,
    /// The logit of the baseline.
    pub baseline_logit: f32,
}

impl Attribution {
    /// The sum over the channels of every pixel.
    pub fn map(&self) -> Map {
        let pixels = self.data.chunks_exact(self.channels.max(1));
        let sums = pixels.map(|pixel| pixel.iter().map(|&v| f64::from(v)).sum::<f64>() as f32);
        Map {
            shape: self.shape,
            data: sums.collect(),
        }
    }

    /// How far the contributions are from adding up to `logit − baseline_logit`: what the finite number of steps costs.
    pub fn gap(&self) -> f64 {
        let sum: f64 = self.data.iter().map(|&v| f64::from(v)).sum();
        sum - (f64::from(self.logit) - f64::from(self.baseline_logit))
    }
}

/// Integrated gradients of a logit for a single input.
///
/// ```text
/// a[i] = (x[i] − b[i]) · mean_{s = 1…steps} ∂logit[k] / ∂x[i] at b + (s − ½)/steps · (x − b)
/// ```
///
/// With enough steps `Σ_i a[i] = logit(x) − logit(b)`; [`Attribution::gap`] says what is missing.
///
/// # Errors
/// The input does not fit the network or holds several samples, there is no such class, the baseline has another number of
/// channels, no steps are asked for, or a gradient is not finite.
///
/// # Numerics
/// The midpoint rule; gradients in f32, their mean in f64.
///
/// # Source
/// Sundararajan, Taly, Yan: *Axiomatic Attribution for Deep Networks*, ICML 2017, eq. 1.
pub fn integrated_gradients(
    predictor: &Predictor,
    state: &StateDict,
    input: Input<'_>,
    class: usize,
    options: &Integration,
) -> Result<Attribution, ExplainError> {
    single(&input)?;
    let channels = predictor.architecture().config().in_channels;
    check_baseline(&options.baseline, channels)?;
    if options.steps == 0 {
        return Err(ExplainError::Steps);
    }
    one_hot(predictor, 1, class)?;
    let start: Vec<f32> = input
        .data
        .iter()
        .zip(options.baseline.iter().cycle())
        .map(|(_, &b)| b)
        .collect();
    let logit = predictor.run(input)?[class];
    let from = Input {
        data: &start,
        ..input
    };
    let baseline_logit = predictor.run(from)?[class];
    let gradients = Gradients::new(predictor, state, None)?;
    let mut sums = vec![0.0f64; input.data.len()];
    let steps: Vec<usize> = (0..options.steps).collect();
    let mut batch: Vec<f32> = Vec::new();
    for some in steps.chunks(options.batch.max(1)) {
        batch.clear();
        for &step in some {
            let share = (step as f64 + 0.5) / options.steps as f64;
            let points = input.data.iter().zip(&start).map(|(&x, &b)| {
                let (x, b) = (f64::from(x), f64::from(b));
                (b + share * (x - b)) as f32
            });
            batch.extend(points);
        }
        let points = Input {
            data: &batch,
            batch: some.len(),
            ..input
        };
        let seeds = one_hot(predictor, some.len(), class)?;
        let gradient = gradients.run(points, &seeds)?;
        for sample in gradient.data.chunks_exact(sums.len().max(1)) {
            let pairs = sums.iter_mut().zip(sample);
            pairs.for_each(|(sum, &g)| *sum += f64::from(g));
        }
    }
    let path = input.data.iter().zip(&start);
    let shares = sums.iter().zip(path).map(|(sum, (&x, &b))| {
        let mean = sum / options.steps as f64;
        ((f64::from(x) - f64::from(b)) * mean) as f32
    });
    let found = Attribution {
        shape: input.spatial,
        channels,
        data: shares.collect(),
        logit,
        baseline_logit,
    };
    match found.data.iter().all(|v| v.is_finite()) {
        true => Ok(found),
        false => Err(ExplainError::NonFinite {
            what: "the gradient at the input".to_string(),
        }),
    }
}
