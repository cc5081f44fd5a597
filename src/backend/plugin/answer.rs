//! How a call ended: what a driver's answers, errors and statuses mean.

use std::{collections::BTreeMap, time::Duration};

use tonic::Code;

use super::fault::Fault;
use crate::{
    backend::{Completion, Output},
    error::{BackendError, Executed},
    proto::plugin::{self, answer, execute_response::Outcome},
};

/// A driver's facts for programs, as JSON: the rest of an error's details needs room too.
const MAX_METADATA_BYTES: usize = 1024;

/// How a call ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With an answer.
    Well(Completion),
    /// With an error; the session goes on.
    Badly(BackendError, Executed),
    /// With the session's end; what is known of the call's execution, if it is more than what was handed over tells.
    Lost(String, Option<Executed>),
}

impl Ended {
    /// What is known of the call's execution.
    pub(super) fn executed(&self) -> Executed {
        match self {
            Self::Well(_) => Executed::Yes,
            Self::Badly(_, executed) => *executed,
            Self::Lost(_, executed) => executed.unwrap_or(Executed::Unknown),
        }
    }
}

/// Reads what a driver answered.
pub(super) fn read(outcome: Option<Outcome>) -> Ended {
    match outcome {
        Some(Outcome::Answer(answer)) => completed(answer),
        Some(Outcome::Error(error)) => failed(error),
        None => Ended::Lost(
            "the driver answered with neither an answer nor an error".to_owned(),
            None,
        ),
    }
}

pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn completed(answer: plugin::Answer) -> Ended {
    let output = match answer.output {
        Some(answer::Output::Json(text)) if is_json(&text) => Output::Json(text),
        Some(answer::Output::Json(_)) => {
            let error = error(Code::Internal, "the driver's answer is no JSON".to_owned());
            return Ended::Badly(error, Executed::Yes);
        }
        Some(answer::Output::Body(bytes)) => Output::Body(bytes),
        None => Output::None,
    };
    let mut attributes: Vec<_> = answer.attributes.into_iter().collect();
    attributes.sort();
    Ended::Well(Completion {
        output,
        attributes,
        retries: 0,
    })
}

fn failed(told: plugin::Error) -> Ended {
    let executed = match told.executed() {
        plugin::Executed::No => Executed::No,
        plugin::Executed::Yes | plugin::Executed::Unspecified => Executed::Yes,
        plugin::Executed::Unknown => Executed::Unknown,
    };
    if told.session_lost {
        let message = if told.code.is_empty() {
            told.message
        } else {
            format!("{}: {}", told.code, told.message)
        };
        return Ended::Lost(message, Some(executed));
    }
    let mut found = error(code(told.grpc_code, executed), told.message);
    if !told.code.is_empty() {
        found.metadata.insert("driver_code", told.code);
    }
    let facts: BTreeMap<_, _> = told.metadata.into_iter().collect();
    let facts = serde_json::to_string(&facts).unwrap_or_default();
    if facts.len() > "{}".len() && facts.len() <= MAX_METADATA_BYTES {
        found.metadata.insert("driver_metadata", facts);
    }
    found.retry_after = told.retry_after.and_then(|after| Duration::try_from(after).ok());
    Ended::Badly(found, executed)
}

/// The code that a caller gets. UNAVAILABLE promises that nothing was executed, and UNAUTHENTICATED is about the
/// broker's own callers.
fn code(told: i32, executed: Executed) -> Code {
    let code = Code::from_i32(told);
    let promises = code == Code::Unavailable && executed != Executed::No;
    if code == Code::Ok || promises {
        Code::Unknown
    } else if code == Code::Unauthenticated {
        Code::PermissionDenied
    } else {
        code
    }
}

/// What an RPC without an answer means, as the protocol's table has it.
pub(super) fn of_fault(fault: Fault) -> Ended {
    let told = fault.to_string();
    match fault {
        Fault::Status { code, message } => match code {
            Code::NotFound => Ended::Lost(told, Some(Executed::No)),
            Code::Unimplemented => Ended::Badly(error(code, message), Executed::No),
            Code::InvalidArgument
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::DataLoss => Ended::Badly(error(code, message), Executed::Yes),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unavailable
            | Code::Unauthenticated => Ended::Lost(told, None),
        },
        Fault::Broken { refused, .. } => Ended::Lost(told, refused.then_some(Executed::No)),
        Fault::Protocol(_) => Ended::Lost(told, None),
    }
}

fn error(code: Code, message: String) -> BackendError {
    BackendError {
        code,
        message,
        metadata: BTreeMap::new(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> plugin::Error {
        plugin::Error {
            code: "PAPER_JAM".to_owned(),
            message: "tray 2".to_owned(),
            grpc_code: Code::FailedPrecondition as i32,
            metadata: [("tray".to_owned(), "2".to_owned())].into(),
            ..plugin::Error::default()
        }
    }

    #[test]
    fn an_error_keeps_the_drivers_code_and_facts() {
        let Ended::Badly(error, executed) = read(Some(Outcome::Error(told()))) else {
            panic!("the session goes on");
        };
        assert_eq!((error.code, executed), (Code::FailedPrecondition, Executed::Yes));
        assert_eq!(error.metadata["driver_code"], "PAPER_JAM");
        assert_eq!(error.metadata["driver_metadata"], r#"{"tray":"2"}"#);
    }

    #[test]
    fn an_error_that_loses_the_session_says_so_with_its_code() {
        let mut lost = told();
        lost.session_lost = true;
        lost.set_executed(plugin::Executed::No);
        let Ended::Lost(message, executed) = read(Some(Outcome::Error(lost))) else {
            panic!("the session is lost");
        };
        assert_eq!(message, "PAPER_JAM: tray 2");
        assert_eq!(executed, Some(Executed::No));
    }

    #[test]
    fn unavailable_is_kept_for_what_was_not_executed() {
        let unavailable = Code::Unavailable as i32;
        assert_eq!(code(unavailable, Executed::No), Code::Unavailable);
        assert_eq!(code(unavailable, Executed::Yes), Code::Unknown);
        assert_eq!(
            code(Code::Unauthenticated as i32, Executed::No),
            Code::PermissionDenied
        );
        assert_eq!(code(0, Executed::Yes), Code::Unknown);
    }

    #[test]
    fn each_status_means_what_the_protocol_says() {
        let ended = |code| {
            let message = "why".to_owned();
            match of_fault(Fault::Status { code, message }) {
                Ended::Well(_) => "well".to_owned(),
                Ended::Badly(error, executed) => format!("{:?} {}", error.code, executed.word()),
                Ended::Lost(_, executed) => format!("lost {}", executed.map_or("?", Executed::word)),
            }
        };
        assert_eq!(ended(Code::NotFound), "lost no");
        assert_eq!(ended(Code::Unimplemented), "Unimplemented no");
        assert_eq!(ended(Code::InvalidArgument), "InvalidArgument yes");
        assert_eq!(ended(Code::Unavailable), "lost ?");
        assert_eq!(ended(Code::Unknown), "lost ?");
        let broken = |refused| {
            let message = "it broke".to_owned();
            of_fault(Fault::Broken { message, refused }).executed()
        };
        assert_eq!(broken(true), Executed::No);
        assert_eq!(broken(false), Executed::Unknown);
    }

    #[test]
    fn an_answer_that_is_no_json_is_an_error_after_the_fact() {
        let answer = plugin::Answer {
            output: Some(answer::Output::Json("{".to_owned())),
            ..plugin::Answer::default()
        };
        assert_eq!(read(Some(Outcome::Answer(answer))).executed(), Executed::Yes);
    }
}
