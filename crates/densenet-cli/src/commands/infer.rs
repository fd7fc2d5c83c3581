//! `densenet infer`: raw tensors in, raw tensors out.

pub(super) mod layout;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use densenet::{Input, Predictor};
use densenet_data::npy;
use densenet_spec::{Architecture, Named, Op};
use densenet_weights::atomic;

use crate::{
    failure::{DATA, Failure, NON_FINITE},
    options::{
        model,
        run::{Dtype, RunOptions},
    },
    output,
};

/// Run a network on raw numbers from a .npy file
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Infer {
    /// The model file
    model: PathBuf,
    /// What goes in: a .npy array, batch × channels × [depth ×] height × width, already normalised
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Where the logits go: batch × classes
    #[arg(long, value_name = "Y.npy")]
    output: PathBuf,
    /// Also write what a layer or stage puts out; can be given again
    #[arg(long, value_name = "LAYER=FILE.npy")]
    tap: Vec<Tap>,
    /// Numbers to compute with
    #[arg(long, value_enum, default_value_t = Dtype::F32, value_name = "f32|bf16", hide_possible_values = true)]
    dtype: Dtype,
    #[command(flatten)]
    run: RunOptions,
}

const AFTER_HELP: &str = "\
Nothing is resized or normalised; `densenet predict` does that. Layers have torchvision's names, with or without \
`features.`; stages are stem, denseblock1, transition1, …, norm5. `densenet summary MODEL --depth layers` lists them.

Examples:
  densenet infer model.safetensors --input x.npy --output logits.npy
  densenet infer model.safetensors --input x.npy --output logits.npy \\
      --tap denseblock2=pyramid.npy --tap features.conv0=edges.npy";

/// `LAYER=FILE.npy`
#[derive(Debug, Clone)]
struct Tap {
    layer: String,
    file: PathBuf,
}

impl FromStr for Tap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((layer, file)) if !layer.is_empty() && !file.is_empty() => Ok(Tap {
                layer: layer.to_string(),
                file: file.into(),
            }),
            _ => Err("not LAYER=FILE — write it like denseblock2=features.npy".to_string()),
        }
    }
}

impl Infer {
    /// Reads, computes, writes.
    ///
    /// # Errors
    /// Files that cannot be read or written, an input that does not fit the network, an unknown layer, results that
    /// are not finite.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        let model = model::open(&self.model)?;
        let config = model.config().clone();
        let architecture = Architecture::new(&config)?;
        let flat = self
            .tap
            .iter()
            .map(|tap| is_flat(&architecture, &tap.layer))
            .collect::<Result<Vec<bool>, _>>()?;
        let array = npy::read(&self.input)?;
        let place =
            |what: String| Failure::new(DATA, format_args!("{}: {what}", self.input.display()));
        let input = layout::from_array(&array, &config).map_err(place)?;
        drop(array);
        architecture
            .trace(input.spatial)
            .map_err(|error| place(format!("{} — give a larger one", error.reason)))?;
        self.finite("a number of the input", &input.data)?;
        let layers: Vec<&str> = self.tap.iter().map(|tap| tap.layer.as_str()).collect();
        let input = Input {
            data: &input.data,
            batch: input.batch,
            spatial: input.spatial,
        };
        let options = self.dtype.options()?;
        let result = Predictor::run_once(&config, model, &options, input, &layers)?;
        self.finite("a logit", &result.logits)?;
        for ((tap, feature), flat) in self.tap.iter().zip(&result.taps).zip(flat) {
            let mut array = layout::to_array(feature.shape, &feature.data, &config);
            if flat {
                array.shape.truncate(2);
            }
            write(&tap.file, &array.shape, &array.data)?;
        }
        write(
            &self.output,
            &[input.batch, config.num_classes],
            &result.logits,
        )
    }

    fn finite(&self, what: &str, numbers: &[f32]) -> Result<(), Failure> {
        match numbers.iter().position(|number| !number.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Failure::new(
                NON_FINITE,
                format_args!(
                    "{}: {what} is {} (number {index}) — check how the input was made",
                    self.input.display(),
                    numbers[index],
                ),
            )),
        }
    }
}

/// Whether a layer's output has no space left: from the global pooling on it is batch × channels.
fn is_flat(architecture: &Architecture, name: &str) -> Result<bool, Failure> {
    let layer = match architecture.resolve(name)? {
        Named::Stage(stage) => architecture.stage_output(stage),
        Named::Layer(layer) => layer,
    };
    let pooled = |op: &Op| matches!(op, Op::GlobalAvgPool | Op::Linear);
    Ok(architecture
        .layers()
        .get(layer)
        .is_some_and(|layer| pooled(&layer.op)))
}

fn write(path: &Path, shape: &[usize], data: &[f32]) -> Result<(), Failure> {
    let bytes = npy::to_bytes(shape, data)?;
    atomic::write(path, |out| out.write_all(&bytes))?;
    output::note(&format!(
        "wrote {}: {}",
        path.display(),
        output::shape(shape)
    ));
    Ok(())
}
