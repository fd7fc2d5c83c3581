//! The memory of one training step.

use densenet_kernels::{
    Buffer, Isa, Raster, conv, norm,
    pointwise::{PointwiseBackward, PointwiseForward},
    weight_gradient::WeightGradient,
    winograd::{FusedWinograd, Stem, StemGradient, StemWeights, WinogradGradient},
};
use densenet_spec::Trace;

use super::overlay::{Lengths, Overlay};
use crate::plan::{Conv, Plan};

/// What the forward pass keeps for the backward pass, and scratch memory of both. Buffers only grow.
#[derive(Default)]
pub(super) struct Activations {
    /// The input with the stem's padding around it, or as squares where the stem goes by tiles.
    pub image: Buffer,
    /// The stem's map; pooled features and gradients of maps.
    pub overlay: Overlay,
    /// Which tap of the stem's max-pool won.
    pub winners: Vec<u8>,
    /// Each block's buffer.
    pub blocks: Vec<Buffer>,
    /// conv1's output of each layer of each block; a single shared one with `memory_efficient`.
    pub bottlenecks: Vec<Vec<Buffer>>,
    /// A layer's rectified bottleneck (or plain input) with a border.
    pub rectified: Buffer,
    /// The classifier's input, `[batch][features]`.
    pub features: Buffer,
    pub logits: Buffer,
    /// The gradient of a block's input; of the logits.
    pub grad_input: Buffer,
    /// Partial weight gradients; the stem's lie in the first block's buffer where that is larger.
    pub partials: Buffer,
    /// Partial sums per channel.
    pub sums: Vec<f64>,
}

/// How long each buffer of [`Activations`] must be, in elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub image: usize,
    pub overlay: Lengths,
    pub winners: usize,
    pub blocks: Vec<usize>,
    pub bottlenecks: Vec<Vec<usize>>,
    pub rectified: usize,
    pub features: usize,
    pub logits: usize,
    pub grad_input: usize,
    pub partials: usize,
    pub sums: usize,
}

/// Grows `value` to `len`.
fn at_least(value: &mut usize, len: usize) {
    *value = (*value).max(len);
}

impl Sizes {
    pub(crate) fn new(
        plan: &Plan,
        trace: &Trace,
        batch: usize,
        memory_efficient: bool,
        isa: Isa,
    ) -> Self {
        let stem = &plan.stem.conv;
        let image = Raster::dense(batch, trace.input, stem.c_in);
        let tiles = StemWeights::pays(&stem.window, trace.layers[0].spatial);
        let mut s = Sizes {
            image: match tiles {
                true => StemWeights::prepared(&stem.window, &image),
                false => image.with_halo(stem.window.padding).len(),
            },
            ..Sizes::default()
        };
        let slack = |c_out: usize| WeightGradient::slack(isa, c_out);
        let map = Raster::dense(batch, trace.layers[0].spatial, stem.c_out);
        if plan.stem.norm.is_some() || plan.stem.pool.is_some() {
            s.overlay.stem = map.len() + slack(stem.c_out);
            s.overlay.keeps_stem =
                !memory_efficient && plan.architecture.config().spatial_dims == 2;
        }
        if tiles {
            at_least(&mut s.sums, Stem::partial_sums(stem.c_out, &map));
        } else {
            s.weight(stem, &map, isa);
        }
        s.sums(&map, stem.c_out);
        for block in &plan.blocks {
            let spatial = trace.layers[block.layers[0].index].spatial;
            let raster = Raster::dense(batch, spatial, block.c_out);
            s.blocks.push(raster.len());
            at_least(&mut s.overlay.grad_block, raster.len());
            s.sums(&raster, block.c_out);
            at_least(
                &mut s.grad_input,
                Raster::dense(batch, spatial, block.c_in).len() + slack(block.c_in),
            );
            let mut kept = Vec::new();
            for layer in &block.layers {
                let last = layer.last();
                let padding = last.window.padding;
                let padded = |channels| Raster::dense(batch, spatial, channels).with_halo(padding);
                at_least(
                    &mut s.overlay.grad_new,
                    padded(last.c_out).len() + slack(last.c_out),
                );
                let output = padded(last.c_out);
                let back = WinogradGradient::choose(&last.window, &output);
                let forward = FusedWinograd::choose(&last.window, &output);
                // Tiles normalise what they load, but not a map that is also written to.
                if layer.bottleneck.is_none() || forward.is_none() || back.is_none() {
                    at_least(&mut s.rectified, padded(last.c_in).len());
                }
                match back {
                    Some(tiles) => {
                        let channels = [last.c_in, last.c_out];
                        let way = (&last.window, tiles);
                        let needed = WinogradGradient::partials(isa, way, channels, &output);
                        at_least(&mut s.partials, needed);
                    }
                    None => s.weight(last, &output, isa),
                }
                if forward.is_some() {
                    let widest = last.c_in.max(last.c_out);
                    let output = Raster::dense(batch, spatial, widest);
                    let sums = FusedWinograd::partial_sums(&last.window, widest, &output);
                    at_least(&mut s.sums, sums);
                }
                if layer.bottleneck.is_some() {
                    let bottleneck = Raster::dense(batch, spatial, layer.conv1.c_out);
                    kept.push(bottleneck.len());
                    at_least(
                        &mut s.overlay.grad_bottleneck,
                        bottleneck.len() + slack(layer.conv1.c_out),
                    );
                    s.pointwise(&layer.conv1, &bottleneck, isa);
                    s.sums(&bottleneck, layer.conv1.c_out);
                }
            }
            s.bottlenecks.push(kept);
        }
        if tiles {
            let needed = StemGradient::partials(isa, &stem.window, &image, stem.c_out);
            if s.blocks.first().is_none_or(|block| *block < needed) {
                at_least(&mut s.partials, needed);
            }
        }
        if memory_efficient {
            let largest = s.bottlenecks.iter().flatten().max().copied();
            s.bottlenecks = vec![largest.into_iter().collect()];
        }
        for transition in &plan.transitions {
            let spatial = trace.layers[transition.norm.layer + 3].spatial;
            at_least(
                &mut s.overlay.pooled,
                Raster::dense(batch, spatial, transition.conv.c_in).len(),
            );
            s.weight(
                &transition.conv,
                &Raster::dense(batch, spatial, transition.conv.c_out),
                isa,
            );
        }
        if let Some(window) = plan.stem.pool {
            let pooled = window.output(trace.layers[0].spatial).unwrap_or([0; 3]);
            s.winners = Raster::dense(batch, pooled, stem.c_out).len();
        }
        let linear = &plan.classifier;
        s.features = batch * linear.c_in;
        at_least(&mut s.overlay.pooled, s.features);
        s.logits = batch * linear.c_out;
        at_least(&mut s.grad_input, s.logits + slack(linear.c_out));
        let logits = Raster::dense(batch, [1; 3], linear.c_out);
        for piece in linear.pieces() {
            s.weight(&piece.conv, &logits, isa);
        }
        s
    }

    /// Room for the partial gradients of a convolution's weight.
    fn weight(&mut self, conv: &Conv, output: &Raster, isa: Isa) {
        let channels = [conv.c_in, conv.c_out];
        let needed = WeightGradient::partials(isa, &conv.window, channels, output);
        at_least(&mut self.partials, needed);
    }

    /// Room for the backward pass of norm, ReLU and 1×1 convolution.
    fn pointwise(&mut self, conv: &Conv, output: &Raster, isa: Isa) {
        let pixels = output.pixels();
        let partials = PointwiseBackward::partials(isa, [conv.c_in, conv.c_out], pixels);
        at_least(&mut self.partials, partials);
        let sums = PointwiseBackward::partial_sums(isa, conv.c_in, pixels);
        at_least(&mut self.sums, sums);
        at_least(
            &mut self.sums,
            PointwiseForward::partial_sums(conv.c_out, pixels),
        );
    }

    /// Room for sums of two values per channel over a map, in either way of cutting it.
    fn sums(&mut self, map: &Raster, channels: usize) {
        let by_rows = norm::partial_sums(map, channels);
        at_least(&mut self.sums, by_rows.max(conv::tasks(map) * 2 * channels));
    }

    /// Bytes of all buffers.
    pub(crate) fn bytes(&self) -> usize {
        let values = self.image
            + self.overlay.total()
            + self.blocks.iter().sum::<usize>()
            + self.bottlenecks.iter().flatten().sum::<usize>()
            + self.rectified
            + self.features
            + self.logits
            + self.grad_input
            + self.partials;
        values * size_of::<f32>() + self.sums * size_of::<f64>() + self.winners
    }
}

impl Activations {
    /// Grows the buffers that are too short.
    pub(super) fn reserve(&mut self, s: &Sizes) {
        fn grow(buffer: &mut Buffer, len: usize) {
            if buffer.len() < len {
                *buffer = Buffer::in_large_pages(len);
            }
        }
        fn grow_all(buffers: &mut Vec<Buffer>, lens: &[usize]) {
            buffers.resize_with(lens.len(), Buffer::default);
            for (buffer, len) in buffers.iter_mut().zip(lens) {
                grow(buffer, *len);
            }
        }
        grow(&mut self.image, s.image);
        self.overlay.reserve(s.overlay);
        if self.winners.len() < s.winners {
            self.winners.resize(s.winners, 0);
        }
        grow_all(&mut self.blocks, &s.blocks);
        self.bottlenecks.resize_with(s.bottlenecks.len(), Vec::new);
        for (buffers, lens) in self.bottlenecks.iter_mut().zip(&s.bottlenecks) {
            grow_all(buffers, lens);
        }
        grow(&mut self.rectified, s.rectified);
        grow(&mut self.features, s.features);
        grow(&mut self.logits, s.logits);
        grow(&mut self.grad_input, s.grad_input);
        grow(&mut self.partials, s.partials);
        if self.sums.len() < s.sums {
            self.sums.resize(s.sums, 0.0);
        }
    }
}
