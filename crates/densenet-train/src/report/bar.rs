//! A progress bar, for a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Reporter, RunInfo, StepInfo, epoch_line, start_lines};
use crate::checkpoint::EpochMetrics;

/// Draws a bar on standard error, with loss, images per second and the time left; finished epochs stand above it.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    what: String,
    target: fn() -> ProgressDrawTarget,
}

impl Bar {
    /// A bar on standard error; where that is no terminal, nothing is drawn (use [`super::Plain`]).
    pub fn new() -> Self {
        Bar::on(ProgressDrawTarget::stderr)
    }

    fn on(target: fn() -> ProgressDrawTarget) -> Self {
        Bar {
            bar: ProgressBar::with_draw_target(None, target()),
            what: String::new(),
            target,
        }
    }

    /// Starts counting something else, on a bar of its own.
    ///
    /// The time left is reckoned from `done`, where an interrupted epoch goes on, not from 0.
    fn turn_to(&mut self, what: &str, prefix: String, template: &str, done: usize, total: usize) {
        if self.what == what {
            return;
        }
        self.what = what.to_string();
        self.bar.finish_and_clear();
        // The templates are constants of this file, tested below.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = ProgressBar::with_draw_target(Some(total as u64), (self.target)())
            .with_style(style.progress_chars("━╸─"))
            .with_prefix(prefix)
            .with_position(done as u64);
        self.bar.reset_eta();
    }
}

const TRAINING: &str = "{prefix} {bar:20.cyan/238} {pos}/{len}  {eta} left  {msg}";
const COUNTING: &str = "{prefix} {bar:20.cyan/238} {pos}/{len}";

impl Default for Bar {
    fn default() -> Self {
        Bar::new()
    }
}

impl Reporter for Bar {
    fn note(&mut self, text: &str) {
        self.bar.println(format!("note: {text}"));
    }

    fn warning(&mut self, text: &str) {
        self.bar.println(format!("warning: {text}"));
    }

    fn progress(&mut self, what: &str, done: usize, total: usize) {
        self.turn_to(what, what.to_string(), COUNTING, done, total);
        self.bar.set_position(done as u64);
    }

    fn started(&mut self, run: &RunInfo<'_>) {
        self.bar.println(start_lines(run));
    }

    fn step(&mut self, s: &StepInfo) {
        let width = s.epochs.to_string().len();
        let prefix = format!("epoch {:>width$}/{}", s.epoch, s.epochs);
        let before = s.batch.saturating_sub(1);
        self.turn_to(
            &format!("epoch {}", s.epoch),
            prefix,
            TRAINING,
            before,
            s.batches,
        );
        let mut message = format!(
            "loss {:.4}  accuracy {:.1} %  {:.0} images/s",
            s.loss,
            100.0 * s.accuracy,
            s.images_per_second
        );
        if s.loader_share > 0.05 {
            message.push_str(&format!(
                "  waiting for images {:.0} %",
                100.0 * s.loader_share
            ));
        }
        self.bar.set_message(message);
        self.bar.set_position(s.batch as u64);
    }

    fn epoch(&mut self, epochs: usize, metrics: &EpochMetrics, took: Duration) {
        self.bar.println(epoch_line(epochs, metrics, took));
    }

    fn finished(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_well_formed_and_a_whole_run_can_be_drawn() {
        for template in [TRAINING, COUNTING] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
        let mut bar = Bar::on(ProgressDrawTarget::hidden);
        bar.progress("checking", 1, 2);
        bar.step(&StepInfo {
            epoch: 1,
            epochs: 10,
            batch: 3,
            batches: 4,
            step: 3,
            step_loss: 1.0,
            loss: 1.0,
            accuracy: 0.5,
            lr: 0.1,
            images_per_second: 10.0,
            loader_share: 0.5,
        });
        assert_eq!((bar.bar.position(), bar.bar.length()), (3, Some(4)));
        assert!(bar.bar.message().contains("waiting for images 50 %"));
        bar.epoch(10, &crate::report::tests::metrics(), Duration::from_secs(1));
        bar.finished();
    }
}
