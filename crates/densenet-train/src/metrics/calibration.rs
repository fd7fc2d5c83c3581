//! Whether a probability means what it says.

use serde::Serialize;

/// Bins of [`Calibration`]; 15 as in Guo et al.
pub const BINS: usize = 15;

/// How far confidence and accuracy agree.
///
/// The confidence of an answer is the probability of the class that it names. With bins B_m of equal width over it,
///
/// ```text
/// ECE = Σ_m |B_m|/n · |accuracy(B_m) − confidence(B_m)|        MCE = max_m |accuracy(B_m) − confidence(B_m)|
/// Brier = 1/n Σ_i Σ_c (p_ic − [c = y_i])²
/// ```
///
/// # Source
/// Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3 and 5; Brier 1950, scikit-learn's
/// `brier_score_loss` for several classes. Bin m holds confidences in (m/15, (m+1)/15], as scikit-learn's
/// `calibration_curve` has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error.
    pub ece: f64,
    /// Largest calibration error of a bin.
    pub mce: f64,
    /// Mean squared distance of the probabilities from the truth, 0 to 2.
    pub brier: f64,
    /// Mean confidence of the answers.
    pub confidence: f64,
    /// All bins, empty ones too, from the lowest confidence on.
    pub bins: Vec<Bin>,
}

/// Answers of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Confidences above this …
    pub low: f64,
    /// … up to and including this.
    pub high: f64,
    /// Samples.
    pub samples: u64,
    /// Their mean confidence; `None` where there are none.
    pub confidence: Option<f64>,
    /// The share of them that are right; `None` where there are none.
    pub accuracy: Option<f64>,
}

impl Calibration {
    /// Of probabilities `[samples, classes]`, the answers given and the true classes; `None` without samples.
    pub fn new(probabilities: &[f32], answers: &[u32], labels: &[u32]) -> Option<Self> {
        if labels.is_empty() {
            return None;
        }
        let classes = probabilities.len() / labels.len();
        let mut sums = [(0u64, 0.0, 0u64); BINS];
        let mut brier = 0.0;
        let rows = probabilities.chunks_exact(classes.max(1));
        for ((row, &answer), &label) in rows.zip(answers).zip(labels) {
            let confidence = row.get(answer as usize).map_or(0.0, |&p| f64::from(p));
            if let Some((samples, sum, right)) = sums.get_mut(bin_of(confidence)) {
                *samples += 1;
                *sum += confidence;
                *right += u64::from(answer == label);
            }
            let truth = |c: usize| f64::from(u8::from(c == label as usize));
            let distance = |(c, &p): (usize, &f32)| (f64::from(p) - truth(c)).powi(2);
            brier += row.iter().enumerate().map(distance).sum::<f64>();
        }
        let n = labels.len() as f64;
        let bins: Vec<Bin> = sums
            .iter()
            .enumerate()
            .map(|(m, &(samples, sum, right))| {
                let mean = |total: f64| (samples > 0).then(|| total / samples as f64);
                Bin {
                    low: edge(m),
                    high: edge(m + 1),
                    samples,
                    confidence: mean(sum),
                    accuracy: mean(right as f64),
                }
            })
            .collect();
        let gaps = bins.iter().filter_map(|b| {
            let gap = (b.accuracy? - b.confidence?).abs();
            Some((b.samples as f64 / n, gap))
        });
        Some(Calibration {
            ece: gaps.clone().map(|(share, gap)| share * gap).sum(),
            mce: gaps.map(|(_, gap)| gap).fold(0.0, f64::max),
            brier: brier / n,
            confidence: sums.iter().map(|s| s.1).sum::<f64>() / n,
            bins,
        })
    }
}

fn edge(m: usize) -> f64 {
    m as f64 / BINS as f64
}

/// The bin of a confidence: the number of inner edges below it.
fn bin_of(confidence: f64) -> usize {
    (1..BINS).filter(|&m| edge(m) < confidence).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_open_below_and_closed_above() {
        assert_eq!((bin_of(0.0), bin_of(1.0 / 15.0), bin_of(1.0)), (0, 0, 14));
        assert_eq!(bin_of(1.0 / 15.0 + 1e-9), 1);
    }

    #[test]
    fn two_samples_by_hand() {
        // Both say class 0, with 0.9 and 0.6; the second is wrong.
        let found = Calibration::new(&[0.9, 0.1, 0.6, 0.4], &[0, 0], &[0, 1]).unwrap();
        assert!(
            (found.ece - (0.5 * 0.1 + 0.5 * 0.6)).abs() < 1e-7,
            "{found:?}"
        );
        assert!((found.mce - 0.6).abs() < 1e-7);
        assert!((found.brier - (0.02 + 0.72) / 2.0).abs() < 1e-7);
        assert!((found.confidence - 0.75).abs() < 1e-7);
        assert_eq!(found.bins.iter().map(|b| b.samples).sum::<u64>(), 2);
        assert_eq!(Calibration::new(&[], &[], &[]), None);
    }
}
