//! One step of the optimisers, with PyTorch's semantics.

/// Stochastic gradient descent with momentum.
///
/// # Source
/// `torch.optim.SGD`; Sutskever et al.: *On the importance of initialization and momentum*, 2013 (Nesterov's).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Learning rate η.
    pub lr: f64,
    /// μ
    pub momentum: f64,
    /// Whether to look ahead (Nesterov).
    pub nesterov: bool,
    /// L2 penalty λ.
    pub weight_decay: f64,
}

impl Sgd {
    /// One step; `velocity` starts as zeros.
    ///
    /// ```text
    /// g ← g + λ w        v ← μ v + g        w ← w − η (g + μ v)   Nesterov,   w − η v   otherwise
    /// ```
    pub fn step(&self, weight: &mut [f64], gradient: &[f64], velocity: &mut [f64]) {
        for ((w, g), v) in weight.iter_mut().zip(gradient).zip(velocity) {
            let g = g + self.weight_decay * *w;
            *v = self.momentum * *v + g;
            *w -= self.lr
                * if self.nesterov {
                    g + self.momentum * *v
                } else {
                    *v
                };
        }
    }
}

/// Adam with decoupled weight decay.
///
/// # Source
/// `torch.optim.AdamW`; Loshchilov, Hutter: *Decoupled Weight Decay Regularization*, 2019, Algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate η.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment, after its bias correction.
    pub eps: f64,
    /// Decoupled weight decay λ.
    pub weight_decay: f64,
}

impl AdamW {
    /// Step number `t`, counted from 1; both moments start as zeros.
    ///
    /// ```text
    /// w ← w − η λ w
    /// m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
    /// w ← w − η · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)
    /// ```
    pub fn step(
        &self,
        t: i32,
        weight: &mut [f64],
        gradient: &[f64],
        moments: (&mut [f64], &mut [f64]),
    ) {
        let (correct1, correct2) = (1.0 - self.beta1.powi(t), 1.0 - self.beta2.powi(t));
        let (first, second) = moments;
        for (((w, g), m), v) in weight.iter_mut().zip(gradient).zip(first).zip(second) {
            *w -= self.lr * self.weight_decay * *w;
            *m = self.beta1 * *m + (1.0 - self.beta1) * g;
            *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
            *w -= self.lr * (*m / correct1) / ((*v / correct2).sqrt() + self.eps);
        }
    }
}
