//! ROC and precision-recall curves of one class against all others.

/// What a threshold makes of the samples: all that score at least as high are called positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The threshold; infinite for the point where nothing is called positive.
    pub threshold: f64,
    /// True positives.
    pub hits: u64,
    /// False positives.
    pub alarms: u64,
}

/// The counts at every threshold that can be told apart, from the highest to the lowest.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Samples of the class.
    pub positives: u64,
    /// Samples of other classes.
    pub negatives: u64,
    /// One point for each distinct score, after one at infinity.
    pub points: Vec<Point>,
}

impl Curve {
    /// The curve of scores and whether each sample is of the class. Scores are finite.
    pub fn new(samples: impl IntoIterator<Item = (f32, bool)>) -> Self {
        let mut samples: Vec<(f32, bool)> = samples.into_iter().collect();
        samples.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut points = vec![Point {
            threshold: f64::INFINITY,
            hits: 0,
            alarms: 0,
        }];
        let (mut hits, mut alarms) = (0, 0);
        for ties in samples.chunk_by(|a, b| a.0 == b.0) {
            let positive = ties.iter().filter(|s| s.1).count() as u64;
            hits += positive;
            alarms += ties.len() as u64 - positive;
            points.push(Point {
                threshold: ties.first().map_or(0.0, |s| f64::from(s.0)),
                hits,
                alarms,
            });
        }
        Curve {
            positives: hits,
            negatives: alarms,
            points,
        }
    }

    /// `(false positive rate, true positive rate)` from (0, 0) to (1, 1); `None` without positives or negatives.
    ///
    /// # Source
    /// scikit-learn's `roc_curve(drop_intermediate=False)`.
    pub fn roc(&self) -> Option<Vec<(f64, f64)>> {
        let (positives, negatives) = (self.positives as f64, self.negatives as f64);
        (self.positives > 0 && self.negatives > 0).then(|| {
            let rates = |p: &Point| (p.alarms as f64 / negatives, p.hits as f64 / positives);
            self.points.iter().map(rates).collect()
        })
    }

    /// The area under the ROC curve; see [`super::auroc`].
    pub fn area(&self) -> Option<f64> {
        // Twice the number of pairs in order, a tie counting one: whole numbers, so exact.
        let steps = self.points.iter().zip(self.points.iter().skip(1));
        let pairs: u128 = steps
            .map(|(before, here)| {
                let (hits, alarms) = (here.hits - before.hits, here.alarms - before.alarms);
                let below = self.negatives - here.alarms;
                u128::from(hits) * (2 * u128::from(below) + u128::from(alarms))
            })
            .sum();
        let all = u128::from(self.positives) * u128::from(self.negatives);
        (all > 0).then(|| pairs as f64 / (2 * all) as f64)
    }

    /// `(recall, precision)` from recall 0, where the precision is 1 by convention; `None` without positives.
    ///
    /// # Source
    /// scikit-learn's `precision_recall_curve`, read backwards.
    pub fn precision_recall(&self) -> Option<Vec<(f64, f64)>> {
        (self.positives > 0).then(|| {
            let called = |p: &Point| p.hits + p.alarms;
            let precision = |p: &Point| match called(p) {
                0 => 1.0,
                n => p.hits as f64 / n as f64,
            };
            let recall = |p: &Point| p.hits as f64 / self.positives as f64;
            let points = self.points.iter();
            points.map(|p| (recall(p), precision(p))).collect()
        })
    }

    /// The precision averaged over the recall it is reached at, without interpolation.
    ///
    /// ```text
    /// AP = Σ_n (R_n − R_{n−1})·P_n
    /// ```
    /// `None` without positives.
    ///
    /// # Source
    /// scikit-learn's `average_precision_score`.
    pub fn average_precision(&self) -> Option<f64> {
        let points = self.precision_recall()?;
        let steps = points.iter().zip(points.iter().skip(1));
        Some(steps.map(|(a, b)| (b.0 - a.0) * b.1).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_curve_by_hand() {
        let curve = Curve::new([(0.9, true), (0.5, false), (0.5, true), (0.1, false)]);
        assert_eq!(
            curve.roc().unwrap(),
            [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]
        );
        assert_eq!(
            curve.precision_recall().unwrap(),
            [(0.0, 1.0), (0.5, 1.0), (1.0, 2.0 / 3.0), (1.0, 0.5)]
        );
        assert_eq!(curve.average_precision(), Some(0.5 + 0.5 * 2.0 / 3.0));
    }

    #[test]
    fn one_sided_samples_have_no_curve() {
        let all = Curve::new([(0.9, true), (0.5, true)]);
        assert_eq!((all.roc(), all.average_precision()), (None, Some(1.0)));
        let none = Curve::new([(0.9, false)]);
        assert_eq!((none.roc(), none.precision_recall()), (None, None));
        assert_eq!(Curve::new([]).average_precision(), None);
    }
}
