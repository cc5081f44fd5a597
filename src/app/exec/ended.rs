//! How a call ends before its answer does, and what is told of it.

use std::io;

use prost::Message as _;
use tonic::Code;
use tonic_types::{ErrorDetails, FieldViolation, RpcStatusExt as _, Status};

use super::super::exit::{Exit, chain};
use crate::grpc::DOMAIN;

/// Why a call has ended early.
#[derive(Debug)]
pub(super) enum Ended {
    /// The broker said so.
    Failed(Box<Status>),
    /// Something here, or on the way.
    Here(Exit),
    /// Nobody reads the answer any more, as with `| head`. That is no fault.
    Unread,
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Self {
        Self::Here(exit)
    }
}

/// Of standard output.
impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Unread;
        }
        Self::Here(Exit::unavailable("cannot write", error))
    }
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        match Status::decode(status.details()) {
            Ok(said) if is_brokers(&said.get_error_details()) => Self::Failed(Box::new(said)),
            _ => Self::Here(Exit::unavailable(
                "no answer of the broker's, so what became of the call is unknown",
                chain(&status),
            )),
        }
    }
}

fn is_brokers(details: &ErrorDetails) -> bool {
    details.error_info().is_some_and(|info| info.domain == DOMAIN)
}

/// What to tell of an error of the broker's: a line, and its facts on lines of their own.
pub(super) fn told(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or("", |info| info.reason.as_str());
    let code = word(Code::from_i32(status.code));
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice());
    let violations = violations.unwrap_or_default().iter();
    let said = |fault: &FieldViolation, field: fn(&str) -> &str| match field(&fault.field) {
        "" => fault.description.clone(),
        field => format!("{field}: {}", fault.description),
    };
    let (as_said, faults): (Vec<_>, Vec<_>) = violations
        .map(|fault| (said(fault, |field| field), said(fault, asked)))
        .unzip();
    let mut message = without(&status.message, &as_said).to_owned();
    for (as_said, fault) in as_said.iter().zip(&faults) {
        message = message.replace(as_said, fault);
    }
    let mut lines = vec![if reason.is_empty() || reason == code {
        format!("{code}: {message}")
    } else {
        format!("{code} {reason}: {message}")
    }];
    lines.extend(faults);
    let mut facts: Vec<_> = info.iter().flat_map(|info| &info.metadata).collect();
    // What matters most goes first.
    facts.sort_by_key(|(name, _)| (*name != "executed", *name != "kind", *name));
    lines.extend(facts.iter().map(|(name, value)| format!("{name}: {value}")));
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        lines.push(format!("try again in: {delay:?}"));
    }
    let lines: Vec<_> = lines.iter().map(|line| line.trim().replace('\n', " ")).collect();
    super::bar::harmless(&lines.join("\n  "))
}

/// A field as the command line's user knows it, whichever message it went in.
fn asked(field: &str) -> &str {
    let inner = ["request.", "call.", "open."]
        .iter()
        .find_map(|outer| field.strip_prefix(outer));
    inner.unwrap_or(field)
}

/// A message without the faults that it repeats at its end.
fn without<'a>(message: &'a str, faults: &[String]) -> &'a str {
    let before = faults
        .first()
        .and_then(|first| message.split_once(first.as_str()));
    let before = before.map(|(before, _)| before.trim_end_matches([':', ' ']));
    before.filter(|before| !before.is_empty()).unwrap_or(message)
}

/// A code's name as protos write it.
fn word(code: Code) -> String {
    let mut word = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(c.to_ascii_uppercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic_types::StatusExt as _;

    use super::*;

    fn ended(code: Code, details: ErrorDetails) -> Ended {
        tonic::Status::with_error_details(code, "429 Rate limit\nreached", details).into()
    }

    #[test]
    fn an_error_is_told_with_all_that_helps() {
        let facts = [("model", "busy"), ("executed", "no"), ("kind", "rate_limited")];
        let facts: HashMap<_, _> = facts
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let mut details = ErrorDetails::with_error_info("BACKEND_ERROR", DOMAIN, facts);
        details.set_retry_info(Some(Duration::from_secs(2)));
        details.add_bad_request_violation("operation.params.a", "must be \x1b[1mb");
        let Ended::Failed(status) = ended(Code::ResourceExhausted, details) else {
            panic!("the broker said it");
        };
        assert_eq!(
            told(&status),
            "RESOURCE_EXHAUSTED BACKEND_ERROR: 429 Rate limit reached\n  operation.params.a: must be \u{fffd}[1mb\n  \
             executed: no\n  kind: rate_limited\n  model: busy\n  try again in: 2s"
        );
    }

    #[test]
    fn faults_are_told_once() {
        let faults = ["a: must be 1", "b.c: must be 2"].map(str::to_owned);
        assert_eq!(
            without("invalid argument: a: must be 1; b.c: must be 2", &faults),
            "invalid argument"
        );
        assert_eq!(without("a: must be 1", &faults), "a: must be 1");
        assert_eq!(without("senseless", &faults), "senseless");
        assert_eq!(without("senseless", &[]), "senseless");
    }

    #[test]
    fn fields_are_told_alike_whichever_message_they_went_in() {
        let cases = [
            ("operation.params.a", "operation.params.a"),
            ("request.operation.params.a", "operation.params.a"),
            ("call.operation.params.a", "operation.params.a"),
            ("request.options.endpoint", "options.endpoint"),
            ("open.options.endpoint", "options.endpoint"),
            ("request_id", "request_id"),
        ];
        for (field, told_as) in cases {
            for before in ["invalid argument: ", ""] {
                let details = ErrorDetails::with_bad_request_violation(field, "must be 1");
                let message = format!("{before}{field}: must be 1");
                let status = tonic::Status::with_error_details(Code::InvalidArgument, message, details);
                let told = told(&Status::decode(status.details()).unwrap());
                assert!(told.ends_with(&format!("\n  {told_as}: must be 1")), "{told}");
                assert!(field == told_as || !told.contains(field), "{told}");
            }
        }
    }

    #[test]
    fn what_the_broker_did_not_say_is_no_word_of_its() {
        let elsewhere = ErrorDetails::with_error_info("GONE", "example.com", HashMap::new());
        for details in [ErrorDetails::new(), elsewhere] {
            let Ended::Here(exit) = ended(Code::Unavailable, details) else {
                panic!("the broker did not say it");
            };
            assert_eq!(exit.code(), 69);
            assert!(exit.to_string().contains("unknown"), "{exit}");
        }
    }

    #[test]
    fn codes_have_the_names_that_protos_give_them() {
        assert_eq!(word(Code::Ok), "OK");
        assert_eq!(word(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
    }
}
