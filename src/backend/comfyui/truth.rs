//! What a box says of a prompt when it is asked: its history and its queue are the truth, events are hints.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    desk::Desk,
    queue::{Queue, Reader},
};
use crate::backend::CallError;

/// A finished prompt.
#[derive(Debug)]
pub(super) struct History {
    /// All that the box says of it.
    pub(super) entry: Box<RawValue>,
    pub(super) outputs: Box<RawValue>,
    pub(super) ended: Ended,
}

/// How a prompt ended.
#[derive(Debug)]
pub(super) enum Ended {
    Success,
    /// A node failed: what the box says of it.
    Failed(Option<Box<RawValue>>),
    Interrupted,
}

/// Where a prompt stands.
#[derive(Debug)]
pub(super) enum Standing {
    Finished(Box<History>),
    Running,
    /// So many are before it.
    Pending(usize),
    /// The box does not know it.
    Absent,
}

/// The box's queue. Everything waiting is in it with its whole workflow, so it is not asked for often, and not kept.
pub(super) async fn queue(desk: &mut Desk) -> Result<Queue, CallError> {
    let mut told = Reader::default();
    desk.read_in_parts("/queue", &mut |part| told.read(part)).await?;
    told.end().ok_or_else(|| CallError::Broken {
        message: "the box's queue is not what it should be".to_owned(),
        executed: None,
    })
}

/// How much waits at the box and runs: the cheap question.
pub(super) async fn remaining(desk: &mut Desk) -> Result<u32, CallError> {
    #[derive(Deserialize)]
    struct Told {
        exec_info: Exec,
    }
    #[derive(Deserialize)]
    struct Exec {
        queue_remaining: u32,
    }
    let told: Told = desk.read("/prompt").await?;
    Ok(told.exec_info.queue_remaining)
}

/// A finished prompt's history, if the box has it.
pub(super) async fn history(desk: &mut Desk, id: &str) -> Result<Option<Box<History>>, CallError> {
    #[derive(Deserialize)]
    struct Entry {
        outputs: Box<RawValue>,
        status: Option<Status>,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        status_str: String,
        #[serde(default)]
        messages: Vec<(String, Box<RawValue>)>,
    }
    let mut found: std::collections::HashMap<String, Box<RawValue>> =
        desk.read(&format!("/history/{id}")).await?;
    let Some(entry) = found.remove(id) else {
        return Ok(None);
    };
    let read: Entry = serde_json::from_str(entry.get()).map_err(|error| CallError::Broken {
        message: format!("the box's history is not what it should be: {error}"),
        executed: None,
    })?;
    let ended = match read.status {
        Some(status) if ["interrupted", "cancelled"].contains(&status.status_str.as_str()) => {
            Ended::Interrupted
        }
        // Whatever it may be called one day: it did not end well.
        Some(status) if !["", "success"].contains(&status.status_str.as_str()) => {
            let mut messages = status.messages.into_iter();
            match messages.rfind(|(event, data)| is_end(event, data)) {
                Some((event, _)) if event == "execution_interrupted" => Ended::Interrupted,
                found => Ended::Failed(found.map(|(_, data)| data)),
            }
        }
        _ => Ended::Success,
    };
    Ok(Some(Box::new(History {
        outputs: read.outputs,
        ended,
        entry,
    })))
}

/// Whether a message of the history says how the prompt ended. A blocked branch is no end.
fn is_end(event: &str, data: &RawValue) -> bool {
    match event {
        "execution_interrupted" => true,
        "execution_error" => !super::events::is_blocked(data.get()),
        _ => false,
    }
}

/// Where a prompt stands.
pub(super) async fn standing(desk: &mut Desk, id: &str) -> Result<Standing, CallError> {
    if let Some(history) = history(desk, id).await? {
        return Ok(Standing::Finished(history));
    }
    if let Some(standing) = queue(desk).await?.standing(id) {
        return Ok(standing);
    }
    // It may have ended between the two questions.
    Ok(match history(desk, id).await? {
        Some(history) => Standing::Finished(history),
        None => Standing::Absent,
    })
}
