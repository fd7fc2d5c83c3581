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
}

impl Bar {
    /// A bar on standard error; where that is no terminal, nothing is drawn (use [`super::Plain`]).
    pub fn new() -> Self {
        Bar::on(ProgressDrawTarget::stderr())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target);
        Bar {
            bar,
            what: String::new(),
        }
    }

    /// Starts counting something else.
    fn turn_to(&mut self, what: &str, template: &str, done: usize, total: usize) {
        if self.what == what {
            return;
        }
        self.what = what.to_string();
        // The templates are constants of this file, tested below.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
        self.bar.set_length(total as u64);
        // The time left is reckoned from here, not from what an interrupted run had done before.
        self.bar.set_position(done as u64);
        self.bar.reset_eta();
        self.bar.reset_elapsed();
    }
}

const TRAINING: &str = "{prefix} {bar:24.cyan/238} {pos}/{len}  {msg}  {eta} left";
const COUNTING: &str = "{prefix} {bar:24.cyan/238} {pos}/{len}";

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
        self.turn_to(what, COUNTING, done, total);
        self.bar.set_prefix(what.to_string());
        self.bar.set_position(done as u64);
    }

    fn started(&mut self, run: &RunInfo<'_>) {
        self.bar.println(start_lines(run));
    }

    fn step(&mut self, s: &StepInfo) {
        self.turn_to(
            &format!("epoch {}", s.epoch),
            TRAINING,
            s.batch.saturating_sub(1),
            s.batches,
        );
        let width = s.epochs.to_string().len();
        self.bar
            .set_prefix(format!("epoch {:>width$}/{}", s.epoch, s.epochs));
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
        let mut bar = Bar::on(ProgressDrawTarget::hidden());
        bar.progress("checking", 1, 2);
        bar.step(&StepInfo {
            epoch: 1,
            epochs: 10,
            batch: 3,
            batches: 4,
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
