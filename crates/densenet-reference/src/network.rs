//! The whole network: forward, and backward by the chain rule.
//!
//! # The idea
//! A layer of a dense block reads everything that came before it in the block (paper, eq. 2):
//!
//! ```text
//! x^l = H^l([x^0, x^1, …, x^{l−1}])
//! ```
//!
//! H is norm–ReLU–conv, preceded by another norm–ReLU–1×1 conv where there is a bottleneck; x^l has `growth_rate` maps.
//! Between blocks a transition (norm–ReLU–1×1 conv–average pooling) thins the maps out and halves their size.
//!
//! The architecture is a flat list of layers, so the forward pass is a loop over it in which every layer reads what the
//! last one wrote. Concatenation alone reads something older: the maps that entered the dense layer. In the backward pass
//! it is where the gradient forks: one part goes straight to the old maps, the other through H, and the two meet again,
//! added, where the dense layer begins. That is all there is to a DenseNet.

use std::collections::{BTreeMap, BTreeSet};

use densenet_spec::{Architecture, Layer, Op, StageKind};

use crate::{
    ReferenceError, Tensor,
    op::{
        avg_pool,
        batch_norm::{self, Affine, Statistics},
        concat, conv, dropout, global_avg_pool, linear, max_pool, relu,
    },
};

/// Every parameter and running statistic under torchvision's path, flat in PyTorch's order.
pub type Parameters = BTreeMap<String, Vec<f64>>;

/// A network with weights.
#[derive(Debug, Clone)]
pub struct Network {
    architecture: Architecture,
    parameters: Parameters,
}

/// What a training pass needs besides the images.
#[derive(Debug, Clone, Default)]
pub struct Training {
    /// Which elements each dropout layer keeps, by the layer's name, in the order of [`Tensor`]. Needed only where the
    /// configuration has a drop_rate.
    pub keep: BTreeMap<String, Vec<bool>>,
    /// Names of stages whose norms use their running statistics and leave them alone.
    pub frozen: BTreeSet<String>,
}

/// What a training pass remembers for the way back.
#[derive(Debug, Clone)]
pub struct Tape {
    /// Input of every layer, in order.
    inputs: Vec<Tensor>,
    /// By the layer's index: what a batch norm normalised with.
    statistics: BTreeMap<usize, Normalized>,
    keep: BTreeMap<String, Vec<bool>>,
    logits: Tensor,
}

#[derive(Debug, Clone)]
enum Normalized {
    ByBatch(Statistics),
    ByRunning(Statistics),
}

impl Tape {
    /// The network's output, `[n, classes, 1, 1, 1]`.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }
}

/// ∂L/∂everything.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// With respect to the images.
    pub input: Tensor,
    /// With respect to every learned parameter, under its path.
    pub parameters: Parameters,
}

impl Network {
    /// Puts weights into an architecture.
    ///
    /// # Errors
    /// A parameter or running statistic is missing or has the wrong length. Surplus names are ignored.
    pub fn new(
        architecture: &Architecture,
        parameters: Parameters,
    ) -> Result<Self, ReferenceError> {
        for p in architecture.parameters() {
            let found = parameters.get(&p.name).map_or(0, Vec::len);
            length(&p.name, p.len(), found)?;
        }
        Ok(Network {
            architecture: architecture.clone(),
            parameters,
        })
    }

    /// What it is made of.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Its weights and running statistics.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The tensor called `name`, for an optimiser to change.
    pub fn parameter_mut(&mut self, name: &str) -> Option<&mut [f64]> {
        self.parameters.get_mut(name).map(Vec::as_mut_slice)
    }

    /// Logits in evaluation mode: norms use their running statistics, dropout does nothing.
    ///
    /// # Errors
    /// The input does not suit the architecture.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor, ReferenceError> {
        self.forward_with(input, |_, _| {})
    }

    /// [`Network::forward`], showing every layer's output to `see` as it is computed.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_with(
        &self,
        input: &Tensor,
        mut see: impl FnMut(&Layer, &Tensor),
    ) -> Result<Tensor, ReferenceError> {
        self.check(input)?;
        self.walk(
            input,
            |layer, _, x| {
                let y = match layer.op {
                    Op::BatchNorm => {
                        batch_norm::forward(x, &self.running(layer), self.affine(layer))
                    }
                    Op::Dropout => x.clone(),
                    _ => self.apply(layer, x),
                };
                Ok(y)
            },
            |layer, y| see(layer, y),
        )
    }

    /// A training pass: norms use the batch's statistics, dropout the given masks. Running statistics stay as they are
    /// until [`Network::update_running_statistics`].
    ///
    /// # Errors
    /// The input does not suit the architecture; a dropout mask is missing or has the wrong length; a norm sees only
    /// one value per channel.
    pub fn forward_train(
        &self,
        input: &Tensor,
        training: &Training,
    ) -> Result<Tape, ReferenceError> {
        self.check(input)?;
        let mut inputs = Vec::with_capacity(self.architecture.layers().len());
        let mut statistics = BTreeMap::new();
        let logits = self.walk(
            input,
            |layer, index, x| {
                inputs.push(x.clone());
                Ok(match layer.op {
                    Op::BatchNorm => {
                        let normalized = self.normalization(layer, x, training)?;
                        let (Normalized::ByBatch(s) | Normalized::ByRunning(s)) = &normalized;
                        let y = batch_norm::forward(x, s, self.affine(layer));
                        statistics.insert(index, normalized);
                        y
                    }
                    Op::Dropout => {
                        let keep = training
                            .keep
                            .get(&layer.name)
                            .map_or(&[][..], Vec::as_slice);
                        length(&layer.name, x.data.len(), keep.len())?;
                        dropout::forward(x, keep, self.architecture.config().drop_rate)
                    }
                    _ => self.apply(layer, x),
                })
            },
            |_, _| {},
        )?;
        Ok(Tape {
            inputs,
            statistics,
            keep: training.keep.clone(),
            logits,
        })
    }

    /// The loop over the layers that both modes share. `compute` gives a layer's output from its input; concatenation
    /// is done here, because it alone also reads `old`, what entered the dense layer.
    fn walk(
        &self,
        input: &Tensor,
        mut compute: impl FnMut(&Layer, usize, &Tensor) -> Result<Tensor, ReferenceError>,
        mut see: impl FnMut(&Layer, &Tensor),
    ) -> Result<Tensor, ReferenceError> {
        let order = self.architecture.config().concat_order;
        let mut x = input.clone();
        let mut old = None;
        for (index, layer) in self.architecture.layers().iter().enumerate() {
            if self.opens_dense_layer(index) {
                old = Some(x.clone());
            }
            let y = compute(layer, index, &x)?;
            x = match (&layer.op, &old) {
                (Op::Concat, Some(old)) => concat::forward(old, &x, order),
                _ => y,
            };
            see(layer, &x);
        }
        Ok(x)
    }

    /// ∂L/∂everything from ∂L/∂logits, by walking the layers backwards.
    ///
    /// # Errors
    /// `grad_logits` does not have the shape of the tape's logits.
    pub fn backward(&self, tape: &Tape, grad_logits: &Tensor) -> Result<Gradients, ReferenceError> {
        length(
            "grad_logits",
            tape.logits.data.len(),
            grad_logits.data.len(),
        )?;
        let config = self.architecture.config();
        let mut parameters = Parameters::new();
        let mut grad = grad_logits.clone();
        // The part of a concatenation's gradient that went straight to the old maps, until the dense layer begins.
        let mut grad_old: Option<Tensor> = None;
        for (index, layer) in self.architecture.layers().iter().enumerate().rev() {
            let x = &tape.inputs[index];
            let mut learned = |suffix: &str, gradient: Vec<f64>| {
                parameters.insert(format!("{}.{suffix}", layer.name), gradient);
            };
            grad = match &layer.op {
                Op::Conv(window) => {
                    learned("weight", conv::backward_weight(x, &grad, *window));
                    conv::backward_input(&grad, self.tensor(layer, "weight"), *window, x.spatial)
                }
                Op::BatchNorm => {
                    let affine = self.affine(layer);
                    let g = match &tape.statistics[&index] {
                        Normalized::ByBatch(s) => batch_norm::backward(x, s, affine, &grad),
                        Normalized::ByRunning(s) => {
                            batch_norm::backward_constant(x, s, affine, &grad)
                        }
                    };
                    learned("weight", g.weight);
                    learned("bias", g.bias);
                    g.input
                }
                Op::Relu => relu::backward(x, &grad),
                Op::MaxPool(window) => max_pool::backward(x, &grad, *window),
                Op::AvgPool(window) => avg_pool::backward(&grad, *window, x.spatial),
                Op::Dropout => dropout::backward(&grad, &tape.keep[&layer.name], config.drop_rate),
                Op::Concat => {
                    let (old, new) =
                        concat::backward(&grad, config.growth_rate, config.concat_order);
                    grad_old = Some(old);
                    new
                }
                Op::GlobalAvgPool => global_avg_pool::backward(&grad, x.spatial),
                Op::Linear => {
                    let g = linear::backward(x, self.tensor(layer, "weight"), &grad);
                    learned("weight", g.weight);
                    learned("bias", g.bias);
                    g.input
                }
            };
            if self.opens_dense_layer(index)
                && let Some(old) = grad_old.take()
            {
                grad.add(&old);
            }
        }
        Ok(Gradients {
            input: grad,
            parameters,
        })
    }

    /// Blends the tape's batch statistics into the running ones, with the configuration's momentum.
    pub fn update_running_statistics(&mut self, tape: &Tape) {
        let momentum = self.architecture.config().bn_momentum;
        for (&index, normalized) in &tape.statistics {
            let Normalized::ByBatch(batch) = normalized else {
                continue;
            };
            let layer = &self.architecture.layers()[index];
            let mut running = self.running(layer);
            let count = tape.inputs[index].batch * tape.inputs[index].pixels();
            batch_norm::update_running(&mut running, batch, count, momentum);
            let name = layer.name.clone();
            self.parameters
                .insert(format!("{name}.running_mean"), running.mean);
            self.parameters
                .insert(format!("{name}.running_var"), running.var);
        }
    }

    /// The layers that compute the same in training and in evaluation.
    fn apply(&self, layer: &Layer, x: &Tensor) -> Tensor {
        match &layer.op {
            Op::Conv(window) => conv::forward(x, self.tensor(layer, "weight"), *window),
            Op::Relu => relu::forward(x),
            Op::MaxPool(window) => max_pool::forward(x, *window),
            Op::AvgPool(window) => avg_pool::forward(x, *window),
            Op::GlobalAvgPool => global_avg_pool::forward(x),
            Op::Linear => {
                linear::forward(x, self.tensor(layer, "weight"), self.tensor(layer, "bias"))
            }
            // The walk joins, and both modes norm and drop in their own way.
            Op::Concat | Op::BatchNorm | Op::Dropout => x.clone(),
        }
    }

    /// Whether a dense layer begins with this one: the first layer of a block, or the one after a concatenation.
    fn opens_dense_layer(&self, index: usize) -> bool {
        let layers = self.architecture.layers();
        let stage = &self.architecture.stages()[layers[index].stage];
        let in_block = matches!(stage.kind, StageKind::DenseBlock(_));
        in_block && (index == stage.layers.start || layers[index - 1].op == Op::Concat)
    }

    fn normalization(
        &self,
        layer: &Layer,
        x: &Tensor,
        training: &Training,
    ) -> Result<Normalized, ReferenceError> {
        let stage = &self.architecture.stages()[layer.stage];
        if training.frozen.contains(&stage.name) {
            return Ok(Normalized::ByRunning(self.running(layer)));
        }
        if x.batch * x.pixels() < 2 {
            let layer = layer.name.clone();
            return Err(ReferenceError::TooFewValues { layer });
        }
        Ok(Normalized::ByBatch(batch_norm::statistics(x)))
    }

    fn affine(&self, layer: &Layer) -> Affine<'_> {
        Affine {
            weight: self.tensor(layer, "weight"),
            bias: self.tensor(layer, "bias"),
            eps: self.architecture.config().bn_eps,
        }
    }

    fn running(&self, layer: &Layer) -> Statistics {
        Statistics {
            mean: self.tensor(layer, "running_mean").to_vec(),
            var: self.tensor(layer, "running_var").to_vec(),
        }
    }

    /// A parameter of `layer`; [`Network::new`] made sure that it is there.
    fn tensor(&self, layer: &Layer, suffix: &str) -> &[f64] {
        &self.parameters[&format!("{}.{suffix}", layer.name)]
    }

    fn check(&self, input: &Tensor) -> Result<(), ReferenceError> {
        let config = self.architecture.config();
        if input.channels != config.in_channels {
            return Err(ReferenceError::Channels {
                expected: config.in_channels,
                found: input.channels,
            });
        }
        self.architecture.trace(input.spatial)?;
        Ok(())
    }
}

fn length(name: &str, expected: usize, found: usize) -> Result<(), ReferenceError> {
    if expected == found {
        return Ok(());
    }
    Err(ReferenceError::Length {
        name: name.to_string(),
        expected,
        found,
    })
}
