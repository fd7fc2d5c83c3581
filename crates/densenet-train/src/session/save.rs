//! Saving a run and taking it back.

use std::time::{Duration, Instant};

use super::Session;
use crate::{
    checkpoint::{Arena, EpochMetrics, SavedState},
    config::differences,
    error::TrainError,
    network::Net,
};

impl<N: Net> Session<'_, N> {
    /// Continues from a saved state.
    ///
    /// # Errors
    /// `State` where configuration, data or layout are not those of the saved run.
    pub(crate) fn restore(&mut self, mut saved: SavedState) -> Result<(), TrainError> {
        let path = self.store.path();
        let (ours, theirs) = (&self.progress, &saved.progress);
        if ours.config != theirs.config {
            let what = format!(
                "the configuration has changed since it was saved: {}",
                differences(&ours.config, &theirs.config).join("; ")
            );
            return Err(TrainError::state(
                &path,
                what,
                "put it back, or start a new run with --config",
            ));
        }
        if ours.data != theirs.data {
            let what = format!(
                "the data is not what the run was trained on ({} now, {} then)",
                ours.data, theirs.data
            );
            return Err(TrainError::state(
                &path,
                what,
                "put the data back, or start a new run from last.safetensors with --model",
            ));
        }
        let cure = "resume with the version of the program that began the run, or start a new run from last.safetensors with --model";
        if ours.layout != theirs.layout {
            return Err(TrainError::state(
                &path,
                "its parameters are laid out differently",
                cure,
            ));
        }
        let mut take = |name: &str, len: usize| {
            let found = saved.take(name).filter(|v| v.len() == len);
            found.ok_or_else(|| {
                TrainError::state(
                    &path,
                    format!("`{name}` is missing or of another size"),
                    cure,
                )
            })
        };
        let (parameters, buffers) = (
            self.parts.net.parameters().len(),
            self.parts.net.buffers().len(),
        );
        let values = take("parameters", parameters)?;
        self.parts
            .net
            .parameters_and_gradients_mut()
            .0
            .copy_from_slice(&values);
        self.parts
            .net
            .buffers_mut()
            .copy_from_slice(&take("buffers", buffers)?);
        let count = self.optimizer.state().0.len();
        let state = (0..count)
            .map(|i| take(&format!("optimizer.{i}"), parameters))
            .collect::<Result<_, _>>()?;
        if let Some(ema) = &mut self.ema {
            ema.restore(
                take("ema.parameters", parameters)?,
                take("ema.buffers", buffers)?,
            );
        }
        self.optimizer
            .restore(state, saved.progress.optimizer_steps)?;
        self.parts
            .net
            .set_batches_tracked(saved.progress.batches_tracked);
        self.sums = saved.progress.sums.into();
        self.progress = saved.progress;
        Ok(())
    }

    /// Whether it is time for a save within an epoch.
    pub(super) fn save_is_due(&self) -> bool {
        let config = &self.parts.config;
        let pause = Duration::try_from_secs_f64(config.save_every).unwrap_or(Duration::MAX);
        (!pause.is_zero() && self.last_save.elapsed() >= pause)
            || config
                .save_every_steps
                .is_some_and(|steps| self.steps_since_save >= steps)
    }

    /// Saves; a failure is reported, remembered, and tried again at the next occasion.
    pub(super) fn save(&mut self) {
        if let Err(error) = self.write() {
            self.reporter.warning(&format!(
                "{error}; training goes on, and saving is tried again"
            ));
            self.failed_save = Some(error);
        }
    }

    /// Writes the models that are due, then the state, then `metrics.csv` (which the state holds as well).
    ///
    /// In this order a state never speaks of a best model that is not on disk.
    pub(super) fn write(&mut self) -> Result<(), TrainError> {
        self.last_save = Instant::now();
        self.steps_since_save = 0;
        while let Some((file, model)) = self.unwritten.first() {
            self.parts.run.write_model(file, model)?;
            self.unwritten.remove(0);
        }
        let (optimizer, optimizer_steps) = self.optimizer.state();
        self.progress.generation += 1;
        self.progress.optimizer_steps = optimizer_steps;
        self.progress.batches_tracked = self.parts.net.batches_tracked();
        self.progress.sums = self.sums.into();
        let names: Vec<String> = (0..optimizer.len())
            .map(|i| format!("optimizer.{i}"))
            .collect();
        let mut arenas = vec![
            Arena {
                name: "parameters",
                values: self.parts.net.parameters(),
            },
            Arena {
                name: "buffers",
                values: self.parts.net.buffers(),
            },
        ];
        arenas.extend(
            names
                .iter()
                .zip(optimizer)
                .map(|(name, values)| Arena { name, values }),
        );
        if let Some(ema) = &self.ema {
            arenas.push(Arena {
                name: "ema.parameters",
                values: ema.parameters(),
            });
            arenas.push(Arena {
                name: "ema.buffers",
                values: ema.buffers(),
            });
        }
        self.store.save(&self.progress, &arenas, self.hook)?;
        self.write_metrics()?;
        self.failed_save = None;
        Ok(())
    }

    /// Writes `metrics.csv` anew.
    pub(super) fn write_metrics(&self) -> Result<(), TrainError> {
        let text = EpochMetrics::csv(&self.progress.rows);
        self.parts.run.write_text("metrics.csv", &text)
    }
}
