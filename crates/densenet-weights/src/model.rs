//! The model file: tensors, configuration, classes, preprocessing and provenance in one `.safetensors`.

mod open;

use std::{collections::BTreeMap, io::Read, path::Path};

use densenet_spec::{Architecture, DenseNetConfig, Op};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    ConfigFile, RawWeights, StateDict, atomic,
    error::{Format, Problem, WeightsError, malformed, unsupported},
    files,
    mismatch::Mismatch,
    raw::{COUNTER, Item},
    safetensors,
};

pub use open::OpenModel;

/// A network with everything needed to run it.
///
/// # Layout
/// Tensors stand under torchvision's paths with PyTorch's shapes, `num_batches_tracked` included, so that PyTorch
/// loads the file as it is. The metadata entry `densenet` holds one JSON document: `format_version`, `config`,
/// `num_batches_tracked`, `classes`, `preprocessing`, `provenance`. `densenet.sha256` is the SHA-256 of that document and
/// of every tensor's name, shape and bytes: a file that changed on disk is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Which network it is.
    pub config: DenseNetConfig,
    /// Its weights and running statistics, in the architecture's order.
    pub state: StateDict,
    /// Names of the classes in the order of the logits.
    pub classes: Option<Vec<String>>,
    /// How inputs are prepared, as the data room writes it.
    pub preprocessing: Option<Value>,
    /// Where the weights come from.
    pub provenance: Option<Value>,
    /// Training steps the running statistics have seen (PyTorch keeps one equal count per batch norm).
    pub num_batches_tracked: u64,
}

/// Version of the document in the metadata.
const FORMAT_VERSION: u64 = 1;
const DOCUMENT: &str = "densenet";
const DIGEST: &str = "densenet.sha256";

/// The JSON document in the metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format_version: u64,
    config: ConfigFile,
    num_batches_tracked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preprocessing: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<Value>,
}

impl Model {
    /// A model of these weights alone.
    ///
    /// # Errors
    /// As [`Model::check`].
    pub fn new(config: DenseNetConfig, state: StateDict) -> Result<Self, WeightsError> {
        let model = Model {
            config,
            state,
            classes: None,
            preprocessing: None,
            provenance: None,
            num_batches_tracked: 0,
        };
        model.check()?;
        Ok(model)
    }

    /// Checks that configuration, tensors and class names belong together and every weight is finite.
    ///
    /// # Errors
    /// `Problem::Config`, `Problem::Mismatch`, `Problem::NonFinite`, or `Problem::Malformed` where the number of class
    /// names is not `num_classes`.
    pub fn check(&self) -> Result<Architecture, WeightsError> {
        self.check_by(Mismatch::between)
    }

    /// [`Model::check`], with a way to compare tensors.
    fn check_by(
        &self,
        compare: fn(&Architecture, &StateDict) -> Mismatch,
    ) -> Result<Architecture, WeightsError> {
        let architecture = Architecture::new(&self.config).map_err(Problem::Config)?;
        let mismatch = compare(&architecture, &self.state);
        if !mismatch.is_empty() {
            return Err(Problem::Mismatch(Box::new(mismatch)).into());
        }
        if let Some(classes) = &self.classes
            && classes.len() != self.config.num_classes
        {
            return Err(malformed(
                Format::Model,
                format!(
                    "{} class names for {} classes",
                    classes.len(),
                    self.config.num_classes
                ),
            ));
        }
        self.state.check_finite()?;
        Ok(architecture)
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// Whatever is wrong with the file, with its path: see [`Model::check`] for what is verified.
    pub fn load(path: &Path) -> Result<Self, WeightsError> {
        let (file, length) = files::open(path)?;
        Model::read_from(&mut std::io::BufReader::new(file), length).map_err(|error| error.at(path))
    }

    /// Reads a model file of `length` bytes.
    ///
    /// # Errors
    /// As [`Model::load`], without a path.
    pub fn read_from(reader: &mut impl Read, length: u64) -> Result<Self, WeightsError> {
        Model::from_raw(safetensors::read_from(reader, length)?)
    }

    /// A model file's content, verified.
    pub(crate) fn from_raw(raw: RawWeights) -> Result<Self, WeightsError> {
        let (text, mut model) = Model::described(&raw.metadata, raw.tensors.len())?;
        let stored_digest = raw.metadata.get(DIGEST).cloned();
        model.state = raw.tensors;
        let architecture = model.check()?;
        model.state = in_order(&architecture, model.state);
        model.check_counters(&architecture, &raw.counters)?;
        let mut digest = ModelDigest::new(&text);
        for (name, item) in model.items(&architecture) {
            digest.add(&name, &item);
        }
        digest.check(stored_digest.as_deref())?;
        Ok(model)
    }

    /// The document in a file's metadata, and the model that it describes, as yet without weights. `tensors` is how many
    /// the file holds.
    fn described(
        metadata: &BTreeMap<String, String>,
        tensors: usize,
    ) -> Result<(String, Self), WeightsError> {
        let Some(text) = metadata.get(DOCUMENT) else {
            return Err(unsupported(
                "it holds tensors but no DenseNet configuration",
                "turn it into a model with `densenet import FILE -o MODEL`",
            ));
        };
        let document = Document::parse(text)?;
        let config = document.config.complete().map_err(Problem::Config)?;
        // Spelling out a network costs memory; one that the file cannot possibly hold is not spelled out.
        let layers: usize = config.block_config.iter().sum();
        if layers > tensors {
            return Err(malformed(
                Format::Model,
                format!("its configuration has {layers} dense layers, its tensors are {tensors}"),
            ));
        }
        let model = Model {
            config,
            state: StateDict::new(),
            classes: document.classes,
            preprocessing: document.preprocessing,
            provenance: document.provenance,
            num_batches_tracked: document.num_batches_tracked,
        };
        Ok((text.clone(), model))
    }

    /// Writes the model file at `path`, atomically ([`atomic::write`]).
    ///
    /// # Errors
    /// As [`Model::check`] (a NaN never reaches the disk), or what the system reports.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let architecture = self.check().map_err(|error| error.at(path))?;
        let items = self.items(&architecture);
        let document = Document {
            format_version: FORMAT_VERSION,
            config: ConfigFile::from(&self.config),
            num_batches_tracked: self.num_batches_tracked,
            classes: self.classes.clone(),
            preprocessing: self.preprocessing.clone(),
            provenance: self.provenance.clone(),
        };
        let text = serde_json::to_string(&document)
            .map_err(|error| malformed(Format::Model, error.to_string()).at(path))?;
        let mut digest = ModelDigest::new(&text);
        for (name, item) in &items {
            digest.add(name, item);
        }
        let metadata = [
            ("format", "pt".to_string()),
            (DIGEST, digest.finish()),
            (DOCUMENT, text),
        ];
        atomic::write(path, |out| safetensors::write(out, &items, &metadata))
    }

    /// The tensors in PyTorch's order, with a step counter behind each batch norm's running variance.
    pub(crate) fn items(&self, architecture: &Architecture) -> Vec<(String, Item<'_>)> {
        let mut items = Vec::with_capacity(architecture.parameters().len() * 5 / 4 + 1);
        for layer in architecture.layers() {
            for parameter in &architecture.parameters()[layer.parameters.clone()] {
                if let Some(tensor) = self.state.get(&parameter.name) {
                    items.push((parameter.name.clone(), Item::Float(tensor)));
                }
            }
            if layer.op == Op::BatchNorm {
                // PyTorch's counter is signed; no training makes 2⁶³ steps.
                let count = i64::try_from(self.num_batches_tracked).unwrap_or(i64::MAX);
                items.push((format!("{}.{COUNTER}", layer.name), Item::Counter(count)));
            }
        }
        items
    }

    fn check_counters(
        &self,
        architecture: &Architecture,
        counters: &[(String, i64)],
    ) -> Result<(), WeightsError> {
        let expected = self
            .items(architecture)
            .into_iter()
            .filter_map(|(name, item)| match item {
                Item::Counter(count) => Some((name, count)),
                Item::Float(_) => None,
            });
        let mut expected: Vec<_> = expected.collect();
        let mut found = counters.to_vec();
        expected.sort();
        found.sort();
        if expected != found {
            return Err(malformed(
                Format::Model,
                "its step counters (num_batches_tracked) differ from those of its configuration",
            ));
        }
        Ok(())
    }
}

impl Document {
    fn parse(text: &str) -> Result<Document, WeightsError> {
        // The version first: a newer document may have fields that this one refuses.
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let bad = |error: serde_json::Error| {
            malformed(
                Format::Model,
                format!(
                    "its configuration cannot be read: {}",
                    crate::error::printable(&error.to_string())
                ),
            )
        };
        let version: Version = serde_json::from_str(text).map_err(bad)?;
        if version.format_version != FORMAT_VERSION {
            return Err(unsupported(
                format!(
                    "it is a model file of version {}; this program knows version {FORMAT_VERSION}",
                    version.format_version
                ),
                "use the version of densenet that wrote it, or a newer one",
            ));
        }
        serde_json::from_str(text).map_err(bad)
    }
}

/// Whether a `.safetensors` file's content is a model file of ours.
pub(crate) fn is_model(raw: &RawWeights) -> bool {
    raw.metadata.contains_key(DOCUMENT)
}

/// The tensors in the architecture's order; `state` has been checked to hold exactly those.
fn in_order(architecture: &Architecture, state: StateDict) -> StateDict {
    let mut tensors: std::collections::HashMap<_, _> = state.into_iter().collect();
    architecture
        .parameters()
        .iter()
        .filter_map(|parameter| Some((parameter.name.clone(), tensors.remove(&parameter.name)?)))
        .collect()
}

/// SHA-256 of the document and every tensor's name, shape and bytes, each with its length in front.
struct ModelDigest(Sha256);

impl ModelDigest {
    fn new(document: &str) -> Self {
        let mut digest = ModelDigest(Sha256::new());
        digest.text(document);
        digest
    }

    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    fn add(&mut self, name: &str, item: &Item<'_>) {
        self.text(name);
        self.0.update((item.shape().len() as u64).to_le_bytes());
        for &size in item.shape() {
            self.0.update((size as u64).to_le_bytes());
        }
        let done: Result<(), std::convert::Infallible> = item.for_each_piece(|piece| {
            self.0.update(piece);
            Ok(())
        });
        let Ok(()) = done;
    }

    /// In hexadecimal.
    fn finish(self) -> String {
        let bytes = self.0.finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn check(self, stored: Option<&str>) -> Result<(), WeightsError> {
        if stored == Some(self.finish().as_str()) {
            return Ok(());
        }
        Err(malformed(
            Format::Model,
            "its content does not have the SHA-256 that was stored with it",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InitMode, Tensor, initialize};
    use densenet_spec::preset;

    fn small() -> Model {
        let mut config = preset("densenet-bc-100-12").unwrap().config(2).unwrap();
        config.block_config = vec![2, 3];
        config.num_classes = 3;
        let state = initialize(&Architecture::new(&config).unwrap(), 5, InitMode::FanIn);
        Model {
            classes: Some(["cat", "dög", "\"owl\"\n"].map(String::from).to_vec()),
            preprocessing: Some(serde_json::json!({"size": [32, 32], "mean": [0.5]})),
            provenance: Some(serde_json::json!({"epochs": 3})),
            num_batches_tracked: 1234,
            ..Model::new(config, state).unwrap()
        }
    }

    fn saved(model: &Model) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        model.save(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let model = small();
        let (_folder, path) = saved(&model);
        assert_eq!(Model::load(&path).unwrap(), model);
    }

    /// The crate that defines the format reads the file, and finds every tensor aligned to its elements.
    #[test]
    fn other_readers_agree() {
        let model = small();
        let (_folder, path) = saved(&model);
        let bytes = std::fs::read(&path).unwrap();
        let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, tensor) in model.state.iter() {
            let view = theirs.tensor(name).unwrap();
            assert_eq!(view.shape(), tensor.shape);
            let values: Vec<u8> = tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(view.data(), values);
        }
        for (name, view) in theirs.iter() {
            let offset = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
            let size = if name.ends_with(COUNTER) { 8 } else { 4 };
            assert_eq!(offset % size, 0, "{name}");
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let model = small();
        let (_folder, path) = saved(&model);
        let bytes = std::fs::read(&path).unwrap();
        let step = bytes.len() / 500;
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let length = changed.len() as u64;
            match Model::read_from(&mut changed.as_slice(), length) {
                Err(error) => assert!([4, 7].contains(&error.exit_code()), "{at}: {error}"),
                // Metadata that the digest does not cover: the word `pt` under `format`, and padding.
                Ok(found) => assert_eq!(found, model, "{at}"),
            }
        }
    }

    #[test]
    fn a_model_that_makes_no_sense_is_neither_saved_nor_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let refused = |change: &dyn Fn(&mut Model), expected: &str| {
            let mut model = small();
            change(&mut model);
            let error = model.save(&path).unwrap_err();
            assert_eq!(error.exit_code(), 4);
            let message = error.to_string();
            assert!(
                message.contains("m.safetensors: ") && message.contains(expected),
                "{message}"
            );
            assert!(!path.exists());
        };
        refused(
            &|m| m.classes = Some(vec!["cat".into()]),
            "1 class names for 3 classes",
        );
        refused(&|m| m.config.growth_rate = 0, "growth_rate = 0");
        refused(
            &|m| m.config.num_classes = 4,
            "classifier.bias is [3], needed [4]",
        );
        refused(
            &|m| m.state.get_mut("classifier.bias").unwrap().data[1] = f32::INFINITY,
            "tensor `classifier.bias` holds inf at element 1",
        );
        refused(
            &|m| {
                m.state.insert("extra", Tensor::full(&[1], 0.0));
            },
            "1 surplus (extra)",
        );
        refused(&|m| m.state = StateDict::new(), "more)");
    }

    #[test]
    fn documents_with_mistakes_are_refused() {
        let model = small();
        let architecture = model.check().unwrap();
        let items = model.items(&architecture);
        let (_folder, path) = saved(&model);
        let good = crate::safetensors::read(&path).unwrap().metadata;
        let loaded = |text: String| {
            let mut digest = ModelDigest::new(&text);
            for (name, item) in &items {
                digest.add(name, item);
            }
            let metadata = [(DIGEST, digest.finish()), (DOCUMENT, text)];
            let mut bytes = Vec::new();
            crate::safetensors::write(&mut bytes, &items, &metadata).unwrap();
            Model::read_from(&mut bytes.as_slice(), bytes.len() as u64)
        };
        assert_eq!(loaded(good[DOCUMENT].clone()).unwrap(), model);
        for (from, to, expected) in [
            (
                "\"format_version\":1",
                "\"format_version\":2",
                "model file of version 2; this program knows version 1",
            ),
            ("growth_rate", "grwth_rate", "did you mean `growth_rate`?"),
            ("\"growth_rate\":12,", "", "growth_rate = (missing)"),
            (
                "\"growth_rate\":12",
                "\"growth_rate\":0",
                "growth_rate = 0: the smallest value that works is 1",
            ),
            ("\"growth_rate\":12", "\"growth_rate\":13", "misshaped ("),
            (
                "\"num_batches_tracked\":1234",
                "\"num_batches_tracked\":7",
                "its step counters",
            ),
            ("\"classes\"", "\"klasses\"", "unknown field `klasses`"),
            ("\"cat\",", "", "2 class names for 3 classes"),
            (
                "[2,3]",
                "[4096,4096]",
                "its configuration has 8192 dense layers, its tensors are",
            ),
            ("{", "[", "its configuration cannot be read"),
        ] {
            let changed = good[DOCUMENT].replacen(from, to, 1);
            assert_ne!(changed, good[DOCUMENT], "{from}");
            let error = loaded(changed).unwrap_err();
            assert!(error.to_string().contains(expected), "{from}: {error}");
            assert_eq!(error.exit_code(), 4);
        }
    }

    #[test]
    fn plain_weights_are_no_model() {
        let model = small();
        let items = model.items(&model.check().unwrap());
        let mut bytes = Vec::new();
        crate::safetensors::write(&mut bytes, &items, &[]).unwrap();
        let error = Model::read_from(&mut bytes.as_slice(), bytes.len() as u64).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`densenet import FILE -o MODEL`"),
            "{error}"
        );
    }
}
