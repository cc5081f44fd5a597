//! What boxes answer instead of an answer: the table of errors. The page on this kind has it for people.

use std::{collections::BTreeMap, time::Duration};

use http::header;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tonic::Code;

use super::desk::Answer;
use crate::{
    backend::CallError,
    error::{BackendError, Executed, Faults},
};

/// A message of the box's, at most: a traceback belongs into the `error` event.
const LONGEST: usize = 1024;

/// An error by its kind and what the box says of it.
pub(super) fn error(code: Code, kind: &'static str, message: &str) -> BackendError {
    BackendError {
        code,
        message: shortened(message),
        metadata: BTreeMap::from([("kind", kind.to_owned())]),
        retry_after: None,
    }
}

/// An answer whose status is no success, to anything but a submission.
pub(super) fn of_answer(answer: &Answer) -> CallError {
    CallError::Backend(error_of(answer), Executed::Yes)
}

fn error_of(answer: &Answer) -> BackendError {
    let status = answer.status.as_u16();
    let (code, kind) = match status {
        400 | 422 => (Code::InvalidArgument, "invalid"),
        // The login is the pool's and not the caller's, so it is not for the caller to log in.
        401 | 403 => (Code::FailedPrecondition, "refused"),
        404 => (Code::NotFound, "not_found"),
        405 | 501 => (Code::Unimplemented, "unimplemented"),
        413 => (Code::OutOfRange, "too_large"),
        429 => (Code::ResourceExhausted, "rate_limited"),
        502..=504 => (Code::Unavailable, "unavailable"),
        500..=599 => (Code::Internal, "box_failed"),
        _ => (Code::Unknown, "unexpected"),
    };
    let mut error = error(
        code,
        kind,
        &format!("the box answered {status}: {}", said(answer)),
    );
    error.metadata.insert("status", status.to_string());
    let wait = answer
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|wait| wait.to_str().ok());
    error.retry_after = wait.and_then(|wait| wait.parse().ok()).map(Duration::from_secs);
    error
}

/// What an answer's body says, for people.
fn said(answer: &Answer) -> String {
    let text = answer.text();
    let json: Option<Value> = serde_json::from_str(&text).ok();
    let message = json.as_ref().and_then(|json| {
        let error = json.get("error").unwrap_or(json);
        error.get("message").unwrap_or(error).as_str()
    });
    message.map_or_else(|| text.trim().to_owned(), str::to_owned)
}

/// Something that a box finds wrong. Boxes and their extensions write it in more than one shape, and a shape that is not
/// known must not hide the rest.
struct Problem {
    kind: String,
    message: String,
    details: String,
    extra_info: Value,
}

impl Problem {
    fn read(value: &Value) -> Self {
        let part = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            kind: part("type"),
            message: value.as_str().map_or_else(|| part("message"), str::to_owned),
            details: part("details"),
            extra_info: value.get("extra_info").cloned().unwrap_or_default(),
        }
    }
}

/// What a box says to a submission that it does not take: nothing of it was run.
pub(super) fn of_submission(answer: &Answer) -> CallError {
    let refusal: Option<Value> = answer.json().ok();
    let part = |name: &str| refusal.as_ref().and_then(|refusal| refusal.get(name));
    let problem = part("error").map(Problem::read);
    let nodes = part("node_errors").map(node_errors).unwrap_or_default();
    let mut faults = Faults::default();
    if answer.status.as_u16() == 400 {
        for (field, message) in nodes {
            faults.add(&field, message);
        }
        if let Some(problem) = problem.filter(|problem| faults.is_empty() && !problem.kind.is_empty()) {
            faults.add(&field_of(&problem), problem.told());
        }
    }
    if !faults.is_empty() {
        return CallError::Invalid(faults);
    }
    // A client's error is the box's refusal; after any other it may have taken the prompt.
    let executed = if answer.status.is_client_error() {
        Executed::No
    } else {
        Executed::Unknown
    };
    CallError::Backend(error_of(answer), executed)
}

/// Each error of a workflow's nodes, by their ids, with its field.
pub(super) fn node_errors(nodes: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (id, node) in nodes.as_object().into_iter().flatten() {
        let class = node.get("class_type").and_then(Value::as_str).unwrap_or("?");
        let problems = node.get("errors").and_then(Value::as_array);
        for problem in problems.into_iter().flatten().map(Problem::read) {
            let input = problem.extra_info.get("input_name").and_then(Value::as_str);
            let field = match input {
                Some(input) => format!("params.workflow.{id}.inputs.{input}"),
                None => format!("params.workflow.{id}"),
            };
            found.push((field, format!("{} ({class})", problem.told())));
        }
    }
    found
}

/// Where a fault is that is of no node's input.
fn field_of(problem: &Problem) -> String {
    let node = problem.extra_info.get("node_id").and_then(Value::as_str);
    match (problem.kind.as_str(), node) {
        ("invalid_prompt_id", _) => "params.prompt_id".to_owned(),
        (_, Some(node)) => format!("params.workflow.{node}.class_type"),
        _ => "params.workflow".to_owned(),
    }
}

impl Problem {
    fn told(&self) -> String {
        let mut text = format!("{}: {}", self.kind, self.message);
        if !self.details.is_empty() && self.details != self.message {
            text.push_str(": ");
            text.push_str(&self.details);
        }
        shortened(&text)
    }
}

/// A node that failed while the prompt ran.
pub(super) fn of_run(data: Option<&RawValue>, id: &str) -> CallError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Failed {
        node_id: String,
        node_type: String,
        exception_message: String,
        exception_type: String,
    }
    let failed: Failed = data
        .and_then(|data| serde_json::from_str(data.get()).ok())
        .unwrap_or_default();
    let (code, kind) = match failed.exception_type.rsplit('.').next().unwrap_or_default() {
        "OutOfMemoryError" | "OOM_EXCEPTION" | "MemoryError" => (Code::ResourceExhausted, "out_of_memory"),
        _ if failed.exception_message.contains("out of memory") => (Code::ResourceExhausted, "out_of_memory"),
        _ => (Code::Internal, "node_failed"),
    };
    let message = format!(
        "node {} ({}): {}: {}",
        failed.node_id,
        failed.node_type,
        failed.exception_type,
        failed.exception_message.trim()
    );
    let mut error = error(code, kind, &message);
    let facts = [
        ("prompt_id", id),
        ("node", failed.node_id.as_str()),
        ("class", failed.node_type.as_str()),
        ("exception", failed.exception_type.as_str()),
    ];
    for (name, value) in facts {
        error.metadata.insert(name, shortened(value));
    }
    CallError::Backend(error, Executed::Yes)
}

/// A prompt whose image came on the socket only, and did not come.
pub(super) fn image_lost(id: &str, node: &str) -> CallError {
    let message = format!("the socket was lost, and with it the image of node {node}, which writes no file");
    let mut error = error(Code::DataLoss, "image_lost", &message);
    error.metadata.insert("prompt_id", id.to_owned());
    error.metadata.insert("node", node.to_owned());
    CallError::Backend(error, Executed::Yes)
}

/// Names the prompt in an error that is about it.
pub(super) fn of_prompt(mut error: CallError, id: &str) -> CallError {
    if let CallError::Backend(told, _) = &mut error {
        told.metadata.entry("prompt_id").or_insert_with(|| id.to_owned());
    }
    error
}

/// What goes wrong before a prompt is submitted: whatever was sent, nothing of it can be run.
pub(super) fn before_submission(mut error: CallError) -> CallError {
    if let CallError::Backend(_, executed) = &mut error {
        *executed = Executed::No;
    }
    if let CallError::Broken { executed, .. } | CallError::Lost { executed, .. } = &mut error {
        *executed = Some(Executed::No);
    }
    error
}

/// A prompt that somebody else stopped.
pub(super) fn stopped(id: &str, message: &str, executed: Executed) -> CallError {
    let mut error = error(Code::Cancelled, "interrupted", message);
    error.metadata.insert("prompt_id", id.to_owned());
    CallError::Backend(error, executed)
}

/// A prompt that the box does not have.
pub(super) fn unknown(id: &str, place: &str) -> CallError {
    let message = format!(
        "the box {place} does not know prompt {id}: it is on another one (options.endpoint names the one that is \
         meant), was taken out, or the box has restarted since"
    );
    let mut error = error(Code::NotFound, "no_such_prompt", &message);
    error.metadata.insert("prompt_id", id.to_owned());
    CallError::Backend(error, Executed::Yes)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
