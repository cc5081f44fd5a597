//! Everything that is no prompt: asking how one stands, what it has put out, cancelling it, and the box itself. None of it
//! waits for a slot.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::Method;
use serde_json::{json, value::RawValue};

use super::{
    cancel,
    desk::{self, Desk},
    fault, files,
    follow::Tale,
    looks::LOOK_EVERY,
    place::{ASK_EVERY, Place},
    plan::{Control, Fetch, How, ObjectInfo, Upload},
    prompt,
    queue::Item,
    session::BoxSession,
    truth::{self, Ended, Standing},
    validate,
};
use crate::{
    backend::{Body, CallError, Completion, Fence, Output, Sink},
    error::{Executed, Faults},
};

/// The largest upload: boxes take 100 MiB unless they are told otherwise, and it is held whole while it is sent.
const MAX_UPLOAD: usize = 64 << 20;
/// How long `wait` waits at most, so that all who wait at a box get their turn, however many they are.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long `cancel` waits for the prompt to be gone.
const LONGEST_CANCEL: Duration = Duration::from_secs(20);

/// Runs an operation other than `queue_prompt`.
pub(super) async fn run(
    session: &mut BoxSession,
    control: Control,
    body: Body,
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    let (place, fence) = (Arc::clone(&session.place), Arc::clone(&session.fence));
    let desk = session.desk().await.map_err(CallError::Dial)?;
    match control {
        Control::Validate(asked) => {
            let faults = validate::faults(desk, &asked.workflow).await?;
            told(&json!({
                "endpoint": &*place.name, "valid": faults.is_empty(), "faults": faults,
            }))
        }
        Control::Upload(upload) => uploaded(desk, &upload, body).await,
        Control::View(view) => relayed(desk, &files::view(&view), sink).await,
        Control::Status(named) => status(desk, &place, &named.prompt_id).await,
        Control::Queue => queue(desk, &place).await,
        Control::Wait(fetch) => wait((desk, &fence), &place, &fetch, sink).await,
        Control::Fetch(fetch) => fetched(desk, &place, &fetch, sink).await,
        Control::Cancel(named) => cancelled(desk, &place, &named.prompt_id).await,
        Control::ObjectInfo(asked) => relayed(desk, &object_info(&asked), sink).await,
        Control::SystemStats => {
            let asked = desk::asked(Method::GET, "/system_stats", "", Bytes::new());
            relayed(desk, &asked, sink).await
        }
        Control::Free(free) => {
            let asked = json!({ "unload_models": free.unload_models, "free_memory": free.free_memory });
            let answer = desk.post("/free", asked.to_string()).await?;
            if answer.status.is_success() {
                told(&json!({ "endpoint": &*place.name, "asked": asked }))
            } else {
                Err(fault::of_answer(&answer))
            }
        }
        Control::Raw(raw) => relayed(desk, &raw.0, sink).await,
    }
}

fn told(value: &serde_json::Value) -> Result<Completion, CallError> {
    Ok(Completion {
        output: Output::Json(files::fitting(value.to_string())?),
        ..Completion::default()
    })
}

async fn relayed(
    desk: &mut Desk,
    asked: &crate::backend::http::Asked,
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    files::relay(desk, asked, sink).await?;
    Ok(Completion::default())
}

fn object_info(asked: &ObjectInfo) -> crate::backend::http::Asked {
    let mut path = "/object_info".to_owned();
    if let Some(class) = &asked.class {
        path.push('/');
        desk::encode(class, &mut path);
    }
    desk::asked(Method::GET, &path, "", Bytes::new())
}

/// The file is the operation's body.
async fn uploaded(desk: &mut Desk, upload: &Upload, body: Body) -> Result<Completion, CallError> {
    let bytes = match body {
        Body::Whole(bytes) => bytes,
        Body::Stream(mut reader) => {
            let mut all = BytesMut::new();
            while let Some(part) = reader.next().await.map_err(|_| CallError::Input)? {
                if all.len() + part.len() > MAX_UPLOAD {
                    let message = format!("must be at most {MAX_UPLOAD} bytes");
                    return Err(CallError::Invalid(Faults::one("body", message)));
                }
                all.extend_from_slice(&part);
            }
            all.freeze()
        }
    };
    let answer = files::upload(desk, upload, &bytes).await?;
    let said: Box<RawValue> = answer.json()?;
    let stored: files::Stored = answer.json()?;
    let reference = serde_json::Value::from(stored.reference());
    let said = said.get().strip_prefix('{').unwrap_or("}");
    Ok(Completion {
        output: Output::Json(files::fitting(format!(r#"{{"reference":{reference},{said}"#))?),
        ..Completion::default()
    })
}

/// How a prompt stands, in a word.
async fn status(desk: &mut Desk, place: &Place, id: &str) -> Result<Completion, CallError> {
    let standing = truth::standing(desk, id).await?;
    told(&described(place, id, &standing))
}

fn described(place: &Place, id: &str, standing: &Standing) -> serde_json::Value {
    let (state, position) = match standing {
        Standing::Finished(history) => (
            match history.ended {
                Ended::Success => "completed",
                Ended::Failed(_) => "failed",
                Ended::Interrupted => "cancelled",
            },
            None,
        ),
        Standing::Running => ("running", None),
        Standing::Pending(before) => ("pending", Some(*before)),
        Standing::Absent => ("unknown", None),
    };
    let mut told = json!({ "prompt_id": id, "endpoint": &*place.name, "state": state });
    if let Some(position) = position {
        files::put(&mut told, "position", json!(position));
    }
    told
}

async fn queue(desk: &mut Desk, place: &Place) -> Result<Completion, CallError> {
    let queue = truth::queue(desk).await?;
    place.load.set(u32::try_from(queue.len()).unwrap_or(u32::MAX));
    let ids = |items: &[Item]| items.iter().map(|item| item.id.clone()).collect::<Vec<_>>();
    told(&json!({
        "endpoint": &*place.name, "running": ids(&queue.running), "pending": ids(&queue.pending),
    }))
}

/// Waits a while for a prompt's end; who wants to wait on asks again.
async fn wait(
    (desk, fence): (&mut Desk, &Fence),
    place: &Place,
    fetch: &Fetch,
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    check(fetch, sink)?;
    let deadline = place.clock.now() + LONGEST_WAIT;
    let id = fetch.prompt_id.as_str();
    let mut standing = truth::standing(desk, id).await?;
    loop {
        if let Standing::Finished(history) = standing {
            let about = (place, id);
            return prompt::finish(desk, about, (&history, &fetch.wanted), &Tale::default(), sink).await;
        }
        if matches!(standing, Standing::Absent) {
            return Err(fault::unknown(id, &place.name));
        }
        if place.clock.now() >= deadline {
            return told(&described(place, id, &standing));
        }
        place.clock.sleep_until(place.clock.now() + LOOK_EVERY).await;
        standing = place
            .looks
            .standing((&place.clock, &mut *desk), id, standing)
            .await?;
        // What the box told another who waits is a sign of its life too.
        fence.note_received(1);
    }
}

async fn fetched(
    desk: &mut Desk,
    place: &Place,
    fetch: &Fetch,
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    check(fetch, sink)?;
    let id = fetch.prompt_id.as_str();
    match truth::standing(desk, id).await? {
        Standing::Finished(history) => {
            prompt::finish(
                desk,
                (place, id),
                (&history, &fetch.wanted),
                &Tale::default(),
                sink,
            )
            .await
        }
        Standing::Absent => Err(fault::unknown(id, &place.name)),
        Standing::Running | Standing::Pending(_) => {
            let message = format!("prompt {id} has not ended yet: ask with `status`, or `wait`");
            let error = fault::error(tonic::Code::FailedPrecondition, "not_finished", &message);
            Err(CallError::Backend(error, Executed::Yes))
        }
    }
}

fn check(fetch: &Fetch, sink: &Sink) -> Result<(), CallError> {
    if sink.streams() || fetch.wanted.how != How::Bytes {
        return Ok(());
    }
    let message = "`bytes` come in a stream only: use ExecuteStream, or `view`";
    Err(CallError::Invalid(Faults::one("params.outputs", message)))
}

/// Cancels a prompt and waits a while for it to be gone, unless enough others do.
async fn cancelled(desk: &mut Desk, place: &Place, id: &str) -> Result<Completion, CallError> {
    let before = truth::standing(desk, id).await?;
    let mut answer = described(place, id, &before);
    let there = matches!(before, Standing::Running | Standing::Pending(_));
    let gone = !there || gone(desk, place, id).await?;
    let cancelled = if there && gone {
        // It may have come to its own end before it noticed.
        let history = truth::history(desk, id).await?;
        history.is_none_or(|history| matches!(history.ended, Ended::Interrupted))
    } else {
        there
    };
    files::put(&mut answer, "cancelled", json!(cancelled));
    files::put(&mut answer, "gone", json!(gone));
    told(&answer)
}

/// Has a prompt cancelled; whether it is gone when it was waited for long enough.
async fn gone(desk: &mut Desk, place: &Place, id: &str) -> Result<bool, CallError> {
    let mut asked = cancel::Asked::default();
    if cancel::is_gone((place, desk), id, &mut asked).await? {
        return Ok(true);
    }
    let due = place.clock.now() + LONGEST_CANCEL;
    let patience = place.patience.try_acquire();
    loop {
        if cancel::is_gone((place, desk), id, &mut asked).await? {
            return Ok(true);
        }
        if patience.is_err() || place.clock.now() >= due {
            return Ok(false);
        }
        place.clock.sleep_until(place.clock.now() + ASK_EVERY).await;
    }
}
