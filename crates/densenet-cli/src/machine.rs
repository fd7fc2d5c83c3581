//! What this machine has: memory, as the system tells.

use crate::{
    failure::{Failure, LIMIT},
    output,
};

/// The most memory this process has had resident so far, where the system tells.
pub fn peak_rss_bytes() -> Option<u64> {
    kib_line("/proc/self/status", "VmHWM:")
}

/// The memory this process has resident now, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    kib_line("/proc/self/status", "VmRSS:")
}

/// The memory that can be had without swapping, where the system tells.
pub fn available_bytes() -> Option<u64> {
    kib_line("/proc/meminfo", "MemAvailable:")
}

/// The value of `PREFIX … kB` in a file of the system's, in bytes.
fn kib_line(path: &str, prefix: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(prefix))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Refuses work that does not fit the memory that is free; where the system does not tell, everything fits.
///
/// # Errors
/// `what` needs more than there is (exit code 7); `cure` says what to make smaller.
pub fn require(bytes: u64, what: &str, cure: &str) -> Result<(), Failure> {
    match available_bytes() {
        Some(available) if bytes > available => Err(Failure::new(
            LIMIT,
            format_args!(
                "{what}: needs {} of memory where {} are free — {cure}",
                output::bytes(bytes),
                output::bytes(available)
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_known() {
        assert!(peak_rss_bytes().is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        assert!(require(1, "x", "y").is_ok());
        if available_bytes().is_some() {
            assert!(require(u64::MAX, "x", "y").is_err());
        }
    }
}
