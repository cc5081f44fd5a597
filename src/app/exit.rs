//! How the program ends when it does not end well, by the codes of sysexits.h.

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

use crate::config::Faults;

/// A bad end: what to tell, and the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    /// What was asked about is not well.
    pub(super) fn unwell(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code: 1, message }
    }

    /// The command line or the configuration is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code: 64, message }
    }

    /// Something that is needed is not available.
    pub(super) fn unavailable(what: impl Into<String>, cause: impl Into<Box<dyn Error>>) -> Self {
        let (what, cause) = (what.into(), cause.into());
        Self {
            code: 69,
            message: format!("{what}: {}", chain(&*cause)),
        }
    }

    /// A signal has cancelled what was under way: the code that shells give such a program.
    pub(super) fn signalled(signal: u8) -> Self {
        Self {
            code: 128 + signal,
            message: "the call is cancelled".to_owned(),
        }
    }

    /// A defect of the broker.
    pub(super) fn internal(what: impl Into<String>, cause: impl Into<Box<dyn Error>>) -> Self {
        Self {
            code: 70,
            ..Self::unavailable(what, cause)
        }
    }

    /// Tells what happened, on standard error.
    pub(super) fn tell(self) -> ExitCode {
        // If nobody reads it, there is nobody to tell.
        writeln!(io::stderr(), "sublet: {}", self.message).ok();
        ExitCode::from(self.code)
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }
}

impl From<Faults> for Exit {
    fn from(faults: Faults) -> Self {
        Self::usage(faults.to_string())
    }
}

/// Prints help, a version, or what is wrong with the command line.
pub(super) fn clap(answer: &clap::Error) -> ExitCode {
    answer.print().ok();
    ExitCode::from(if answer.use_stderr() { 64 } else { 0 })
}

/// An error and its causes, those left out that only repeat.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}
