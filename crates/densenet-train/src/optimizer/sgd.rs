//! Stochastic gradient descent with momentum.

/// One step's constants.
///
/// ```text
/// g = scale·grad + weight_decay·p
/// v = momentum·v + g                       (v starts at 0, so that the first v is g, as in PyTorch)
/// p = p − lr·(g + momentum·v)   nesterov
/// p = p − lr·v                  otherwise
/// ```
///
/// # Source
/// PyTorch's `torch.optim.SGD` with dampening 0; Sutskever et al. 2013, §2 (Nesterov).
pub(super) struct Pass {
    lr: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
    scale: f32,
}

impl Pass {
    pub(super) fn new(
        lr: f64,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
        scale: f64,
    ) -> Self {
        Pass {
            lr: lr as f32,
            momentum: momentum as f32,
            nesterov,
            weight_decay: weight_decay as f32,
            scale: scale as f32,
        }
    }

    pub(super) fn apply(&self, p: &mut [f32], g: &[f32], v: &mut [f32], decay: bool) {
        let weight_decay = if decay { self.weight_decay } else { 0.0 };
        // The branch stays outside so that both loops vectorise.
        if self.nesterov {
            for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
                let g = self.scale * g + weight_decay * *p;
                *v = self.momentum * *v + g;
                *p -= self.lr * (g + self.momentum * *v);
            }
        } else {
            for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
                *v = self.momentum * *v + (self.scale * g + weight_decay * *p);
                *p -= self.lr * *v;
            }
        }
    }
}
