//! What a step needs to know of the shapes of its batch, kept for the next batch of the same shape.

use densenet_kernels::{Isa, Raster};
use densenet_spec::Trace;

use super::Sizes;
use crate::{Input, NetworkError, plan::Plan};

/// Shapes of all maps for one size of batch.
pub(super) struct Prepared {
    batch: usize,
    spatial: [usize; 3],
    pub trace: Trace,
    pub sizes: Sizes,
    /// Each block's buffer.
    pub rasters: Vec<Raster>,
}

impl Prepared {
    /// The shapes for `input`: those at hand if they fit.
    pub(super) fn fitting(
        kept: Option<Self>,
        plan: &Plan,
        input: &Input<'_>,
        (memory_efficient, isa): (bool, Isa),
    ) -> Result<Self, NetworkError> {
        if let Some(kept) = kept
            && kept.batch == input.batch
            && kept.spatial == input.spatial
        {
            input.check_length(plan)?;
            return Ok(kept);
        }
        let trace = input.trace(plan)?;
        let size = |block: usize| trace.layers[plan.blocks[block].layers[0].index].spatial;
        let raster = |b: usize| Raster::dense(input.batch, size(b), plan.blocks[b].c_out);
        Ok(Prepared {
            batch: input.batch,
            spatial: input.spatial,
            sizes: Sizes::new(plan, &trace, input.batch, memory_efficient, isa),
            rasters: (0..plan.blocks.len()).map(raster).collect(),
            trace,
        })
    }
}
