//! Shape errors at the public edge.

use std::fmt;

/// A buffer or view that does not fit the operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelError {
    /// The operation.
    pub operation: &'static str,
    /// Which argument is off.
    pub what: &'static str,
    /// Elements (or channels) needed.
    pub expected: usize,
    /// Elements (or channels) found.
    pub found: usize,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KernelError {
            operation,
            what,
            expected,
            found,
        } = self;
        write!(f, "{operation}: {what} needs {expected}, found {found}")
    }
}

impl std::error::Error for KernelError {}

/// `Ok` where `found ≥ expected`.
pub(crate) fn at_least(
    operation: &'static str,
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), KernelError> {
    check(operation, what, expected, found, found >= expected)
}

/// `Ok` where `found = expected`.
pub(crate) fn exactly(
    operation: &'static str,
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), KernelError> {
    check(operation, what, expected, found, found == expected)
}

fn check(
    operation: &'static str,
    what: &'static str,
    expected: usize,
    found: usize,
    ok: bool,
) -> Result<(), KernelError> {
    if ok {
        return Ok(());
    }
    Err(KernelError {
        operation,
        what,
        expected,
        found,
    })
}
