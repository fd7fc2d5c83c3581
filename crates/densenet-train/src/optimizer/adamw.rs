//! Adam with decoupled weight decay.

/// One step's constants; `t` counts steps from 1.
///
/// ```text
/// g = scale·grad
/// p = p·(1 − lr·weight_decay)
/// m = m + (1 − β₁)·(g − m)
/// v = β₂·v + (1 − β₂)·g²
/// p = p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
/// ```
///
/// # Source
/// PyTorch's `torch.optim.AdamW`; Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2.
pub(super) struct Pass {
    keep: f32,
    mean_share: f32,
    square_keep: f32,
    square_share: f32,
    step: f32,
    square_correction: f32,
    eps: f32,
    scale: f32,
}

impl Pass {
    pub(super) fn new(
        lr: f64,
        betas: [f64; 2],
        eps: f64,
        weight_decay: f64,
        scale: f64,
        t: u64,
    ) -> Self {
        // Beyond 2³¹ steps both powers are 0 for any usable β.
        let power = |beta: f64| beta.powi(t.min(i32::MAX as u64) as i32);
        Pass {
            keep: (1.0 - lr * weight_decay) as f32,
            mean_share: (1.0 - betas[0]) as f32,
            square_keep: betas[1] as f32,
            square_share: (1.0 - betas[1]) as f32,
            step: (lr / (1.0 - power(betas[0]))) as f32,
            square_correction: (1.0 - power(betas[1])).sqrt() as f32,
            eps: eps as f32,
            scale: scale as f32,
        }
    }

    pub(super) fn apply(
        &self,
        p: &mut [f32],
        g: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        decay: bool,
    ) {
        let keep = if decay { self.keep } else { 1.0 };
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = self.scale * g;
            *m += self.mean_share * (g - *m);
            *v = self.square_keep * *v + self.square_share * g * g;
            *p = *p * keep - self.step * (*m / (v.sqrt() / self.square_correction + self.eps));
        }
    }
}
