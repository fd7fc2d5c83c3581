//! Everything the page shows, as data.

use std::collections::BTreeMap;

use densenet::{
    Predictor,
    memory::{self, Memory},
    weights::{ConfigFile, StateDict},
};
use densenet_spec::Architecture;
use serde::Serialize;

use crate::{
    Sample, Timing, ViewError,
    activations::Seen,
    facts::{self, BlockFacts, LayerFacts, StageFacts, TensorFacts},
    weights::{self, Kernels},
};

/// Which network is shown.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Where it comes from.
    pub origin: Origin<'a>,
    /// The network.
    pub architecture: &'a Architecture,
    /// The input's `[depth, height, width]`; depth 1 in 2-D.
    pub spatial: [usize; 3],
    /// Its weights, if it has any of its own.
    pub weights: Option<&'a StateDict>,
    /// Names of the classes in the order of the logits.
    pub classes: Option<&'a [String]>,
}

/// Where a network comes from; the page says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A published network: architecture only.
    Preset,
    /// A model file with this name.
    ModelFile(&'a str),
    /// An ONNX file with this name, recognised as a DenseNet.
    Onnx(&'a str),
}

/// What the page shows of a DenseNet. `serde` turns it into the JSON that stands in the page.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    kind: &'static str,
    /// The program that wrote the page.
    generator: String,
    name: String,
    /// One line about where the network comes from.
    origin: String,
    has_weights: bool,
    dims: usize,
    config: ConfigFile,
    /// `[channels, (depth,) height, width]`
    input: Vec<usize>,
    min_input: Vec<usize>,
    totals: Totals,
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<String>>,
    stages: Vec<StageFacts>,
    blocks: Vec<BlockFacts>,
    layers: Vec<LayerFacts>,
    /// Named tensors by their place in the layers' lists.
    tensors: Vec<TensorFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stem: Option<Kernels>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<TimeFacts>,
    /// What the network makes of a picture; a document of its own in the page.
    #[serde(skip)]
    pub(crate) seen: Option<Seen>,
}

#[derive(Debug, Clone, Serialize)]
struct Totals {
    params: u64,
    macs: u64,
    /// Convolutions and the classifier: what the paper calls depth.
    depth: usize,
    infer_bytes: usize,
    train_bytes: usize,
    train_memory_efficient_bytes: usize,
}

#[derive(Debug, Clone, Serialize)]
struct TimeFacts {
    total_ms: f64,
    /// Milliseconds by stage; a stage that is fused with its neighbour is missing.
    stages: BTreeMap<String, f64>,
    runs: usize,
    threads: usize,
    isa: String,
    random_weights: bool,
}

impl Document {
    /// What the network is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Derives everything that the architecture, the input's size and the weights tell.
    ///
    /// # Errors
    /// The input is too small for the network.
    pub fn of(subject: &Subject<'_>) -> Result<Self, ViewError> {
        let Subject {
            architecture,
            spatial,
            ..
        } = *subject;
        let config = architecture.config();
        let trace = architecture.trace(spatial)?;
        let Memory {
            infer_bytes,
            train_bytes,
            train_memory_efficient_bytes,
            ..
        } = memory::estimate(architecture, spatial, 1)?;
        let layers = facts::layers(architecture, &trace);
        let mut blocks = facts::blocks(architecture);
        let mut tensors = facts::tensors(architecture);
        let mut stem = None;
        if let Some(state) = subject.weights {
            for tensor in &mut tensors {
                tensor.stats = state
                    .get(&tensor.name)
                    .map(|t| weights::statistics(&t.data));
            }
            for (index, block) in blocks.iter_mut().enumerate() {
                block.heat = weights::heat(architecture, index, state);
            }
            stem = weights::kernels(architecture, state);
        }
        let dims = config.spatial_dims;
        Ok(Document {
            kind: "densenet",
            generator: generator(),
            name: subject.name.to_string(),
            origin: subject.origin.line(),
            has_weights: subject.weights.is_some(),
            dims,
            config: ConfigFile::from(config),
            input: [&[config.in_channels], &spatial[3 - dims..]].concat(),
            min_input: architecture.min_input()[3 - dims..].to_vec(),
            totals: Totals {
                params: architecture.num_parameters() as u64,
                macs: trace.macs(),
                depth: layers.iter().filter(|l| l.is_counted()).count(),
                infer_bytes,
                train_bytes,
                train_memory_efficient_bytes,
            },
            classes: subject.classes.map(<[String]>::to_vec),
            stages: facts::stages(architecture, &layers),
            blocks,
            layers,
            tensors,
            stem,
            time: None,
            seen: None,
        })
    }

    /// Adds measured times.
    pub fn timed(&mut self, timing: &Timing) {
        self.time = Some(TimeFacts {
            total_ms: timing.total_ms,
            stages: timing.stages.iter().cloned().collect(),
            runs: timing.runs,
            threads: timing.threads,
            isa: timing.isa.clone(),
            random_weights: !self.has_weights,
        });
    }

    /// Runs the network on a picture and adds what it makes of it: the maps of every stage, the classes, and where in
    /// the picture the likeliest of them come from. `weights` are the predictor's.
    ///
    /// # Errors
    /// The picture does not fit the network, or the answer is not finite.
    pub fn with_sample(
        &mut self,
        predictor: &Predictor,
        weights: &StateDict,
        sample: &Sample<'_>,
    ) -> Result<(), ViewError> {
        self.seen = Some(Seen::of(predictor, weights, sample)?);
        Ok(())
    }
}

impl Origin<'_> {
    fn line(self) -> String {
        match self {
            Origin::Preset => "preset: the architecture alone, no weights".to_string(),
            Origin::ModelFile(file) => format!("model file {file}"),
            Origin::Onnx(file) => format!("ONNX file {file}, recognised as a DenseNet"),
        }
    }
}

/// `densenet 0.1.0`
pub(crate) fn generator() -> String {
    format!("densenet {}", env!("CARGO_PKG_VERSION"))
}
