//! Everything that can go wrong with a weights file, in one type.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use densenet_spec::ConfigError;

use crate::mismatch::Mismatch;

/// What went wrong, with which file, and how to put it right.
///
/// Its `Display` is one line, `FILE: what is wrong — how to fix it`, as the command prints it.
#[derive(Debug)]
pub struct WeightsError {
    /// The file in question, where there is one.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The kinds of trouble; [`WeightsError::exit_code`] groups them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operating system refused.
    #[error("cannot {action}: {cause} — {}", io_cure(cause))]
    Io {
        /// What was being done, e.g. `read` or `sync the folder`.
        action: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
    /// The bytes are not what their format promises.
    #[error("{what} — the file is damaged or is no {format} file; get it again from its source")]
    Malformed {
        /// The format the file claims to have.
        format: Format,
        /// What is wrong, with its place.
        what: String,
    },
    /// A pickle asks for something that weights do not need.
    #[error(
        "the pickle asks for the Python object `{global}`, which is no part of plain weights — \
             in Python, save `model.state_dict()` (tensors only) and import that"
    )]
    Forbidden {
        /// The module and name it asked for.
        global: String,
    },
    /// A valid file of a kind this crate does not read or write.
    #[error("{what} — {cure}")]
    Unsupported {
        /// What the file holds or was asked to hold.
        what: String,
        /// What to do instead.
        cure: String,
    },
    /// A limit that keeps hostile files from taking the machine down.
    #[error(
        "{what}: {found} where at most {limit} are allowed — no DenseNet needs that much; check where the file comes from"
    )]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there is (or at least how much had been seen).
        found: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// A weight is NaN or infinite.
    #[error(
        "tensor `{tensor}` holds {value} at element {index} — its training diverged; use an earlier checkpoint"
    )]
    NonFinite {
        /// The tensor's name.
        tensor: String,
        /// The first offending element, counted in row-major order.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The tensors do not make up the network.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// The names follow none of the known dialects.
    #[error("{0}")]
    Unrecognised(String),
    /// A configuration inside the file is not a working network.
    #[error(
        "the configuration in the file describes no working network: {0} — correct it or write the file again"
    )]
    Config(ConfigError),
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
}

/// A file format, as errors call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.safetensors`
    Safetensors,
    /// `.pth` or `.pt` as PyTorch writes them, zip or older.
    Pth,
    /// A `.safetensors` file with this project's metadata.
    Model,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Safetensors => "safetensors",
            Format::Pth => "PyTorch",
            Format::Model => "model",
        })
    }
}

impl WeightsError {
    /// The process exit code: 2 usage, 4 weights or model file, 5 input/output, 7 a limit was exceeded.
    pub fn exit_code(&self) -> u8 {
        match &self.problem {
            Problem::Usage { .. } => 2,
            Problem::Io { .. } => 5,
            Problem::Limit { .. } => 7,
            Problem::Malformed { .. }
            | Problem::Forbidden { .. }
            | Problem::Unsupported { .. }
            | Problem::NonFinite { .. }
            | Problem::Mismatch(_)
            | Problem::Unrecognised(_)
            | Problem::Config(_) => 4,
        }
    }

    /// An input/output error on `path`.
    pub fn io(path: &Path, action: &'static str, cause: io::Error) -> Self {
        WeightsError::from(Problem::Io { action, cause }).at(path)
    }

    /// The same error, known to be about `path`; a path that is already known stays.
    pub fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_path_buf());
        self
    }
}

impl From<Problem> for WeightsError {
    fn from(problem: Problem) -> Self {
        WeightsError {
            path: None,
            problem,
        }
    }
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::error::Error for WeightsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Io { cause, .. } => Some(cause),
            Problem::Config(cause) => Some(cause),
            _ => None,
        }
    }
}

/// What usually helps against an input/output error.
fn io_cure(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "check the permissions of the file and its folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space or choose another folder; nothing was overwritten"
        }
        io::ErrorKind::ReadOnlyFilesystem => "choose a folder on a writable disk",
        io::ErrorKind::IsADirectory => "name a file, not a folder",
        _ => "check the disk and the path",
    }
}

/// Shorthand for [`Problem::Malformed`] of one format.
pub(crate) fn malformed(format: Format, what: impl Into<String>) -> WeightsError {
    Problem::Malformed {
        format,
        what: what.into(),
    }
    .into()
}

/// Shorthand for [`Problem::Unsupported`].
pub(crate) fn unsupported(what: impl Into<String>, cure: impl Into<String>) -> WeightsError {
    Problem::Unsupported {
        what: what.into(),
        cure: cure.into(),
    }
    .into()
}

/// `value` unless it is above `limit`.
pub(crate) fn within(what: &'static str, found: u64, limit: u64) -> Result<(), WeightsError> {
    if found > limit {
        return Err(Problem::Limit { what, found, limit }.into());
    }
    Ok(())
}

/// A name from a file, fit for one line of output: control characters shown as escapes, cut after 120 characters.
pub(crate) fn printable(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown: String = name
        .chars()
        .take(LONGEST)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
