//! Values of different scanners brought to a common scale.

use super::{Clip, NonFiniteVoxels, Normalize};
use crate::error::DataError;

/// No NaN and no infinity may pass: one would spread through the whole network.
pub(super) fn finite(values: &mut [f32], what: NonFiniteVoxels) -> Result<(), DataError> {
    let bad = values.iter().filter(|v| !v.is_finite()).count();
    if bad == 0 {
        return Ok(());
    }
    if what == NonFiniteVoxels::Zero {
        values
            .iter_mut()
            .filter(|v| !v.is_finite())
            .for_each(|v| *v = 0.0);
        return Ok(());
    }
    Err(DataError::data(
        "",
        format!(
            "{bad} of {} voxels are not numbers or infinite",
            values.len()
        ),
        "replace them, or have them taken as zero with --non-finite zero",
    ))
}

/// Clip and normalise one channel.
///
/// # Numerics
/// Sums in f64 in the order of the voxels; each value is scaled in f64 and rounded once. A channel without spread is only
/// shifted.
pub(super) fn normalise(
    values: &mut [f32],
    channels: usize,
    channel: usize,
    clip: Option<Clip>,
    normalize: Normalize,
) {
    let limits = match clip {
        None => None,
        Some(Clip::Window(window)) => Some(window),
        Some(Clip::Percentiles(shares)) => {
            let mut sorted: Vec<f32> = values
                .iter()
                .skip(channel)
                .step_by(channels)
                .copied()
                .collect();
            Some(shares.map(|share| percentile(&mut sorted, share)))
        }
    };
    let own = |values: &[f32]| -> Vec<f32> {
        values
            .iter()
            .skip(channel)
            .step_by(channels)
            .copied()
            .collect()
    };
    if let Some([low, high]) = limits {
        change(values, channels, channel, |v| v.clamp(low, high));
    }
    match normalize {
        Normalize::None => {}
        Normalize::Minmax => {
            let [low, high] = limits.unwrap_or_else(|| {
                own(values)
                    .iter()
                    .fold([f32::INFINITY, f32::NEG_INFINITY], |[l, h], &v| {
                        [l.min(v), h.max(v)]
                    })
            });
            let (low, spread) = (f64::from(low), spread(f64::from(high) - f64::from(low)));
            change(values, channels, channel, |v| {
                ((f64::from(v) - low) / spread) as f32
            });
        }
        Normalize::Zscore | Normalize::ZscoreNonzero => {
            let all = normalize == Normalize::Zscore;
            let counts = |v: f32| all || v != 0.0;
            let (mut n, mut sum) = (0usize, 0.0);
            for v in own(values).into_iter().filter(|&v| counts(v)) {
                n += 1;
                sum += f64::from(v);
            }
            let mean = sum / n.max(1) as f64;
            let squares: f64 = own(values)
                .into_iter()
                .filter(|&v| counts(v))
                .map(|v| (f64::from(v) - mean).powi(2))
                .sum();
            let deviation = spread((squares / n.max(1) as f64).sqrt());
            change(values, channels, channel, |v| {
                if counts(v) {
                    ((f64::from(v) - mean) / deviation) as f32
                } else {
                    v
                }
            });
        }
    }
}

fn spread(value: f64) -> f64 {
    if value > 0.0 { value } else { 1.0 }
}

fn change(values: &mut [f32], channels: usize, channel: usize, mut to: impl FnMut(f32) -> f32) {
    values
        .iter_mut()
        .skip(channel)
        .step_by(channels)
        .for_each(|v| *v = to(*v));
}

/// The value below which `share` per cent lie; between two, linear, as `numpy.percentile`.
fn percentile(values: &mut [f32], share: f64) -> f32 {
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let at = share / 100.0 * last as f64;
    let below = at.floor() as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let high = above.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
    (f64::from(low) + (f64::from(high) - f64::from(low)) * at.fract()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(values: &[f32], clip: Option<Clip>, normalize: Normalize) -> Vec<f32> {
        let mut values = values.to_vec();
        super::normalise(&mut values, 1, 0, clip, normalize);
        values
    }

    #[test]
    fn scales_are_as_their_names_say() {
        let values = [0.0, 0.0, 1.0, 3.0];
        assert_eq!(
            normalised(&values, None, Normalize::Minmax),
            [0.0, 0.0, 1.0 / 3.0, 1.0]
        );
        assert_eq!(
            normalised(&values, None, Normalize::ZscoreNonzero),
            [0.0, 0.0, -1.0, 1.0]
        );
        let z = normalised(&values, None, Normalize::Zscore);
        assert!(z.iter().sum::<f32>().abs() < 1e-6);
        let window = Some(Clip::Window([0.0, 2.0]));
        assert_eq!(
            normalised(&values, window, Normalize::Minmax),
            [0.0, 0.0, 0.5, 1.0]
        );
        assert_eq!(normalised(&[5.0; 4], None, Normalize::Zscore), [0.0; 4]);
        let percentiles = Some(Clip::Percentiles([25.0, 75.0]));
        // NumPy: percentiles 0 and 1.5 of 0, 0, 1, 3.
        assert_eq!(
            normalised(&values, percentiles, Normalize::None),
            [0.0, 0.0, 1.0, 1.5]
        );
    }

    #[test]
    fn channels_do_not_mix() {
        let mut values = vec![0.0, 10.0, 1.0, 30.0];
        super::normalise(&mut values, 2, 1, None, Normalize::Minmax);
        assert_eq!(values, [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn nothing_but_numbers_passes() {
        let mut values = [1.0, f32::NAN, f32::INFINITY];
        let error = finite(&mut values, NonFiniteVoxels::Refuse).unwrap_err();
        assert_eq!(error.what(), "2 of 3 voxels are not numbers or infinite");
        finite(&mut values, NonFiniteVoxels::Zero).unwrap();
        assert_eq!(values, [1.0, 0.0, 0.0]);
    }
}
