//! The network spelled out.

use crate::{
    ConfigError, DenseNetConfig, Layer, Parameter, Stage, StageKind, build::Builder,
    suggest::closest,
};

/// A configuration spelled out as stages, layers and parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    pub(crate) config: DenseNetConfig,
    pub(crate) layers: Vec<Layer>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) blocks: Vec<DenseBlock>,
    pub(crate) transitions: Vec<Transition>,
}

/// A dense block: layers that each read everything before them (paper, eq. 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseBlock {
    /// `features.denseblock1`
    pub name: String,
    /// Index into [`Architecture::stages`].
    pub stage: usize,
    /// Channels that enter.
    pub c_in: usize,
    /// Channels that leave: `c_in + layers · growth_rate`.
    pub c_out: usize,
    /// The layers in order.
    pub layers: Vec<DenseLayer>,
}

/// A dense layer: norm1–relu1–conv1(1×1)–norm2–relu2–conv2(3×3), or norm1–relu1–conv1(3×3) without bottleneck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseLayer {
    /// `features.denseblock1.denselayer1`
    pub name: String,
    /// Channels it reads: everything before it in the block.
    pub c_in: usize,
    /// Channels between conv1 and conv2; 0 where there is no bottleneck.
    pub bottleneck: usize,
    /// Channels it adds.
    pub growth_rate: usize,
}

/// The norm–ReLU–1×1 convolution–2/2 average pooling between two blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// `features.transition1`
    pub name: String,
    /// Index into [`Architecture::stages`].
    pub stage: usize,
    /// Channels it reads.
    pub c_in: usize,
    /// Channels it keeps: `⌊compression · c_in⌋`.
    pub c_out: usize,
}

/// What a name refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A stage: its output is its last layer's (before the ReLU for `norm5`).
    Stage(usize),
    /// A single layer.
    Layer(usize),
}

impl Architecture {
    /// Spells out `config`.
    ///
    /// # Errors
    /// The first field that cannot work.
    pub fn new(config: &DenseNetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let architecture = Builder::build(config)?;
        // In floating point, because the exact number may not fit into a machine word.
        let size = |p: &Parameter| p.shape.iter().map(|&s| s as f64).product::<f64>();
        let elements: f64 = architecture.parameters.iter().map(size).sum();
        if elements > MAX_ELEMENTS {
            return Err(ConfigError::new(
                "growth_rate",
                config.growth_rate,
                format!(
                    "the network would have {elements:.1e} parameters, and {MAX_ELEMENTS:.1e} are supported; \
                     make growth_rate, bn_size, block_config or num_classes smaller"
                ),
            ));
        }
        Ok(architecture)
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &DenseNetConfig {
        &self.config
    }

    /// Every operation in the order of execution.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Every named tensor, learned or running statistic, in PyTorch's order of a state dict.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The parts of the network in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The dense blocks in order.
    pub fn blocks(&self) -> &[DenseBlock] {
        &self.blocks
    }

    /// The transitions in order; one fewer than blocks.
    pub fn transitions(&self) -> &[Transition] {
        &self.transitions
    }

    /// Channels that enter the classifier.
    pub fn num_features(&self) -> usize {
        self.blocks.last().map_or(0, |b| b.c_out)
    }

    /// Number of learned elements, as papers count parameters.
    pub fn num_parameters(&self) -> usize {
        self.parameters
            .iter()
            .filter(|p| p.kind.is_learned())
            .map(Parameter::len)
            .sum()
    }

    /// The layer with torchvision's path `name`.
    pub fn layer(&self, name: &str) -> Option<&Layer> {
        self.layers.iter().find(|l| l.name == name)
    }

    /// The stage called `name`.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|s| s.name == name)
    }

    /// Finds a stage or layer by any name people use for it.
    ///
    /// Stages: `stem`, `denseblock1`, `transition1`, `norm5` (or `final_norm`), `classifier`, and the names of the
    /// tutorial's rewritten network (`Conv1`, `Dense_Block_1`, `Transition_Layer_1`, `finale_bn`). Layers: torchvision's
    /// path with or without `features.`; a dense layer's own path (`denseblock1.denselayer3`) means its new features,
    /// as torchvision's module returns them.
    ///
    /// # Errors
    /// Unknown names, with the likely one or the list of stages.
    pub fn resolve(&self, name: &str) -> Result<Named, ConfigError> {
        let wanted = name.strip_prefix("features.").unwrap_or(name);
        let wanted = rewritten_alias(wanted).unwrap_or_else(|| wanted.to_string());
        if let Some(i) = self.stages.iter().position(|s| s.name == wanted) {
            return Ok(Named::Stage(i));
        }
        let path = |l: &Layer| {
            l.name
                .strip_prefix("features.")
                .unwrap_or(&l.name)
                .to_string()
        };
        if let Some(i) = self.layers.iter().position(|l| path(l) == wanted) {
            return Ok(Named::Layer(i));
        }
        let new_features = [".conv2", ".conv1"];
        for suffix in new_features {
            if wanted.contains("denselayer")
                && let Some(i) = self
                    .layers
                    .iter()
                    .position(|l| path(l) == format!("{wanted}{suffix}"))
            {
                return Ok(Named::Layer(i));
            }
        }
        let paths: Vec<String> = self
            .stages
            .iter()
            .map(|s| s.name.clone())
            .chain(self.layers.iter().map(path))
            .collect();
        let hint = match closest(&wanted, paths.iter().map(String::as_str)) {
            Some(likely) => format!("no such layer; did you mean {likely}?"),
            None => format!(
                "no such layer; the stages are {}; layers have torchvision's names, as in `summary --depth layers`",
                self.stages
                    .iter()
                    .map(|s| s.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        Err(ConfigError::new("layer", name, hint))
    }

    /// Index of the layer whose output is the stage's.
    pub fn stage_output(&self, stage: usize) -> usize {
        let stage = &self.stages[stage];
        match stage.kind {
            StageKind::FinalNorm => stage.layers.start,
            _ => stage.layers.end - 1,
        }
    }
}

/// 32 GiB of weights: far above every published network, far below what overflows.
const MAX_ELEMENTS: f64 = (1u64 << 33) as f64;

/// The tutorial's member names for our stages.
fn rewritten_alias(name: &str) -> Option<String> {
    match name {
        "Conv1" => Some("stem".into()),
        "finale_bn" | "final_norm" => Some("norm5".into()),
        _ => name
            .strip_prefix("Dense_Block_")
            .map(|n| format!("denseblock{n}"))
            .or_else(|| {
                name.strip_prefix("Transition_Layer_")
                    .map(|n| format!("transition{n}"))
            }),
    }
}
