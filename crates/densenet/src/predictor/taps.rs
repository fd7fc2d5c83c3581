//! Outputs of single layers, out of a fused run.
//!
//! The run never holds most layers' outputs: norms are folded into the convolutions around them, and transitions pool
//! first. Where such a layer is asked for, its convolution runs once more with another store, or its norm is applied to
//! the block's buffer, beside the run itself, which stays as it is.

use densenet_kernels::{
    Raster,
    conv::{Conv as Convolution, Store},
    norm::Affine,
};
use densenet_spec::{Architecture, Named};

use super::Feature;
use crate::{
    NetworkError,
    parameters::channel_order,
    plan::{DenseLayer, Plan},
};

/// The activations asked for and those found so far.
pub(super) struct Taps {
    wanted: Vec<Wanted>,
}

struct Wanted {
    name: String,
    /// Index into the architecture's layers.
    layer: usize,
    found: Option<Feature>,
}

impl Taps {
    pub(super) fn none() -> Self {
        Taps { wanted: Vec::new() }
    }

    pub(super) fn new(architecture: &Architecture, names: &[&str]) -> Result<Self, NetworkError> {
        let wanted = names.iter().map(|name| {
            let layer = match architecture.resolve(name)? {
                Named::Stage(stage) => architecture.stage_output(stage),
                Named::Layer(layer) => layer,
            };
            Ok(Wanted {
                name: name.to_string(),
                layer,
                found: None,
            })
        });
        Ok(Taps {
            wanted: wanted.collect::<Result<_, NetworkError>>()?,
        })
    }

    pub(super) fn finish(self) -> Vec<Feature> {
        self.wanted.into_iter().filter_map(|w| w.found).collect()
    }

    /// Whether nothing was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    fn wants(&self, layer: usize) -> bool {
        self.wanted.iter().any(|w| w.layer == layer)
    }

    /// Records the first `channels` channels of a map as the output of `layer`. `order` gives the place of each channel
    /// where it is not the same.
    pub(super) fn record(
        &mut self,
        layer: usize,
        data: &[f32],
        raster: &Raster,
        channels: usize,
        order: Option<&[usize]>,
    ) {
        self.map(layer, data, raster, channels, order, |_, x| x);
    }

    /// [`Taps::record`] of `value(channel's place, x)`.
    fn map(
        &mut self,
        layer: usize,
        data: &[f32],
        raster: &Raster,
        channels: usize,
        order: Option<&[usize]>,
        value: impl Fn(usize, f32) -> f32,
    ) {
        if !self.wants(layer) {
            return;
        }
        let mut values = Vec::with_capacity(raster.pixels() * channels);
        for pixel in 0..raster.pixels() {
            let place = raster.pixel(pixel);
            values.extend((0..channels).map(|c| {
                let c = order.map_or(c, |o| o[c]);
                value(c, data[place + c])
            }));
        }
        let [depth, height, width] = raster.spatial;
        for wanted in self.wanted.iter_mut().filter(|w| w.layer == layer) {
            wanted.found = Some(Feature {
                name: wanted.name.clone(),
                shape: [raster.batch, depth, height, width, channels],
                data: values.clone(),
            });
        }
    }

    /// The outputs of a convolution (`layer`) and of the norm and ReLU behind it, if it has them.
    pub(super) fn conv(
        &mut self,
        convolution: &Convolution<'_>,
        output: &Raster,
        layer: usize,
        norm: Option<Affine<'_>>,
    ) -> Result<(), NetworkError> {
        let channels = convolution.weights.columns();
        let stores = [
            Some(Store::Overwrite),
            norm.map(|affine| Store::Affine {
                affine,
                relu: false,
            }),
            norm.map(|affine| Store::Affine { affine, relu: true }),
        ];
        for (i, store) in stores.into_iter().enumerate() {
            if let Some(store) = store
                && self.wants(layer + i)
            {
                let mut data = vec![0.0; output.len()];
                convolution.run(&mut data, output, store)?;
                self.record(layer + i, &data, output, channels, None);
            }
        }
        Ok(())
    }

    /// The outputs of a norm (`layer`) over a dense block's buffer and of the ReLU behind it.
    pub(super) fn norm(
        &mut self,
        plan: &Plan,
        layer: usize,
        affine: Affine<'_>,
        block: &[f32],
        raster: &Raster,
    ) {
        if !self.wants(layer) && !self.wants(layer + 1) {
            return;
        }
        let channels = affine.scale.len();
        let order = channel_order(&plan.architecture, layer);
        let normed = |c: usize, x: f32| affine.scale[c].mul_add(x, affine.shift[c]);
        self.map(layer, block, raster, channels, order.as_deref(), normed);
        self.map(
            layer + 1,
            block,
            raster,
            channels,
            order.as_deref(),
            |c, x| {
                let y = normed(c, x);
                if y < 0.0 { 0.0 } else { y }
            },
        );
    }

    /// The end of the stem: what the first block's buffer holds before its layers run.
    pub(super) fn record_stem_end(&mut self, plan: &Plan, block: &[f32], raster: &Raster) {
        let end = plan.blocks[0].layers[0].index - 1;
        self.record(end, block, raster, plan.blocks[0].c_in, None);
    }

    /// What a dense layer read and what it added, once it has run.
    pub(super) fn record_layer(
        &mut self,
        plan: &Plan,
        layer: &DenseLayer,
        norm1: Affine<'_>,
        block: &[f32],
        raster: &Raster,
    ) {
        if !layer.layers.clone().any(|l| self.wants(l)) {
            return;
        }
        self.norm(plan, layer.norm1.layer, norm1, block, raster);
        let (c_in, growth_rate) = (layer.c_in, plan.architecture.config().growth_rate);
        // The last convolution and, while the network is not training, the dropout behind it.
        let last = layer.index + if layer.bottleneck.is_some() { 5 } else { 2 };
        let concat = layer.layers.end - 1;
        for index in last..concat {
            self.record(index, block, &raster.at(c_in), growth_rate, None);
        }
        let order = after_layer(plan, layer);
        self.record(concat, block, raster, c_in + growth_rate, Some(&order));
    }
}

/// Place in the block's buffer of each channel of the concatenation behind `layer`.
fn after_layer(plan: &Plan, layer: &DenseLayer) -> Vec<usize> {
    let config = plan.architecture.config();
    let blocks = plan
        .blocks
        .iter()
        .filter(|b| b.layers.iter().any(|l| l.index == layer.index));
    let (c_block, done) = blocks
        .map(|b| (b.c_in, (layer.c_in - b.c_in) / config.growth_rate + 1))
        .next()
        .unwrap_or((layer.c_in, 1));
    densenet_spec::physical_channels(config.concat_order, c_block, config.growth_rate, done)
}
