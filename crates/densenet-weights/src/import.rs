//! From a weights file in any dialect to a model.

use std::{
    collections::{HashMap, HashSet},
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use densenet_spec::{Architecture, DenseNetConfig};

use crate::{
    ConfigFile, Mismatch, Model, RawWeights, StateDict, Tensor,
    dialect::{self, DIALECTS, Dialect, Part, Suffix, infer},
    error::{Problem, WeightsError, printable, unsupported},
    files, initialize, model, pth, safetensors,
};

/// How to read a weights file. The default recognises the dialect and changes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportOptions {
    /// The dialect's name; none to recognise it.
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
        Imported {
            model,
            dialect: "model",
            notes: Vec::new(),
        }
    } else {
        from_raw(raw, options)?
    };
    if let Some(input) = options.input {
        imported
            .notes
            .extend(change_input(&mut imported.model, input)?);
    }
    if let Some(head) = options.head {
        imported
            .notes
            .extend(replace_head(&mut imported.model, head)?);
    }
    imported.model.check()?;
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
    let dialect = match &options.dialect {
        Some(name) => dialect::dialect(name)?,
        None => recognise(&tensors)?,
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

/// Prefixes that PyTorch's wrappers leave in front of every name.
const WRAPPERS: &[(&str, &str)] = &[("module.", "DataParallel"), ("_orig_mod.", "torch.compile")];

/// Takes off a wrapper's prefix where every name has it.
fn unwrap_names(
    mut tensors: StateDict,
    mut counters: Vec<(String, i64)>,
    notes: &mut Vec<String>,
) -> (StateDict, Vec<(String, i64)>) {
    for (prefix, program) in WRAPPERS {
        if !tensors.is_empty() && tensors.names().all(|name| name.starts_with(prefix)) {
            let strip = |name: String| {
                name.strip_prefix(prefix)
                    .map(str::to_string)
                    .unwrap_or(name)
            };
            tensors = tensors
                .into_iter()
                .map(|(name, tensor)| (strip(name), tensor))
                .collect();
            counters = counters
                .into_iter()
                .map(|(name, count)| (strip(name), count))
                .collect();
            notes.push(format!("the prefix `{prefix}` of {program} was taken off"));
        }
    }
    (tensors, counters)
}

/// The dialect that explains the names best.
fn recognise(tensors: &StateDict) -> Result<&'static Dialect, WeightsError> {
    let understood = |dialect: &Dialect| {
        tensors
            .names()
            .filter(|name| dialect.parse(name).is_some())
            .count()
    };
    let counts: Vec<usize> = DIALECTS.iter().map(understood).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    if most * 2 < tensors.len().max(1) {
        let first: Vec<_> = tensors.names().take(3).map(printable).collect();
        let names: Vec<_> = DIALECTS.iter().map(|d| d.name).collect();
        return Err(Problem::Unrecognised(format!(
            "its {} tensors ({}, …) are named as in none of the known dialects — known are {}",
            tensors.len(),
            first.join(", "),
            names.join(", ")
        ))
        .into());
    }
    let candidates = || {
        DIALECTS
            .iter()
            .zip(&counts)
            .filter(|(_, count)| **count == most)
            .map(|(d, _)| d)
    };
    let stem = |dialect: &Dialect| {
        let name = dialect.format(Part::StemConv, Suffix::Weight)?;
        let shape = &tensors.get(&name)?.shape;
        Some((shape.len().checked_sub(2)?, *shape.get(1)?))
    };
    let suits = |dialect: &&Dialect| {
        stem(dialect).is_some_and(|(dims, channels)| dialect.suits(dims, channels))
    };
    candidates()
        .find(suits)
        .or_else(|| candidates().next())
        .ok_or_else(|| {
            Problem::Unrecognised("it holds no tensors — check the file".to_string()).into()
        })
}

/// Tensors sorted by what their names stand for in one dialect.
struct Named {
    dialect: &'static Dialect,
    known: HashMap<(Part, Suffix), Tensor>,
    counters: Vec<(Part, i64)>,
    strangers: Vec<String>,
}

impl Named {
    fn new(dialect: &'static Dialect, tensors: StateDict, counters: Vec<(String, i64)>) -> Self {
        let mut named = Named {
            dialect,
            known: HashMap::new(),
            counters: Vec::new(),
            strangers: Vec::new(),
        };
        for (name, tensor) in tensors {
            match dialect.parse(&name) {
                // A counter's name on floating-point numbers is no counter.
                Some((_, Suffix::Counter)) | None => named.strangers.push(name),
                Some(key) => {
                    // Names are unique and parsing is one-to-one, so nothing is replaced.
                    named.known.insert(key, tensor);
                }
            }
        }
        for (name, count) in counters {
            match dialect.parse(&name) {
                Some((part, Suffix::Counter)) => named.counters.push((part, count)),
                _ => named.strangers.push(name),
            }
        }
        named
    }

    fn shapes(&self) -> HashMap<(Part, Suffix), &[usize]> {
        self.known
            .iter()
            .map(|(key, tensor)| (*key, tensor.shape.as_slice()))
            .collect()
    }

    /// An inference error, with the dialect and the names it did not know.
    fn explain(&self, error: WeightsError) -> WeightsError {
        let Problem::Unrecognised(what) = &error.problem else {
            return error;
        };
        let strangers = match self.strangers.first() {
            Some(name) => format!(
                "; {} names such as `{}` are unknown to it",
                self.strangers.len(),
                printable(name)
            ),
            None => String::new(),
        };
        Problem::Unrecognised(format!("read as {}: {what}{strangers}", self.dialect.name)).into()
    }

    fn remarks(&self, config: &DenseNetConfig, options: &ImportOptions) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.dialect.suits(config.spatial_dims, config.in_channels) {
            remarks.push(format!(
                "the names are those of {}, whose class is not {}-D with {} input channels",
                self.dialect.name, config.spatial_dims, config.in_channels
            ));
        }
        if options.config.stem.is_none() {
            remarks.extend(self.dialect.assumption(config));
        }
        if self.dialect.is_newest_first() && options.config.concat_order.is_none() {
            remarks.push(format!(
                "features are concatenated newest first, as {} does",
                self.dialect.name
            ));
        }
        remarks
    }

    /// The tensors in the architecture's order under torchvision's names, if they are exactly those it needs.
    fn into_state(
        mut self,
        architecture: &Architecture,
        notes: &mut Vec<String>,
    ) -> Result<(StateDict, u64), WeightsError> {
        let canonical = &DIALECTS[0];
        let mut state = StateDict::new();
        let mut norms = HashSet::new();
        for parameter in architecture.parameters() {
            if let Some(key) = canonical.parse(&parameter.name)
                && let Some(tensor) = self.known.remove(&key)
            {
                norms.insert(key.0);
                state.insert(parameter.name.clone(), tensor);
            }
        }
        let mut mismatch = Mismatch::between(architecture, &state);
        // Messages speak the file's language.
        let theirs = |name: &str| {
            let (part, suffix) = canonical.parse(name)?;
            self.dialect.format(part, suffix)
        };
        for name in &mut mismatch.missing {
            if let Some(theirs) = theirs(name) {
                *name = theirs;
            }
        }
        for misshaped in &mut mismatch.misshaped {
            if let Some(theirs) = theirs(&misshaped.name) {
                misshaped.name = theirs;
            }
        }
        let mut left: Vec<_> = self.known.keys().copied().collect();
        left.extend(
            self.counters
                .iter()
                .filter(|(part, _)| !norms.contains(part))
                .map(|(part, _)| (*part, Suffix::Counter)),
        );
        left.sort_unstable();
        mismatch.surplus.append(&mut self.strangers);
        mismatch.surplus.extend(
            left.into_iter()
                .filter_map(|(part, suffix)| self.dialect.format(part, suffix)),
        );
        if !mismatch.is_empty() {
            return Err(Problem::Mismatch(Box::new(mismatch)).into());
        }
        let counts = || {
            self.counters
                .iter()
                .map(|(_, count)| u64::try_from(*count).unwrap_or(0))
        };
        let steps = counts().max().unwrap_or(0);
        if counts().any(|count| count != steps) {
            notes.push(format!(
                "step counters (num_batches_tracked) differ; the largest, {steps}, stands for all"
            ));
        }
        Ok((state, steps))
    }
}

/// Makes the first convolution read another number of channels.
fn change_input(model: &mut Model, input: NewInput) -> Result<Option<String>, WeightsError> {
    const STEM: &str = "features.conv0.weight";
    let (old, new) = (model.config.in_channels, input.in_channels);
    if old == new {
        return Ok(None);
    }
    if input.change == InputChange::Sum && new != 1 {
        return Err(Problem::Usage {
            option: "in_channels",
            what: format!("the sum over channels makes 1 channel, not {new}"),
            cure: "choose `repeat` or `mean`".to_string(),
        }
        .into());
    }
    let config = DenseNetConfig {
        in_channels: new,
        ..model.config.clone()
    };
    config.validate().map_err(config_option)?;
    let Some(weight) = model.state.get_mut(STEM) else {
        return Ok(None);
    };
    // [c_out, c_in, kernel…]
    let kernel: usize = weight.shape[2..].iter().product();
    let mut data = Vec::with_capacity(weight.len() / old * new);
    for filter in weight.data.chunks_exact(old * kernel) {
        let sum = |k: usize| {
            filter
                .iter()
                .skip(k)
                .step_by(kernel)
                .map(|&w| f64::from(w))
                .sum::<f64>()
        };
        for channel in 0..new {
            match input.change {
                InputChange::Sum => data.extend((0..kernel).map(|k| sum(k) as f32)),
                InputChange::Mean => data.extend((0..kernel).map(|k| (sum(k) / old as f64) as f32)),
                InputChange::Repeat => {
                    let scale = old as f32 / new as f32;
                    let start = channel % old * kernel;
                    data.extend(filter[start..start + kernel].iter().map(|w| w * scale));
                }
            }
        }
    }
    weight.shape[1] = new;
    weight.data = data;
    model.config = config;
    // Means and deviations of the old channels no longer apply.
    model.preprocessing = None;
    Ok(Some(format!(
        "the first convolution was changed from {old} to {new} input channels ({})",
        input.change.name()
    )))
}

/// Puts a fresh classifier in place of the old one.
fn replace_head(model: &mut Model, head: NewHead) -> Result<Option<String>, WeightsError> {
    let old = model.config.num_classes;
    let config = DenseNetConfig {
        num_classes: head.num_classes,
        ..model.config.clone()
    };
    config.validate().map_err(config_option)?;
    let architecture = Architecture::new(&config).map_err(config_option)?;
    for parameter in architecture.parameters() {
        if parameter.name.starts_with("classifier.") {
            let fresh = initialize::parameter(parameter, head.seed, initialize::InitMode::FanIn);
            model.state.insert(parameter.name.clone(), fresh);
        }
    }
    model.config = config;
    model.classes = None;
    Ok(Some(format!(
        "the classifier for {old} classes was replaced by a fresh one for {}",
        head.num_classes
    )))
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
