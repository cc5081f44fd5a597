//! What is wrong with a configuration: each fault with its key, where it was set, and what would be right.

use std::fmt;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting; empty if it is the source itself.
    pub key: String,
    /// Where it was set: `sublet.toml:3`, `SUBLET_WORKERS`, `--workers`.
    pub source: String,
    /// What is wrong with it and what would be right. Never a secret.
    pub message: String,
}

/// Every fault of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, key: &str, source: String, message: impl Into<String>) {
        self.0.push(Fault {
            key: key.to_owned(),
            source,
            message: message.into(),
        });
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a fault:")?,
            count => write!(f, "the configuration has {count} faults:")?,
        }
        for Fault { key, source, message } in &self.0 {
            let separator = if key.is_empty() { "" } else { ": " };
            write!(f, "\n  {source}: {key}{separator}{message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
