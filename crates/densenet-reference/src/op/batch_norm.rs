//! Batch normalisation over the channels.
//!
//! # Source
//! Ioffe, Szegedy: *Batch Normalization*, 2015, arXiv:1502.03167: Algorithm 1 (forward), §3 (backward). Running
//! statistics as in PyTorch: unbiased variance, momentum is the share of the newest batch.

use crate::Tensor;

/// Mean and variance of every channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// μ\[c\]
    pub mean: Vec<f64>,
    /// σ²\[c\]
    pub var: Vec<f64>,
}

/// γ, β and ε of one norm.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// γ\[c\]
    pub weight: &'a [f64],
    /// β\[c\]
    pub bias: &'a [f64],
    /// Keeps the root away from 0.
    pub eps: f64,
}

/// What the backward pass returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// ∂L/∂x
    pub input: Tensor,
    /// ∂L/∂γ
    pub weight: Vec<f64>,
    /// ∂L/∂β
    pub bias: Vec<f64>,
}

/// The batch's own statistics, over the m = batch · pixels values of each channel:
///
/// ```text
/// μ[c] = 1/m Σ_{n,p} x[n,c,p]        σ²[c] = 1/m Σ_{n,p} (x[n,c,p] − μ[c])²
/// ```
///
/// # Numerics
/// Two passes: the mean first, then the deviations from it, so that nothing cancels.
pub fn statistics(input: &Tensor) -> Statistics {
    let m = (input.batch * input.pixels()) as f64;
    let over_channel = |c: usize, f: &dyn Fn(f64) -> f64| {
        let maps = (0..input.batch).flat_map(|n| input.map(n, c));
        maps.map(|&x| f(x)).sum::<f64>() / m
    };
    let mean: Vec<f64> = (0..input.channels)
        .map(|c| over_channel(c, &|x| x))
        .collect();
    let var = (0..input.channels)
        .map(|c| over_channel(c, &|x| (x - mean[c]).powi(2)))
        .collect();
    Statistics { mean, var }
}

/// `y[n,c,p] = γ[c] · x̂[n,c,p] + β[c]`, where `x̂ = (x − μ[c]) / √(σ²[c] + ε)`.
///
/// Training passes the batch's own statistics, evaluation the running ones.
///
/// # Panics
/// A list is shorter than the input has channels.
pub fn forward(input: &Tensor, statistics: &Statistics, affine: Affine<'_>) -> Tensor {
    let mut output = input.zeros_like();
    for n in 0..input.batch {
        for c in 0..input.channels {
            let scale = 1.0 / (statistics.var[c] + affine.eps).sqrt();
            for (y, x) in output.map_mut(n, c).iter_mut().zip(input.map(n, c)) {
                *y = affine.weight[c] * (x - statistics.mean[c]) * scale + affine.bias[c];
            }
        }
    }
    output
}

/// The chain rule through batch statistics, which depend on x themselves.
///
/// With s = 1/√(σ² + ε), g = ∂L/∂y and ⟨·⟩ the mean over the m values of a channel:
///
/// ```text
/// ∂L/∂β[c] = Σ g              ∂L/∂γ[c] = Σ g · x̂
/// ∂L/∂x    = γ s (g − ⟨g⟩ − x̂ ⟨g x̂⟩)
/// ```
///
/// The two means are what μ and σ² contribute: shifting or scaling a whole channel of x changes nothing, and this
/// gradient is free of both.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    input: &Tensor,
    statistics: &Statistics,
    affine: Affine<'_>,
    grad_output: &Tensor,
) -> Gradients {
    let m = (input.batch * input.pixels()) as f64;
    let mut gradients = backward_constant(input, statistics, affine, grad_output);
    for c in 0..input.channels {
        let scale = 1.0 / (statistics.var[c] + affine.eps).sqrt();
        let mean_g = gradients.bias[c] / m;
        let mean_gx = gradients.weight[c] / m;
        for n in 0..input.batch {
            for (gx, x) in gradients
                .input
                .map_mut(n, c)
                .iter_mut()
                .zip(input.map(n, c))
            {
                let normalized = (x - statistics.mean[c]) * scale;
                *gx -= affine.weight[c] * scale * (mean_g + normalized * mean_gx);
            }
        }
    }
    gradients
}

/// The chain rule through constant statistics (a frozen norm): `∂L/∂x = γ s g`, γ and β as in [`backward`].
///
/// # Panics
/// As [`forward`].
pub fn backward_constant(
    input: &Tensor,
    statistics: &Statistics,
    affine: Affine<'_>,
    grad_output: &Tensor,
) -> Gradients {
    let mut gradients = Gradients {
        input: input.zeros_like(),
        weight: vec![0.0; input.channels],
        bias: vec![0.0; input.channels],
    };
    for c in 0..input.channels {
        let scale = 1.0 / (statistics.var[c] + affine.eps).sqrt();
        for n in 0..input.batch {
            let gx = gradients.input.map_mut(n, c);
            for (p, (g, x)) in grad_output
                .map(n, c)
                .iter()
                .zip(input.map(n, c))
                .enumerate()
            {
                gradients.bias[c] += g;
                gradients.weight[c] += g * (x - statistics.mean[c]) * scale;
                gx[p] = affine.weight[c] * scale * g;
            }
        }
    }
    gradients
}

/// `running ← (1 − momentum) · running + momentum · batch`, with the batch's unbiased variance σ² · m/(m − 1).
///
/// `count` is m, at least 2.
pub fn update_running(running: &mut Statistics, batch: &Statistics, count: usize, momentum: f64) {
    let unbiased = count as f64 / (count as f64 - 1.0);
    let blend = |old: &mut f64, new: f64| *old = (1.0 - momentum) * *old + momentum * new;
    for (old, new) in running.mean.iter_mut().zip(&batch.mean) {
        blend(old, *new);
    }
    for (old, new) in running.var.iter_mut().zip(&batch.var) {
        blend(old, new * unbiased);
    }
}
