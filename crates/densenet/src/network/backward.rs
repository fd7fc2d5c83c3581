//! The backward pass: from the logits' gradient to every parameter's.
//!
//! A dense block's gradient buffer is filled by its consumers, last layer first. Each consumer adds its share as its
//! input-gradient product is stored; what the batch statistics contribute is kept as two numbers per channel
//! ([`super::shares::Shares`]) and applied once, when the channel's producer is reached.

mod ends;

use std::ops::ControlFlow;

use densenet_kernels::{
    Isa, Operand, Raster,
    conv::{self, Source, Store},
    dropout::Dropout,
    norm::{self, NormBackward},
    pointwise::{OutputGradient, PointwiseBackward, PointwiseTargets},
    together,
    weight_gradient::WeightGradient,
    winograd::{FusedStore, FusedWinograd, WinogradGradient},
};
use densenet_spec::Trace;

use super::{
    LastPass, Network,
    forward::{bottleneck_place, convolve, rectify},
    gradients::{Each, Gradients, Part, Place},
    overlay::Maps,
    packed::Packed,
};
use crate::{NetworkError, plan::Conv};

/// Why a backward pass ended early.
enum Stop {
    /// Whoever took the parts asked for it.
    Asked,
    Failed(NetworkError),
}

impl From<NetworkError> for Stop {
    fn from(error: NetworkError) -> Self {
        Stop::Failed(error)
    }
}

/// What packs and multiplies.
struct Engine<'a> {
    isa: Isa,
    packed: &'a mut Packed,
    parameters: &'a [f32],
    partials: &'a mut [f32],
}

impl<'a> Engine<'a> {
    fn new(
        isa: Isa,
        packed: &'a mut Packed,
        parameters: &'a [f32],
        partials: &'a mut [f32],
    ) -> Self {
        Engine {
            isa,
            packed,
            parameters,
            partials,
        }
    }

    /// Adds a convolution's weight gradient to `gradients`.
    fn weight(
        &mut self,
        conv: &Conv,
        source: Source<'_>,
        grad_output: (&[f32], Raster),
        gradients: &mut Gradients,
    ) -> Result<(), NetworkError> {
        let gradient = WeightGradient {
            window: conv.window,
            c_in: conv.c_in,
            source,
            c_out: conv.c_out,
            grad_output,
        };
        Ok(gradient.run(self.isa, gradients.of(&conv.weight), self.partials)?)
    }

    /// Computes the gradient at a convolution's input.
    fn input(
        &mut self,
        conv: &Conv,
        (grad_output, raster): (&[f32], Raster),
        (grad_input, to): (&mut [f32], &Raster),
        store: Store<'_>,
    ) -> Result<(), NetworkError> {
        let way = (conv, Operand::BackwardInput);
        let source = Source::Map(grad_output, raster);
        let target = (grad_input, to);
        self.packed.run(way, self.parameters, source, target, store)
    }
}

impl Network {
    /// Adds the gradients of the last [`Network::forward`] to [`Network::gradients`], given the gradient at its logits,
    /// `[batch, num_classes]`.
    ///
    /// # Errors
    /// There was no forward pass since the last backward pass, or the gradient has another length.
    pub fn backward(&mut self, grad_logits: &[f32]) -> Result<(), NetworkError> {
        self.backward_into(grad_logits, None).map(|_| ())
    }

    /// Goes back through the last [`Network::forward`] and hands over each part's gradient as soon as it is whole, last
    /// part first, to be applied to the part's parameters at once: room for the largest part's gradient takes the place of
    /// an arena as long as the parameters. [`Network::gradients`] is left alone, frozen parts are not handed over.
    ///
    /// `each` may end the backward pass; it runs where [`densenet_kernels::in_chunks`] has this pool's threads at hand.
    ///
    /// # Errors
    /// As [`Network::backward`].
    pub fn backward_by_part(
        &mut self,
        grad_logits: &[f32],
        mut each: impl FnMut(Part<'_>) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, NetworkError> {
        self.backward_into(grad_logits, Some(&mut each))
    }

    fn backward_into(
        &mut self,
        grad_logits: &[f32],
        each: Option<Each<'_>>,
    ) -> Result<ControlFlow<()>, NetworkError> {
        let classes = self.plan.classifier.c_out;
        let last = self.last.filter(|pass| !pass.spent);
        let expected = last.map_or(0, |pass| pass.batch * classes);
        let Some(pass) = last.filter(|_| grad_logits.len() == expected) else {
            return Err(NetworkError::Backward {
                expected,
                found: grad_logits.len(),
            });
        };
        // Nothing before the first trained stage needs a gradient.
        let first = self
            .frozen
            .iter()
            .position(|f| !f)
            .unwrap_or(self.frozen.len());
        let Some(prepared) = self.prepared.take() else {
            return Err(NetworkError::Backward {
                expected,
                found: grad_logits.len(),
            });
        };
        let shapes = (&prepared.trace, &prepared.rasters[..], first);
        let outcome = together(|| self.backward_through(grad_logits, pass, shapes, each));
        self.prepared = Some(prepared);
        self.last = Some(LastPass {
            spent: true,
            ..pass
        });
        match outcome {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(Stop::Asked) => Ok(ControlFlow::Break(())),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn backward_through(
        &mut self,
        grad_logits: &[f32],
        pass: LastPass,
        (trace, rasters, first): (&Trace, &[Raster], usize),
        mut each: Option<Each<'_>>,
    ) -> Result<(), Stop> {
        let last = rasters.len() - 1;
        let each = &mut each;
        let batch = pass.batch;
        let classifier = self.frozen.len() - 1;
        self.classifier_input_backward(grad_logits, batch, first < classifier)?;
        let pieces = self.plan.classifier.pieces().len();
        for index in (0..pieces).rev() {
            self.part(Place::Classifier(index), each, |network| {
                network.classifier_backward(index, grad_logits, batch)
            })?;
        }
        if first == classifier {
            return Ok(());
        }
        self.part(Place::FinalNorm, each, |network| {
            network.final_norm_backward(&rasters[last])
        })?;
        for (block, raster) in rasters.iter().enumerate().rev() {
            if self.plan.blocks[block].stage < first {
                return Ok(());
            }
            for layer in (0..self.plan.blocks[block].layers.len()).rev() {
                self.part(Place::Layer(block, layer), each, |network| {
                    network.layer_backward(block, layer, raster, pass)
                })?;
            }
            self.block_input_backward(block, raster)?;
            if block > 0 {
                let before = block - 1;
                if self.plan.transitions[before].stage < first {
                    return Ok(());
                }
                self.part(Place::Transition(before), each, |network| {
                    network.transition_backward(before, &rasters[before], raster)
                })?;
            }
        }
        if first == 0 {
            self.part(Place::Stem, each, |network| {
                network.stem_backward(pass, trace.layers[0].spatial, &rasters[0])
            })?;
        }
        Ok(())
    }

    /// Goes back through one part, and hands its gradient over where that is asked for.
    fn part(
        &mut self,
        place: Place,
        each: &mut Option<Each<'_>>,
        back: impl FnOnce(&mut Self) -> Result<(), NetworkError>,
    ) -> Result<(), Stop> {
        let part = self.plan.part(place, &self.frozen);
        let Some((each, part)) = each.as_mut().zip(part) else {
            return Ok(back(self)?);
        };
        self.gradients.open(part);
        let outcome = back(self);
        let part = self.gradients.close(&mut self.parameters);
        outcome?;
        match part.map(each) {
            Some(ControlFlow::Break(())) => Err(Stop::Asked),
            _ => Ok(()),
        }
    }

    /// From the gradient of a block's buffer to the gradient at the block's input.
    fn block_input_backward(&mut self, index: usize, raster: &Raster) -> Result<(), NetworkError> {
        let Network {
            plan,
            activations: a,
            shares,
            statistics,
            ..
        } = self;
        let c_in = plan.blocks[index].c_in;
        let input = Raster::dense(raster.batch, raster.spatial, c_in);
        let rest = shares.rest(0..c_in, &statistics.blocks[index]);
        let grad_block = a.overlay.maps().grad_block;
        let (grad, map) = ((&*grad_block, raster), (&a.blocks[index][..], raster));
        Ok(norm::combine(
            self.isa,
            rest,
            grad,
            map,
            (&mut a.grad_input, &input),
        )?)
    }

    fn layer_backward(
        &mut self,
        index: usize,
        l: usize,
        raster: &Raster,
        pass: LastPass,
    ) -> Result<(), NetworkError> {
        let Network {
            plan,
            activations: a,
            gradients,
            shares,
            statistics,
            ..
        } = self;
        let (isa, block) = (self.isa, &plan.blocks[index]);
        let (layer, frozen) = (&block.layers[l], self.frozen[block.stage]);
        let place = bottleneck_place(layer, (index, l), self.memory_efficient);
        let map = &statistics.blocks[index];
        let folded = &statistics.folded;
        let mut engine = Engine::new(
            self.isa,
            &mut self.packed,
            &self.parameters,
            &mut a.partials,
        );
        let last = layer.last();
        let new =
            Raster::dense(raster.batch, raster.spatial, last.c_out).with_halo(last.window.padding);

        let Maps {
            grad_block,
            grad_new,
            grad_bottleneck,
            ..
        } = a.overlay.maps();
        // The gradient at the new features: every consumer is done.
        norm::clear_halo(grad_new, &new)?;
        let channels = layer.c_in..layer.c_in + last.c_out;
        let at = raster.at(layer.c_in);
        let rest = shares.rest(channels, map);
        norm::combine(
            isa,
            rest,
            (grad_block, &at),
            (&a.blocks[index], &at),
            (grad_new, &new),
        )?;
        let rate = plan.architecture.config().drop_rate;
        if rate > 0.0 && !frozen {
            let dropout = Dropout {
                seed: self.dropout_seed,
                step: pass.step,
                layer: layer.index as u32,
                rate,
            };
            dropout.apply(last.c_out, grad_new, &new)?;
        }

        // The last convolution.
        if let (Some((i, j)), true) = (place, self.memory_efficient) {
            let bottleneck = Raster::dense(raster.batch, raster.spatial, layer.conv1.c_out);
            let source = Source::NormRelu(&a.blocks[index], *raster, layer.norm1.affine(folded));
            let target = (&mut a.bottlenecks[i][j][..], &bottleneck);
            convolve(
                (isa, engine.packed, engine.parameters),
                &layer.conv1,
                source,
                target,
            )?;
        }
        let bottleneck = place.map(|(i, j)| &a.bottlenecks[i][j][..]);
        let input = (&a.blocks[index][..], raster);
        let tiles = WinogradGradient::choose(&last.window, &new);
        if let Some(tiles) = tiles.filter(|_| !frozen) {
            let (source, norm) = match (&layer.bottleneck, bottleneck) {
                (Some((norm2, _)), Some(map)) => {
                    let dense = Raster::dense(raster.batch, raster.spatial, norm2.channels);
                    ((map, dense), norm2)
                }
                _ => ((input.0, *raster), &layer.norm1),
            };
            let gradient = WinogradGradient {
                window: last.window,
                tiles,
                source,
                affine: Some(norm.affine(folded)),
                channels: [last.c_in, last.c_out],
                grad_output: (grad_new, new),
            };
            gradient.run(isa, gradients.of(&last.weight), engine.partials)?;
        } else if !frozen {
            let padded = rectify(isa, layer, input, bottleneck, (folded, &mut a.rectified))?;
            engine.weight(
                last,
                Source::Map(&a.rectified, padded),
                (grad_new, new),
                gradients,
            )?;
        }
        // norm2 and the first convolution with norm1, into the block's gradient; or that convolution alone.
        match (&layer.bottleneck, bottleneck) {
            (Some((norm2, conv2)), Some(bottleneck)) => {
                let own = &statistics.bottlenecks[index][l];
                let dense = Raster::dense(raster.batch, raster.spatial, norm2.channels);
                let grad = grad_bottleneck;
                let (affine, first) = (norm2.affine(folded), own.first(norm2.channels));
                let sums = shares.sums(norm2.channels);
                let (from, to) = ((&*grad_new, new), (&mut *grad, &dense));
                let way = (conv2, Operand::BackwardInput);
                let parameters = engine.parameters;
                if let Some(weights) = engine.packed.tiles(way, parameters, &dense)? {
                    let backward = FusedWinograd {
                        source: from,
                        affine: None,
                        weights,
                    };
                    let masked = FusedStore::Masked {
                        input: (bottleneck, dense),
                        affine,
                        statistics: first,
                        sums,
                    };
                    backward.run(to, masked, &mut a.sums)?;
                } else {
                    engine.input(conv2, from, to, Store::Overwrite)?;
                    norm::mask_and_sum(
                        isa,
                        (bottleneck, &dense),
                        (affine, first),
                        (&mut grad[..], &dense),
                        (sums, &mut a.sums),
                    )?;
                }
                if !frozen {
                    shares.add_to(norm2, gradients);
                }
                let (rest, sums) = shares.own_and_sums(affine.scale, frozen, own, layer.c_in);
                let weight = gradients.of(&layer.conv1.weight);
                let backward = PointwiseBackward {
                    input: (&a.blocks[index], *raster),
                    affine: layer.norm1.affine(folded),
                    statistics: map.first(layer.c_in),
                    grad_output: OutputGradient {
                        grad: (grad, dense),
                        rest: Some((rest, bottleneck, dense)),
                    },
                    weights: engine
                        .packed
                        .panels((&layer.conv1, Operand::BackwardInput), engine.parameters)?,
                };
                backward.run(PointwiseTargets {
                    grad_input: grad_block,
                    grad_weight: (!frozen).then_some((weight, &mut *engine.partials)),
                    sums,
                    partial_sums: &mut a.sums,
                })?;
            }
            _ => {
                let norm1 = layer.norm1.affine(folded);
                let tasks = conv::tasks(raster);
                let sums = &mut a.sums[..tasks * 2 * layer.c_in];
                sums.fill(0.0);
                let store = Store::NormBackward(NormBackward {
                    input: &a.blocks[index],
                    affine: norm1,
                    statistics: map.first(layer.c_in),
                    sums,
                });
                let target = (grad_block, raster);
                engine.input(&layer.conv1, (grad_new, new), target, store)?;
                norm::reduce(&a.sums, tasks, layer.c_in, shares.sums(layer.c_in));
            }
        }
        if !frozen {
            shares.add_to(&layer.norm1, gradients);
            shares.add(&self.parameters[layer.norm1.gamma.clone()], map.count);
        }
        Ok(())
    }
}
