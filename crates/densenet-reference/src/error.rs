//! What can be wrong with what a caller hands in.

use std::fmt;

use densenet_spec::ConfigError;

/// Why the reference network refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceError {
    /// The input's size does not suit the architecture.
    Size(ConfigError),
    /// A tensor does not have the number of elements it should have.
    Length {
        /// Parameter, mask or list.
        name: String,
        /// Elements it should have.
        expected: usize,
        /// Elements it has; 0 where it is missing.
        found: usize,
    },
    /// The input does not have the channels that the network reads.
    Channels {
        /// Channels of the first convolution.
        expected: usize,
        /// Channels of the input.
        found: usize,
    },
    /// A label names no class.
    Label {
        /// The sample.
        sample: usize,
        /// Its label.
        label: usize,
        /// Number of classes.
        num_classes: usize,
    },
    /// Batch statistics need more than one value per channel.
    TooFewValues {
        /// The batch norm.
        layer: String,
    },
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReferenceError::Size(error) => error.fmt(f),
            ReferenceError::Length {
                name,
                expected,
                found,
            } => write!(f, "{name}: {found} elements, expected {expected}"),
            ReferenceError::Channels { expected, found } => {
                write!(f, "input: {found} channels, the network reads {expected}")
            }
            ReferenceError::Label {
                sample,
                label,
                num_classes,
            } => write!(
                f,
                "label {label} of sample {sample}: the classes are 0 to {}",
                num_classes.saturating_sub(1)
            ),
            ReferenceError::TooFewValues { layer } => write!(
                f,
                "{layer}: one value per channel has no variance; train with larger batches or images"
            ),
        }
    }
}

impl std::error::Error for ReferenceError {}

impl From<ConfigError> for ReferenceError {
    fn from(error: ConfigError) -> Self {
        ReferenceError::Size(error)
    }
}
