//! Cross entropy with label smoothing and class weights.

/// Cross entropy over softmax.
///
/// ```text
/// L_i  = −Σ_c a_ic · log softmax(z_i)_c
/// a_ic = (1 − ε)·w_c·[c = y_i] + ε/C·w_c
/// loss = Σ_i L_i / Σ_i w_{y_i}
/// ```
/// with smoothing ε, class weights w (1 where none are given) and C classes.
///
/// Sums, not means, leave this module: the gradients of several micro-batches add up to the gradient of their union, and
/// the optimiser divides by the union's weight once. Averages of averages are wrong wherever parts differ in size.
///
/// # Numerics
/// f64 inside; the gradient is rounded to f32 once. Samples are added in their order.
///
/// # Source
/// PyTorch's `torch.nn.CrossEntropyLoss(weight, label_smoothing, reduction="mean")`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrossEntropy {
    /// ε, in [0, 1).
    pub label_smoothing: f64,
    /// One weight per class.
    pub class_weights: Option<Vec<f64>>,
}

/// Sums over samples; [`LossSum::mean`] is the loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossSum {
    /// Σ L_i
    pub loss: f64,
    /// Σ w_{y_i}
    pub weight: f64,
    /// Samples whose highest logit is their label's.
    pub correct: u64,
    /// Samples.
    pub samples: u64,
}

impl LossSum {
    /// The mean loss; 0 where there were no samples (or none that count).
    pub fn mean(&self) -> f64 {
        if self.weight > 0.0 {
            self.loss / self.weight
        } else {
            0.0
        }
    }

    /// The share of correct samples; 0 where there were none.
    pub fn accuracy(&self) -> f64 {
        if self.samples > 0 {
            self.correct as f64 / self.samples as f64
        } else {
            0.0
        }
    }

    /// Adds the sums of another batch.
    pub fn add(&mut self, other: LossSum) {
        self.loss += other.loss;
        self.weight += other.weight;
        self.correct += other.correct;
        self.samples += other.samples;
    }
}

impl CrossEntropy {
    /// The sums of a batch, and the gradient of Σ L_i (not of the mean) with respect to the logits.
    ///
    /// # Shapes
    /// `logits` and `grad_logits` `[batch, classes]`, `labels` `[batch]`, each below `classes`.
    pub fn forward_backward(
        &self,
        logits: &[f32],
        labels: &[u32],
        grad_logits: &mut [f32],
    ) -> LossSum {
        let classes = logits.len() / labels.len().max(1);
        let mut probabilities = vec![0.0; classes];
        let mut sum = LossSum::default();
        let rows = logits
            .chunks_exact(classes.max(1))
            .zip(grad_logits.chunks_exact_mut(classes.max(1)));
        for ((logits, grad), &label) in rows.zip(labels) {
            sum.add(self.sample(logits, label as usize, &mut probabilities));
            let shares: f64 = (0..classes)
                .map(|c| self.share(c, label as usize, classes))
                .sum();
            for (c, (grad, p)) in grad.iter_mut().zip(&probabilities).enumerate() {
                *grad = (shares * p - self.share(c, label as usize, classes)) as f32;
            }
        }
        sum
    }

    /// The sums of one sample; its probabilities go to `probabilities`.
    pub(crate) fn sample(
        &self,
        logits: &[f32],
        label: usize,
        probabilities: &mut [f64],
    ) -> LossSum {
        let log_sum = softmax(logits, probabilities);
        let log_p = |c: usize| logits.get(c).map_or(f64::NAN, |&z| f64::from(z) - log_sum);
        let loss = if self.label_smoothing == 0.0 {
            -self.weight(label) * log_p(label)
        } else {
            (0..logits.len())
                .map(|c| -self.share(c, label, logits.len()) * log_p(c))
                .sum()
        };
        LossSum {
            loss,
            weight: self.weight(label),
            correct: u64::from(rank(logits, label) == 0),
            samples: 1,
        }
    }

    fn weight(&self, class: usize) -> f64 {
        match &self.class_weights {
            Some(weights) => weights.get(class).copied().unwrap_or(1.0),
            None => 1.0,
        }
    }

    /// a_ic
    fn share(&self, class: usize, label: usize, classes: usize) -> f64 {
        let hit = if class == label {
            1.0 - self.label_smoothing
        } else {
            0.0
        };
        (hit + self.label_smoothing / classes as f64) * self.weight(class)
    }
}

/// Writes softmax(logits) and returns log Σ exp(logits), both computed from the largest logit down.
pub(crate) fn softmax(logits: &[f32], probabilities: &mut [f64]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let mut sum = 0.0;
    for (p, &z) in probabilities.iter_mut().zip(logits) {
        *p = (f64::from(z) - max).exp();
        sum += *p;
    }
    for p in probabilities.iter_mut() {
        *p /= sum;
    }
    max + sum.ln()
}

/// How many classes come before `label` when sorted by falling logit; equal logits rank in the order of their classes.
pub(crate) fn rank(logits: &[f32], label: usize) -> usize {
    let Some(&own) = logits.get(label) else {
        return logits.len();
    };
    logits
        .iter()
        .enumerate()
        .filter(|&(c, &z)| z > own || (z == own && c < label))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of the sum in f64, through the same f32 logits.
    fn numeric(loss: &CrossEntropy, logits: &[f32], labels: &[u32], i: usize) -> f64 {
        let h = 2f32.powi(-10);
        let at = |d: f32| {
            let mut z = logits.to_vec();
            z[i] += d;
            loss.forward_backward(&z, labels, &mut vec![0.0; z.len()])
                .loss
        };
        let (up, down) = (logits[i] + h, logits[i] - h);
        (at(h) - at(-h)) / (f64::from(up) - f64::from(down))
    }

    #[test]
    fn the_gradient_is_the_derivative() {
        let logits = [0.5, -1.25, 2.0, 0.0, 3.5, -0.5, 1.0, 1.0, 1.0];
        let labels = [2, 0, 1];
        for (label_smoothing, class_weights) in [
            (0.0, None),
            (0.1, None),
            (0.0, Some(vec![0.5, 2.0, 1.0])),
            (0.2, Some(vec![0.5, 2.0, 1.0])),
        ] {
            let loss = CrossEntropy {
                label_smoothing,
                class_weights,
            };
            let mut grad = [0.0; 9];
            loss.forward_backward(&logits, &labels, &mut grad);
            for (i, &g) in grad.iter().enumerate() {
                let expected = numeric(&loss, &logits, &labels, i);
                assert!(
                    (f64::from(g) - expected).abs() < 1e-6,
                    "{loss:?} {i}: {g} {expected}"
                );
            }
        }
    }

    #[test]
    fn huge_logits_stay_finite_and_nan_shows() {
        let loss = CrossEntropy::default();
        let mut grad = [0.0; 2];
        let sum = loss.forward_backward(&[3e38, -3e38], &[1], &mut grad);
        assert!(sum.loss.is_finite() && sum.loss > 1e38, "{sum:?}");
        assert_eq!(grad, [1.0, -1.0]);
        for bad in [f32::NAN, f32::INFINITY] {
            let sum = loss.forward_backward(&[bad, 0.0], &[1], &mut grad);
            assert!(!sum.loss.is_finite(), "{bad}: {sum:?}");
        }
    }

    #[test]
    fn ranks_break_ties_by_class() {
        assert_eq!([0, 1, 2].map(|c| rank(&[1.0, 1.0, 2.0], c)), [1, 2, 0]);
        assert_eq!(rank(&[1.0], 7), 1);
    }
}
