//! Softmax cross entropy, with label smoothing and class weights.

use crate::{ReferenceError, Tensor};

/// How the loss is computed; the default is the plain cross entropy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrossEntropy {
    /// Share ε of the target that is spread evenly over all classes, in [0, 1].
    pub label_smoothing: f64,
    /// Weight of each class; empty for equal weights.
    pub class_weights: Vec<f64>,
}

/// The loss of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// Mean over the batch.
    pub value: f64,
    /// ∂L/∂logits, `[n, classes, 1, 1, 1]`.
    pub grad_logits: Tensor,
}

impl CrossEntropy {
    /// The loss and its gradient.
    ///
    /// With log p\[n, j\] = z\[n, j\] − log Σ_i exp z\[n, i\], label y_n, K classes and class weights w:
    ///
    /// ```text
    /// t[n, j] = w[j] · ((1 − ε) · [j = y_n] + ε/K)                       the weighted target
    /// L       = −1/W Σ_n Σ_j t[n, j] · log p[n, j],    W = Σ_n w[y_n]
    /// ∂L/∂z[n, i] = 1/W (p[n, i] · Σ_j t[n, j] − t[n, i])
    /// ```
    ///
    /// Without weights W is the batch size and Σ_j t = 1, so that the gradient is (p − t)/batch.
    ///
    /// # Errors
    /// A label that names no class; as many labels as samples, and no weights or one per class, are needed.
    ///
    /// # Numerics
    /// The largest logit is subtracted first: nothing overflows.
    ///
    /// # Source
    /// Szegedy et al.: *Rethinking the Inception Architecture*, 2016, §7; with class weights as
    /// `torch.nn.functional.cross_entropy`.
    pub fn forward(&self, logits: &Tensor, labels: &[usize]) -> Result<Loss, ReferenceError> {
        let num_classes = logits.channels;
        self.check(logits, labels)?;
        let weight = |class: usize| self.class_weights.get(class).copied().unwrap_or(1.0);
        let total: f64 = labels.iter().map(|&label| weight(label)).sum();
        let even = self.label_smoothing / num_classes as f64;
        let mut loss = Loss {
            value: 0.0,
            grad_logits: logits.zeros_like(),
        };
        let grad_rows = loss.grad_logits.data.chunks_exact_mut(num_classes);
        for ((z, grad), &label) in logits
            .data
            .chunks_exact(num_classes)
            .zip(grad_rows)
            .zip(labels)
        {
            let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
            let target = |j: usize| {
                let hot = if j == label {
                    1.0 - self.label_smoothing
                } else {
                    0.0
                };
                weight(j) * (hot + even)
            };
            let target_sum: f64 = (0..num_classes).map(target).sum();
            for (j, (z, grad)) in z.iter().zip(grad).enumerate() {
                let log_p = z - log_sum;
                loss.value -= target(j) * log_p / total;
                *grad = (log_p.exp() * target_sum - target(j)) / total;
            }
        }
        Ok(loss)
    }

    fn check(&self, logits: &Tensor, labels: &[usize]) -> Result<(), ReferenceError> {
        let length = |name: &str, expected, found| {
            let name = name.to_string();
            Err(ReferenceError::Length {
                name,
                expected,
                found,
            })
        };
        if labels.len() != logits.batch {
            return length("labels", logits.batch, labels.len());
        }
        let (classes, weights) = (logits.channels, self.class_weights.len());
        if weights != 0 && weights != classes {
            return length("class_weights", classes, weights);
        }
        match labels.iter().position(|&label| label >= classes) {
            Some(sample) => Err(ReferenceError::Label {
                sample,
                label: labels[sample],
                num_classes: classes,
            }),
            None => Ok(()),
        }
    }
}
