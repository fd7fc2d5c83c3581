//! Two runs on the same samples: is one better, or luckier?

use std::collections::HashMap;

use serde::Serialize;

use super::RunRecord;
use crate::metrics::{Interval, paired_interval};

/// The accuracy of a run less that of another, on the samples that both answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The run.
    pub run: String,
    /// The one it is compared with.
    pub against: String,
    /// Samples that both answered.
    pub samples: usize,
    /// Accuracy of the run less accuracy of the other.
    pub accuracy: f64,
    /// Where the middle 95 % of paired bootstrap resamples lie.
    pub interval: Option<Interval>,
    /// Samples that only the run got right.
    pub only_run: u64,
    /// Samples that only the other got right.
    pub only_other: u64,
    /// How likely so uneven a division of the samples that only one got right is if both are equally good: McNemar's
    /// exact test, two-sided.
    pub p: f64,
}

/// `None` where the runs did not answer exactly the same samples.
pub(super) fn difference(other: &RunRecord, run: &RunRecord) -> Option<Difference> {
    let (a, b) = (other.predictions.as_ref()?, run.predictions.as_ref()?);
    if a.rows.is_empty() || a.rows.len() != b.rows.len() {
        return None;
    }
    let answers: HashMap<&str, (&str, &str)> = a
        .rows
        .iter()
        .map(|(sample, label, answer)| (sample.as_str(), (label.as_str(), answer.as_str())))
        .collect();
    let mut strata: HashMap<&str, u32> = HashMap::new();
    let mut labels = Vec::with_capacity(b.rows.len());
    let mut gains = Vec::with_capacity(b.rows.len());
    for (sample, label, answer) in &b.rows {
        let &(label_there, answer_there) = answers.get(sample.as_str())?;
        if label_there != label {
            return None;
        }
        let next = strata.len() as u32;
        labels.push(*strata.entry(label).or_insert(next));
        gains.push(i8::from(answer == label) - i8::from(answer_there == label));
    }
    let count = |gain: i8| gains.iter().filter(|g| **g == gain).count() as u64;
    let (only_run, only_other) = (count(1), count(-1));
    Some(Difference {
        run: run.name.clone(),
        against: other.name.clone(),
        samples: gains.len(),
        accuracy: (only_run as f64 - only_other as f64) / gains.len() as f64,
        interval: paired_interval(&labels, &gains),
        only_run,
        only_other,
        p: sign_test(only_run, only_other),
    })
}

/// The probability of a division at least as uneven as `a` to `b`, were each side equally likely.
///
/// ```text
/// p = min(1, 2 · Σ_{k ≤ min(a, b)} C(a + b, k) / 2^{a + b})
/// ```
///
/// # Source
/// McNemar 1947, exact; SciPy's `binomtest(min(a, b), a + b)`.
fn sign_test(a: u64, b: u64) -> f64 {
    let n = a + b;
    let (mut log_term, mut sum) = (-(n as f64) * std::f64::consts::LN_2, 0.0);
    for k in 0..=a.min(b) {
        sum += log_term.exp();
        log_term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_test_agrees_with_scipy() {
        // scipy.stats.binomtest(min(a, b), a + b).pvalue
        for (a, b, p) in [
            (0, 0, 1.0),
            (1, 1, 1.0),
            (5, 0, 0.0625),
            (0, 10, 0.001953125),
            (3, 12, 0.03515625),
            (40, 60, 0.056887933640980784),
            (450, 550, 0.0017305360849763825),
        ] {
            let found = sign_test(a, b);
            assert!((found - p).abs() < 1e-10 * p.max(1e-3), "{a} {b}: {found}");
        }
    }
}
