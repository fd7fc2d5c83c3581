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
        self.fold(values, eps, folded);
    }

    /// [`Norm::fold_running`] of the tensors in a state dict.
    pub(crate) fn fold_state(
        &self,
        plan: &Plan,
        state: &StateDict,
        folded: &mut [f32],
    ) -> Result<(), NetworkError> {
        let entries = &plan.table.entries[self.parameter..self.parameter + 4];
        let values = entries
            .iter()
            .map(|e| e.loaded(state))
            .collect::<Result<Vec<_>, _>>()?;
        let values = [&values[0][..], &values[1], &values[2], &values[3]];
        self.fold(values, plan.architecture.config().bn_eps, folded);
        Ok(())
    }

    fn fold(&self, [gamma, beta, mean, var]: [&[f32]; 4], eps: f64, folded: &mut [f32]) {
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
