//! The memory of one inference run.

use densenet_kernels::{Buffer, Raster};
use densenet_spec::Trace;

use crate::plan::Plan;

/// Buffers of one run. They only grow, so that steady work allocates nothing.
#[derive(Default)]
pub(crate) struct Workspace {
    /// The input with the stem's padding around it.
    pub image: Buffer,
    /// The stem's output before its pooling.
    pub map: Buffer,
    /// The dense block's buffer; transitions read one block and write the next in place of it.
    pub block: Buffer,
    /// A layer's bottleneck with a border of one pixel (or a plain layer's rectified input).
    pub bottleneck: Buffer,
    /// A transition's input after pooling; the classifier's input.
    pub pooled: Buffer,
}

/// How long each buffer of a [`Workspace`] must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub image: usize,
    pub map: usize,
    pub block: usize,
    pub bottleneck: usize,
    pub pooled: usize,
}

impl Sizes {
    pub(crate) fn new(plan: &Plan, trace: &Trace, batch: usize) -> Self {
        let stem = &plan.stem.conv;
        let image = Raster::dense(batch, trace.input, stem.c_in).with_halo(stem.window.padding);
        let mut sizes = Sizes {
            image: image.len(),
            ..Sizes::default()
        };
        if plan.stem.pool.is_some() {
            sizes.map = Raster::dense(batch, trace.layers[0].spatial, stem.c_out).len();
        }
        for block in &plan.blocks {
            let spatial = trace.layers[block.layers[0].index].spatial;
            sizes.block = sizes
                .block
                .max(Raster::dense(batch, spatial, block.c_out).len());
            for layer in &block.layers {
                let conv = layer.last();
                let padded =
                    Raster::dense(batch, spatial, conv.c_in).with_halo(conv.window.padding);
                sizes.bottleneck = sizes.bottleneck.max(padded.len());
            }
        }
        sizes.pooled = batch * plan.classifier.c_in;
        for transition in &plan.transitions {
            let spatial = trace.layers[transition.norm.layer + 3].spatial;
            let pooled = Raster::dense(batch, spatial, transition.conv.c_in);
            sizes.pooled = sizes.pooled.max(pooled.len());
        }
        sizes
    }

    /// Elements of all buffers.
    pub(crate) fn total(&self) -> usize {
        self.image + self.map + self.block + self.bottleneck + self.pooled
    }
}

impl Workspace {
    /// Grows the buffers that are too short.
    pub(crate) fn reserve(&mut self, sizes: &Sizes) {
        for (buffer, len) in [
            (&mut self.image, sizes.image),
            (&mut self.map, sizes.map),
            (&mut self.block, sizes.block),
            (&mut self.bottleneck, sizes.bottleneck),
            (&mut self.pooled, sizes.pooled),
        ] {
            if buffer.len() < len {
                *buffer = Buffer::zeroed(len);
            }
        }
    }
}
