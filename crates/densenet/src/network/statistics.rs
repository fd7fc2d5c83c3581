//! Batch statistics of every normalised map, and the folded norms made from them.

use densenet_kernels::{Buffer, norm};

use crate::plan::{Norm, Plan};

/// Statistics of the maps that norms read: one per block's buffer (shared by all its layers), one per bottleneck, one
/// for the stem.
pub(super) struct Statistics {
    pub stem: MapStatistics,
    pub blocks: Vec<MapStatistics>,
    /// Of each layer of each block; empty without bottlenecks.
    pub bottlenecks: Vec<Vec<MapStatistics>>,
    /// `scale` and `shift` of every norm, at [`Norm::folded`].
    pub folded: Buffer,
}

/// μ and variance of a map's channels.
#[derive(Debug, Clone, Default)]
pub(super) struct MapStatistics {
    pub mean: Vec<f32>,
    pub inv_std: Vec<f32>,
    pub mean_f64: Vec<f64>,
    /// Biased.
    pub variance: Vec<f64>,
    /// Values per channel.
    pub count: usize,
}

impl Statistics {
    pub(super) fn new(plan: &Plan) -> Self {
        let bottlenecks = plan.blocks.iter().map(|block| {
            let norms = block.layers.iter().filter_map(|l| l.bottleneck.as_ref());
            norms
                .map(|(norm2, _)| MapStatistics::new(norm2.channels))
                .collect()
        });
        Statistics {
            stem: MapStatistics::new(plan.stem.conv.c_out),
            blocks: plan
                .blocks
                .iter()
                .map(|b| MapStatistics::new(b.c_out))
                .collect(),
            bottlenecks: bottlenecks.collect(),
            folded: Buffer::zeroed(plan.folded),
        }
    }
}

impl MapStatistics {
    fn new(channels: usize) -> Self {
        MapStatistics {
            mean: vec![0.0; channels],
            inv_std: vec![0.0; channels],
            mean_f64: vec![0.0; channels],
            variance: vec![0.0; channels],
            count: 0,
        }
    }

    /// Where the mean and the variance of some channels go.
    pub(super) fn moments(&mut self, channels: std::ops::Range<usize>) -> [&mut [f64]; 2] {
        [
            &mut self.mean_f64[channels.clone()],
            &mut self.variance[channels],
        ]
    }

    /// Fills the f32 values of `channels` from the f64 ones.
    pub(super) fn finish(&mut self, channels: std::ops::Range<usize>, count: usize, eps: f64) {
        self.count = count;
        for c in channels {
            self.mean[c] = self.mean_f64[c] as f32;
            self.inv_std[c] = (1.0 / (self.variance[c] + eps).sqrt()) as f32;
        }
    }

    /// μ and s of the first `channels` channels.
    pub(super) fn first(&self, channels: usize) -> norm::Statistics<'_> {
        norm::Statistics {
            mean: &self.mean[..channels],
            inv_std: &self.inv_std[..channels],
        }
    }

    /// Folds a norm that reads the first channels of this map: `scale = γ·s`, `shift = β − γ·s·μ`.
    pub(super) fn fold(&self, norm: &Norm, parameters: &[f32], folded: &mut [f32]) {
        let (scale, shift) = folded[norm.folded.clone()].split_at_mut(norm.channels);
        let gamma = &parameters[norm.gamma.clone()];
        let beta = &parameters[norm.beta.clone()];
        for c in 0..norm.channels {
            scale[c] = gamma[c] * self.inv_std[c];
            shift[c] = (f64::from(beta[c]) - f64::from(scale[c]) * self.mean_f64[c]) as f32;
        }
    }

    /// Moves a norm's running statistics towards these: `(1 − momentum)·running + momentum·batch`, with the unbiased
    /// variance, as PyTorch does.
    pub(super) fn update_running(&self, norm: &Norm, momentum: f64, buffers: &mut [f32]) {
        let unbiased = self.count as f64 / (self.count as f64 - 1.0);
        let mut mix = |place: usize, batch: f64| {
            let running = f64::from(buffers[place]);
            buffers[place] = ((1.0 - momentum) * running + momentum * batch) as f32;
        };
        for c in 0..norm.channels {
            mix(norm.running_mean.start + c, self.mean_f64[c]);
            mix(norm.running_var.start + c, self.variance[c] * unbiased);
        }
    }
}
