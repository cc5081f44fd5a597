//! Structured logs on standard error: readable on a terminal, JSON elsewhere. Exporters come later.
//!
//! Spans nest as `request{rpc, peer, id}` (see `grpc/trace.rs`), and below it `wait`, `dial` and `execute`.

use std::{
    io::{self, IsTerminal as _},
    str::FromStr,
};

use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The shape of a line.
    pub format: Format,
    /// Which events, in the syntax of `tracing`'s filters: `info`, `debug`, `info,sublet::pool=debug`.
    pub filter: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            filter: "info".to_owned(),
        }
    }
}

impl Settings {
    /// Whether `filter` can be read.
    #[must_use]
    pub fn is_filter(filter: &str) -> bool {
        !filter.trim().is_empty() && EnvFilter::builder().parse(filter).is_ok()
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `Pretty` on a terminal, else `Json`.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// An object a line.
    Json,
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Self::Auto),
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// Logging could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The filter cannot be read.
    #[error("the log filter cannot be read")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something logs already.
    #[error("logging was started before")]
    Twice(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging for the whole process.
///
/// # Errors
/// When the filter cannot be read, or logging was started before.
pub fn start(settings: &Settings) -> Result<(), StartError> {
    let filter = EnvFilter::builder().parse(&settings.filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let terminal = io::stderr().is_terminal();
    match (settings.format, terminal) {
        (Format::Json, _) | (Format::Auto, false) => {
            lines.json().flatten_event(true).with_span_list(true).try_init()?
        }
        (Format::Pretty, ansi) | (Format::Auto, ansi @ true) => lines.compact().with_ansi(ansi).try_init()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_before_they_are_used() {
        for good in ["info", "off", "warn,sublet::pool=debug"] {
            assert!(Settings::is_filter(good), "{good}");
        }
        for bad in ["", " ", "sublet=loud", "a=b=c"] {
            assert!(!Settings::is_filter(bad), "{bad}");
        }
    }
}
