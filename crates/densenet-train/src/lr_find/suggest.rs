//! What a curve of losses over rates says.

use super::LrPoint;

/// Steps over which neighbours count: the standard deviation of the weights.
///
/// Weights reach to both sides, so that the curve does not lag behind the rate as a running average would.
const WIDTH: f64 = 3.0;
/// A loss that falls by less than this share has not fallen.
const LEAST_FALL: f64 = 0.02;
/// How far below the minimum's rate the suggestion lies: there the loss is about to explode.
const BELOW: f64 = 10.0;

/// The losses, each averaged with its neighbours.
pub(super) fn smoothed(losses: &[f64]) -> Vec<f64> {
    let reach = (3.0 * WIDTH) as usize;
    (0..losses.len())
        .map(|i| {
            let first = i.saturating_sub(reach);
            let near = losses
                .iter()
                .enumerate()
                .skip(first)
                .take(i + reach + 1 - first);
            let (sum, weights) = near.fold((0.0, 0.0), |(sum, weights), (j, loss)| {
                let distance = (j as f64 - i as f64) / WIDTH;
                let weight = (-0.5 * distance * distance).exp();
                (sum + weight * loss, weights + weight)
            });
            sum / weights
        })
        .collect()
}

/// Rates worth knowing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Suggestion {
    pub(super) suggestion: Option<f64>,
    pub(super) steepest: Option<f64>,
    pub(super) minimum: Option<f64>,
}

impl Suggestion {
    /// Of a smoothed curve: a tenth of the minimum's rate, but not below the rate at which the loss falls fastest.
    pub(super) fn new(points: &[LrPoint]) -> Self {
        let lowest = points
            .iter()
            .enumerate()
            .min_by(|a, b| a.1.smoothed.total_cmp(&b.1.smoothed));
        let (Some((at, lowest)), Some(first)) = (lowest, points.first()) else {
            return Suggestion::default();
        };
        let highest = points.iter().take(at + 1).map(|p| p.smoothed);
        let highest = highest.fold(first.smoothed, f64::max);
        if lowest.smoothed > (1.0 - LEAST_FALL) * highest {
            return Suggestion::default();
        }
        // Rates lie at equal distances of their logarithm, so differences are slopes.
        let falls = points.windows(2).take(at);
        let steepest = falls
            .map(|w| match w {
                [a, b] => (a.smoothed - b.smoothed, (a.lr * b.lr).sqrt()),
                _ => (0.0, 0.0),
            })
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, lr)| lr);
        let tenth = lowest.lr / BELOW;
        Suggestion {
            suggestion: Some(steepest.map_or(tenth, |s| s.max(tenth))),
            steepest,
            minimum: Some(lowest.lr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(loss: impl Fn(f64) -> f64) -> Vec<LrPoint> {
        (0..100)
            .map(|i| {
                let lr = 1e-6 * 1e7f64.powf(f64::from(i) / 99.0);
                let loss = loss(lr.log10());
                LrPoint {
                    lr,
                    loss,
                    smoothed: loss,
                }
            })
            .collect()
    }

    #[test]
    fn smoothing_keeps_levels_and_places() {
        for (i, v) in smoothed(&[2.0; 30]).into_iter().enumerate() {
            assert!((v - 2.0).abs() < 1e-12, "{i}");
        }
        let mut peak = [0.0; 31];
        peak[15] = 1.0;
        let smooth = smoothed(&peak);
        assert!((smooth[14] - smooth[16]).abs() < 1e-12 && smooth[15] > smooth[14]);
    }

    #[test]
    fn a_valley_is_suggested_below_its_bottom() {
        // Falls fastest at 10⁻³, lowest at 10⁻¹, and explodes.
        let points = curve(|x| {
            2.0 - (1.0 + ((x + 3.0) * 2.0).tanh()) / 2.0 + (10f64.powf(x) - 0.1).max(0.0)
        });
        let found = Suggestion::new(&points);
        let log = |v: Option<f64>| v.unwrap().log10();
        assert!((log(found.steepest) + 3.0).abs() < 0.1, "{found:?}");
        assert!((log(found.minimum) + 1.0).abs() < 0.15, "{found:?}");
        assert!((log(found.suggestion) + 2.0).abs() < 0.15, "{found:?}");
    }

    #[test]
    fn what_never_falls_suggests_nothing() {
        assert_eq!(Suggestion::new(&curve(|_| 1.0)), Suggestion::default());
        assert_eq!(Suggestion::new(&curve(|x| x + 9.0)), Suggestion::default());
        assert_eq!(Suggestion::new(&[]), Suggestion::default());
    }
}
