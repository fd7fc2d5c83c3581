//! `densenet import`: somebody's weights into a model file.

mod onnx;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use densenet_data::Preprocessing;
use densenet_spec::{Architecture, DenseNetConfig, Stem};
use densenet_weights::{
    ConfigFile, DIALECTS, ImportOptions, Imported, Inflation, InputChange, Model, NewHead,
    NewInput, import,
};

use super::wrote;
use crate::{
    failure::{DATA, Failure},
    options::config::ConfigOptions,
    output,
};

/// Turn a weights file of PyTorch, torchvision, MONAI, timm … or an ONNX file into a model file
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct Import {
    /// The weights: .pth, .pt, .safetensors or .onnx
    weights: PathBuf,
    /// The model file to write
    #[arg(short, long, value_name = "MODEL")]
    output: PathBuf,
    /// Whose names the tensors have; auto recognises it
    #[arg(long, value_name = "auto|NAME", default_value = "auto")]
    dialect: String,
    /// With --in-channels: how the first convolution's weights follow from the old ones: sum, mean or repeat
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    adapt_input: Option<Change>,
    /// Make a network for volumes out of one for images: kernels repeated along the depth and divided by it (mean), or in the
    /// middle plane (center)
    #[arg(
        long,
        value_enum,
        value_name = "mean|center",
        hide_possible_values = true
    )]
    inflate: Option<Inflate>,
    /// With --num-classes: seed of the fresh classifier
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Names of the classes, one a line, in the order of the logits
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// How images are prepared: imagenet, none, or a JSON file [default: imagenet for a network with ImageNet's shape]
    #[arg(long, value_name = "HOW")]
    preprocessing: Option<String>,
    #[command(flatten)]
    config: ConfigOptions,
}

/// [`InputChange`]'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Change {
    Sum,
    Mean,
    Repeat,
}

/// [`Inflation`]'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Inflate {
    Mean,
    Center,
}

fn after_help() -> String {
    let mut dialects = String::new();
    for dialect in DIALECTS {
        dialects.push_str(&format!("  {:<20} {}\n", dialect.name, dialect.about));
    }
    format!(
        "Dialects:
{dialects}
The network is inferred from names and shapes. The options below `Network` set what shapes cannot tell (stride and pool \
of the stem, the norms' constants, dropout); --num-classes replaces the classifier by a fresh one, --in-channels with \
--adapt-input changes the first convolution. Reading runs no code, whatever the file asks for.

An ONNX file is one that `densenet export` wrote, or PyTorch of a torchvision or MONAI DenseNet. Its graph says which \
network it is, so of the other options only --drop-rate and --bn-momentum can change it.

Examples:
  densenet import densenet121-a639ec97.pth -o densenet121.safetensors --classes imagenet.txt
  densenet import densenet121.pth --num-classes 5 -o start.safetensors
  densenet import resnet-style.pth --stem-pool false --stem-stride 1x2x2 -o volume.safetensors
  densenet import rgb.pth --in-channels 1 --adapt-input sum -o grey.safetensors
  densenet import densenet121.pth --inflate mean --in-channels 1 --adapt-input sum --num-classes 2 -o scans.safetensors
  densenet import exported.onnx --num-classes 5 -o start.safetensors"
    )
}

impl Import {
    /// Reads the weights, checks them strictly, writes the model file.
    ///
    /// # Errors
    /// Whatever is wrong with the weights or the options.
    pub fn run(self) -> Result<(), Failure> {
        let (mut model, origin, mut notes) = if onnx::is_onnx(&self.weights) {
            self.read_onnx()?
        } else {
            let imported = self.read()?;
            (imported.model, imported.dialect.to_string(), imported.notes)
        };
        if let Some(how) = self.inflate {
            let inflation = match how {
                Inflate::Mean => Inflation::Mean,
                Inflate::Center => Inflation::Center,
            };
            notes.extend(model.inflate(inflation)?);
        }
        output::note(&format!("{}: read as {origin}", self.weights.display()));
        for note in notes {
            output::note(&format!("note: {note}"));
        }
        self.describe_input(&mut model)?;
        if let Some(path) = &self.classes {
            model.classes = Some(class_names(path, model.config.num_classes)?);
        }
        model.save(&self.output)?;
        wrote(&self.output, &Architecture::new(&model.config)?);
        Ok(())
    }

    /// Reads the file as it is, and once more if the options ask for another network than is inferred.
    fn read(&self) -> Result<Imported, Failure> {
        let mut options = ImportOptions {
            dialect: (self.dialect != "auto").then(|| self.dialect.clone()),
            ..ImportOptions::default()
        };
        let imported = import(&self.weights, &options)?;
        let inferred = &imported.model.config;
        options.config = self.config.changes(inferred)?;
        // These two change tensors, not how they are read.
        options.config.num_classes = None;
        options.config.in_channels = None;
        options.head = self.new_head(inferred);
        options.input = self.new_input(inferred)?;
        let as_it_is = options.config == ConfigFile::default()
            && options.head.is_none()
            && options.input.is_none();
        if as_it_is {
            return Ok(imported);
        }
        drop(imported);
        Ok(import(&self.weights, &options)?)
    }

    fn new_head(&self, inferred: &DenseNetConfig) -> Option<NewHead> {
        let num_classes = self.config.num_classes?;
        (num_classes != inferred.num_classes).then_some(NewHead {
            num_classes,
            seed: self.seed,
        })
    }

    fn new_input(&self, inferred: &DenseNetConfig) -> Result<Option<NewInput>, Failure> {
        let Some(in_channels) = self.config.in_channels else {
            return match self.adapt_input {
                None => Ok(None),
                Some(_) => Err(Failure::usage(
                    "--adapt-input: needs the new number of channels — add --in-channels N",
                )),
            };
        };
        if in_channels == inferred.in_channels {
            return Ok(None);
        }
        let change = match self.adapt_input {
            Some(Change::Sum) => InputChange::Sum,
            Some(Change::Mean) => InputChange::Mean,
            Some(Change::Repeat) => InputChange::Repeat,
            None => {
                return Err(Failure::usage(format_args!(
                    "--in-channels {in_channels}: the weights are for {} channels — add --adapt-input sum, mean or repeat",
                    inferred.in_channels
                )));
            }
        };
        Ok(Some(NewInput {
            in_channels,
            change,
        }))
    }

    /// Says in the model file how images are prepared.
    fn describe_input(&self, model: &mut Model) -> Result<(), Failure> {
        let preprocessing = match self.preprocessing.as_deref() {
            Some("none") => None,
            Some("imagenet") => Some(Preprocessing::imagenet()),
            Some(path) => Some(read_preprocessing(Path::new(path))?),
            None if model.preprocessing.is_some() => return Ok(()),
            None if has_imagenet_shape(&model.config) => {
                output::note(
                    "note: images are prepared as for ImageNet (shorter side 256, crop 224, its mean and std); \
                     --preprocessing says otherwise",
                );
                Some(Preprocessing::imagenet())
            }
            None if model.config.spatial_dims == 2 => {
                output::note(
                    "note: the weights do not say how images are prepared; `predict` needs --preprocessing",
                );
                None
            }
            None => None,
        };
        if let Some(preprocessing) = &preprocessing
            && preprocessing.channels != model.config.in_channels
        {
            return Err(Failure::usage(format_args!(
                "--preprocessing: prepares {} channels, but the network takes {} — give a JSON file with as many",
                preprocessing.channels, model.config.in_channels
            )));
        }
        if self.inflate.is_some() {
            match &preprocessing {
                None => output::note(
                    "note: the model does not say how volumes are prepared; `predict` needs --preprocessing FILE.json",
                ),
                Some(steps) if steps.volume.is_none() => {
                    return Err(Failure::usage(
                        "--preprocessing: the steps are for images, and the network is for volumes — give a JSON file with steps of volumes, as in docs/volumes.md",
                    ));
                }
                Some(_) => {}
            }
        }
        model.preprocessing = preprocessing.map(|p| p.to_value());
        Ok(())
    }
}

/// Whether the network reads photographs the way ImageNet's networks do.
fn has_imagenet_shape(config: &DenseNetConfig) -> bool {
    config.spatial_dims == 2 && config.in_channels == 3 && config.stem == Stem::imagenet(2)
}

fn read_preprocessing(path: &Path) -> Result<Preprocessing, Failure> {
    let text = read_text(path)?;
    let value = serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format_args!(
            "{}: no JSON: {error} — give imagenet, none, or a JSON file as in docs/data.md",
            path.display()
        ))
    })?;
    Preprocessing::from_value(&value)
        .map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
}

/// One name a line; blank lines at the end do not count.
fn class_names(path: &Path, num_classes: usize) -> Result<Vec<String>, Failure> {
    let text = read_text(path)?;
    let names: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| line.trim().to_string())
        .collect();
    if names.len() != num_classes {
        return Err(Failure::new(
            DATA,
            format_args!(
                "{}: {} names, but the network has {num_classes} classes — give one name a line, in the order of the logits",
                path.display(),
                names.len()
            ),
        ));
    }
    Ok(names)
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let error = densenet_data::DataError::io(path, &error);
        Failure::from(error)
    })
}
