//! Batch norm: statistics once per channel, normalise + rectify, and the backward pass in one sweep.
//!
//! Every layer of a dense block normalises the same channels with the same batch statistics; only γ and β differ. So
//! the mean μ and the inverse deviation s of a channel are computed once, when the channel is written, and the gradient
//! of a channel splits into parts. With x̂ = (x − μ)·s and g_l the gradient at layer l's norm output (ReLU mask applied),
//!
//! ```text
//! ∂L/∂x = Σ_l γ_l s (g_l − mean(g_l) − x̂ · mean(g_l x̂))
//!       = Σ_l γ_l s g_l  −  s (B + x̂ Q)          B = Σ_l γ_l mean(g_l),  Q = Σ_l γ_l mean(g_l x̂)
//! ```
//!
//! [`NormBackward`] adds γ_l s g_l to the gradient buffer and Σ g_l, Σ g_l x̂ to sums, as the input-gradient product is
//! stored; [`combine`] applies the second term once, when the channel's producer is reached.
//!
//! # Source
//! Ioffe & Szegedy, arXiv:1502.03167, algorithm 1; Pleiss et al., arXiv:1707.06990 (shared storage, recomputation).

mod backward;
mod forward;
mod rows;

pub use backward::{Combination, NormBackward, combine, combine_in_place, mask_and_sum};
pub use forward::{clear_halo, copy, moments, normalise_relu};
pub use rows::{partial_sums, reduce};

pub(crate) use backward::ProductRows;
pub(crate) use forward::{Rows, affine_relu};
pub(crate) use rows::{row_tasks, sum_over_rows};

use crate::{KernelError, error::exactly};

/// A norm folded into one multiply-add per element: `scale · x + shift`.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// γ·s per channel.
    pub scale: &'a [f32],
    /// β − γ·s·μ per channel.
    pub shift: &'a [f32],
}

impl Affine<'_> {
    pub(crate) fn check(
        &self,
        operation: &'static str,
        channels: usize,
    ) -> Result<(), KernelError> {
        exactly(operation, "scale", channels, self.scale.len())?;
        exactly(operation, "shift", channels, self.shift.len())
    }
}

/// A folded norm and ReLU less a constant `centre`, in one multiply-add and one maximum: `max(scale · x + shift, floor)` is
/// `relu(norm(x)) − centre` where `shift` is the norm's less `centre` and `floor` is `−centre`.
///
/// What is behind a ReLU lies about its mean, so that less of it is lost to bf16 if that is taken away first. A convolution
/// loses a constant by that, which the norm behind it can add again.
#[derive(Debug, Clone, Copy)]
pub struct Centred<'a> {
    /// The norm, its shift less the centre.
    pub affine: Affine<'a>,
    /// `−centre` per channel.
    pub floor: &'a [f32],
}

/// A channel's batch statistics as the passes use them.
#[derive(Debug, Clone, Copy)]
pub struct Statistics<'a> {
    /// μ per channel.
    pub mean: &'a [f32],
    /// s = 1/√(variance + eps) per channel.
    pub inv_std: &'a [f32],
}
