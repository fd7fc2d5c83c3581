//! `densenet summary`: what a network looks like and what it costs.

mod document;
mod text;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use densenet::memory::{self, Memory};
use densenet_spec::{Architecture, DenseNetConfig, Trace};
use densenet_view::picture;
use densenet_weights::atomic;

use crate::{
    failure::Failure,
    options::{
        config::ConfigOptions,
        model::{self, Source},
        number::positive,
        size::Size,
        usual,
    },
    output,
};

/// Show a network: layers, output shapes, parameters, multiply-adds, memory
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct Summary {
    /// A preset's name or a model file
    #[arg(value_name = "PRESET|MODEL")]
    model: String,
    /// Size of the input, like 224, 224x192 or 96x96x64 [default: 224; 96 in 3-D; 32 for the small stem]
    #[arg(long, value_name = "SIZE")]
    input: Option<Size>,
    /// Samples in a batch, for the shapes and the memory
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    batch: usize,
    /// How far to unfold: stages, dense (each dense layer) or layers (each operation)
    #[arg(long, value_enum, default_value_t = Depth::Stages, value_name = "DEPTH", hide_possible_values = true)]
    depth: Depth,
    /// The same as --depth layers
    #[arg(long, conflicts_with = "depth")]
    full: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Draw the network into an SVG file instead, for papers and READMEs
    #[arg(long, value_name = "FILE.svg", conflicts_with_all = ["json", "depth", "full", "batch"])]
    graph: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOptions,
}

fn after_help() -> String {
    format!(
        "{}
Examples:
  densenet summary densenet121
  densenet summary densenet121 --dims 3 --num-classes 2 --input 96x96x64
  densenet summary densenet121 --growth-rate 16 --block-config 4,4,4 --depth dense
  densenet summary model.safetensors --json
  densenet summary densenet121 --graph densenet121.svg",
        model::preset_list()
    )
}

/// How far the table unfolds the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, ValueEnum)]
pub enum Depth {
    Stages,
    Dense,
    Layers,
}

/// Everything there is to say about one network and one input size.
pub struct Facts {
    name: String,
    architecture: Architecture,
    trace: Trace,
    batch: usize,
    memory: Memory,
}

impl Summary {
    /// Prints the table or the document, or draws the picture.
    ///
    /// # Errors
    /// An unknown preset, a broken model file, a configuration or an input size that cannot work, a picture
    /// that cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        let (name, config) = self.network()?;
        let architecture = Architecture::new(&config)?;
        let dims = config.spatial_dims;
        let spatial = match &self.input {
            Some(size) => size
                .axes(dims, 1)
                .map_err(|what| Failure::usage(format_args!("--input: {what}")))?,
            None => usual::input(&architecture),
        };
        usual::within_limits(spatial, self.batch)?;
        if let Some(path) = &self.graph {
            if path
                .extension()
                .is_some_and(|e| !e.eq_ignore_ascii_case("svg"))
            {
                return Err(Failure::usage(format_args!(
                    "--graph: {} is no name of an SVG file — end it with .svg; browsers and Inkscape turn it into others",
                    path.display()
                )));
            }
            let svg = picture::svg(&name, &architecture, spatial)?;
            atomic::write(path, |out| out.write_all(svg.as_bytes()))?;
            output::note(&format!("wrote {}", path.display()));
            return Ok(());
        }
        let facts = Facts {
            memory: memory::estimate(&architecture, spatial, self.batch)?,
            trace: architecture.trace(spatial)?,
            name,
            architecture,
            batch: self.batch,
        };
        if self.json {
            return output::print_json(&facts.document());
        }
        let depth = if self.full { Depth::Layers } else { self.depth };
        output::print(&facts.text(depth, output::width()))
    }

    fn network(&self) -> Result<(String, DenseNetConfig), Failure> {
        match Source::find(&self.model)? {
            Source::Preset(preset) => {
                Ok((preset.name.to_string(), self.config.configure(&preset)?))
            }
            Source::File(path) => {
                self.config.refuse(&path)?;
                let name = path.file_stem().unwrap_or_default();
                let name = name.to_string_lossy().into_owned();
                Ok((name, model::load(&path)?.config))
            }
        }
    }
}

impl Facts {
    fn dims(&self) -> usize {
        self.architecture.config().spatial_dims
    }

    /// `[channels, (depth,) height, width]`
    fn sample_shape(&self, channels: usize, spatial: [usize; 3]) -> Vec<usize> {
        [&[channels], &spatial[3 - self.dims()..]].concat()
    }

    /// `[channels, (depth,) height, width]` of the input.
    fn input_shape(&self) -> Vec<usize> {
        self.sample_shape(self.architecture.config().in_channels, self.trace.input)
    }

    /// The output of the layer with this index: `[channels, …]`, flat from the global pooling on.
    fn layer_output(&self, layer: usize) -> Vec<usize> {
        let shape = &self.trace.layers[layer];
        if layer + 2 >= self.trace.layers.len() {
            return vec![shape.channels];
        }
        self.sample_shape(shape.channels, shape.spatial)
    }

    /// Learned parameters of the layer with this index.
    fn layer_parameters(&self, layer: usize) -> u64 {
        let tensors =
            &self.architecture.parameters()[self.architecture.layers()[layer].parameters.clone()];
        tensors
            .iter()
            .filter(|p| p.kind.is_learned())
            .map(|p| p.len() as u64)
            .sum()
    }
}
