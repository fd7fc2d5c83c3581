//! Norms with running statistics, folded into one multiply-add per element.

use densenet_kernels::norm::Affine;
use densenet_weights::StateDict;

use crate::{
    NetworkError,
    plan::{Norm, Plan},
};

impl Norm {
    /// Folds the running statistics: `scale = γ / √(var + eps)`, `shift = β − scale · mean`.
    pub(crate) fn fold_running(
        &self,
        learned: &[f32],
        buffers: &[f32],
        eps: f64,
        folded: &mut [f32],
    ) {
        let values = [
            &learned[self.gamma.clone()],
            &learned[self.beta.clone()],
            &buffers[self.running_mean.clone()],
            &buffers[self.running_var.clone()],
        ];
        self.fold(&values, eps, folded);
    }

    /// γ, β, the running mean and the running variance in a state dict.
    pub(crate) fn load(
        &self,
        plan: &Plan,
        state: &StateDict,
    ) -> Result<[Vec<f32>; 4], NetworkError> {
        let read = |i: usize| plan.table.entries[self.parameter + i].loaded(state);
        Ok([read(0)?, read(1)?, read(2)?, read(3)?])
    }

    /// Folds γ, β, a mean and a variance: see [`Norm::fold_running`].
    pub(crate) fn fold<T: AsRef<[f32]>>(&self, found: &[T; 4], eps: f64, folded: &mut [f32]) {
        let [gamma, beta, mean, var] = found.each_ref().map(T::as_ref);
        let (scale, shift) = folded[self.folded.clone()].split_at_mut(self.channels);
        for c in 0..self.channels {
            let factor = f64::from(gamma[c]) / (f64::from(var[c]) + eps).sqrt();
            scale[c] = factor as f32;
            shift[c] = (f64::from(beta[c]) - factor * f64::from(mean[c])) as f32;
        }
    }

    /// The folded norm in the arena of folded norms.
    pub(crate) fn affine<'a>(&self, folded: &'a [f32]) -> Affine<'a> {
        let (scale, shift) = folded[self.folded.clone()].split_at(self.channels);
        Affine { scale, shift }
    }
}
