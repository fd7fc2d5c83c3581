//! What the loop asks of a network.
//!
//! [`densenet::Network`] is the network; the trait exists so that the loop's own promises (resuming, interrupting, refusing
//! NaN) are tested on one small enough to strike at every step.

use std::ops::ControlFlow;

use densenet::{Input, Network, Part, Predictor};
use densenet_data::Batch;
use sha2::{Digest, Sha256};

use crate::{error::TrainError, optimizer::Segment, spec::ParameterKind, weights::StateDict};

/// A network in training.
pub(crate) trait Net {
    /// Logits `[batch, classes]` with batch statistics; `pass` keys dropout.
    fn forward(&mut self, batch: &Batch, pass: u64) -> Result<&[f32], TrainError>;
    /// Adds the gradient of the last forward pass to the arena.
    fn backward(&mut self, grad_logits: &[f32]) -> Result<(), TrainError>;
    /// Hands over the gradient of each part of the arena, with that part, as soon as it is whole and nothing else needs
    /// the part as it was.
    fn backward_by_part(
        &mut self,
        grad_logits: &[f32],
        each: &mut (dyn FnMut(Part<'_>) -> ControlFlow<()> + Send),
    ) -> Result<(), TrainError>;
    /// Sets the gradients to zero.
    fn zero_grad(&mut self);
    /// Lets the last forward pass's batch statistics into the running ones.
    fn update_running_statistics(&mut self);
    /// Batches that went into the running statistics.
    fn batches_tracked(&self) -> u64;
    /// Sets their number.
    fn set_batches_tracked(&mut self, batches: u64);
    fn parameters(&self) -> &[f32];
    fn gradients(&self) -> &[f32];
    fn parameters_and_gradients_mut(&mut self) -> (&mut [f32], &mut [f32]);
    fn buffers(&self) -> &[f32];
    fn buffers_mut(&mut self) -> &mut [f32];
    /// Name, place and kind of each parameter, and whether it is trained.
    fn views(&self) -> Vec<View>;
    /// These arenas as named tensors.
    fn state_dict_of(&self, parameters: &[f32], buffers: &[f32]) -> StateDict;
    /// The same network for inference, with these arenas.
    fn scorer(&self, parameters: &[f32], buffers: &[f32]) -> Result<Box<dyn Scorer>, TrainError>;
}

/// A network that answers.
pub(crate) trait Scorer {
    /// Logits `[batch, classes]`.
    fn logits(&self, batch: &Batch) -> Result<Vec<f32>, TrainError>;
}

/// A named range of the parameter arena.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) range: std::ops::Range<usize>,
    pub(crate) kind: ParameterKind,
    pub(crate) trainable: bool,
}

/// The trained ranges; with `no_decay_norm_bias`, norms and biases do not decay.
pub(crate) fn segments(views: &[View], no_decay_norm_bias: bool) -> Vec<Segment> {
    let is_weight = |kind| {
        matches!(
            kind,
            ParameterKind::ConvWeight | ParameterKind::LinearWeight
        )
    };
    views
        .iter()
        .filter(|v| v.trainable)
        .map(|v| Segment {
            range: v.range.clone(),
            decay: !no_decay_norm_bias || is_weight(v.kind),
        })
        .collect()
}

/// Tells whether a saved arena's elements mean what this network's do.
pub(crate) fn layout(views: &[View], buffers: usize) -> String {
    let mut hasher = Sha256::new();
    for v in views {
        hasher.update(format!("{} {:?}\n", v.name, v.range));
    }
    hasher.update(format!("{buffers} buffers"));
    hasher
        .finalize()
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn input(batch: &Batch) -> Input<'_> {
    Input {
        data: &batch.data,
        batch: batch.len(),
        spatial: batch.spatial,
    }
}

impl Net for Network {
    fn forward(&mut self, batch: &Batch, pass: u64) -> Result<&[f32], TrainError> {
        Ok(Network::forward(self, input(batch), pass)?)
    }

    fn backward(&mut self, grad_logits: &[f32]) -> Result<(), TrainError> {
        Ok(Network::backward(self, grad_logits)?)
    }

    fn backward_by_part(
        &mut self,
        grad_logits: &[f32],
        each: &mut (dyn FnMut(Part<'_>) -> ControlFlow<()> + Send),
    ) -> Result<(), TrainError> {
        // Whoever ends it knows.
        Network::backward_by_part(self, grad_logits, each).map(drop)?;
        Ok(())
    }

    fn zero_grad(&mut self) {
        Network::zero_grad(self);
    }

    fn update_running_statistics(&mut self) {
        Network::update_running_statistics(self);
    }

    fn batches_tracked(&self) -> u64 {
        self.num_batches_tracked()
    }

    fn set_batches_tracked(&mut self, batches: u64) {
        self.set_num_batches_tracked(batches);
    }

    fn parameters(&self) -> &[f32] {
        Network::parameters(self)
    }

    fn gradients(&self) -> &[f32] {
        Network::gradients(self)
    }

    fn parameters_and_gradients_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        Network::parameters_and_gradients_mut(self)
    }

    fn buffers(&self) -> &[f32] {
        Network::buffers(self)
    }

    fn buffers_mut(&mut self) -> &mut [f32] {
        Network::buffers_mut(self)
    }

    fn views(&self) -> Vec<View> {
        let view = |v: &densenet::ParameterView| View {
            name: v.name.clone(),
            range: v.range.clone(),
            kind: v.kind,
            trainable: v.trainable,
        };
        Network::views(self).iter().map(view).collect()
    }

    fn state_dict_of(&self, parameters: &[f32], buffers: &[f32]) -> StateDict {
        Network::state_dict_of(self, parameters, buffers)
    }

    fn scorer(&self, parameters: &[f32], buffers: &[f32]) -> Result<Box<dyn Scorer>, TrainError> {
        let state = Network::state_dict_of(self, parameters, buffers);
        Ok(Box::new(Predictor::new(Network::config(self), &state)?))
    }
}

impl Scorer for Predictor {
    fn logits(&self, batch: &Batch) -> Result<Vec<f32>, TrainError> {
        Ok(self.run(input(batch))?)
    }
}
