//! The forward pass with batch statistics.

mod stem;

use std::ops::Range;

use densenet_kernels::{
    Isa, Operand, Raster,
    conv::{Source, Store},
    dropout::Dropout,
    norm,
    pointwise::PointwiseForward,
    pool, together,
    winograd::{FusedStore, FusedWinograd},
};
use densenet_spec::Window;

use super::{LastPass, Network, packed::Packed, prepared::Prepared, statistics::MapStatistics};
use crate::{
    Input, NetworkError,
    plan::{Conv, DenseLayer, Norm, Plan},
};

/// A layer's forward needs the same things everywhere: how to pack a weight and run it.
pub(super) fn convolve(
    (isa, packed, parameters): (Isa, &mut Packed, &[f32]),
    conv: &Conv,
    source: Source<'_>,
    (output, raster): (&mut [f32], &Raster),
) -> Result<(), NetworkError> {
    debug_assert_eq!(packed.isa(), isa);
    let way = (conv, Operand::Forward);
    packed.run(way, parameters, source, (output, raster), Store::Overwrite)
}

impl Network {
    /// Runs the network in training mode and returns the logits, `[batch, num_classes]`.
    ///
    /// Norms use the batch's statistics (running ones in frozen stages); the running statistics wait for
    /// [`Network::update_running_statistics`]. `step` selects dropout's masks.
    ///
    /// # Errors
    /// The input does not fit the network, or a norm would see a single value per channel.
    pub fn forward(&mut self, input: Input<'_>, step: u64) -> Result<&[f32], NetworkError> {
        let kept = self.prepared.take();
        let way = (self.memory_efficient, self.isa);
        let prepared = Prepared::fitting(kept, &self.plan, &input, way)?;
        self.last = None;
        self.check_statistics(&prepared.trace, input.batch)?;
        self.activations.reserve(&prepared.sizes);
        let pass = LastPass {
            batch: input.batch,
            spatial: input.spatial,
            step,
            spent: false,
        };
        together(|| self.forward_through(input, prepared.trace.layers[0].spatial, step))?;
        let logits = prepared.sizes.logits;
        (self.last, self.prepared) = (Some(pass), Some(prepared));
        Ok(&self.activations.logits[..logits])
    }

    fn forward_through(
        &mut self,
        input: Input<'_>,
        stem: [usize; 3],
        step: u64,
    ) -> Result<(), NetworkError> {
        let mut spatial = self.stem_forward(input, stem)?;
        for block in 0..self.plan.blocks.len() {
            let raster = Raster::dense(input.batch, spatial, self.plan.blocks[block].c_out);
            self.block_forward(block, &raster, step)?;
            if block < self.plan.transitions.len() {
                spatial = self.transition_forward(block, &raster)?;
            }
        }
        self.head_forward(input.batch, spatial)
    }

    /// Every trained norm must see more than one value per channel.
    fn check_statistics(
        &self,
        trace: &densenet_spec::Trace,
        batch: usize,
    ) -> Result<(), NetworkError> {
        let layers = self.plan.architecture.layers();
        for norm in self.plan.norms() {
            let values = batch * trace.layers[norm.layer].spatial.iter().product::<usize>();
            if values < 2 && !self.frozen[layers[norm.layer].stage] {
                return Err(NetworkError::SingleValue {
                    layer: layers[norm.layer].name.clone(),
                });
            }
        }
        Ok(())
    }

    fn block_forward(
        &mut self,
        index: usize,
        raster: &Raster,
        step: u64,
    ) -> Result<(), NetworkError> {
        let block = &self.plan.blocks[index];
        let frozen = self.frozen[block.stage];
        let statistics = &mut self.statistics;
        let a = &mut self.activations;
        measure(
            self.isa,
            (&a.blocks[index], raster),
            0..block.c_in,
            &mut statistics.blocks[index],
            &mut a.sums,
            &self.plan,
        )?;
        let config = self.plan.architecture.config();
        for (l, layer) in block.layers.iter().enumerate() {
            let buffers = frozen.then_some(&self.buffers[..]);
            fold(
                &layer.norm1,
                &statistics.blocks[index],
                (&self.parameters, buffers),
                &self.plan,
                &mut statistics.folded,
            );
            let bottleneck = bottleneck_place(layer, (index, l), self.memory_efficient);
            if let (Some((norm2, _)), Some((i, j))) = (&layer.bottleneck, bottleneck) {
                let dense = Raster::dense(raster.batch, raster.spatial, norm2.channels);
                let own = &mut statistics.bottlenecks[index][l];
                let target = (&mut a.bottlenecks[i][j][..], &dense);
                let forward = PointwiseForward {
                    input: (&a.blocks[index], *raster),
                    affine: layer.norm1.affine(&statistics.folded),
                    weights: self
                        .packed
                        .panels((&layer.conv1, Operand::Forward), &self.parameters)?,
                };
                forward.run(target, own.moments(0..norm2.channels), &mut a.sums)?;
                own.finish(0..norm2.channels, dense.pixels(), config.bn_eps);
                fold(
                    norm2,
                    own,
                    (&self.parameters, buffers),
                    &self.plan,
                    &mut statistics.folded,
                );
            }
            let (last, new) = (layer.last(), raster.at(layer.c_in));
            let channels = layer.c_in..layer.c_in + last.c_out;
            let way = (last, Operand::Forward);
            let mut measured = false;
            // The bottleneck is normalised as it is loaded; a map that is also written to is normalised beforehand.
            let tiled = FusedWinograd::choose(&last.window, &new).is_some();
            let (source, affine) = match (&layer.bottleneck, bottleneck) {
                (Some((norm2, _)), Some((i, j))) if tiled => {
                    let dense = Raster::dense(raster.batch, raster.spatial, norm2.channels);
                    let affine = norm2.affine(&statistics.folded);
                    ((&a.bottlenecks[i][j][..], dense), Some(affine))
                }
                _ => {
                    let padded = rectify(
                        self.isa,
                        layer,
                        (&a.blocks[index], raster),
                        bottleneck.map(|(i, j)| &a.bottlenecks[i][j][..]),
                        (&statistics.folded, &mut a.rectified),
                    )?;
                    ((&a.rectified[..], padded), None)
                }
            };
            let target = &mut a.blocks[index][..];
            if let Some(weights) = self.packed.tiles(way, &self.parameters, &new)? {
                let forward = FusedWinograd {
                    source,
                    affine,
                    weights,
                };
                let own = &mut statistics.blocks[index];
                let moments = FusedStore::Moments(own.moments(channels.clone()));
                forward.run((target, &new), moments, &mut a.sums)?;
                own.finish(channels.clone(), new.pixels(), config.bn_eps);
                measured = true;
            } else {
                let engine = (self.isa, &mut self.packed, &self.parameters[..]);
                convolve(
                    engine,
                    last,
                    Source::Map(source.0, source.1),
                    (target, &new),
                )?;
            }
            if config.drop_rate > 0.0 && !frozen {
                let dropout = Dropout {
                    seed: self.dropout_seed,
                    step,
                    layer: layer.index as u32,
                    rate: config.drop_rate,
                };
                dropout.apply(last.c_out, &mut a.blocks[index], &new)?;
                measured = false;
            }
            if !measured {
                measure(
                    self.isa,
                    (&a.blocks[index], raster),
                    channels,
                    &mut statistics.blocks[index],
                    &mut a.sums,
                    &self.plan,
                )?;
            }
        }
        Ok(())
    }

    fn transition_forward(
        &mut self,
        index: usize,
        raster: &Raster,
    ) -> Result<[usize; 3], NetworkError> {
        let transition = &self.plan.transitions[index];
        let buffers = self.frozen[transition.stage].then_some(&self.buffers[..]);
        let folded = &mut self.statistics.folded;
        fold(
            &transition.norm,
            &self.statistics.blocks[index],
            (&self.parameters, buffers),
            &self.plan,
            folded,
        );
        let a = &mut self.activations;
        let affine = transition.norm.affine(&self.statistics.folded);
        let (conv, window) = (&transition.conv, &transition.pool);
        let spatial = window.output(raster.spatial).unwrap_or(raster.spatial);
        let pooled = Raster::dense(raster.batch, spatial, conv.c_in);
        let source = (&a.blocks[index][..], raster, Some(affine));
        let map = a.overlay.maps().pooled;
        pool::average_pool(self.isa, window, source, (map, &pooled), conv.c_in)?;
        let next = Raster::dense(raster.batch, spatial, self.plan.blocks[index + 1].c_out);
        let engine = (self.isa, &mut self.packed, &self.parameters[..]);
        convolve(
            engine,
            conv,
            Source::Map(map, pooled),
            (&mut a.blocks[index + 1], &next),
        )?;
        Ok(spatial)
    }

    fn head_forward(&mut self, batch: usize, spatial: [usize; 3]) -> Result<(), NetworkError> {
        let linear = &self.plan.classifier;
        let last = self.plan.blocks.len() - 1;
        let layers = self.plan.architecture.layers();
        let raster = Raster::dense(batch, spatial, linear.c_in);
        if let Some(norm) = &self.plan.final_norm {
            let buffers = self.frozen[layers[norm.layer].stage].then_some(&self.buffers[..]);
            let folded = &mut self.statistics.folded;
            fold(
                norm,
                &self.statistics.blocks[last],
                (&self.parameters, buffers),
                &self.plan,
                folded,
            );
        }
        let a = &mut self.activations;
        let affine = self
            .plan
            .final_norm
            .as_ref()
            .map(|n| n.affine(&self.statistics.folded));
        let everything = whole(spatial);
        let features = Raster::dense(batch, [1; 3], linear.c_in);
        let source = (&a.blocks[last][..], &raster, affine);
        pool::average_pool(
            self.isa,
            &everything,
            source,
            (&mut a.features, &features),
            linear.c_in,
        )?;
        let part = |range: &Range<usize>| &self.parameters[range.clone()];
        let parts = (part(&linear.weight), part(&linear.bias));
        let input = (&a.features[..features.len()], linear.c_in);
        let logits = &mut a.logits[..batch * linear.c_out];
        densenet_kernels::linear(self.isa, parts, input, logits)?;
        Ok(())
    }

    /// Moves the running statistics of every trained norm towards the last forward pass's batch.
    ///
    /// Separate from `forward`, so that a batch whose loss or gradient turns out not to be finite leaves no trace.
    pub fn update_running_statistics(&mut self) {
        if self.last.is_none() {
            return;
        }
        let momentum = self.config().bn_momentum;
        let (plan, statistics) = (&self.plan, &self.statistics);
        let layers = plan.architecture.layers();
        let buffers = &mut self.buffers;
        let mut update = |norm: &Norm, map: &MapStatistics| {
            if !self.frozen[layers[norm.layer].stage] {
                map.update_running(norm, momentum, buffers);
            }
        };
        if let Some(norm) = &plan.stem.norm {
            update(norm, &statistics.stem);
        }
        for (i, block) in plan.blocks.iter().enumerate() {
            for (l, layer) in block.layers.iter().enumerate() {
                update(&layer.norm1, &statistics.blocks[i]);
                if let Some((norm2, _)) = &layer.bottleneck {
                    update(norm2, &statistics.bottlenecks[i][l]);
                }
            }
            if let Some(transition) = plan.transitions.get(i) {
                update(&transition.norm, &statistics.blocks[i]);
            }
        }
        if let (Some(norm), Some(map)) = (&plan.final_norm, statistics.blocks.last()) {
            update(norm, map);
        }
        self.num_batches_tracked += 1;
    }
}

/// Which buffer holds a layer's bottleneck, if it has one.
pub(super) fn bottleneck_place(
    layer: &DenseLayer,
    (block, index): (usize, usize),
    memory_efficient: bool,
) -> Option<(usize, usize)> {
    layer.bottleneck.as_ref()?;
    Some(if memory_efficient {
        (0, 0)
    } else {
        (block, index)
    })
}

/// A window that covers the whole map.
pub(super) fn whole(spatial: [usize; 3]) -> Window {
    Window {
        kernel: spatial,
        stride: spatial,
        padding: [0; 3],
    }
}

/// Measures the batch statistics of some channels of a map.
fn measure(
    isa: Isa,
    (map, raster): (&[f32], &Raster),
    channels: std::ops::Range<usize>,
    statistics: &mut MapStatistics,
    sums: &mut [f64],
    plan: &Plan,
) -> Result<(), NetworkError> {
    let mean = &mut statistics.mean_f64[channels.clone()];
    let variance = &mut statistics.variance[channels.clone()];
    norm::moments(
        isa,
        (map, &raster.at(channels.start)),
        [mean, variance],
        sums,
    )?;
    statistics.finish(channels, raster.pixels(), plan.architecture.config().bn_eps);
    Ok(())
}

/// Folds a norm from the batch's statistics, or from the running ones where it is frozen (`buffers` given).
fn fold(
    norm: &Norm,
    statistics: &MapStatistics,
    (parameters, buffers): (&[f32], Option<&[f32]>),
    plan: &Plan,
    folded: &mut [f32],
) {
    match buffers {
        Some(buffers) => norm.fold_running(
            parameters,
            buffers,
            plan.architecture.config().bn_eps,
            folded,
        ),
        None => statistics.fold(norm, parameters, folded),
    }
}

/// Normalises and rectifies the input of a dense layer's last convolution into memory with a border of zeros: the
/// bottleneck, or the block's channels where there is none. Returns where it lies.
pub(super) fn rectify(
    isa: Isa,
    layer: &DenseLayer,
    (block, raster): (&[f32], &Raster),
    bottleneck: Option<&[f32]>,
    (folded, rectified): (&[f32], &mut [f32]),
) -> Result<Raster, NetworkError> {
    let dense = |channels| Raster::dense(raster.batch, raster.spatial, channels);
    let (last, norm, map, from) = match (&layer.bottleneck, bottleneck) {
        (Some((norm2, conv2)), Some(map)) => (conv2, norm2, map, dense(norm2.channels)),
        _ => (&layer.conv1, &layer.norm1, block, *raster),
    };
    let padded = dense(last.c_in).with_halo(last.window.padding);
    norm::clear_halo(rectified, &padded)?;
    norm::normalise_relu(isa, (map, &from), norm.affine(folded), (rectified, &padded))?;
    Ok(padded)
}
