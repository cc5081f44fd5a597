//! What can go wrong between the broker and a driver.

use std::error::Error;

use tonic::Code;

use crate::backend::{DialError, DialErrorKind, SessionLost};

/// Why an RPC brought no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The driver, or its gRPC library, answered with a status.
    #[error("the driver answered {}: {message}", name(*.code))]
    Status {
        /// Its code.
        code: Code,
        /// Its message.
        message: String,
    },
    /// The connection, or the RPC's stream, ended in the middle.
    #[error("{message}")]
    Broken {
        /// What happened, for people.
        message: String,
        /// The driver's side proves that it did not begin with the RPC.
        refused: bool,
    },
    /// The driver does not keep to the protocol.
    #[error("the driver {0}")]
    Protocol(String),
}

impl Fault {
    /// An end in the middle, as HTTP/2 tells it.
    pub(super) fn broken(error: &h2::Error) -> Self {
        // A goodbye ends only the streams behind the last one that the driver's side has begun with.
        let refused =
            error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        Self::Broken {
            message: format!("the connection to the driver broke: {}", causes(error)),
            refused,
        }
    }

    /// What a fault while a session is opened means to the pool.
    pub(super) fn of_dial(self, doing: &str) -> DialError {
        let kind = match &self {
            Self::Status { code, .. } => dial_kind(*code),
            Self::Broken { .. } => DialErrorKind::Transient,
            Self::Protocol(_) => DialErrorKind::Permanent,
        };
        DialError {
            kind,
            message: format!("{doing}: {self}"),
        }
    }

    /// Whether it proves, as an answer to Connect, that no session was made.
    pub(super) fn leaves_no_session(&self) -> bool {
        match self {
            Self::Status { code, .. } => dial_kind(*code) != DialErrorKind::Transient,
            Self::Broken { refused, .. } => *refused,
            Self::Protocol(_) => false,
        }
    }

    pub(super) fn of_session(self, doing: &str) -> SessionLost {
        SessionLost::because(format!("{doing}: {self}"))
    }
}

/// The codes of Connect, as the protocol has them.
fn dial_kind(code: Code) -> DialErrorKind {
    match code {
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::NotFound
        | Code::Unimplemented => DialErrorKind::Permanent,
        Code::ResourceExhausted => DialErrorKind::TooMany,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => DialErrorKind::Transient,
    }
}

/// A code by the name that gRPC gives it.
pub(crate) const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// An error with what lies beneath it, for people.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_while_dialing_is_permanent_transient_or_want_of_room() {
        let kind = |code| {
            let message = "the paper is out".to_owned();
            Fault::Status { code, message }.of_dial("Connect")
        };
        assert_eq!(kind(Code::InvalidArgument).kind, DialErrorKind::Permanent);
        assert_eq!(kind(Code::Unimplemented).kind, DialErrorKind::Permanent);
        assert_eq!(kind(Code::ResourceExhausted).kind, DialErrorKind::TooMany);
        assert_eq!(kind(Code::Unavailable).kind, DialErrorKind::Transient);
        assert_eq!(kind(Code::Unknown).kind, DialErrorKind::Transient);
        assert_eq!(
            kind(Code::InvalidArgument).message,
            "Connect: the driver answered INVALID_ARGUMENT: the paper is out"
        );
        let protocol = Fault::Protocol("speaks version 2".to_owned());
        assert_eq!(protocol.of_dial("Describe").kind, DialErrorKind::Permanent);
    }
}
