//! Lines, for logs and pipes.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use super::{Reporter, RunInfo, StepInfo, epoch_line, start_lines};
use crate::checkpoint::EpochMetrics;

/// Writes a line for each event, and one every half minute within an epoch.
#[derive(Debug)]
pub struct Plain<W> {
    to: W,
    last: Instant,
}

const PAUSE: Duration = Duration::from_secs(30);

impl<W: Write> Plain<W> {
    /// Lines to `to`, usually standard error.
    pub fn new(to: W) -> Self {
        Plain {
            to,
            last: Instant::now(),
        }
    }

    fn line(&mut self, text: &str) {
        // A log that cannot be written must not end a training run.
        let _ = writeln!(self.to, "{text}");
    }

    fn due(&mut self) -> bool {
        let due = self.last.elapsed() >= PAUSE;
        if due {
            self.last = Instant::now();
        }
        due
    }
}

impl<W: Write + Send> Reporter for Plain<W> {
    fn note(&mut self, text: &str) {
        self.line(&format!("note: {text}"));
    }

    fn warning(&mut self, text: &str) {
        self.line(&format!("warning: {text}"));
    }

    fn progress(&mut self, what: &str, done: usize, total: usize) {
        if self.due() {
            self.line(&format!("{what}: {done} of {total}"));
        }
    }

    fn started(&mut self, run: &RunInfo<'_>) {
        self.line(&start_lines(run));
        self.last = Instant::now();
    }

    fn step(&mut self, s: &StepInfo) {
        if self.due() {
            self.line(&format!(
                "epoch {}/{}  batch {}/{}  loss {:.4}  {:.0} images/s",
                s.epoch, s.epochs, s.batch, s.batches, s.loss, s.images_per_second
            ));
        }
    }

    fn epoch(&mut self, epochs: usize, metrics: &EpochMetrics, took: Duration) {
        self.line(&epoch_line(epochs, metrics, took));
        self.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_event() {
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out);
        plain.note("a");
        plain.warning("b");
        plain.progress("checking", 1, 2);
        plain.epoch(15, &crate::report::tests::metrics(), Duration::from_secs(1));
        plain.finished();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("note: a\nwarning: b\nepoch  3/15  loss 0.4200"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 3);
    }
}
