//! Everything that can go wrong with an ONNX file, in one type.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use densenet_weights::WeightsError;

/// What went wrong, with which file, and how to put it right.
///
/// Its `Display` is one line, `FILE: what is wrong — how to fix it`, as the command prints it.
#[derive(Debug)]
pub struct OnnxError {
    /// The file in question, where there is one.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The kinds of trouble; [`OnnxError::exit_code`] groups them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operating system refused.
    #[error("cannot {action}: {cause} — check the path, its permissions and the disk")]
    Io {
        /// What was being done, e.g. `read`.
        action: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
    /// The bytes are no ONNX model.
    #[error("{what} — the file is damaged or is no ONNX file; get it again from its source")]
    Malformed {
        /// What is wrong, with its place.
        what: String,
    },
    /// A node does not fit into a DenseNet.
    #[error(
        "node `{node}` ({op_type}): {what} — DenseNets as this program, torchvision and MONAI export them can be imported; \
         import the weights (.pth or .safetensors) instead"
    )]
    Unrecognised {
        /// The node's name, or its first output where it has none.
        node: String,
        /// What it computes.
        op_type: String,
        /// Why it does not fit.
        what: String,
    },
    /// A valid file of a kind this crate does not read or write.
    #[error("{what} — {cure}")]
    Unsupported {
        /// What the file holds or was asked to hold.
        what: String,
        /// What to do instead.
        cure: String,
    },
    /// A tensor's data lie where they must not, or are not as the model says.
    #[error("tensor `{tensor}` lies in `{location}`, {why} — {cure}")]
    ExternalData {
        /// The tensor's name.
        tensor: String,
        /// The place the file names.
        location: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        cure: &'static str,
    },
    /// A limit that the format sets, or that keeps hostile files from taking the machine down.
    #[error("{what}: {found} where at most {limit} are allowed — {cure}")]
    Limit {
        /// What there is too much of.
        what: String,
        /// How much there is, or at least how much had been seen.
        found: u64,
        /// The most that is allowed.
        limit: u64,
        /// What to do about it.
        cure: &'static str,
    },
    /// An option cannot be carried out.
    #[error("{option}: {what} — {cure}")]
    Usage {
        /// The option or argument.
        option: &'static str,
        /// Why it cannot be carried out.
        what: String,
        /// What to give instead.
        cure: String,
    },
    /// The model to write, or the one that was read, is not sound.
    #[error("{0}")]
    Model(WeightsError),
}

impl OnnxError {
    /// The process exit code: 2 usage, 4 ONNX or model file, 5 input/output, 7 a limit was exceeded.
    pub fn exit_code(&self) -> u8 {
        match &self.problem {
            Problem::Usage { .. } => 2,
            Problem::Io { .. } => 5,
            Problem::Limit { .. } => 7,
            Problem::Model(error) => error.exit_code(),
            Problem::Malformed { .. }
            | Problem::Unrecognised { .. }
            | Problem::Unsupported { .. }
            | Problem::ExternalData { .. } => 4,
        }
    }

    /// The same error, known to be about `path`; a path that is already known stays, and an option is no matter of a
    /// file.
    pub fn at(mut self, path: &Path) -> Self {
        if !matches!(self.problem, Problem::Usage { .. }) {
            self.path.get_or_insert_with(|| path.to_path_buf());
        }
        self
    }

    pub(crate) fn io(action: &'static str, cause: io::Error) -> Self {
        Problem::Io { action, cause }.into()
    }

    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Problem::Malformed { what: what.into() }.into()
    }

    pub(crate) fn unsupported(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Problem::Unsupported {
            what: what.into(),
            cure: cure.into(),
        }
        .into()
    }

    pub(crate) fn usage(
        option: &'static str,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Problem::Usage {
            option,
            what: what.into(),
            cure: cure.into(),
        }
        .into()
    }
}

impl From<Problem> for OnnxError {
    fn from(problem: Problem) -> Self {
        OnnxError {
            path: None,
            problem,
        }
    }
}

impl From<WeightsError> for OnnxError {
    fn from(mut error: WeightsError) -> Self {
        let path = error.path.take();
        OnnxError {
            path,
            problem: Problem::Model(error),
        }
    }
}

impl fmt::Display for OnnxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::error::Error for OnnxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Io { cause, .. } => Some(cause),
            Problem::Model(error) => Some(error),
            _ => None,
        }
    }
}

/// A name from a file, fit for one line of output: control characters shown as escapes, cut after 120 characters.
pub(crate) fn printable(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown = String::new();
    for c in name.chars().take(LONGEST) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if name.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
