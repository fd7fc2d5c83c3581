//! From values to places, and where the ticks are.

use super::Scale;
use crate::number;

/// An axis: values between `low` and `high`, laid out over `from` to `to`.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that holds all `values`, in about `ticks` steps.
    pub(crate) fn new(
        scale: Scale,
        values: impl Iterator<Item = f64>,
        [from, to]: [f64; 2],
        ticks: usize,
    ) -> Self {
        let usable = values.filter(|v| v.is_finite() && (scale != Scale::Log || *v > 0.0));
        let (mut low, mut high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        if low > high {
            (low, high) = (1.0, 2.0);
        }
        match scale {
            Scale::Unit => (low, high) = (0.0, 1.0),
            Scale::Log => {
                if high / low < 1.05 {
                    (low, high) = (low / 2.0, high * 2.0);
                }
            }
            Scale::Count => {
                if low == high {
                    (low, high) = (low - 1.0, high + 1.0);
                }
            }
            Scale::Linear | Scale::Amount | Scale::Percent => {
                // Lines that stay above half of their height need no axis down to 0.
                let near = low < 0.5 * high || scale == Scale::Amount;
                if low >= 0.0 && near {
                    low = 0.0;
                }
                if low == high {
                    let around = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
                    (low, high) = (low - around, high + around);
                }
                let step = step((high - low) / ticks as f64);
                (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
                if scale == Scale::Percent {
                    (low, high) = (low.max(0.0), high.min(1.0));
                }
            }
        }
        Axis {
            scale,
            low,
            high,
            from,
            to,
        }
    }

    /// The place of a value; `None` for one that has none.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let share = if self.scale == Scale::Log {
            (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share
            .is_finite()
            .then(|| self.from + (self.to - self.from) * share.clamp(-0.01, 1.01))
    }

    /// Values with a tick, and their names; about `count` of them.
    pub(crate) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.scale == Scale::Log {
            return self.decades(count);
        }
        let mut step = step((self.high - self.low) / count as f64);
        if self.scale == Scale::Count {
            step = step.max(1.0);
        }
        let decimals = usize::try_from((-step.log10().floor() as i32).max(0)).unwrap_or(0);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last)
            .take(4 * count)
            .map(|i| {
                let value = i as f64 * step;
                let name = match self.scale {
                    Scale::Percent => {
                        let decimals = decimals.saturating_sub(2);
                        format!("{:.decimals$} %", 100.0 * value)
                    }
                    Scale::Count => number::grouped(value.max(0.0) as u64),
                    _ => format!("{value:.decimals$}"),
                };
                (value, name)
            })
            .collect()
    }

    fn decades(&self, count: usize) -> Vec<(f64, String)> {
        let (first, last) = (
            self.low.log10().floor() as i32,
            self.high.log10().ceil() as i32,
        );
        let many = usize::try_from(last - first).unwrap_or(0) > 3;
        let within = |v: f64| v >= self.low * 0.999 && v <= self.high * 1.001;
        let steps: &[f64] = if many { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let ticks: Vec<f64> = (first..=last)
            .flat_map(|power| steps.iter().map(move |m| m * 10f64.powi(power)))
            .filter(|v| within(*v))
            .collect();
        let every = ticks.len().div_ceil(count.max(1)).max(1);
        let chosen = ticks.into_iter().step_by(every);
        chosen.map(|v| (v, number::plain(v))).collect()
    }
}

/// The next of 1, 2, 5, 10, … times a power of ten.
fn step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let step = match rough / power {
        r if r <= 1.0 + 1e-9 => power,
        r if r <= 2.0 + 1e-9 => 2.0 * power,
        r if r <= 5.0 + 1e-9 => 5.0 * power,
        _ => 10.0 * power,
    };
    if step.is_finite() && step > 0.0 {
        step
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scale: Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis::new(scale, values.iter().copied(), [0.0, 100.0], 5);
        axis.ticks(5).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            names(Scale::Linear, &[0.0, 2.3]),
            ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]
        );
        assert_eq!(
            names(Scale::Percent, &[0.91, 0.994]),
            ["90 %", "92 %", "94 %", "96 %", "98 %", "100 %"]
        );
        assert_eq!(names(Scale::Amount, &[74.0, 76.0])[0], "0");
        assert_eq!(names(Scale::Count, &[1.0, 4.0]), ["1", "2", "3", "4"]);
        assert_eq!(names(Scale::Log, &[1e-7, 10.0]).first().unwrap(), "1e-7");
        assert_eq!(names(Scale::Log, &[0.03, 0.1]), ["0.05", "0.1"]);
        assert_eq!(names(Scale::Unit, &[0.3]).len(), 6);
    }

    #[test]
    fn whatever_the_values_there_is_an_axis() {
        for scale in [
            Scale::Linear,
            Scale::Amount,
            Scale::Percent,
            Scale::Unit,
            Scale::Log,
            Scale::Count,
        ] {
            for values in [
                &[][..],
                &[0.0],
                &[f64::NAN],
                &[5.0, 5.0],
                &[-1.0, 1.0],
                &[1e-300, 1e300],
                &[f64::INFINITY, 1.0],
            ] {
                let axis = Axis::new(scale, values.iter().copied(), [10.0, 0.0], 5);
                assert!(axis.ticks(5).len() <= 50, "{scale:?} {values:?}");
                for value in values {
                    let place = axis.place(*value);
                    assert!(place.is_none_or(|p| (-1.0..=11.0).contains(&p)), "{value}");
                }
            }
        }
    }
}
