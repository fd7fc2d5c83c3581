//! What can go wrong when an answer is explained.

use crate::NetworkError;

/// Why an answer could not be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The network could not be run, or a layer's name is unknown.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// There is no such class.
    #[error("class {class}: the network has {classes} classes, counted from 0")]
    Class {
        /// The index asked for.
        class: usize,
        /// How many there are.
        classes: usize,
    },
    /// One sample is explained at a time.
    #[error("{found} samples: one is explained at a time")]
    Batch {
        /// Samples of the input.
        found: usize,
    },
    /// A box does not fit into the input, or does not move.
    #[error(
        "a box of {window:?} pixels in steps of {stride:?} over an input of {spatial:?}: the box must fit, and steps are at least 1"
    )]
    Window {
        /// The box, `[depth, height, width]`.
        window: [usize; 3],
        /// Its steps.
        stride: [usize; 3],
        /// The input.
        spatial: [usize; 3],
    },
    /// The baseline does not have a finite number for each channel.
    #[error(
        "a baseline of {found} values: needs a finite number for each of the {channels} channels"
    )]
    Baseline {
        /// Numbers given.
        found: usize,
        /// Channels of the input.
        channels: usize,
    },
    /// An integral of no steps.
    #[error("0 steps: a path needs at least one")]
    Steps,
    /// The features are not those that the classifier reads.
    #[error(
        "features of {found} channels, while the classifier reads {expected} — take the layer `{layer}`"
    )]
    Features {
        /// The layer whose output the classifier pools.
        layer: String,
        /// Its channels.
        expected: usize,
        /// Channels of the features given.
        found: usize,
    },
    /// A logit, gradient or map is not a number.
    #[error("{what} is not finite — check the model with another input")]
    NonFinite {
        /// Which number.
        what: String,
    },
}

impl ExplainError {
    /// The exit code the command line gives it.
    pub fn exit_code(&self) -> u8 {
        match self {
            ExplainError::Network(error) => error.exit_code(),
            ExplainError::Class { .. }
            | ExplainError::Window { .. }
            | ExplainError::Baseline { .. }
            | ExplainError::Steps => 2,
            ExplainError::Batch { .. } | ExplainError::Features { .. } => 70,
            ExplainError::NonFinite { .. } => 6,
        }
    }
}
