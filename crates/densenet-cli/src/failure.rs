//! How the command ends when it does not end well.

use std::{
    fmt,
    io::Write,
    panic::{self, UnwindSafe},
    process::ExitCode,
    sync::Mutex,
};

use densenet::NetworkError;
use densenet_data::DataError;
use densenet_onnx::OnnxError;
use densenet_spec::ConfigError;
use densenet_train::TrainError;
use densenet_view::ViewError;
use densenet_weights::WeightsError;

/// The command line or a configuration cannot be carried out.
pub const USAGE: u8 = 2;
/// The data cannot be used.
pub const DATA: u8 = 3;
/// A weights or model file cannot be used.
pub const MODEL: u8 = 4;
/// Reading or writing failed.
pub const IO: u8 = 5;
/// Numbers became NaN or infinite.
pub const NON_FINITE: u8 = 6;
/// A limit was exceeded.
pub const LIMIT: u8 = 7;
/// A defect of this program.
pub const BUG: u8 = 70;

/// A reason to stop: the exit code and the one line that explains it.
///
/// The codes: 2 usage or configuration, 3 data, 4 weights or model file, 5 input/output, 6 non-finite numbers, 7 a limit
/// was exceeded, 70 a defect of this program, 75 the run directory is in use, 130 and 143 stopped by a signal after
/// saving.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    /// Empty where everything has been said, or nobody listens.
    message: String,
}

impl Failure {
    /// A failure with this exit code; `message` reads `WHERE: what is wrong — how to fix it`.
    pub fn new(code: u8, message: impl fmt::Display) -> Self {
        Failure {
            code,
            message: message.to_string(),
        }
    }

    /// The command line or a configuration cannot be carried out.
    pub fn usage(message: impl fmt::Display) -> Self {
        Failure::new(USAGE, message)
    }

    /// Ends the program with `code` and says nothing more.
    pub fn silent(code: u8) -> Self {
        Failure::new(code, "")
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::usage(format_args!(
            "{} = {} — {}",
            error.field, error.value, error.reason
        ))
    }
}

/// Errors of the rooms below know their exit code, and their text is the line to print.
macro_rules! from_room {
    ($($error:ty),+) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::new(error.exit_code(), error)
            }
        }
    )+};
}

from_room!(WeightsError, DataError, OnnxError, ViewError);

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Architecture(error) => error.into(),
            TrainError::Network(error) => error.into(),
            error => Failure::new(error.exit_code(), error),
        }
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::Config(error) => error.into(),
            error => Failure::new(error.exit_code(), error),
        }
    }
}

/// Runs the program: prints its failure as one line and turns a panic into one, too.
pub fn guard(run: impl FnOnce() -> Result<(), Failure> + UnwindSafe) -> ExitCode {
    // The first panic's place and message; a later one is a consequence.
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    panic::set_hook(Box::new(|info| {
        if let Ok(mut first) = PANIC.lock() {
            first.get_or_insert_with(|| info.to_string());
        }
    }));
    match panic::catch_unwind(run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            report(&failure.message);
            ExitCode::from(failure.code)
        }
        Err(_) => {
            let cause = PANIC.lock().ok().and_then(|mut first| first.take());
            report(&format!(
                "internal: {} — this is a defect of densenet {}; please report it with the command you ran",
                cause.unwrap_or_default(),
                env!("CARGO_PKG_VERSION"),
            ));
            ExitCode::from(BUG)
        }
    }
}

/// Prints `error: MESSAGE` as one line. A closed standard error is nobody to tell.
fn report(message: &str) {
    if message.is_empty() {
        return;
    }
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr(), "error: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_exit_code() {
        let quiet = panic::take_hook();
        let code = guard(|| panic!("a test's panic"));
        panic::set_hook(quiet);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(BUG)));
    }
}
