//! One optimiser step: forward, loss, running statistics, backward, weights.
//!
//! Where something asks for the whole gradient first (its norm for clipping, its sum over several passes), nothing moves
//! before all of it is known. Otherwise each part of the network moves as soon as its own gradient is known, so that
//! nobody keeps the gradients of the rest. A gradient that is not finite then comes too late for the parts behind it: the
//! run ends as ever, at the state saved last instead of one saved on the spot.

use std::ops::ControlFlow;

use densenet_data::Batch;

use super::Session;
use crate::{
    error::{NonFinite, TrainError},
    gradient::{clip_factor, norm},
    loss::LossSum,
    network::{Net, View},
};

/// The forward passes since the last optimiser step.
#[derive(Debug, Default)]
pub(super) struct Group {
    passes: usize,
    sums: LossSum,
    /// Norm of the summed gradient; `None` where the weights have moved part by part.
    norm: Option<f64>,
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

    /// What turns the summed gradient into the mean one.
    fn mean(&self) -> f64 {
        // Classes of weight 0 alone have no gradient and nothing to divide by.
        match self.sums.weight > 0.0 {
            true => 1.0 / self.sums.weight,
            false => 0.0,
        }
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
    /// Adds a batch's gradient to the group's, or moves the weights by it where nothing else is waited for.
    ///
    /// # Errors
    /// `NonFinite`: a saved state from before the group is on disk.
    pub(super) fn accumulate(
        &mut self,
        batch: &Batch,
        group: &mut Group,
    ) -> Result<(), TrainError> {
        if group.is_empty() {
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
        self.parts.net.update_running_statistics();
        if self.parts.net.buffers().iter().any(|v| !v.is_finite()) {
            return Err(self.refuse("batch statistics of a norm".into(), batch));
        }
        let first = group.is_empty();
        group.passes += 1;
        group.sums.add(sums);
        match self.parts.config.needs_whole_gradient() {
            true => self.whole_gradient(batch, group, first),
            false => self.move_by_part(batch, group),
        }
    }

    fn whole_gradient(
        &mut self,
        batch: &Batch,
        group: &mut Group,
        first: bool,
    ) -> Result<(), TrainError> {
        if first {
            self.parts.net.zero_grad();
        }
        self.parts.net.backward(&self.scratch.grad_logits)?;
        let gradients = self.parts.net.gradients();
        let norm = norm(gradients, self.optimizer.segments());
        if !norm.is_finite() {
            let what = not_finite(&self.views, gradients, 0);
            return Err(self.refuse(what, batch));
        }
        group.norm = Some(norm);
        Ok(())
    }

    fn move_by_part(&mut self, batch: &Batch, group: &Group) -> Result<(), TrainError> {
        let (lr, scale) = (self.schedule.at(self.progress.step), group.mean());
        let (optimizer, views) = (&mut self.optimizer, &self.views);
        let mut bad = None;
        optimizer.begin();
        self.parts
            .net
            .backward_by_part(&self.scratch.grad_logits, &mut |part| {
                let start = part.range.start;
                if optimizer.step_part(start, part.parameters, part.gradients, lr, scale) {
                    return ControlFlow::Continue(());
                }
                bad = Some(not_finite(views, part.gradients, start));
                ControlFlow::Break(())
            })?;
        match bad {
            Some(what) => Err(self.non_finite(what, batch)),
            None => Ok(()),
        }
    }

    /// Ends the group's step, moving the weights by its mean gradient where that waited; `done` batches of the epoch are
    /// behind us then. Returns the rate.
    pub(super) fn apply(&mut self, group: Group, done: usize) -> f64 {
        let lr = self.schedule.at(self.progress.step);
        if let Some(norm) = group.norm {
            let mean = group.mean();
            let scale = mean * clip_factor(norm * mean, self.parts.config.clip_norm);
            let (parameters, gradients) = self.parts.net.parameters_and_gradients_mut();
            self.optimizer.step(parameters, gradients, lr, scale);
        }
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
        self.non_finite(what, batch)
    }

    fn non_finite(&self, what: String, batch: &Batch) -> TrainError {
        TrainError::NonFinite(Box::new(NonFinite {
            what,
            epoch: self.progress.epoch + 1,
            step: self.progress.step + 1,
            samples: self.names(batch),
            run: Some(self.parts.run.path().to_path_buf()),
        }))
    }
}

/// The first gradient that is not finite, in words; `gradients` are those of the arena from `start` on.
fn not_finite(views: &[View], gradients: &[f32], start: usize) -> String {
    let bad = |view: &&View| {
        let at = view.range.start.checked_sub(start);
        let found = at.and_then(|at| gradients.get(at..at + view.range.len()));
        view.trainable && found.is_some_and(|g| g.iter().any(|v| !v.is_finite()))
    };
    match views.iter().find(bad) {
        Some(view) => format!("gradient of {}", view.name),
        None => "gradient".into(),
    }
}
