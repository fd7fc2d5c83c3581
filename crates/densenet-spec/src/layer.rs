//! Layers, parameters and stages: the words the rest of the project speaks in.

use std::ops::Range;

use crate::Window;

/// What a layer computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Convolution without bias.
    Conv(Window),
    /// Batch norm over the channels.
    BatchNorm,
    /// max(x, 0)
    Relu,
    /// Maximum over a window; the border counts as −∞.
    MaxPool(Window),
    /// Mean over a window that lies inside the map.
    AvgPool(Window),
    /// Elementwise dropout while training, the identity otherwise.
    Dropout,
    /// Joins the layer's new features with the old ones.
    Concat,
    /// Mean over all pixels.
    GlobalAvgPool,
    /// Fully connected, with bias.
    Linear,
}

impl Op {
    /// The name people know: `Conv`, `BatchNorm`, …
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv(_) => "Conv",
            Op::BatchNorm => "BatchNorm",
            Op::Relu => "ReLU",
            Op::MaxPool(_) => "MaxPool",
            Op::AvgPool(_) => "AvgPool",
            Op::Dropout => "Dropout",
            Op::Concat => "Concat",
            Op::GlobalAvgPool => "GlobalAvgPool",
            Op::Linear => "Linear",
        }
    }

    /// The window a pixel of the output looks at, where there is one.
    pub fn window(&self) -> Option<Window> {
        match self {
            Op::Conv(window) | Op::MaxPool(window) | Op::AvgPool(window) => Some(*window),
            _ => None,
        }
    }
}

/// One operation of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// torchvision's module path, e.g. `features.denseblock1.denselayer1.conv1`. Operations that torchvision does
    /// without a module have names of the same form: `….denselayer1.dropout`, `….denselayer1.concat`, `features.relu5`,
    /// `avgpool`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Channels it reads.
    pub c_in: usize,
    /// Channels it produces.
    pub c_out: usize,
    /// Index into [`crate::Architecture::stages`].
    pub stage: usize,
    /// Where its parameters stand in [`crate::Architecture::parameters`].
    pub parameters: Range<usize>,
}

/// What a named tensor of the network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Convolution weight, `[c_out, c_in, (kd,) kh, kw]`.
    ConvWeight,
    /// Batch norm's γ, `[channels]`.
    NormWeight,
    /// Batch norm's β, `[channels]`.
    NormBias,
    /// Batch norm's running mean, `[channels]`: a buffer, not learned.
    RunningMean,
    /// Batch norm's running (unbiased) variance, `[channels]`: a buffer, not learned.
    RunningVar,
    /// Classifier weight, `[num_classes, features]`.
    LinearWeight,
    /// Classifier bias, `[num_classes]`.
    LinearBias,
}

impl ParameterKind {
    /// Whether an optimiser updates it.
    pub fn is_learned(self) -> bool {
        !matches!(self, ParameterKind::RunningMean | ParameterKind::RunningVar)
    }
}

/// A named tensor of the network: a learned parameter or a running statistic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// torchvision's path, e.g. `features.denseblock1.denselayer1.norm1.running_mean`.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: ParameterKind,
    /// Index of its layer in [`crate::Architecture::layers`].
    pub layer: usize,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements (never, in a valid architecture).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What part of the network a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageKind {
    /// Everything before the first dense block.
    Stem,
    /// The dense block with this index, from 0.
    DenseBlock(usize),
    /// The transition after the dense block with this index.
    Transition(usize),
    /// The norm and ReLU after the last block.
    FinalNorm,
    /// Global average pooling and the classifier.
    Classifier,
}

/// A named part of the network; the stages in order make up the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `stem`, `denseblock1`, `transition1`, …, `norm5`, `classifier`.
    pub name: String,
    /// Which part it is.
    pub kind: StageKind,
    /// Its layers in [`crate::Architecture::layers`].
    pub layers: Range<usize>,
    /// Channels it reads.
    pub c_in: usize,
    /// Channels it produces.
    pub c_out: usize,
}
