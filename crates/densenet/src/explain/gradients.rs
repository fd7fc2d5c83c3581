//! The gradient of logits at any layer, in evaluation mode.
//!
//! The activations come from a [`Predictor`]'s taps, so the way forward is the one whose answer is explained; the way back
//! walks the architecture's list with channels in the network's own order. Norms use their running statistics, which
//! makes each a fixed multiplication per channel.

mod spread;
mod weights;

use densenet_kernels::{
    Raster,
    conv::{Conv, Source, Store},
    norm,
    pool::{self, MaxPoolBackward},
};
use densenet_spec::{Architecture, ConcatOrder, ConfigError, Named, Op, StageKind, Trace, Window};
use densenet_weights::StateDict;

use super::ExplainError;
use crate::{Feature, Input, NetworkError, Predictor};
use weights::Weight;

/// The way back through a network, from the logits to one of its layers or to the input.
pub struct Gradients<'a> {
    predictor: &'a Predictor,
    /// The layer at whose output the gradient is wanted; the input where there is none.
    target: Option<usize>,
    /// Of the target and every layer behind it.
    weights: Vec<Weight>,
    /// The activations that the way back needs.
    taps: Vec<String>,
    /// By layer: which tap holds what its gradient depends on, and from which channel on.
    masks: Vec<Option<(usize, usize)>>,
}

/// What [`Gradients::run`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// `[batch, num_classes]`
    pub logits: Vec<f32>,
    /// The target layer's output; nothing where the target is the input.
    pub activation: Option<Feature>,
    /// The gradient there, `[batch][depth][height][width][channel]`.
    pub data: Vec<f32>,
    /// `[batch, depth, height, width, channels]`
    pub shape: [usize; 5],
}

impl<'a> Gradients<'a> {
    /// Prepares the way back to the output of `layer`, or to the input where it is `None`.
    ///
    /// Any name of [`Architecture::resolve`] will do that stands before the global pooling.
    ///
    /// # Errors
    /// The name is unknown or the layer has no map; the weights are another network's.
    pub fn new(
        predictor: &'a Predictor,
        state: &'a StateDict,
        layer: Option<&str>,
    ) -> Result<Self, ExplainError> {
        let architecture = predictor.architecture();
        let layers = architecture.layers();
        let target = layer
            .map(|name| map_layer(architecture, name))
            .transpose()?;
        let first = target.map_or(0, |t| t + 1);
        let mut gradients = Gradients {
            predictor,
            target,
            weights: Vec::new(),
            taps: Vec::new(),
            masks: vec![None; layers.len()],
        };
        for (index, layer) in layers.iter().enumerate() {
            // The target's own norm decides the mask of the ReLU behind it.
            let weight = match index + 1 < first {
                true => Weight::None,
                false => Weight::of(architecture, index, state, predictor.isa())?,
            };
            gradients.weights.push(weight);
            if index >= first && matches!(layer.op, Op::Relu | Op::MaxPool(_)) {
                gradients.masks[index] = Some(gradients.mask(index));
            }
        }
        if let Some(target) = target {
            gradients.tap(target);
        }
        Ok(gradients)
    }

    /// The tap of a layer's output.
    fn tap(&mut self, layer: usize) -> usize {
        let name = &self.predictor.architecture().layers()[layer].name;
        let known = self.taps.iter().position(|tap| tap == name);
        known.unwrap_or_else(|| {
            self.taps.push(name.clone());
            self.taps.len() - 1
        })
    }

    /// Where to find what a ReLU's or max-pool's gradient depends on: the ReLU's output or the norm's input, the pool's
    /// input. What norms over a block's channels read is part of the block's output, so one tap serves them all.
    fn mask(&mut self, index: usize) -> (usize, usize) {
        let architecture = self.predictor.architecture();
        let (layers, stages) = (architecture.layers(), architecture.stages());
        let layer = &layers[index];
        if let Op::MaxPool(_) = layer.op {
            return (self.tap(index - 1), 0);
        }
        let own = index >= 2 && {
            let before = &layers[index - 2];
            before.stage == layer.stage && matches!(before.op, Op::Conv(_))
        };
        let block = match stages[layer.stage].kind {
            StageKind::DenseBlock(b) | StageKind::Transition(b) => architecture.blocks().get(b),
            StageKind::FinalNorm => architecture.blocks().last(),
            StageKind::Stem | StageKind::Classifier => None,
        };
        match block.filter(|_| !own) {
            None => (self.tap(index), 0),
            Some(block) => {
                let first = match architecture.config().concat_order {
                    ConcatOrder::OldNew => 0,
                    ConcatOrder::NewOld => block.c_out - layer.c_in,
                };
                (self.tap(architecture.stage_output(block.stage)), first)
            }
        }
    }

    /// Runs the network and goes back: the gradient of `Σ seed · logit` for every sample, where `seeds` has a number for
    /// each logit, `[batch, num_classes]`.
    ///
    /// # Errors
    /// The input does not fit the network, or the seeds not the logits.
    ///
    /// # Numerics
    /// f32; the same bits at any number of threads, and a sample's gradient does not depend on its batch.
    pub fn run(&self, input: Input<'_>, seeds: &[f32]) -> Result<Gradient, ExplainError> {
        let architecture = self.predictor.architecture();
        let expected = input.batch * architecture.config().num_classes;
        if seeds.len() != expected {
            let found = seeds.len();
            return Err(NetworkError::Backward { expected, found }.into());
        }
        let names: Vec<&str> = self.taps.iter().map(String::as_str).collect();
        let output = self.predictor.run_with_taps(input, &names)?;
        let trace = architecture
            .trace(input.spatial)
            .map_err(NetworkError::from)?;
        let back = Back {
            gradients: self,
            architecture,
            trace: &trace,
            taps: &output.taps,
            batch: input.batch,
        };
        let data = back.walk(seeds)?;
        let [depth, height, width] = match self.target {
            Some(target) => trace.layers[target].spatial,
            None => input.spatial,
        };
        let channels = match self.target {
            Some(target) => architecture.layers()[target].c_out,
            None => architecture.config().in_channels,
        };
        let name = self.target.map(|t| &architecture.layers()[t].name);
        let found = name.and_then(|n| output.taps.into_iter().find(|tap| tap.name == *n));
        Ok(Gradient {
            logits: output.logits,
            activation: found,
            data,
            shape: [input.batch, depth, height, width, channels],
        })
    }
}

/// The layer that `name` means, if it has a map.
fn map_layer(architecture: &Architecture, name: &str) -> Result<usize, ExplainError> {
    let layer = match architecture.resolve(name).map_err(NetworkError::from)? {
        Named::Stage(stage) => architecture.stage_output(stage),
        Named::Layer(layer) => layer,
    };
    let layers = architecture.layers();
    let pooling = layers.iter().position(|l| l.op == Op::GlobalAvgPool);
    if pooling.is_some_and(|pooling| layer >= pooling) {
        let error = ConfigError {
            field: "layer",
            value: name.to_string(),
            reason: "nothing is left of the map behind the global pooling; take a layer before it"
                .to_string(),
        };
        return Err(NetworkError::from(error).into());
    }
    Ok(layer)
}

/// One way back.
struct Back<'a> {
    gradients: &'a Gradients<'a>,
    architecture: &'a Architecture,
    trace: &'a Trace,
    taps: &'a [Feature],
    batch: usize,
}

impl Back<'_> {
    /// From the gradient at the logits to the one at the target.
    ///
    /// At a concatenation the gradient forks: one part goes straight to the old channels and waits, the other passes
    /// through the dense layer, and where that begins the two are added.
    fn walk(&self, seeds: &[f32]) -> Result<Vec<f32>, ExplainError> {
        let layers = self.architecture.layers();
        let config = self.architecture.config();
        let mut grad = seeds.to_vec();
        let mut old: Option<Vec<f32>> = None;
        for (index, layer) in layers.iter().enumerate().rev() {
            if self.gradients.target == Some(index) {
                break;
            }
            let shape = &self.trace.layers[index];
            let weight = &self.gradients.weights[index];
            grad = match (&layer.op, weight) {
                (Op::Linear, Weight::Linear(weight)) => {
                    spread::linear(&grad, weight, [layer.c_in, layer.c_out])
                }
                (Op::GlobalAvgPool, _) => {
                    let pixels = shape.spatial_in.iter().product();
                    spread::mean(&grad, pixels, layer.c_in)
                }
                (Op::Relu, _) => {
                    spread::mask(&mut grad, self.masked(index)?, layer.c_in);
                    grad
                }
                (Op::BatchNorm, Weight::Norm { scale, .. }) => {
                    spread::scale(&mut grad, scale);
                    grad
                }
                (Op::Conv(window), Weight::Kernel(kernel)) => {
                    let sizes = [self.batch, layer.c_in, layer.c_out];
                    spread::strided(
                        &grad,
                        kernel,
                        (window, sizes),
                        [shape.spatial_in, shape.spatial],
                    )
                }
                (Op::Conv(window), Weight::Panels(_)) => self.convolution(index, window, &grad)?,
                (Op::MaxPool(window), _) => self.max_pool(index, window, &grad)?,
                (Op::AvgPool(window), _) => {
                    let spatial = [shape.spatial_in, shape.spatial];
                    spread::average(&grad, window, (self.batch, layer.c_in), spatial)
                }
                (Op::Concat, _) => {
                    let growth_rate = config.growth_rate;
                    let (before, new) =
                        spread::split(&grad, layer.c_out, growth_rate, config.concat_order);
                    old = Some(before);
                    new
                }
                _ => grad,
            };
            if self.opens_dense_layer(index)
                && let Some(old) = old.take()
            {
                grad.iter_mut().zip(&old).for_each(|(g, o)| *g += o);
            }
        }
        Ok(grad)
    }

    /// Whether a dense layer begins with this one.
    fn opens_dense_layer(&self, index: usize) -> bool {
        let layers = self.architecture.layers();
        let stage = &self.architecture.stages()[layers[index].stage];
        let in_block = matches!(stage.kind, StageKind::DenseBlock(_));
        in_block && (index == stage.layers.start || layers[index - 1].op == Op::Concat)
    }

    /// What decides where a ReLU lets the gradient through.
    fn masked(&self, index: usize) -> Result<spread::Mask<'_>, ExplainError> {
        let (feature, first) = self.tap(index)?;
        let own = self.architecture.layers()[index].name == feature.name;
        let norm = match self.gradients.weights.get(index.wrapping_sub(1)) {
            Some(Weight::Norm { scale, shift }) if !own => Some((&scale[..], &shift[..])),
            _ => None,
        };
        Ok(spread::Mask {
            data: &feature.data,
            stride: feature.shape[4],
            first,
            norm,
        })
    }

    fn tap(&self, index: usize) -> Result<(&Feature, usize), ExplainError> {
        let place = self.gradients.masks[index];
        let found = place.and_then(|(tap, first)| Some((self.taps.get(tap)?, first)));
        found.ok_or_else(|| ExplainError::Features {
            layer: self.architecture.layers()[index].name.clone(),
            expected: self.architecture.layers()[index].c_in,
            found: 0,
        })
    }

    /// The gradient at the input of a convolution that keeps its map's size.
    fn convolution(
        &self,
        index: usize,
        window: &Window,
        grad: &[f32],
    ) -> Result<Vec<f32>, ExplainError> {
        let layer = &self.architecture.layers()[index];
        let Weight::Panels(panels) = &self.gradients.weights[index] else {
            return Ok(Vec::new());
        };
        let spatial = self.trace.layers[index].spatial;
        let dense = |channels| Raster::dense(self.batch, spatial, channels);
        let (from, to) = (dense(layer.c_out), dense(layer.c_in));
        let padded = from.with_halo(window.padding);
        let mut bordered = Vec::new();
        let source = match window.padding == [0; 3] {
            true => Source::Map(grad, from),
            false => {
                bordered.resize(padded.len(), 0.0);
                norm::copy(layer.c_out, (grad, &from), (&mut bordered, &padded))
                    .map_err(NetworkError::from)?;
                Source::Map(&bordered, padded)
            }
        };
        let convolution = Conv {
            window: *window,
            c_in: layer.c_out,
            source,
            weights: panels,
        };
        let mut out = vec![0.0; to.len()];
        convolution
            .run(&mut out, &to, Store::Overwrite)
            .map_err(NetworkError::from)?;
        Ok(out)
    }

    fn max_pool(
        &self,
        index: usize,
        window: &Window,
        grad: &[f32],
    ) -> Result<Vec<f32>, ExplainError> {
        let (feature, _) = self.tap(index)?;
        let shape = &self.trace.layers[index];
        let channels = shape.channels;
        let from = Raster::dense(self.batch, shape.spatial_in, channels);
        let to = Raster::dense(self.batch, shape.spatial, channels);
        let (mut pooled, mut winners) = (vec![0.0; to.len()], vec![0; to.len()]);
        let isa = self.gradients.predictor.isa();
        let source = (&feature.data[..], &from, None);
        let target = (&mut pooled[..], &to);
        pool::max_pool(isa, window, source, target, channels, &mut winners)
            .map_err(NetworkError::from)?;
        let mut out = vec![0.0; from.len()];
        let back = MaxPoolBackward {
            window: *window,
            winners: &winners,
            grad_output: (grad, to),
            channels,
        };
        back.run(isa, (&mut out, &from))
            .map_err(NetworkError::from)?;
        Ok(out)
    }
}
