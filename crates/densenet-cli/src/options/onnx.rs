//! The options of an ONNX file.

use std::path::Path;

use clap::{Args, ValueEnum};
use densenet_onnx::{DEFAULT_OPSET, ExportOptions};
use densenet_spec::Architecture;

use super::{number::positive, size::Size, usual};
use crate::failure::Failure;

/// How an ONNX file is to look. An option left out keeps [`ExportOptions`]' default, but the size of the input is fixed
/// unless it is to be dynamic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "ONNX (for a FILE.onnx)")]
pub struct OnnxOptions {
    /// Version of the operators, 13 to 28 [default: 17]
    #[arg(long, value_name = "N")]
    pub opset: Option<i64>,
    /// What stays open until the network runs: batch, spatial, both (batch,spatial) or none [default: batch]
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub dynamic: Option<Vec<Open>>,
    /// Size of the input, where it is not dynamic, like 224, 224x192 or 96x96x64 [default: as for `summary`]
    #[arg(long, value_name = "SIZE")]
    pub input: Option<Size>,
    /// Samples in a batch, where that is not dynamic [default: 1]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch: Option<usize>,
    /// End with a softmax over the classes
    #[arg(long)]
    pub softmax: bool,
    /// Make batch norms part of the convolution before them where there is one
    #[arg(long)]
    pub fold: bool,
    /// Store the weights in half precision; computation stays in single
    #[arg(long)]
    pub f16: bool,
    /// Name of the input [default: input]
    #[arg(long, value_name = "NAME")]
    pub input_name: Option<String>,
    /// Name of the output [default: logits, or probabilities with --softmax]
    #[arg(long, value_name = "NAME")]
    pub output_name: Option<String>,
    /// The model's own version, for whoever serves it [default: 1]
    #[arg(long, value_name = "N", value_parser = version, allow_negative_numbers = true)]
    pub model_version: Option<i64>,
}

fn version(text: &str) -> Result<i64, String> {
    let version = text.parse().ok().filter(|version| *version >= 0);
    version.ok_or_else(|| "not a version — give a whole number, 0 or more".to_string())
}

/// What stays open until the network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Open {
    Batch,
    Spatial,
    None,
}

impl OnnxOptions {
    /// Refuses these options for `file`, which is no ONNX file.
    ///
    /// # Errors
    /// Any of them was given.
    pub fn refuse(&self, file: &Path) -> Result<(), Failure> {
        if *self == OnnxOptions::default() {
            return Ok(());
        }
        Err(Failure::usage(format_args!(
            "{}: --opset, --dynamic, --input, --fold and their like are for ONNX files — leave them out, or end the \
             name with .onnx",
            file.display()
        )))
    }

    /// What these options mean for a network.
    ///
    /// # Errors
    /// Two options contradict each other, or a size has the wrong number of axes.
    pub fn resolve(&self, architecture: &Architecture) -> Result<ExportOptions, Failure> {
        let given = self.dynamic.as_deref().unwrap_or_default();
        if given.contains(&Open::None) && given.len() > 1 {
            return Err(Failure::usage(
                "--dynamic: none stands alone — give batch, spatial, both, or none",
            ));
        }
        let open = |what: Open, usually: bool| match &self.dynamic {
            None => usually,
            Some(given) => given.contains(&what),
        };
        let batch = match (self.batch, open(Open::Batch, self.batch.is_none())) {
            (None, true) => None,
            (Some(batch), false) => Some(batch),
            (None, false) => Some(1),
            (Some(_), true) => return Err(both("--batch", "batch")),
        };
        let spatial = match (&self.input, open(Open::Spatial, false)) {
            (None, true) => None,
            (None, false) => Some(usual::input(architecture)),
            (Some(_), true) => return Err(both("--input", "spatial")),
            (Some(size), false) => {
                let axes = size.axes(architecture.config().spatial_dims, 1);
                Some(axes.map_err(|what| Failure::usage(format_args!("--input: {what}")))?)
            }
        };
        let usual = ExportOptions::default();
        Ok(ExportOptions {
            opset: self.opset.unwrap_or(DEFAULT_OPSET),
            batch,
            spatial,
            input_name: self.input_name.clone().unwrap_or(usual.input_name),
            output_name: self.output_name.clone(),
            softmax: self.softmax,
            fold: self.fold,
            f16: self.f16,
            model_version: self.model_version.unwrap_or(usual.model_version),
        })
    }
}

fn both(option: &str, open: &str) -> Failure {
    Failure::usage(format_args!(
        "{option}: fixes what --dynamic {open} leaves open — leave one of them out"
    ))
}

/// Whether a file is called like an ONNX file.
pub fn named(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"))
}

/// `input [batch, 3, 224, 224]`
pub fn input_shape(architecture: &Architecture, options: &ExportOptions) -> String {
    let config = architecture.config();
    let mut sizes = vec![
        options
            .batch
            .map_or("batch".to_string(), |batch| batch.to_string()),
        config.in_channels.to_string(),
    ];
    let names = ["depth", "height", "width"];
    for axis in 3 - config.spatial_dims..3 {
        sizes.push(match options.spatial {
            Some(spatial) => spatial[axis].to_string(),
            None => names[axis].to_string(),
        });
    }
    format!("{} [{}]", options.input_name, sizes.join(", "))
}
