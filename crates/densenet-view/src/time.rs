//! How long each stage takes on this machine.

use std::time::{Duration, Instant};

use densenet::{Input, NetworkError, Predictor};

use crate::numbers::short;

/// Measured times of a prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Median milliseconds by stage.
    pub stages: Vec<(String, f64)>,
    /// Median milliseconds of a whole prediction.
    pub total_ms: f64,
    /// Runs that were timed.
    pub runs: usize,
    /// Threads that computed.
    pub threads: usize,
    /// The instruction set.
    pub isa: String,
}

impl Timing {
    /// Times predictions after one that warms up: up to `MOST_RUNS`, and no new one once `budget` is spent.
    ///
    /// # Errors
    /// The input does not fit the network.
    pub fn measure(
        predictor: &Predictor,
        input: Input<'_>,
        budget: Duration,
        threads: usize,
    ) -> Result<Self, NetworkError> {
        predictor.run(input)?;
        let start = Instant::now();
        let mut totals = Vec::new();
        let mut by_stage: Vec<(String, Vec<f64>)> = Vec::new();
        while totals.is_empty() || (totals.len() < MOST_RUNS && start.elapsed() < budget) {
            let (_, times) = predictor.run_timed(input)?;
            let times = times.into_iter().map(|t| (t.name, milliseconds(t.time)));
            let times: Vec<_> = times.collect();
            totals.push(times.iter().map(|(_, time)| time).sum());
            for (index, (name, time)) in times.into_iter().enumerate() {
                match by_stage.get_mut(index) {
                    Some((_, list)) => list.push(time),
                    None => by_stage.push((name, vec![time])),
                }
            }
        }
        let stages = by_stage.into_iter();
        Ok(Timing {
            stages: stages.map(|(name, list)| (name, median(list))).collect(),
            runs: totals.len(),
            total_ms: median(totals),
            threads,
            isa: predictor.isa().name().to_string(),
        })
    }
}

/// Enough for a steady median.
const MOST_RUNS: usize = 9;

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    short(values.get(middle).copied().unwrap_or(0.0))
}
