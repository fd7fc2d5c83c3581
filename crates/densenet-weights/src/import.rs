//! From a weights file in any dialect to a model.

mod adapt;
mod inflate;
mod named;

use std::{
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use densenet_spec::Architecture;

use crate::{
    ConfigFile, Model, RawWeights,
    dialect::{self, infer},
    error::{Problem, WeightsError, printable, unsupported},
    files, model, pth, safetensors,
};
pub use inflate::Inflation;
use named::{Named, recognise, unwrap_names};

/// How to read a weights file. The default recognises the dialect and changes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportOptions {
    /// The dialect's name; none or `auto` to recognise it.
    pub dialect: Option<String>,
    /// Fields that override what was inferred: what shapes cannot tell (the stem's stride and pool, eps, momentum, order of
    /// concatenation, dropout). A field that contradicts the tensors is an error.
    pub config: ConfigFile,
    /// Replace the classifier by a fresh one.
    pub head: Option<NewHead>,
    /// Change the first convolution to read another number of channels.
    pub input: Option<NewInput>,
}

/// A fresh classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewHead {
    /// Its number of classes.
    pub num_classes: usize,
    /// Seed of its weights (see [`crate::initialize`]).
    pub seed: u64,
}

/// A first convolution for another number of input channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewInput {
    /// Its number of input channels.
    pub in_channels: usize,
    /// How its weights follow from the old ones.
    pub change: InputChange,
}

/// How the first convolution's weights follow from those for another number of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputChange {
    /// One channel gets the sum over the old ones: grey images give what they gave as grey RGB.
    Sum,
    /// Every new channel gets the mean over the old ones.
    Mean,
    /// Old channels in turn, scaled by old/new so that the response keeps its size.
    Repeat,
}

impl InputChange {
    /// The name on the command line: `sum`, `mean` or `repeat`.
    pub fn name(self) -> &'static str {
        match self {
            InputChange::Sum => "sum",
            InputChange::Mean => "mean",
            InputChange::Repeat => "repeat",
        }
    }

    /// The change called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [InputChange::Sum, InputChange::Mean, InputChange::Repeat]
            .into_iter()
            .find(|change| change.name() == name)
    }
}

/// A model read from a weights file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The model.
    pub model: Model,
    /// The dialect it was stored in; `model` for one of our own model files.
    pub dialect: &'static str,
    /// What was converted, unwrapped, assumed or replaced, one sentence each.
    pub notes: Vec<String>,
}

/// Reads the weights at `path` (`.pth`, `.pt` or `.safetensors`; the content decides, not the ending).
///
/// The network is inferred from names and shapes; then every tensor must be there, none may be left over and every shape
/// must fit.
///
/// # Errors
/// Whatever is wrong with the file, with its path; `Problem::Usage` for options that cannot be carried out.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported, WeightsError> {
    let raw = read_weights(path)?;
    let mut imported = finish(raw, options).map_err(|error| match error.problem {
        Problem::Usage { .. } => error,
        _ => error.at(path),
    })?;
    if imported.dialect != "model"
        && let Some(provenance) = &mut imported.model.provenance
    {
        provenance["imported_from"] = path.file_name().map(|name| name.to_string_lossy()).into();
    }
    Ok(imported)
}

/// Reads `length` bytes of weights from `reader`; otherwise as [`import`].
///
/// # Errors
/// As [`import`], without a path.
pub fn import_from<R: Read + Seek>(
    reader: &mut R,
    length: u64,
    options: &ImportOptions,
) -> Result<Imported, WeightsError> {
    finish(read_weights_from(reader, length)?, options)
}

/// From tensors under the file's names to a model.
fn finish(raw: RawWeights, options: &ImportOptions) -> Result<Imported, WeightsError> {
    let mut imported = if model::is_model(&raw) {
        let mut model = Model::from_raw(raw)?;
        model.config = options.config.over(&model.config).map_err(config_option)?;
        model.check()?;
        let unused = options
            .dialect
            .as_deref()
            .filter(|name| *name != "auto")
            .map(|dialect| {
                format!(
                    "the dialect `{}` was not needed: a model file knows its own names",
                    printable(dialect)
                )
            });
        Imported {
            model,
            dialect: "model",
            notes: unused.into_iter().collect(),
        }
    } else {
        from_raw(raw, options)?
    };
    let changes = imported.model.adapt(options.input, options.head)?;
    imported.notes.extend(changes);
    if imported.dialect != "model" {
        imported.model.provenance = Some(serde_json::json!({
            "imported_from": null,
            "dialect": imported.dialect,
            "notes": imported.notes,
        }));
    }
    Ok(imported)
}

/// Reads the tensors of a weights file under the file's own names; the content decides about the format.
///
/// # Errors
/// Whatever is wrong with the file, with its path.
pub fn read_weights(path: &Path) -> Result<RawWeights, WeightsError> {
    let (file, length) = files::open(path)?;
    let mut reader = BufReader::new(file);
    // An ending says what a file that starts like neither format was meant to be.
    let named_safetensors = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    read_as(&mut reader, length, named_safetensors).map_err(|error| error.at(path))
}

/// Reads `length` bytes of weights from `reader` under the file's own names.
///
/// # Errors
/// As [`read_weights`], without a path.
pub fn read_weights_from<R: Read + Seek>(
    reader: &mut R,
    length: u64,
) -> Result<RawWeights, WeightsError> {
    read_as(reader, length, false)
}

fn read_as<R: Read + Seek>(
    reader: &mut R,
    length: u64,
    named_safetensors: bool,
) -> Result<RawWeights, WeightsError> {
    let reading = |cause| {
        WeightsError::from(Problem::Io {
            action: "read",
            cause,
        })
    };
    let mut start = Vec::new();
    reader
        .by_ref()
        .take(9)
        .read_to_end(&mut start)
        .map_err(reading)?;
    reader.seek(SeekFrom::Start(0)).map_err(reading)?;
    // A safetensors file is eight bytes of length, then `{`; a zip archive and an old pickle have other bytes there.
    let pth = start.starts_with(b"PK") || start.first() == Some(&0x80);
    if start.get(8) == Some(&b'{') || (named_safetensors && !pth) {
        safetensors::read_from(reader, length)
    } else {
        pth::read_from(reader, length)
    }
}

/// Recognises the dialect of `raw`, infers the network and puts the tensors under torchvision's names.
fn from_raw(raw: RawWeights, options: &ImportOptions) -> Result<Imported, WeightsError> {
    let RawWeights {
        tensors,
        counters,
        mut notes,
        ..
    } = raw;
    let (tensors, counters) = unwrap_names(tensors, counters, &mut notes);
    if tensors.contains("features.conv0.weight") && tensors.contains("features.conv1.weight") {
        return Err(unsupported(
            "its stem is timm's deep stem (three 3×3 convolutions), which this program does not have",
            "use a timm DenseNet with the default stem, such as densenet121",
        ));
    }
    let dialect = match options.dialect.as_deref() {
        None | Some("auto") => recognise(&tensors)?,
        Some(name) => dialect::dialect(name)?,
    };
    let named = Named::new(dialect, tensors, counters);
    let shapes = named.shapes();
    let inferred = infer::infer(dialect, &shapes).map_err(|error| named.explain(error))?;
    drop(shapes);
    notes.extend(named.remarks(&inferred, options));
    let config = options.config.over(&inferred).map_err(config_option)?;
    let architecture = Architecture::new(&config).map_err(Problem::Config)?;
    let (state, num_batches_tracked) = named.into_state(&architecture, &mut notes)?;
    let mut model = Model::new(config, state)?;
    model.num_batches_tracked = num_batches_tracked;
    Ok(Imported {
        model,
        dialect: dialect.name,
        notes,
    })
}

/// A configuration error that comes from an option, not from the file.
fn config_option(error: densenet_spec::ConfigError) -> WeightsError {
    Problem::Usage {
        option: error.field,
        what: format!("{} does not work", error.value),
        cure: error.reason,
    }
    .into()
}
