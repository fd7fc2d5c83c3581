//! The learning rate as a pure function of the optimiser step.
//!
//! No schedule holds state: a resumed run asks for the rate of step `n` and gets what it would have got.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The shape of the learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// The same all the way.
    Constant,
    /// Multiplied by `gamma` at each of the `milestones` (paper: ÷10 at 50 % and 75 % of the epochs).
    Step,
    /// Half a cosine from the peak down to `min_lr`.
    Cosine,
    /// Up along half a cosine from 1/25 of the peak during the first 30 %, then down to 1/250,000 of it.
    OneCycle,
}

/// One run's learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The shape.
    pub kind: ScheduleKind,
    /// The highest rate.
    pub lr: f64,
    /// The rate a cosine ends at.
    pub min_lr: f64,
    /// Factor of [`ScheduleKind::Step`] at each milestone.
    pub gamma: f64,
    /// Milestones of [`ScheduleKind::Step`] as shares of the run, ascending.
    pub milestones: Vec<f64>,
    /// Optimiser steps of linear warm-up; may be 0.
    pub warmup_steps: u64,
    /// Optimiser steps of the whole run.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of optimiser step `step`, counted from 0.
    ///
    /// During warm-up, `lr · (step + 1) / (warmup_steps + 1)`: from a small positive rate up to, not including, the peak.
    /// `cosine` and `onecycle` run over the steps after the warm-up; the milestones of `step` are shares of the whole
    /// run, as in the paper. Steps beyond the end keep the last step's rate.
    ///
    /// # Source
    /// Paper, §4.2 (step); Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5 (cosine); Smith & Topin 2018,
    /// arXiv:1708.07120, with PyTorch's `OneCycleLR` defaults (onecycle; the momentum stays fixed); Goyal et al. 2017,
    /// arXiv:1706.02677, §2.2 (gradual warm-up).
    pub fn at(&self, step: u64) -> f64 {
        let step = step.min(self.total_steps.saturating_sub(1));
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let done = (step - self.warmup_steps) as f64;
        let all = (self.total_steps.saturating_sub(self.warmup_steps)).max(1) as f64;
        match self.kind {
            ScheduleKind::Constant => self.lr,
            ScheduleKind::Step => {
                let passed =
                    |share: &&f64| step as f64 >= (**share * self.total_steps as f64).round();
                let count = self.milestones.iter().filter(passed).count();
                self.lr * self.gamma.powi(count as i32)
            }
            ScheduleKind::Cosine => {
                self.min_lr + (self.lr - self.min_lr) * 0.5 * (1.0 + (PI * done / all).cos())
            }
            ScheduleKind::OneCycle => self.one_cycle(done, all),
        }
    }

    /// PyTorch's `OneCycleLR(pct_start=0.3, div_factor=25, final_div_factor=1e4, anneal_strategy="cos")`.
    fn one_cycle(&self, done: f64, all: f64) -> f64 {
        let first = self.lr / 25.0;
        let last = first / 1e4;
        let top = (0.3 * all - 1.0).max(0.0);
        if done <= top {
            return anneal(first, self.lr, if top > 0.0 { done / top } else { 1.0 });
        }
        let fall = all - 1.0 - top;
        anneal(
            self.lr,
            last,
            if fall > 0.0 { (done - top) / fall } else { 1.0 },
        )
    }
}

/// Half a cosine from `start` (share 0) to `end` (share 1).
fn anneal(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) * 0.5 * (1.0 + (PI * share.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, total_steps: u64, warmup_steps: u64) -> Schedule {
        Schedule {
            kind,
            lr: 0.1,
            min_lr: 0.001,
            gamma: 0.1,
            milestones: vec![0.5, 0.75],
            warmup_steps,
            total_steps,
        }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12
    }

    #[test]
    fn step_divides_by_ten_at_half_and_three_quarters() {
        let s = schedule(ScheduleKind::Step, 100, 0);
        for (step, lr) in [
            (0, 0.1),
            (49, 0.1),
            (50, 0.01),
            (74, 0.01),
            (75, 0.001),
            (99, 0.001),
            (500, 0.001),
        ] {
            assert!(close(s.at(step), lr), "step {step}: {}", s.at(step));
        }
    }

    #[test]
    fn cosine_starts_at_the_peak_passes_the_middle_and_approaches_the_minimum() {
        let s = schedule(ScheduleKind::Cosine, 100, 0);
        assert!(close(s.at(0), 0.1));
        assert!(close(s.at(50), (0.1 + 0.001) / 2.0));
        assert!(s.at(99) > 0.001 && s.at(99) < 0.0011);
    }

    #[test]
    fn one_cycle_is_pytorchs() {
        let golden = crate::golden::golden().one_cycle;
        let s = schedule(ScheduleKind::OneCycle, golden.len() as u64, 0);
        for (step, lr) in golden.iter().enumerate() {
            let ours = s.at(step as u64);
            assert!(
                (ours - lr).abs() < 1e-14,
                "step {step}: {ours} instead of {lr}"
            );
        }
    }

    #[test]
    fn warmup_climbs_evenly_and_hands_over_without_a_jump() {
        for kind in [
            ScheduleKind::Constant,
            ScheduleKind::Step,
            ScheduleKind::Cosine,
        ] {
            let s = schedule(kind, 100, 4);
            for (step, share) in [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (4, 1.0)] {
                assert!(
                    close(s.at(step), 0.1 * share),
                    "{kind:?} step {step}: {}",
                    s.at(step)
                );
            }
        }
    }

    #[test]
    fn degenerate_runs_have_a_rate() {
        for kind in [
            ScheduleKind::Constant,
            ScheduleKind::Step,
            ScheduleKind::Cosine,
            ScheduleKind::OneCycle,
        ] {
            for (total, warmup) in [(1, 0), (1, 1), (2, 5), (3, 3), (0, 0)] {
                let s = schedule(kind, total, warmup);
                for step in 0..4 {
                    assert!(
                        s.at(step).is_finite() && s.at(step) > 0.0,
                        "{kind:?} {total} {warmup} {step}"
                    );
                }
            }
        }
    }
}
