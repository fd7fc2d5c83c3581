//! The backward pass: from the logits' gradient to every parameter's.
//!
//! A dense block's gradient buffer is filled by its consumers, last layer first. Each consumer adds its share as its
//! input-gradient product is stored; what the batch statistics contribute is kept as two numbers per channel
//! ([`super::shares::Shares`]) and applied once, when the channel's producer is reached.

mod ends;

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
    packed::Packed,
};
use crate::{NetworkError, plan::Conv};

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
        gradients: &mut [f32],
    ) -> Result<(), NetworkError> {
        let gradient = WeightGradient {
            window: conv.window,
            c_in: conv.c_in,
            source,
            c_out: conv.c_out,
            grad_output,
        };
        Ok(gradient.run(self.isa, &mut gradients[conv.weight.clone()], self.partials)?)
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
        let outcome = together(|| self.backward_through(grad_logits, pass, shapes));
        self.prepared = Some(prepared);
        self.last = Some(LastPass {
            spent: true,
            ..pass
        });
        outcome
    }

    fn backward_through(
        &mut self,
        grad_logits: &[f32],
        pass: LastPass,
        (trace, rasters, first): (&Trace, &[Raster], usize),
    ) -> Result<(), NetworkError> {
        let last = rasters.len() - 1;
        self.head_backward(grad_logits, &rasters[last], first)?;
        for block in (0..rasters.len()).rev() {
            if self.plan.blocks[block].stage < first {
                return Ok(());
            }
            self.block_backward(block, &rasters[block], pass)?;
            if block > 0 {
                let stage = self.plan.transitions[block - 1].stage;
                if stage < first {
                    return Ok(());
                }
                self.transition_backward(block - 1, &rasters[block - 1], &rasters[block])?;
            }
        }
        if first == 0 {
            self.stem_backward(pass, trace.layers[0].spatial, &rasters[0])?;
        }
        Ok(())
    }

    fn block_backward(
        &mut self,
        index: usize,
        raster: &Raster,
        pass: LastPass,
    ) -> Result<(), NetworkError> {
        for layer in (0..self.plan.blocks[index].layers.len()).rev() {
            self.layer_backward(index, layer, raster, pass)?;
        }
        // What is left is the gradient at the block's input.
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
        let (grad, map) = ((&a.grad_block[..], raster), (&a.blocks[index][..], raster));
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

        // The gradient at the new features: every consumer is done.
        norm::clear_halo(&mut a.grad_new, &new)?;
        let channels = layer.c_in..layer.c_in + last.c_out;
        let at = raster.at(layer.c_in);
        let rest = shares.rest(channels, map);
        norm::combine(
            isa,
            rest,
            (&a.grad_block, &at),
            (&a.blocks[index], &at),
            (&mut a.grad_new, &new),
        )?;
        let rate = plan.architecture.config().drop_rate;
        if rate > 0.0 && !frozen {
            let dropout = Dropout {
                seed: self.dropout_seed,
                step: pass.step,
                layer: layer.index as u32,
                rate,
            };
            dropout.apply(last.c_out, &mut a.grad_new, &new)?;
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
                grad_output: (&a.grad_new, new),
            };
            gradient.run(isa, &mut gradients[last.weight.clone()], engine.partials)?;
        } else if !frozen {
            let padded = rectify(isa, layer, input, bottleneck, (folded, &mut a.rectified))?;
            engine.weight(
                last,
                Source::Map(&a.rectified, padded),
                (&a.grad_new, new),
                gradients,
            )?;
        }
        // norm2 and the first convolution with norm1, into the block's gradient; or that convolution alone.
        match (&layer.bottleneck, bottleneck) {
            (Some((norm2, conv2)), Some(bottleneck)) => {
                let own = &statistics.bottlenecks[index][l];
                let dense = Raster::dense(raster.batch, raster.spatial, norm2.channels);
                let grad = &mut a.grad_bottleneck;
                let (affine, first) = (norm2.affine(folded), own.first(norm2.channels));
                let sums = shares.sums(norm2.channels);
                let (from, to) = ((&a.grad_new[..], new), (&mut grad[..], &dense));
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
                let weight = &mut gradients[layer.conv1.weight.clone()];
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
                    grad_input: &mut a.grad_block,
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
                let target = (&mut a.grad_block[..], raster);
                engine.input(&layer.conv1, (&a.grad_new, new), target, store)?;
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
