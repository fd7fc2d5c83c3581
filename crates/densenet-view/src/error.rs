//! What can go wrong when a network is shown.

use densenet::{NetworkError, explain::ExplainError};
use densenet_spec::ConfigError;

/// Why a network could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The configuration or the input's size cannot work.
    #[error("{} = {} — {}", .0.field, .0.value, .0.reason)]
    Config(#[from] ConfigError),
    /// The network could not be run.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The answer could not be explained.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// The network's answer is not a number.
    #[error("{file}: the network's answer is not finite — check the model with another image")]
    NonFinite {
        /// The image.
        file: String,
    },
    /// The graph is none that a page can show.
    #[error(
        "{file}: {what} — cut out the part to look at, or use `densenet import` if it is a DenseNet"
    )]
    Graph {
        /// The ONNX file.
        file: String,
        /// What it holds.
        what: String,
    },
    /// The page cannot be served.
    #[error("port {port}: cannot {action}: {cause} — {cure}")]
    Serve {
        /// The port asked for.
        port: u16,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        cause: std::io::Error,
        /// What to do.
        cure: &'static str,
    },
}

impl ViewError {
    /// The exit code the command line gives it.
    pub fn exit_code(&self) -> u8 {
        match self {
            ViewError::Config(_) => 2,
            ViewError::Network(error) => error.exit_code(),
            ViewError::Explain(error) => error.exit_code(),
            ViewError::NonFinite { .. } => 6,
            ViewError::Graph { .. } => 7,
            ViewError::Serve { .. } => 5,
        }
    }
}
