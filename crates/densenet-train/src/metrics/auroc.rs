//! The area under a ROC curve.

use super::Curve;

/// The probability that a positive sample scores higher than a negative one, ties counting half.
///
/// ```text
/// AUROC = (|{(p, n): p > n}| + ½·|{(p, n): p = n}|) / (P·N)
/// ```
/// `None` where there are no positives or no negatives. Scores are finite.
///
/// # Numerics
/// Pairs are counted in whole numbers: the result is correctly rounded up to the division, and does not depend on the
/// order of the samples.
///
/// # Source
/// Mann & Whitney 1947; Hanley & McNeil 1982. Equal to scikit-learn's `roc_auc_score`.
pub fn auroc(samples: impl IntoIterator<Item = (f32, bool)>) -> Option<f64> {
    Curve::new(samples).area()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_inverted_chance_and_ties() {
        let area = |scores: &[f32], positive: &[u8]| {
            auroc(scores.iter().copied().zip(positive.iter().map(|&p| p == 1)))
        };
        assert_eq!(area(&[0.1, 0.2, 0.8, 0.9], &[0, 0, 1, 1]), Some(1.0));
        assert_eq!(area(&[0.1, 0.2, 0.8, 0.9], &[1, 1, 0, 0]), Some(0.0));
        assert_eq!(area(&[0.5, 0.5, 0.5], &[0, 1, 0]), Some(0.5));
        assert_eq!(area(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]), Some(0.75));
        assert_eq!(area(&[0.1, 0.2], &[1, 1]), None);
        assert_eq!(area(&[], &[]), None);
        // A zero is a zero, whatever its sign.
        assert_eq!(area(&[0.0, -0.0], &[0, 1]), Some(0.5));
    }
}
