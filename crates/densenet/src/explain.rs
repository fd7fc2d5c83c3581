//! Why the network answered what it answered: maps over the input.
//!
//! - [`class_activation_map`]: where the evidence for a class lies. Exact, because a DenseNet ends in a global mean and a
//!   linear classifier; costs one prediction.
//! - [`grad_cam`]: the same idea at any layer, finer and less exact; one prediction and the way back to that layer.
//! - [`occlusion`]: how much the probability falls when a box is covered; one prediction for each place of the box.
//! - [`integrated_gradients`]: a share of the logit for every number of the input; as many gradients as steps.
//! - [`Gradients`]: the gradient of logits at any layer or at the input, for whatever else is to be explained.
//!
//! Every map has the same bits at any number of threads.
//!
//! ```
//! use densenet::{Input, Predictor, explain, spec, weights};
//!
//! let config = spec::preset("densenet-40-12")?.config(2)?;
//! let architecture = spec::Architecture::new(&config)?;
//! let state = weights::initialize(&architecture, 0, weights::InitMode::FanIn);
//! let predictor = Predictor::new(&config, &state)?;
//! let image = vec![0.5; 32 * 32 * 3];
//! let input = Input { data: &image, batch: 1, spatial: [1, 32, 32] };
//! let map = explain::class_activation_map(&predictor, &state, input, 3)?;
//! assert_eq!(map.shape, [1, 8, 8]);
//! assert_eq!(map.resized([1, 32, 32]).data.len(), 32 * 32);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cam;
mod error;
mod grad_cam;
mod gradients;
mod integrated;
mod map;
mod occlusion;

pub use cam::{ClassActivation, class_activation_map};
pub use error::ExplainError;
pub use grad_cam::grad_cam;
pub use gradients::{Gradient, Gradients};
pub use integrated::{Attribution, Integration, integrated_gradients};
pub use map::Map;
pub use occlusion::{Occlusion, Score, occlusion};

use crate::{Input, Predictor};

/// Only one sample is explained at a time.
fn single(input: &Input<'_>) -> Result<(), ExplainError> {
    match input.batch {
        1 => Ok(()),
        found => Err(ExplainError::Batch { found }),
    }
}

fn check_class(predictor: &Predictor, class: usize) -> Result<(), ExplainError> {
    let classes = predictor.architecture().config().num_classes;
    match class < classes {
        true => Ok(()),
        false => Err(ExplainError::Class { class, classes }),
    }
}

fn check_baseline(baseline: &[f32], channels: usize) -> Result<(), ExplainError> {
    match baseline.len() == channels && baseline.iter().all(|b| b.is_finite()) {
        true => Ok(()),
        false => Err(ExplainError::Baseline {
            found: baseline.len(),
            channels,
        }),
    }
}

/// The gradient of one class's logit with respect to all logits, for a batch.
fn one_hot(predictor: &Predictor, batch: usize, class: usize) -> Result<Vec<f32>, ExplainError> {
    check_class(predictor, class)?;
    let classes = predictor.architecture().config().num_classes;
    let mut seeds = vec![0.0; batch * classes];
    seeds
        .iter_mut()
        .skip(class)
        .step_by(classes)
        .for_each(|s| *s = 1.0);
    Ok(seeds)
}
