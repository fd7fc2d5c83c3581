//! `densenet init`: a model with fresh weights.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use densenet_spec::Architecture;
use densenet_weights::{InitMode, Model, initialize};
use serde_json::json;

use super::wrote;
use crate::{
    failure::Failure,
    machine,
    options::{
        config::ConfigOptions,
        model::{Source, preset_list},
    },
};

/// Make a model with fresh random weights
///
/// The same seed gives the same bits on every machine. An existing MODEL is replaced.
#[derive(Debug, Args)]
#[command(after_help = after_help(), long_about = None)]
pub struct Init {
    /// A preset's name
    preset: String,
    /// The model file to write
    #[arg(short, long, value_name = "MODEL")]
    output: PathBuf,
    /// Seed of the random weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Which side of a convolution keeps its variance: fan-in or fan-out [default: fan-in; fan-out in 3-D]
    #[arg(long, value_enum, value_name = "SIDE", hide_possible_values = true)]
    init: Option<Mode>,
    #[command(flatten)]
    config: ConfigOptions,
}

/// [`InitMode`]'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    #[value(alias = "fan_in")]
    FanIn,
    #[value(alias = "fan_out")]
    FanOut,
}

fn after_help() -> String {
    format!(
        "The same seed gives the same bits on every machine. An existing MODEL is replaced.

{}
Examples:
  densenet init densenet121 --num-classes 5 -o fresh.safetensors
  densenet init densenet121 --dims 3 --num-classes 2 --seed 7 -o volume.safetensors
  densenet init densenet-bc-100-12 --growth-rate 8 --block-config 3,3,3 -o tiny.safetensors",
        preset_list()
    )
}

impl Init {
    /// Draws the weights and writes the model file.
    ///
    /// # Errors
    /// An unknown preset, a configuration that cannot work, a file that cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        let preset = match Source::find(&self.preset)? {
            Source::Preset(preset) => preset,
            Source::File(_) => {
                return Err(Failure::usage(format_args!(
                    "{}: a file, but fresh weights start from a preset — see `densenet init --help` for the names",
                    self.preset
                )));
            }
        };
        let config = self.config.configure(&preset)?;
        let architecture = Architecture::new(&config)?;
        // Once as drawn and once more as written.
        machine::require(
            8 * architecture.num_parameters() as u64,
            &self.preset,
            "make --growth-rate or --block-config smaller",
        )?;
        let mode = match self.init {
            Some(Mode::FanIn) => InitMode::FanIn,
            Some(Mode::FanOut) => InitMode::FanOut,
            None => InitMode::default_for(config.spatial_dims),
        };
        let mut model = Model::new(config, initialize(&architecture, self.seed, mode))?;
        model.provenance = Some(json!({
            "command": "init",
            "preset": preset.name,
            "seed": self.seed,
            "init": mode.name(),
        }));
        model.save(&self.output)?;
        wrote(&self.output, &architecture);
        Ok(())
    }
}
