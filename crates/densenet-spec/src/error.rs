//! What can be wrong with a configuration.

use std::fmt;

/// A configuration that describes no working network: the field, its value, and what would work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The offending field, as it is called in [`crate::DenseNetConfig`] and on the command line.
    pub field: &'static str,
    /// The value that was given.
    pub value: String,
    /// Why it cannot work and which values do.
    pub reason: String,
}

impl ConfigError {
    pub(crate) fn new(
        field: &'static str,
        value: impl fmt::Display,
        reason: impl Into<String>,
    ) -> Self {
        ConfigError {
            field,
            value: value.to_string(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.field, self.value, self.reason)
    }
}

impl std::error::Error for ConfigError {}
