//! Which epoch is the best, and when to give up waiting for a better one.

use serde::{Deserialize, Serialize};

use crate::exact;

/// What "better" is measured by, on the validation split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Share of correct samples; ties are broken by the loss.
    Accuracy,
    /// Mean cross entropy.
    Loss,
    /// Mean area under the ROC curves; ties are broken by the loss.
    MacroAuroc,
}

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its number, from 1.
    pub epoch: usize,
    /// Its value of the monitored metric.
    #[serde(with = "exact")]
    pub value: f64,
    /// Its validation loss.
    #[serde(with = "exact")]
    pub loss: f64,
}

/// Follows the monitored metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The best epoch so far.
    pub best: Option<Best>,
    /// Epochs since.
    pub waited: usize,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Watch {
            best: None,
            waited: 0,
        }
    }

    /// Takes in an epoch (from 1); true where it is the best so far. A value that is not a number is never the best.
    pub fn observe(&mut self, monitor: Monitor, epoch: usize, value: f64, loss: f64) -> bool {
        let better = !value.is_nan()
            && self.best.is_none_or(|best| match monitor {
                Monitor::Loss => value < best.value,
                Monitor::Accuracy | Monitor::MacroAuroc => {
                    value > best.value || (value == best.value && loss < best.loss)
                }
            });
        if better {
            self.best = Some(Best { epoch, value, loss });
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        better
    }

    /// Whether `patience` epochs have passed without a better one; never, where none is set.
    pub fn exhausted(&self, patience: Option<usize>) -> bool {
        patience.is_some_and(|patience| self.waited >= patience.max(1))
    }
}

impl Default for Watch {
    fn default() -> Self {
        Watch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_rises_loss_falls_and_ties_go_to_the_smaller_loss() {
        let mut watch = Watch::new();
        assert!(watch.observe(Monitor::Accuracy, 1, 0.5, 1.0));
        assert!(!watch.observe(Monitor::Accuracy, 2, 0.5, 1.0));
        assert!(watch.observe(Monitor::Accuracy, 3, 0.5, 0.9));
        assert!(!watch.observe(Monitor::Accuracy, 4, f64::NAN, 0.1));
        assert_eq!(watch.best.map(|b| b.epoch), Some(3));
        let mut watch = Watch::new();
        assert!(watch.observe(Monitor::Loss, 1, 1.0, 1.0));
        assert!(watch.observe(Monitor::Loss, 2, 0.9, 0.9));
        assert!(!watch.observe(Monitor::Loss, 3, 0.9, 0.9));
    }

    #[test]
    fn patience_counts_epochs_without_progress() {
        let mut watch = Watch::new();
        for (epoch, value) in [0.5, 0.4, 0.3].into_iter().enumerate() {
            watch.observe(Monitor::Accuracy, epoch + 1, value, 1.0);
        }
        assert!(!watch.exhausted(None) && !watch.exhausted(Some(3)));
        assert!(watch.exhausted(Some(2)) && watch.exhausted(Some(1)) && watch.exhausted(Some(0)));
    }
}
