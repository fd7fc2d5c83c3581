//! What batch statistics contribute to gradients; [`densenet_kernels::norm`] has the formula.

use densenet_kernels::norm::Combination;

use super::{gradients::Gradients, statistics::MapStatistics};
use crate::plan::{Norm, Plan};

/// What the norms over a block's buffer contribute to its gradient through the batch statistics.
pub(super) struct Shares {
    /// B = Σ_l γ_l · mean(g_l) per channel of the block at hand.
    b: Vec<f64>,
    /// Q = Σ_l γ_l · mean(g_l · x̂) per channel.
    q: Vec<f64>,
    /// The last norm's Σ g and Σ g·x̂.
    sum_g: Vec<f64>,
    sum_gx: Vec<f64>,
    /// The coefficients of a [`Combination`].
    of_grad: Vec<f32>,
    of_input: Vec<f32>,
    constant: Vec<f32>,
}

impl Shares {
    pub(super) fn new(plan: &Plan) -> Self {
        let widest = plan
            .norms()
            .map(|n| n.channels)
            .chain(plan.blocks.iter().map(|b| b.c_out))
            .max()
            .unwrap_or(0);
        Shares {
            b: vec![0.0; widest],
            q: vec![0.0; widest],
            sum_g: vec![0.0; widest],
            sum_gx: vec![0.0; widest],
            of_grad: vec![0.0; widest],
            of_input: vec![0.0; widest],
            constant: vec![0.0; widest],
        }
    }

    /// Forgets the last block.
    pub(super) fn clear(&mut self) {
        self.b.fill(0.0);
        self.q.fill(0.0);
    }

    /// Adds the last sums as one more layer's share.
    pub(super) fn add(&mut self, gamma: &[f32], count: usize) {
        let count = count as f64;
        for (c, gamma) in gamma.iter().enumerate() {
            let gamma = f64::from(*gamma);
            self.b[c] += gamma * self.sum_g[c] / count;
            self.q[c] += gamma * self.sum_gx[c] / count;
        }
    }

    /// `g − s·B − s²·Q·(x − μ)` for some channels of the block's buffer.
    pub(super) fn rest<'a>(
        &'a mut self,
        channels: std::ops::Range<usize>,
        map: &'a MapStatistics,
    ) -> Combination<'a> {
        let n = channels.len();
        for (i, c) in channels.clone().enumerate() {
            let s = f64::from(map.inv_std[c]);
            self.of_grad[i] = 1.0;
            self.of_input[i] = (-s * s * self.q[c]) as f32;
            self.constant[i] = (-s * self.b[c]) as f32;
        }
        self.combination(n, &map.mean[channels])
    }

    /// The whole backward of a norm whose input nobody else reads, from the last sums: `γ·s·(g − mean(g) − x̂·mean(g·x̂))`,
    /// or `scale·g` for a frozen one.
    pub(super) fn own<'a>(
        &'a mut self,
        scale: &[f32],
        frozen: bool,
        map: &'a MapStatistics,
    ) -> Combination<'a> {
        self.own_and_sums(scale, frozen, map, 0).0
    }

    /// [`Shares::own`], and room for the next norm's sums.
    pub(super) fn own_and_sums<'a>(
        &'a mut self,
        scale: &[f32],
        frozen: bool,
        map: &'a MapStatistics,
        channels: usize,
    ) -> (Combination<'a>, [&'a mut [f64]; 2]) {
        let count = map.count.max(1) as f64;
        for (c, scale) in scale.iter().enumerate() {
            let a = f64::from(*scale);
            let s = f64::from(map.inv_std[c]);
            let (b, q) = match frozen {
                true => (0.0, 0.0),
                false => (self.sum_g[c] / count, self.sum_gx[c] / count),
            };
            self.of_grad[c] = *scale;
            self.of_input[c] = (-a * s * q) as f32;
            self.constant[c] = (-a * b) as f32;
        }
        let n = scale.len();
        let combination = Combination {
            of_grad: &self.of_grad[..n],
            of_input: &self.of_input[..n],
            constant: &self.constant[..n],
            mean: &map.mean,
        };
        let sums = [&mut self.sum_g[..channels], &mut self.sum_gx[..channels]];
        (combination, sums)
    }

    pub(super) fn combination<'a>(&'a self, n: usize, mean: &'a [f32]) -> Combination<'a> {
        Combination {
            of_grad: &self.of_grad[..n],
            of_input: &self.of_input[..n],
            constant: &self.constant[..n],
            mean,
        }
    }

    /// The last sums as the gradients of γ (Σ g·x̂) and β (Σ g).
    pub(super) fn add_to(&self, norm: &Norm, gradients: &mut Gradients) {
        for (grad, sum) in gradients.of(&norm.gamma).iter_mut().zip(&self.sum_gx) {
            *grad += *sum as f32;
        }
        for (grad, sum) in gradients.of(&norm.beta).iter_mut().zip(&self.sum_g) {
            *grad += *sum as f32;
        }
    }

    pub(super) fn sums(&mut self, channels: usize) -> [&mut [f64]; 2] {
        [&mut self.sum_g[..channels], &mut self.sum_gx[..channels]]
    }
}
