//! One optimiser step: forward, loss, backward, checks, running statistics, weights — in this order.

use densenet_data::Batch;

use super::Session;
use crate::{
    error::{NonFinite, TrainError},
    gradient::{clip_factor, norm},
    loss::LossSum,
    network::Net,
};

/// The forward passes since the last optimiser step.
#[derive(Debug, Default)]
pub(super) struct Group {
    passes: usize,
    sums: LossSum,
    /// Norm of the summed gradient.
    norm: f64,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.passes == 0
    }

    pub(super) fn passes(&self) -> usize {
        self.passes
    }

    /// Mean loss of its samples.
    pub(super) fn loss(&self) -> f64 {
        self.sums.mean()
    }
}

/// Memory that is used again from step to step.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    grad_logits: Vec<f32>,
    /// Running statistics as they were when the group began.
    buffers: Vec<f32>,
    batches_tracked: u64,
}

impl<N: Net> Session<'_, N> {
    /// Adds a batch's gradient to the group's.
    ///
    /// # Errors
    /// `NonFinite`: weights and running statistics are those from before the group, and saved.
    pub(super) fn accumulate(
        &mut self,
        batch: &Batch,
        group: &mut Group,
    ) -> Result<(), TrainError> {
        if group.is_empty() {
            self.parts.net.zero_grad();
            self.scratch.buffers.clear();
            self.scratch
                .buffers
                .extend_from_slice(self.parts.net.buffers());
            self.scratch.batches_tracked = self.parts.net.batches_tracked();
        }
        let pass = self.progress.forwards + group.passes as u64;
        let logits = self.parts.net.forward(batch, pass)?;
        self.scratch.grad_logits.resize(logits.len(), 0.0);
        let sums = self
            .loss
            .forward_backward(logits, &batch.labels, &mut self.scratch.grad_logits);
        if !sums.loss.is_finite() {
            return Err(self.refuse("loss".into(), batch));
        }
        self.parts.net.backward(&self.scratch.grad_logits)?;
        group.norm = norm(self.parts.net.gradients(), self.optimizer.segments());
        if !group.norm.is_finite() {
            let what = self.first_non_finite_gradient();
            return Err(self.refuse(what, batch));
        }
        self.parts.net.update_running_statistics();
        if self.parts.net.buffers().iter().any(|v| !v.is_finite()) {
            return Err(self.refuse("batch statistics of a norm".into(), batch));
        }
        group.passes += 1;
        group.sums.add(sums);
        Ok(())
    }

    /// Moves the weights by the group's mean gradient; `done` batches of the epoch are behind us then. Returns the rate.
    pub(super) fn apply(&mut self, group: Group, done: usize) -> f64 {
        let lr = self.schedule.at(self.progress.step);
        // Classes of weight 0 alone have no gradient and nothing to divide by.
        let mean = if group.sums.weight > 0.0 {
            1.0 / group.sums.weight
        } else {
            0.0
        };
        let scale = mean * clip_factor(group.norm * mean, self.parts.config.clip_norm);
        let (parameters, gradients) = self.parts.net.parameters_and_gradients_mut();
        self.optimizer.step(parameters, gradients, lr, scale);
        if let Some(ema) = &mut self.ema {
            ema.update(
                self.parts.net.parameters(),
                self.parts.net.buffers(),
                self.progress.step,
            );
        }
        self.sums.add(group.sums);
        self.progress.forwards += group.passes as u64;
        self.progress.batch = done;
        self.progress.step += 1;
        self.steps_since_save += 1;
        lr
    }

    /// Puts everything back to before the group, saves that, and says what was wrong.
    fn refuse(&mut self, what: String, batch: &Batch) -> TrainError {
        self.parts
            .net
            .buffers_mut()
            .copy_from_slice(&self.scratch.buffers);
        self.parts
            .net
            .set_batches_tracked(self.scratch.batches_tracked);
        self.save();
        TrainError::NonFinite(Box::new(NonFinite {
            what,
            epoch: self.progress.epoch + 1,
            step: self.progress.step + 1,
            samples: self.names(batch),
            run: Some(self.parts.run.path().to_path_buf()),
        }))
    }

    fn first_non_finite_gradient(&self) -> String {
        let gradients = self.parts.net.gradients();
        let bad = |range: &std::ops::Range<usize>| {
            gradients
                .get(range.clone())
                .is_some_and(|g| g.iter().any(|v| !v.is_finite()))
        };
        match self.views.iter().find(|v| v.trainable && bad(&v.range)) {
            Some(view) => format!("gradient of {}", view.name),
            None => "gradient".into(),
        }
    }
}
