//! `densenet train`: from images to a model.

mod made;

use std::path::{Path, PathBuf};

use clap::Args;
use densenet_train::{Layer, Outcome, TrainConfig, install_signal_handlers, resume, train};
use serde::Serialize;
use toml::{Table, Value};

use crate::{
    failure::{BUG, Failure},
    options::{
        config::ConfigOptions,
        run::RunOptions,
        train::{DataOptions, ModelOptions, OptimisationOptions, SavingOptions},
    },
    output,
};

/// Train a network on images; with nothing else said, on the embedded digits
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Train {
    /// A folder of images or volumes, a .csv list, a .npz file, a folder of CIFAR or IDX files, or the generated volumes
    /// `shapes3d` [default: the embedded digits]
    data: Option<String>,
    /// A file of options, `key = value`; options on the command line win
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Go on with an interrupted run, bit for bit as if it had never stopped
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    data_options: DataOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    optimisation: OptimisationOptions,
    #[command(flatten)]
    saving: SavingOptions,
    #[command(flatten)]
    network: ConfigOptions,
}

const AFTER_HELP: &str = "\
Each run gets a folder of its own, runs/NAME-N, with the best and the last model, a report to open in a browser, one line \
of metrics for each epoch, every option as resolved, and what resuming needs. The first Ctrl-C saves and stops; the second stops at once. \
Every option is also a key of a --config file, with underscores for dashes.

Examples:
  densenet train
  densenet train shapes3d
  densenet train scans/ --dims 3 --spacing 1.5 --window -1000,400 --image-size 96 --fit crop --augment hflip,rotate:10
  densenet train photos/ --model densenet121 --image-size 224 --epochs 60
  densenet train photos/ --model runs/photos-1/best.safetensors --freeze stem,denseblock1 --lr 0.01
  densenet train cifar-10-batches-bin --model densenet-bc-100-12 --augment crop:4,hflip --schedule step \\
      --epochs 300 --batch-size 64 --lr 0.1
  densenet train --config runs/photos-1/config.toml --seed 2
  densenet train --resume runs/photos-1";

impl Train {
    /// Trains, or goes on training, and says what was made.
    ///
    /// # Errors
    /// Whatever the training room refuses; a run that a signal stopped, with the command that continues it.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        let stop = install_signal_handlers()
            .map_err(|error| Failure::new(BUG, format_args!("signals: {error} — report this")))?;
        let layers = layers(&Choices {
            data: self.data.as_deref(),
            config: self.config.as_deref(),
            data_options: &self.data_options,
            model: &self.model,
            optimisation: &self.optimisation,
            saving: Some(&self.saving),
            network: &self.network,
        })?;
        let mut reporter = output::reporter();
        let outcome = match &self.resume {
            Some(run) => resume(run, &layers, &mut *reporter, &stop)?,
            None => train(&TrainConfig::layered(&layers)?, &mut *reporter, &stop)?,
        };
        drop(reporter);
        match &outcome {
            Outcome::Finished(summary) => {
                let text = made::text(summary, &outcome.next_commands(), output::width());
                output::print(&text)
            }
            Outcome::Interrupted { .. } => Err(made::interruption(&outcome)),
        }
    }
}

/// What the command line says about a training.
pub struct Choices<'a> {
    pub data: Option<&'a str>,
    pub config: Option<&'a Path>,
    pub data_options: &'a DataOptions,
    pub model: &'a ModelOptions,
    pub optimisation: &'a OptimisationOptions,
    pub saving: Option<&'a SavingOptions>,
    pub network: &'a ConfigOptions,
}

/// The file and the command line, the latter uppermost.
///
/// # Errors
/// A file that cannot be read, a number beyond all measure.
pub fn layers(choices: &Choices<'_>) -> Result<Vec<Layer>, Failure> {
    let mut layers = Vec::new();
    if let Some(path) = choices.config {
        layers.push(Layer::read(path)?);
    }
    let mut table = Table::new();
    if let Some(data) = choices.data {
        table.insert("data".into(), Value::String(data.to_string()));
    }
    if choices.data_options.no_augment {
        table.insert("augment".into(), Value::String("none".into()));
    }
    table.extend(keys(choices.data_options)?);
    table.extend(keys(choices.model)?);
    table.extend(keys(choices.optimisation)?);
    if let Some(saving) = choices.saving {
        table.extend(keys(saving)?);
    }
    table.extend(keys(&choices.network.file()?)?);
    if !table.is_empty() {
        layers.push(Layer {
            origin: "command line".into(),
            table,
        });
    }
    Ok(layers)
}

/// The options that were given, under their keys.
pub(super) fn keys(options: &impl Serialize) -> Result<Table, Failure> {
    Table::try_from(options).map_err(|error| {
        Failure::usage(format_args!(
            "command line: {error} — give a smaller number"
        ))
    })
}
