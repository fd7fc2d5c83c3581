//! Which learning rate: a few steps at each, from one that changes nothing to one that destroys everything.
//!
//! The network is trained for a hundred steps while the rate grows from step to step by the same factor. Where the rate is
//! too small the loss stays; then it falls; then it explodes. A good highest rate lies well before the minimum.
//!
//! # Source
//! Smith 2017, "Cyclical Learning Rates for Training Neural Networks", ch. 3.3.

use serde::Serialize;

use crate::{
    config::TrainConfig,
    error::TrainError,
    gradient::{clip_factor, norm},
    network::{Net, segments},
    optimizer::{Optimizer, OptimizerKind},
    records::PROGRAM,
    report::Reporter,
    stop::StopFlag,
    train::start,
};
use densenet_report::{Chart, Facts, Scale, Series, Sweep, Tone};

mod suggest;

/// Which rates are tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepOptions {
    /// The first rate.
    pub from: f64,
    /// The last rate.
    pub to: f64,
    /// Steps from the first to the last.
    pub steps: usize,
}

impl Default for SweepOptions {
    fn default() -> Self {
        SweepOptions {
            from: 1e-6,
            to: 10.0,
            steps: 100,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LrSweep {
    /// The data set.
    pub data: String,
    /// The network, as `--model` means it.
    pub model: Option<String>,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Samples of a step.
    pub batch_size: usize,
    /// The highest rate to train with; `None` where the loss never fell.
    pub suggestion: Option<f64>,
    /// Where the smoothed loss falls fastest.
    pub steepest: Option<f64>,
    /// Where the smoothed loss is lowest.
    pub minimum: Option<f64>,
    /// The rate at which the loss exploded; `None` where it did not within the range.
    pub diverged_at: Option<f64>,
    /// Every step.
    pub points: Vec<LrPoint>,
}

/// A step of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LrPoint {
    /// The step's rate.
    pub lr: f64,
    /// The loss before the step, on its samples.
    pub loss: f64,
    /// The same, averaged over neighbouring steps.
    pub smoothed: f64,
}

/// A loss this many times the lowest has exploded.
const EXPLODED: f64 = 4.0;

/// Tries learning rates on what `config` describes; `None` where `stop` was raised.
///
/// A network of its own is trained: no file is read but data and model, and none is written. The same configuration gives
/// the same numbers, for any number of threads.
///
/// # Errors
/// `Config` for a range that is none, and whatever [`crate::train()`] refuses before its first step.
pub fn lr_find(
    config: &TrainConfig,
    options: SweepOptions,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Option<LrSweep>, TrainError> {
    config.validate()?;
    options.validate()?;
    let found = sweep(config, options, reporter, stop);
    reporter.finished();
    found
}

fn sweep(
    config: &TrainConfig,
    options: SweepOptions,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Option<LrSweep>, TrainError> {
    let Some((config, mut net, train)) = start(config, reporter, stop)? else {
        return Ok(None);
    };
    let views = Net::views(&net);
    let segments = segments(&views, config.no_decay_norm_bias);
    let mut optimizer = Optimizer::new(config.rule(), segments, Net::parameters(&net).len());
    let counts = train.dataset().class_counts(densenet_data::Split::Train);
    let loss = config.loss(&counts);
    let (mut epoch, mut batches) = (0, train.epoch(0, 0));
    let mut grad_logits = Vec::new();
    let mut losses: Vec<f64> = Vec::new();
    let mut diverged_at = None;
    for step in 0..options.steps {
        if stop.raised().is_some() {
            return Ok(None);
        }
        let batch = match batches.next() {
            Some(batch) => batch?,
            None => {
                epoch += 1;
                batches = train.epoch(epoch, 0);
                match batches.next() {
                    Some(batch) => batch?,
                    None => break,
                }
            }
        };
        let lr = options.rate(step);
        net.zero_grad();
        let logits = Net::forward(&mut net, &batch, step as u64)?;
        grad_logits.resize(logits.len(), 0.0);
        let sums = loss.forward_backward(logits, &batch.labels, &mut grad_logits);
        let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
        if !sums.mean().is_finite() || sums.mean() > EXPLODED * lowest {
            diverged_at = Some(lr);
            break;
        }
        losses.push(sums.mean());
        Net::backward(&mut net, &grad_logits)?;
        let size = norm(Net::gradients(&net), optimizer.segments());
        net.update_running_statistics();
        train.recycle(batch);
        if !size.is_finite() || sums.weight <= 0.0 {
            diverged_at = Some(lr);
            break;
        }
        let mean = 1.0 / sums.weight;
        let scale = mean * clip_factor(size * mean, config.clip_norm);
        let (parameters, gradients) = Net::parameters_and_gradients_mut(&mut net);
        optimizer.step(parameters, gradients, lr, scale);
        reporter.progress("learning rates", step + 1, options.steps);
    }
    let smoothed = suggest::smoothed(&losses);
    let points: Vec<LrPoint> = losses
        .iter()
        .zip(smoothed)
        .enumerate()
        .map(|(step, (&loss, smoothed))| LrPoint {
            lr: options.rate(step),
            loss,
            smoothed,
        })
        .collect();
    let found = suggest::Suggestion::new(&points);
    Ok(Some(LrSweep {
        data: train.dataset().name().to_string(),
        model: config.model.clone(),
        optimizer: config.optimizer,
        batch_size: config.batch_size,
        suggestion: found.suggestion,
        steepest: found.steepest,
        minimum: found.minimum,
        diverged_at,
        points,
    }))
}

impl SweepOptions {
    /// The rate of a step.
    fn rate(&self, step: usize) -> f64 {
        let share = step as f64 / (self.steps - 1).max(1) as f64;
        self.from * (self.to / self.from).powf(share)
    }

    fn validate(&self) -> Result<(), TrainError> {
        let refuse =
            |option: &str, what: String, cure: &str| Err(TrainError::config(option, what, cure));
        let usable = |rate: f64| rate.is_finite() && rate > 0.0;
        if !usable(self.from) {
            return refuse("--from", self.from.to_string(), "give a number above 0");
        }
        if !usable(self.to) || self.to <= self.from {
            let what = format!("{} is not above --from {}", self.to, self.from);
            return refuse("--to", what, "give a larger number");
        }
        if !(10..=100_000).contains(&self.steps) {
            return refuse("--steps", self.steps.to_string(), "give 10 to 100000");
        }
        Ok(())
    }
}

impl LrSweep {
    /// What to do with it, in a sentence.
    pub fn verdict(&self) -> String {
        match (self.suggestion, self.diverged_at) {
            (Some(lr), Some(_)) => {
                format!("Train with --lr {} as the highest rate.", rounded(lr))
            }
            (Some(lr), None) => format!(
                "Train with --lr {} as the highest rate; the loss never exploded, so a wider range (--to) may show a higher one.",
                rounded(lr)
            ),
            (None, _) => {
                "The loss did not fall at any rate: look at the data and its labels, or try more --steps.".into()
            }
        }
    }

    /// The curve as CSV: `lr,loss,smoothed`.
    pub fn csv(&self) -> String {
        let mut text = String::from("lr,loss,smoothed\n");
        for p in &self.points {
            text.push_str(&format!("{:e},{},{}\n", p.lr, p.loss, p.smoothed));
        }
        text
    }

    /// The curve as an SVG file.
    pub fn svg(&self) -> String {
        self.chart().svg()
    }

    /// The curve and its facts as an HTML file.
    pub fn html(&self) -> String {
        let rate = |value: Option<f64>| value.map_or("—".to_string(), |v| format!("{v:.2e}"));
        let rows = [
            ("Model", self.model.clone().unwrap_or_default()),
            ("Optimiser", format!("{:?}", self.optimizer).to_lowercase()),
            ("Batch", self.batch_size.to_string()),
            ("Suggestion", rate(self.suggestion)),
            ("Falls fastest at", rate(self.steepest)),
            ("Lowest at", rate(self.minimum)),
            ("Exploded at", rate(self.diverged_at)),
            ("Steps", self.points.len().to_string()),
        ];
        Sweep {
            title: self.data.clone(),
            verdict: self.verdict(),
            chart: self.chart(),
            facts: Facts {
                title: "Sweep".into(),
                rows: rows.map(|(k, v)| (k.to_string(), v)).to_vec(),
            },
            maker: PROGRAM.into(),
        }
        .html()
    }

    fn chart(&self) -> Chart {
        let line = |name: &str, tone, value: fn(&LrPoint) -> f64| {
            let points = self.points.iter().map(|p| (p.lr, value(p))).collect();
            Series::new(name, tone, points)
        };
        Chart {
            x: Scale::Log,
            mark: self.suggestion.map(|lr| (lr, rounded(lr))),
            ..Chart::new(
                "Loss",
                "learning rate",
                vec![
                    line("each step", Tone::Quiet, |p| p.loss),
                    line("smoothed", Tone::Main, |p| p.smoothed),
                ],
            )
        }
    }
}

/// A rate to type: two significant digits.
fn rounded(lr: f64) -> String {
    format!("{lr:.1e}")
        .parse::<f64>()
        .map_or_else(|_| lr.to_string(), |lr| lr.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_grow_by_the_same_factor() {
        let options = SweepOptions::default();
        assert_eq!(options.rate(0), 1e-6);
        assert!((options.rate(99) - 10.0).abs() < 1e-9);
        let factor = options.rate(1) / options.rate(0);
        assert!((options.rate(50) / options.rate(49) - factor).abs() < 1e-9);
    }

    #[test]
    fn rates_are_easy_to_type() {
        let texts = [0.11449, 1.0, 2.78e-5, 3.04].map(rounded);
        assert_eq!(texts, ["0.11", "1", "0.000028", "3"]);
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let refused = |from, to, steps| {
            let error = SweepOptions { from, to, steps }.validate().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        assert!(refused(0.0, 1.0, 50).starts_with("--from: 0 — "));
        assert!(refused(1.0, 0.5, 50).starts_with("--to: 0.5 is not above"));
        assert!(refused(f64::NAN, 0.5, 50).starts_with("--from"));
        assert!(refused(0.1, f64::INFINITY, 50).starts_with("--to"));
        assert!(refused(0.1, 0.5, 3).starts_with("--steps"));
    }
}
