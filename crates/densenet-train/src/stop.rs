//! Stopping between two steps.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use signal_hook::consts::{SIGINT, SIGTERM};

/// A request to stop that the loop looks at between steps. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct StopFlag {
    signal: Arc<AtomicUsize>,
}

impl StopFlag {
    /// A flag that nothing has raised.
    pub fn new() -> Self {
        StopFlag::default()
    }

    /// Asks the loop to finish its step, save and return, as signal number `signal` would (2 is Ctrl-C).
    pub fn raise(&self, signal: i32) {
        self.signal
            .store(usize::try_from(signal).unwrap_or(0), Ordering::SeqCst);
    }

    /// The signal that asked, if one did.
    pub fn raised(&self) -> Option<i32> {
        i32::try_from(self.signal.load(Ordering::SeqCst))
            .ok()
            .filter(|&s| s != 0)
    }
}

/// A flag that the first Ctrl-C (or SIGTERM) raises; the second ends the process at once with 128 + its number.
///
/// Call it once, before training.
///
/// # Errors
/// The system refuses a handler.
pub fn install_signal_handlers() -> std::io::Result<StopFlag> {
    let flag = StopFlag::new();
    let first_seen = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Actions run in the order they were registered: at the first signal the condition is still false.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            128 + signal,
            Arc::clone(&first_seen),
        )?;
        signal_hook::flag::register(signal, Arc::clone(&first_seen))?;
        let number = usize::try_from(signal).unwrap_or(0);
        signal_hook::flag::register_usize(signal, Arc::clone(&flag.signal), number)?;
    }
    // Beyond a limit on file sizes the system would end the process; handled, the write fails and is reported like any
    // other, and what was saved before stays.
    #[cfg(unix)]
    signal_hook::flag::register(
        signal_hook::consts::SIGXFSZ,
        Arc::new(AtomicBool::new(false)),
    )?;
    Ok(flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the child that [`the_second_signal_ends_the_process_at_once`] starts: two signals. On its own: none.
    #[test]
    fn signals_itself_when_told() {
        if std::env::var_os("DENSENET_TEST_SIGNALS").is_none() {
            assert_eq!(StopFlag::new().raised(), None);
            return;
        }
        let flag = install_signal_handlers().unwrap();
        signal_hook::low_level::raise(SIGINT).unwrap();
        if flag.raised() == Some(SIGINT) {
            signal_hook::low_level::raise(SIGTERM).unwrap();
        }
        // Only reached where one of the two did not do what it should.
        std::process::exit(1);
    }

    #[test]
    fn the_second_signal_ends_the_process_at_once() {
        use std::process::{Command, Stdio};
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stop::tests::signals_itself_when_told"])
            .env("DENSENET_TEST_SIGNALS", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(128 + SIGTERM));
    }

    #[test]
    fn a_raised_flag_tells_which_signal() {
        let flag = StopFlag::new();
        assert_eq!(flag.raised(), None);
        flag.clone().raise(SIGTERM);
        assert_eq!(flag.raised(), Some(SIGTERM));
    }
}
