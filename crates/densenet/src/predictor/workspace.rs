//! The memory of one inference run.

use densenet_kernels::{Buffer, Raster, winograd::StemWeights};
use densenet_spec::Trace;

use super::Schedule;
use crate::plan::Plan;

/// Buffers of one run. They only grow, so that steady work allocates nothing.
#[derive(Default)]
pub(crate) struct Workspace {
    /// The stem's output before its pooling.
    pub map: Buffer,
    /// The dense block's buffer; transitions read one block and write the next in place of it.
    pub block: Buffer,
    /// What a convolution wider than a pixel reads: a group's image, with the stem's padding around it; later a layer's
    /// bottleneck (or a plain layer's rectified input), with a border where its convolution needs one.
    pub inner: Buffer,
    /// A transition's input after pooling; the classifier's input.
    pub pooled: Buffer,
    /// The whole batch between two segments: what the next reads and what the next leaves.
    pub carry: [Buffer; 2],
}

/// How long each buffer of a [`Workspace`] must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub map: usize,
    pub block: usize,
    pub inner: usize,
    pub pooled: usize,
    pub carry: usize,
}

impl Sizes {
    pub(crate) fn new(plan: &Plan, trace: &Trace, schedule: &Schedule) -> Self {
        let stem = &plan.stem.conv;
        let first = schedule.group(0);
        let image = Raster::dense(first, trace.input, stem.c_in);
        let map = Raster::dense(first, trace.layers[0].spatial, stem.c_out);
        let tiles = StemWeights::pays(&stem.window, map.spatial);
        let mut sizes = Sizes {
            inner: match tiles {
                true => StemWeights::prepared(&stem.window, &image),
                false => image.with_halo(stem.window.padding).len(),
            },
            ..Sizes::default()
        };
        if let Some(window) = plan.stem.pool {
            let planes = stem_planes(&map) + window.kernel[0];
            sizes.map = match tiles {
                true => planes.min(map.spatial[0]) * map.len() / map.spatial[0].max(1),
                false => map.len(),
            };
        }
        for (i, block) in plan.blocks.iter().enumerate() {
            let spatial = trace.layers[block.layers[0].index].spatial;
            let group = schedule.group(i);
            let spread = |channels| Raster::spread(group, spatial, channels).len();
            sizes.block = sizes.block.max(spread(block.c_out));
            for layer in &block.layers {
                let conv = layer.last();
                let padded = Raster::dense(group, spatial, conv.c_in);
                let padded = padded.with_halo(conv.window.padding).len();
                sizes.inner = sizes.inner.max(padded).max(spread(conv.c_in));
            }
        }
        let last = schedule.group(plan.blocks.len() - 1);
        sizes.pooled = last * plan.classifier.c_in;
        for (i, transition) in plan.transitions.iter().enumerate() {
            let spatial = trace.layers[transition.norm.layer + 3].spatial;
            let pooled = Raster::dense(schedule.group(i), spatial, transition.conv.c_in);
            sizes.pooled = sizes.pooled.max(pooled.len());
            if schedule.segments.iter().any(|s| s.blocks.end == i + 1) {
                let left = Raster::dense(schedule.batch, spatial, transition.conv.c_out);
                sizes.carry = sizes.carry.max(left.len());
            }
        }
        sizes
    }

    /// Elements of all buffers.
    pub(crate) fn total(&self) -> usize {
        self.map + self.block + self.inner + self.pooled + 2 * self.carry
    }
}

/// Bytes of the stem's output before its pooling that are there at a time, beside the planes that a window reaches back.
const STEM_BYTES: usize = 8_000_000;

/// Planes of the stem's output computed at a time: all of a batch's, or some of a single volume's.
pub(super) fn stem_planes(map: &Raster) -> usize {
    let depth = map.spatial[0].max(1);
    if map.batch != 1 {
        return depth;
    }
    let most = (STEM_BYTES / size_of::<f32>() / map.plane_pitch().max(1)).clamp(6, 6.max(depth));
    // As many each time, as each time's first and last planes cost more.
    depth.div_ceil(depth.div_ceil(most))
}

impl Workspace {
    /// Grows the buffers that are too short.
    pub(crate) fn reserve(&mut self, sizes: &Sizes) {
        let [left, right] = &mut self.carry;
        for (buffer, len) in [
            (&mut self.map, sizes.map),
            (&mut self.block, sizes.block),
            (&mut self.inner, sizes.inner),
            (&mut self.pooled, sizes.pooled),
            (left, sizes.carry),
            (right, sizes.carry),
        ] {
            if buffer.len() < len {
                *buffer = Buffer::zeroed(len);
            }
        }
    }
}
