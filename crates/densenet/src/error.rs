//! What can go wrong when a network is built or run.

use densenet_kernels::KernelError;
use densenet_spec::ConfigError;
use densenet_weights::WeightsError;

/// Why a network could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The configuration describes no working network, the input does not fit it, or a layer's name is unknown.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are not this network's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor of the state dict is missing or misshaped.
    #[error("tensor {name}: needs shape {expected:?}, found {found}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// The shape the architecture gives it.
        expected: Vec<usize>,
        /// What was there instead.
        found: String,
    },
    /// The input's buffer is not as long as its shape says.
    #[error(
        "input of batch {batch}, {spatial:?} pixels and {channels} channels needs {expected} values, found {found}"
    )]
    InputLength {
        /// Samples.
        batch: usize,
        /// `[depth, height, width]`
        spatial: [usize; 3],
        /// Channels the network reads.
        channels: usize,
        /// Product of them all.
        expected: usize,
        /// Length of the buffer.
        found: usize,
    },
    /// Batch statistics of a single value per channel say nothing.
    #[error(
        "{layer}: batch norm has a single value per channel while training — use a larger batch or input, or freeze this stage"
    )]
    SingleValue {
        /// The norm's name.
        layer: String,
    },
    /// `backward` without a `forward` before it, or with a gradient of another size.
    #[error(
        "backward needs the gradient of the {expected} logits of the last forward pass, found {found}"
    )]
    Backward {
        /// Logits of the last forward pass.
        expected: usize,
        /// Length of the gradient.
        found: usize,
    },
    /// `DENSENET_ISA` names an instruction set that is not there.
    #[error("{0}")]
    Isa(String),
    /// Our own mistake: a buffer does not fit a kernel.
    #[error("internal error: {0}")]
    Kernel(#[from] KernelError),
}

impl NetworkError {
    /// The exit code the command line gives it.
    pub fn exit_code(&self) -> u8 {
        match self {
            NetworkError::Config(_) | NetworkError::SingleValue { .. } | NetworkError::Isa(_) => 2,
            NetworkError::Weights(e) => e.exit_code(),
            NetworkError::Tensor { .. } => 4,
            NetworkError::InputLength { .. } => 3,
            NetworkError::Backward { .. } | NetworkError::Kernel(_) => 70,
        }
    }
}
