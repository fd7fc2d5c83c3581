//! How a batch passes through the network: whole, or a few samples at a time.

use densenet_kernels::Raster;
use densenet_spec::Trace;

use crate::plan::Plan;

/// Bytes of one stage's buffers that a group of samples may take. A dense block reads its buffer once per layer, so it
/// should stay in the third-level cache; a group of few samples reads the weights more often, which the early blocks,
/// whose maps are large and weights small, can afford. Of 2, 4, 6, 8, 12 and 24 MB, 6 was fastest for DenseNet-121 at 224²
/// and batch 8 (Zen 4, 32 MiB of third-level cache).
const BUDGET_BYTES: usize = 6_000_000;

/// Dense blocks that pass the same number of samples at a time, with the transitions behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The blocks.
    pub blocks: std::ops::Range<usize>,
    /// Samples at a time.
    pub group: usize,
}

/// The segments in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub batch: usize,
    pub segments: Vec<Segment>,
}

impl Schedule {
    /// `grouped` is false where layers are recorded for the whole batch at once.
    pub(crate) fn new(plan: &Plan, trace: &Trace, batch: usize, grouped: bool) -> Self {
        let mut segments: Vec<Segment> = Vec::new();
        for (i, block) in plan.blocks.iter().enumerate() {
            let spatial = trace.layers[block.layers[0].index].spatial;
            let channels = block
                .layers
                .iter()
                .map(|l| l.last().c_in)
                .max()
                .unwrap_or(0);
            let elements = Raster::dense(1, spatial, block.c_out + channels).len();
            let most = (BUDGET_BYTES / (elements * size_of::<f32>()).max(1)).clamp(1, batch);
            let group = if grouped {
                batch.div_ceil(batch.div_ceil(most))
            } else {
                batch
            };
            match segments.last_mut() {
                Some(last) if last.group == group => last.blocks.end = i + 1,
                _ => segments.push(Segment {
                    blocks: i..i + 1,
                    group,
                }),
            }
        }
        Schedule { batch, segments }
    }

    /// The samples that pass block `block` at a time.
    pub(crate) fn group(&self, block: usize) -> usize {
        let segment = self.segments.iter().find(|s| s.blocks.contains(&block));
        segment.map_or(self.batch, |s| s.group)
    }
}
