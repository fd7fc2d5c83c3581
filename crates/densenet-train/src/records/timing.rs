//! `timing.csv`: how long each epoch took.
//!
//! Kept apart from `metrics.csv`, which has the same bytes however often a run was interrupted. Lines are appended; where
//! an epoch stands twice (a kill between a line and the state), the later one counts.

use std::{fs, io::Write, path::Path};

/// One epoch's pace. Where a run was resumed within it, only the rest.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct EpochTiming {
    pub(crate) epoch: usize,
    /// Training, without the evaluation.
    pub(crate) train_seconds: f64,
    /// Samples that went through in this time.
    pub(crate) samples: usize,
    /// Share of it that the network stood waiting for samples.
    pub(crate) waiting_share: f64,
    /// The evaluation on the validation split.
    pub(crate) evaluation_seconds: f64,
}

const HEADER: &str =
    "epoch,train_seconds,samples,samples_per_second,waiting_share,evaluation_seconds\n";

impl EpochTiming {
    pub(crate) fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.train_seconds.max(1e-9)
    }

    /// Appends a line to the file; the first one brings the header.
    pub(crate) fn append(&self, path: &Path) -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)?;
        if file.metadata()?.len() == 0 {
            file.write_all(HEADER.as_bytes())?;
        }
        let line = format!(
            "{},{:.3},{},{:.3},{:.4},{:.3}\n",
            self.epoch,
            self.train_seconds,
            self.samples,
            self.samples_per_second(),
            self.waiting_share,
            self.evaluation_seconds
        );
        file.write_all(line.as_bytes())
    }

    /// The lines of a file, one for each epoch; none where it cannot be read, and none for lines that are cut short.
    pub(crate) fn read(path: &Path) -> Vec<EpochTiming> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut rows: Vec<EpochTiming> = Vec::new();
        for row in text.lines().skip(1).filter_map(parse) {
            rows.retain(|r| r.epoch != row.epoch);
            rows.push(row);
        }
        rows.sort_by_key(|r| r.epoch);
        rows
    }
}

fn parse(line: &str) -> Option<EpochTiming> {
    let fields: Vec<&str> = line.split(',').collect();
    let [epoch, seconds, samples, _, waiting, evaluation] = fields.as_slice() else {
        return None;
    };
    Some(EpochTiming {
        epoch: epoch.parse().ok()?,
        train_seconds: seconds.parse().ok()?,
        samples: samples.parse().ok()?,
        waiting_share: waiting.parse().ok()?,
        evaluation_seconds: evaluation.parse().ok()?,
    })
}

/// The pace of a run: all its epochs together, in every process that took part.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Seconds of training, without evaluations.
    pub train_seconds: f64,
    /// Seconds of evaluations on the validation split.
    pub evaluation_seconds: f64,
    /// Of the median epoch: a machine that was busy for a while does not count. `None` where no epoch was timed.
    pub samples_per_second: Option<f64>,
    /// Share of the training's time that the network stood waiting for samples, 0 to 1.
    pub waiting_share: f64,
}

impl Pace {
    pub(crate) fn new(timing: &[EpochTiming]) -> Self {
        let sum = |value: fn(&EpochTiming) -> f64| timing.iter().map(value).sum::<f64>();
        let train_seconds = sum(|t| t.train_seconds);
        let waited = sum(|t| t.waiting_share * t.train_seconds);
        let mut paces: Vec<f64> = timing.iter().map(|t| t.samples_per_second()).collect();
        paces.sort_by(f64::total_cmp);
        Pace {
            train_seconds,
            evaluation_seconds: sum(|t| t.evaluation_seconds),
            samples_per_second: paces.get(paces.len() / 2).copied(),
            waiting_share: waited / train_seconds.max(1e-9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_line_counts_and_broken_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timing.csv");
        assert_eq!(EpochTiming::read(&path), []);
        let row = |epoch, samples| EpochTiming {
            epoch,
            train_seconds: 2.0,
            samples,
            waiting_share: 0.25,
            evaluation_seconds: 0.5,
        };
        for row in [row(1, 10), row(2, 20), row(2, 8)] {
            row.append(&path).unwrap();
        }
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"3,1.0,4").unwrap();
        assert_eq!(EpochTiming::read(&path), [row(1, 10), row(2, 8)]);
        assert_eq!(row(2, 8).samples_per_second(), 4.0);
    }

    #[test]
    fn waiting_counts_by_time_and_samples_by_the_median_epoch() {
        let row = |train_seconds, waiting_share| EpochTiming {
            epoch: 1,
            train_seconds,
            samples: 12,
            waiting_share,
            evaluation_seconds: 0.5,
        };
        let pace = Pace::new(&[row(1.0, 0.5), row(3.0, 0.0), row(6.0, 0.25)]);
        assert_eq!(
            pace,
            Pace {
                train_seconds: 10.0,
                evaluation_seconds: 1.5,
                samples_per_second: Some(4.0),
                waiting_share: 0.2,
            }
        );
        assert_eq!(Pace::new(&[]), Pace::default());
    }
}
