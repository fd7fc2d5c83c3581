//! Everything that can end a training run before its time.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use densenet::NetworkError;
use densenet_data::DataError;

use crate::{spec::ConfigError, weights::WeightsError};

/// Why training or evaluation stopped.
///
/// Its `Display` is one line, `PLACE: what is wrong — how to fix it`, as the command prints it.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainError {
    /// An option or a key of a configuration file cannot work.
    Config {
        /// The option, key or file.
        place: String,
        /// What is wrong with it.
        what: String,
        /// What to give instead.
        cure: String,
    },
    /// The architecture cannot work.
    Architecture(ConfigError),
    /// The data cannot be used.
    Data(DataError),
    /// A weights or model file cannot be used.
    Weights(WeightsError),
    /// The network cannot be built or run.
    Network(NetworkError),
    /// A run's saved state cannot be used.
    State {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// The operating system refused.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, e.g. `create`.
        action: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
    /// A loss, gradient or output was NaN or infinite; nothing of that step reached the weights.
    NonFinite(Box<NonFinite>),
    /// Another process trains in this run directory.
    Locked {
        /// The run directory.
        path: PathBuf,
        /// Who holds it, as that process wrote it down.
        holder: String,
    },
    /// A promise of this program was broken: our own bug.
    Bug(String),
}

/// Where numbers stopped being finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonFinite {
    /// What was not finite: `loss`, a parameter's gradient, `validation loss`.
    pub what: String,
    /// The epoch, from 1; 0 in an evaluation outside a run.
    pub epoch: usize,
    /// The optimiser step within the run, from 1.
    pub step: u64,
    /// The samples of the batch: paths, or names of records.
    pub samples: Vec<String>,
    /// The run directory, whose last state is still good.
    pub run: Option<PathBuf>,
}

impl TrainError {
    /// The process exit code of the command line's contract.
    pub fn exit_code(&self) -> u8 {
        match self {
            TrainError::Config { .. } | TrainError::Architecture(_) => 2,
            TrainError::Data(error) => error.exit_code(),
            TrainError::Weights(error) => error.exit_code(),
            TrainError::Network(error) => error.exit_code(),
            TrainError::State { .. } => 4,
            TrainError::Io { .. } => 5,
            TrainError::NonFinite(_) => 6,
            TrainError::Locked { .. } => 75,
            TrainError::Bug(_) => 70,
        }
    }

    /// An option or key whose value cannot work.
    pub fn config(
        place: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        TrainError::Config {
            place: place.into(),
            what: what.into(),
            cure: cure.into(),
        }
    }

    pub(crate) fn state(path: &Path, what: impl Into<String>, cure: impl Into<String>) -> Self {
        TrainError::State {
            path: path.to_path_buf(),
            what: what.into(),
            cure: cure.into(),
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str, cause: io::Error) -> Self {
        TrainError::Io {
            path: path.to_path_buf(),
            action,
            cause,
        }
    }
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self {
            TrainError::Config { place, what, cure } => format!("{place}: {what} — {cure}"),
            TrainError::Architecture(error) => error.to_string(),
            TrainError::Data(error) => error.to_string(),
            TrainError::Weights(error) => error.to_string(),
            TrainError::Network(error) => error.to_string(),
            TrainError::State { path, what, cure } => {
                format!("{}: {what} — {cure}", path.display())
            }
            TrainError::Io {
                path,
                action,
                cause,
            } => {
                format!(
                    "{}: cannot {action}: {cause} — {}",
                    path.display(),
                    io_cure(cause)
                )
            }
            TrainError::NonFinite(error) => error.to_string(),
            TrainError::Locked { path, holder } => format!(
                "{}: another process is training here ({holder}) — wait for it to end, or start a run of its own without --resume",
                path.display()
            ),
            TrainError::Bug(what) => {
                format!("internal error: {what} — please report this, with the command you ran")
            }
        };
        // One line, whatever a path or a decoder's message contains.
        f.write_str(&line.replace(['\n', '\r'], " "))
    }
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// So many names fit on a line that people still read.
        const SHOWN: usize = 4;
        if let Some(run) = &self.run {
            write!(f, "{}: ", run.display())?;
        }
        write!(f, "the {} is not finite", self.what)?;
        if self.epoch > 0 {
            write!(f, " at step {} (epoch {})", self.step, self.epoch)?;
        }
        if !self.samples.is_empty() {
            let shown = self
                .samples
                .iter()
                .take(SHOWN)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            write!(f, "; the batch was {shown}")?;
            if let Some(more) = self.samples.len().checked_sub(SHOWN).filter(|&n| n > 0) {
                write!(f, " and {more} more")?;
            }
        }
        f.write_str(if self.epoch > 0 {
            " — the saved state is from before this step; try a smaller --lr, --warmup or --clip-norm, and look at these samples"
        } else {
            " — look at these samples, or use an earlier model"
        })
    }
}

/// What usually helps against an input/output error.
fn io_cure(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => {
            "check the permissions, or choose another folder with --out"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some space; what was saved before is intact"
        }
        io::ErrorKind::ReadOnlyFilesystem => "choose a folder on a writable disk with --out",
        _ => "check the disk and the path",
    }
}

impl std::error::Error for TrainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TrainError::Architecture(error) => Some(error),
            TrainError::Data(error) => Some(error),
            TrainError::Weights(error) => Some(error),
            TrainError::Network(error) => Some(error),
            TrainError::Io { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl From<ConfigError> for TrainError {
    fn from(error: ConfigError) -> Self {
        TrainError::Architecture(error)
    }
}

impl From<DataError> for TrainError {
    fn from(error: DataError) -> Self {
        TrainError::Data(error)
    }
}

impl From<NetworkError> for TrainError {
    fn from(error: NetworkError) -> Self {
        TrainError::Network(error)
    }
}

impl From<WeightsError> for TrainError {
    fn from(error: WeightsError) -> Self {
        TrainError::Weights(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_non_finite_step_names_its_batch_on_one_line() {
        let error = TrainError::NonFinite(Box::new(NonFinite {
            what: "loss".into(),
            epoch: 3,
            step: 17,
            samples: (0..6).map(|i| format!("img{i}\n.png")).collect(),
            run: Some("runs/x-1".into()),
        }));
        let line = error.to_string();
        assert!(
            line.starts_with(
                "runs/x-1: the loss is not finite at step 17 (epoch 3); the batch was img0"
            ),
            "{line}"
        );
        assert!(
            line.contains("and 2 more — the saved state is from before this step"),
            "{line}"
        );
        assert!(!line.contains('\n'));
        assert_eq!(error.exit_code(), 6);
    }

    #[test]
    fn exit_codes_follow_the_contract() {
        let io = TrainError::io(
            Path::new("x"),
            "create",
            io::Error::from(io::ErrorKind::StorageFull),
        );
        assert_eq!(io.exit_code(), 5);
        assert!(io.to_string().starts_with("x: cannot create: "), "{io}");
        assert_eq!(TrainError::config("--lr", "-1", "positive").exit_code(), 2);
        assert_eq!(TrainError::state(Path::new("x"), "", "").exit_code(), 4);
        assert_eq!(
            TrainError::Locked {
                path: "x".into(),
                holder: "process 7".into()
            }
            .exit_code(),
            75
        );
        assert_eq!(TrainError::Bug(String::new()).exit_code(), 70);
    }
}
