//! A network's norms, as inference takes them.

use densenet_kernels::{
    Buffer,
    norm::{Affine, Centred},
};
use densenet_weights::StateDict;

use super::Dtype;
use crate::{
    NetworkError,
    plan::{Norm, Plan},
};

/// Every norm, folded; in bf16 what is expected behind it and its ReLU, too.
pub(super) struct Norms {
    /// `scale` and `shift` of every norm, at [`Norm::folded`].
    folded: Buffer,
    /// A value per channel, where half of [`Norm::folded`] begins; empty in f32.
    centres: Vec<f32>,
}

impl Norms {
    pub(super) fn new(plan: &Plan, state: &StateDict, dtype: Dtype) -> Result<Self, NetworkError> {
        let mut folded = Buffer::zeroed(plan.folded);
        let mut centres = match dtype {
            Dtype::F32 => Vec::new(),
            Dtype::Bf16 => vec![0.0; plan.folded / 2],
        };
        for norm in plan.norms() {
            let found = norm.load(plan, state)?;
            norm.fold(&found, plan.architecture.config().bn_eps, &mut folded);
            if dtype == Dtype::Bf16 {
                let start = norm.folded.start / 2;
                centre(&found, &mut centres[start..start + norm.channels]);
            }
        }
        Ok(Norms { folded, centres })
    }

    pub(super) fn affine(&self, norm: &Norm) -> Affine<'_> {
        norm.affine(&self.folded)
    }

    /// What to take away from what is behind a norm and its ReLU; `None` in f32.
    fn centre(&self, norm: &Norm) -> Option<&[f32]> {
        let start = norm.folded.start / 2;
        self.centres.get(start..start + norm.channels)
    }
}

/// About the mean of what is behind a norm and its ReLU: of `relu(N(β, γ²))`, by a hyperbola that meets it at β = 0 and far
/// from there. In bf16, so that where the ReLU gives 0 nothing is rounded.
///
/// A norm whose statistics nobody has estimated says nothing of what is behind it: 0.
fn centre([gamma, beta, mean, var]: &[Vec<f32>; 4], centre: &mut [f32]) {
    if mean.iter().all(|m| *m == 0.0) && var.iter().all(|v| *v == 1.0) {
        return;
    }
    for ((c, gamma), beta) in centre.iter_mut().zip(gamma).zip(beta) {
        let (gamma, beta) = (f64::from(*gamma), f64::from(*beta));
        let mean =
            (beta + (beta * beta + std::f64::consts::FRAC_2_PI * gamma * gamma).sqrt()) / 2.0;
        let mean = f32::from_bits((mean as f32).to_bits() & 0xffff_0000);
        *c = if mean.is_finite() { mean } else { 0.0 };
    }
}

/// How a 1×1 convolution takes its input, less a centre, and makes up for it.
pub(super) struct Centring {
    /// The norm's shift less the centre.
    shift: Vec<f32>,
    floor: Vec<f32>,
    /// The shift of the affine map behind the convolution.
    pub after: Vec<f32>,
}

impl Centring {
    /// Of a convolution behind this norm and its ReLU, whose weight is `[c_in][c_out]`; `rectified` if something else has
    /// applied them. `after` makes an output channel's shift of what its sums lost, `Σ_c centre[c] · weight[c, o]`. `None` in
    /// f32.
    pub(super) fn new(
        norms: &Norms,
        (norm, rectified): (&Norm, bool),
        weight: &[f32],
        after: impl Fn(usize, f64) -> f32,
    ) -> Option<Self> {
        let centre = norms.centre(norm)?;
        let mut lost = vec![0.0; weight.len() / centre.len().max(1)];
        for (c, row) in centre.iter().zip(weight.chunks_exact(lost.len().max(1))) {
            for (sum, w) in lost.iter_mut().zip(row) {
                *sum += f64::from(*c) * f64::from(*w);
            }
        }
        let shift = norms.affine(norm).shift.iter().zip(centre);
        Some(Centring {
            shift: shift
                .map(|(shift, c)| if rectified { -c } else { shift - c })
                .collect(),
            floor: centre.iter().map(|c| -c).collect(),
            after: (0..lost.len()).map(|o| after(o, lost[o])).collect(),
        })
    }

    /// The norm and ReLU less the centre; `scale` is the norm's, or ones where they have been applied.
    pub(super) fn centred<'a>(&'a self, scale: &'a [f32]) -> Centred<'a> {
        Centred {
            affine: Affine {
                scale,
                shift: &self.shift,
            },
            floor: &self.floor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_are_near_the_mean_of_a_rectified_normal() {
        // β, γ and the mean: γ·φ(β/γ) + β·Φ(β/γ).
        let cases = [
            (0.0, 1.0, 0.3989),
            (1.0, 1.0, 1.0833),
            (-1.0, 1.0, 0.0833),
            (0.5, -0.5, 0.5417),
            (-3.0, 0.5, 0.0),
            (4.0, 0.1, 4.0),
        ];
        for (beta, gamma, mean) in cases {
            let mut found = [0.0];
            let norm = [vec![gamma], vec![beta], vec![0.3], vec![2.0]];
            centre(&norm, &mut found);
            assert!(
                (found[0] - mean).abs() < 0.06,
                "{beta} {gamma}: {}",
                found[0]
            );
            assert_eq!(found[0].to_bits() & 0xffff, 0);
        }
    }

    #[test]
    fn what_is_not_known_is_not_centred() {
        for (gamma, var) in [(1.0, 1.0), (f32::NAN, 2.0), (f32::INFINITY, 2.0)] {
            let mut found = [0.0];
            centre(&[vec![gamma], vec![0.5], vec![0.0], vec![var]], &mut found);
            assert_eq!(found, [0.0]);
        }
    }
}
