//! SGD and AdamW, each one fused pass over the flat arenas.
//!
//! Parameters, gradients and optimiser state are flat slices of the same length. Which elements are learned, and which of
//! those decay, is said by [`Segment`]s; what lies between them (padding, frozen stages) is never touched.
//!
//! # Numerics
//! Every element is computed from its own gradient and state alone, so the result has the same bits for any number of
//! threads. Factors that depend on the step only are computed in f64 and rounded once.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use densenet::in_chunks;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

mod adamw;
mod sgd;

/// Which rule moves the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with (Nesterov) momentum, as the paper trains.
    Sgd,
    /// Adam with decoupled weight decay.
    AdamW,
}

/// The rule with its constants; the learning rate comes with each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// PyTorch's `SGD(momentum, dampening=0, weight_decay, nesterov)`.
    Sgd {
        /// Share of the last step that carries on.
        momentum: f64,
        /// Whether the momentum is looked ahead by one step.
        nesterov: bool,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
    },
    /// PyTorch's `AdamW(betas, eps, weight_decay)`.
    AdamW {
        /// Decay of the mean of gradients and of their squares.
        betas: [f64; 2],
        /// Keeps the division finite.
        eps: f64,
        /// Share of the weight, times the learning rate, removed each step.
        weight_decay: f64,
    },
}

/// A range of the parameter arena that is learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Elements of the arena.
    pub range: Range<usize>,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// Elements per task: large enough to hide the cost of a task, small enough to balance. Borders depend on the arena
/// alone; since the work is elementwise they could not change a bit anyway.
const CHUNK: usize = 1 << 14;

/// An optimiser and its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    rule: Rule,
    segments: Vec<Segment>,
    /// One arena for SGD (momentum), two for AdamW (mean, mean square).
    state: Vec<Vec<f32>>,
    /// Steps taken, which AdamW's bias correction needs.
    steps: u64,
}

impl Optimizer {
    /// An optimiser for an arena of `len` elements of which `segments` are learned.
    pub fn new(rule: Rule, mut segments: Vec<Segment>, len: usize) -> Self {
        segments.retain(|s| !s.range.is_empty());
        segments.sort_by_key(|s| s.range.start);
        debug_assert!(
            segments
                .windows(2)
                .all(|w| w[0].range.end <= w[1].range.start),
            "segments overlap"
        );
        debug_assert!(
            segments.last().is_none_or(|s| s.range.end <= len),
            "a segment ends beyond the arena"
        );
        let arenas = match rule {
            Rule::Sgd { .. } => 1,
            Rule::AdamW { .. } => 2,
        };
        Optimizer {
            rule,
            segments,
            state: vec![vec![0.0; len]; arenas],
            steps: 0,
        }
    }

    /// Moves `parameters` against `gradients · grad_scale`.
    ///
    /// `grad_scale` carries the mean over the batch and the clipping, so that neither needs a pass of its own.
    ///
    /// # Panics
    /// In debug builds, where the slices are not as long as the arena.
    pub fn step(&mut self, parameters: &mut [f32], gradients: &[f32], lr: f64, grad_scale: f64) {
        debug_assert!(self.state.iter().all(|s| s.len() == parameters.len()));
        self.begin();
        self.step_part(0, parameters, gradients, lr, grad_scale);
    }

    /// Begins a step that is taken part by part.
    pub fn begin(&mut self) {
        self.steps += 1;
    }

    /// [`Optimizer::step`] for the part of the arena that begins at `start`. Returns whether its gradients are finite; where
    /// they are not, some of the part is left as it was.
    ///
    /// # Panics
    /// In debug builds, where the slices differ in length; in all, where the part reaches beyond the arena.
    pub fn step_part(
        &mut self,
        start: usize,
        parameters: &mut [f32],
        gradients: &[f32],
        lr: f64,
        grad_scale: f64,
    ) -> bool {
        debug_assert_eq!(gradients.len(), parameters.len());
        let range = start..start + parameters.len();
        let segments = &self.segments;
        let all_finite = AtomicBool::new(true);
        // The learned ranges of a chunk with its gradients, if these are finite.
        let learned = |at: usize, len: usize| {
            let gradients = &gradients[at..at + len];
            let whole = finite(gradients);
            if !whole {
                all_finite.store(false, Ordering::Relaxed);
            }
            parts(segments, start + at, len)
                .filter(move |_| whole)
                .map(move |(range, decay)| (range.clone(), &gradients[range], decay))
        };
        match (self.rule, self.state.as_mut_slice()) {
            (
                Rule::Sgd {
                    momentum,
                    nesterov,
                    weight_decay,
                },
                [velocity],
            ) => {
                let pass = sgd::Pass::new(lr, momentum, nesterov, weight_decay, grad_scale);
                let slices = [parameters, &mut velocity[range]];
                in_chunks(CHUNK, slices, |at, [p, v]| {
                    for (range, g, decay) in learned(at, p.len()) {
                        pass.apply(&mut p[range.clone()], g, &mut v[range], decay);
                    }
                });
            }
            (
                Rule::AdamW {
                    betas,
                    eps,
                    weight_decay,
                },
                [mean, square],
            ) => {
                let pass = adamw::Pass::new(lr, betas, eps, weight_decay, grad_scale, self.steps);
                let slices = [parameters, &mut mean[range.clone()], &mut square[range]];
                in_chunks(CHUNK, slices, |at, [p, m, v]| {
                    for (range, g, decay) in learned(at, p.len()) {
                        let (m, v) = (&mut m[range.clone()], &mut v[range.clone()]);
                        pass.apply(&mut p[range], g, m, v, decay);
                    }
                });
            }
            _ => debug_assert!(false, "the number of arenas follows from the rule"),
        }
        all_finite.into_inner()
    }

    /// The learned ranges.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The state's arenas and the number of steps, for a checkpoint.
    pub(crate) fn state(&self) -> (&[Vec<f32>], u64) {
        (&self.state, self.steps)
    }

    /// Takes the state back from a checkpoint.
    ///
    /// # Errors
    /// `TrainError::Bug` where number or length of the arenas differ: the caller has compared configurations before.
    pub(crate) fn restore(&mut self, state: Vec<Vec<f32>>, steps: u64) -> Result<(), TrainError> {
        let lengths = |s: &[Vec<f32>]| s.iter().map(Vec::len).collect::<Vec<_>>();
        if lengths(&state) != lengths(&self.state) {
            return Err(TrainError::Bug(
                "a saved optimiser state has another shape than the network".into(),
            ));
        }
        self.state = state;
        self.steps = steps;
        Ok(())
    }
}

/// Whether no element is NaN or infinite. Gaps between tensors are zero, so all may be looked at.
fn finite(values: &[f32]) -> bool {
    let largest = values.iter().fold(0, |m, v| m.max(v.to_bits() << 1));
    largest < f32::INFINITY.to_bits() << 1
}

/// The parts of `segments` that lie in the chunk of `len` elements from `start`, relative to it.
fn parts(
    segments: &[Segment],
    start: usize,
    len: usize,
) -> impl Iterator<Item = (Range<usize>, bool)> {
    let end = start + len;
    let first = segments.partition_point(|s| s.range.end <= start);
    segments[first..]
        .iter()
        .take_while(move |s| s.range.start < end)
        .map(move |s| {
            (
                s.range.start.max(start) - start..s.range.end.min(end) - start,
                s.decay,
            )
        })
}

#[cfg(test)]
mod tests;
