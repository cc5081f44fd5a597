//! `queue_prompt`: files first, then the workflow, then what becomes of it.

use std::{collections::HashSet, sync::Arc};

use serde::Deserialize;
use serde_json::json;

use super::{
    desk::Desk,
    fault,
    feed::{Feed, Watch},
    files,
    follow::{Follow, Tale, Told},
    place::Place,
    plan::{How, Prompt, Wanted},
    session::BoxSession,
    truth::{self, History, Standing},
    workflow::{self, Beside},
};
use crate::{
    backend::{CallError, Completion, Event, Output, Sink},
    error::{Executed, Faults},
};

/// Nodes of this class put their images out on the socket, and nowhere else.
const ON_THE_SOCKET: &str = "SaveImageWebsocket";
/// Prompts that one lease may have on a box at the same time.
const MOST_AT_ONCE: usize = 100;
/// Ids are UUIDs, but older boxes take others too.
const LONGEST_ID: usize = 100;

/// What a box says to a submission that it takes.
#[derive(Deserialize)]
struct Accepted {
    prompt_id: String,
    #[serde(default)]
    node_errors: fault::NodeErrors,
}

/// Runs a prompt. If this is dropped, the session has to be settled, which cancels the prompt.
pub(super) async fn run(
    session: &mut BoxSession,
    prompt: Prompt,
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    check(session, &prompt, sink)?;
    let place = Arc::clone(&session.place);
    let desk = session.desk().await.map_err(CallError::Dial)?;
    if prompt.id_given {
        check_new(&place, desk, &prompt.id).await?;
    }
    let workflow = with_files(desk, &prompt).await?;
    let socket = session.socket().await.map_err(CallError::Dial)?;
    let feed = Arc::clone(&socket.feed);
    feed.watch(Some(watch(&prompt, sink.streams())));
    let body = workflow::submission(
        &workflow,
        &Beside {
            client_id: &socket.client_id,
            prompt_id: &prompt.id,
            number: prompt.number.as_deref(),
            front: prompt.front,
            extra_data: prompt.extra_data.as_deref(),
            previews: prompt.preview_fps > 0.0 && sink.streams(),
            targets: prompt.targets.as_deref(),
        },
    );
    drop(workflow);
    session.works.push(place.left.begin(&prompt.id));
    let answer = session.submit(body).await?;
    if !answer.status.is_success() {
        let error = fault::of_submission(&answer);
        if !matches!(error, CallError::Backend(_, Executed::Unknown)) {
            session.last_gone();
        }
        return Err(error);
    }
    let accepted: Accepted = answer.json()?;
    check_name(&accepted.prompt_id)?;
    session.rename(&accepted.prompt_id);
    feed.rename(&accepted.prompt_id);
    let completion = taken(session, &prompt, accepted, (&feed, sink)).await;
    feed.watch(None);
    completion
}

/// What cannot be known from the operation alone.
fn check(session: &BoxSession, prompt: &Prompt, sink: &Sink) -> Result<(), CallError> {
    let mut faults = Faults::default();
    if !sink.streams() && prompt.wanted.how == How::Bytes {
        faults.add(
            "params.outputs",
            "`bytes` come in a stream only: use ExecuteStream, or `view`",
        );
    }
    if session.works.len() >= MOST_AT_ONCE {
        faults.add(
            "params.detach",
            format!("has left {MOST_AT_ONCE} prompts at the box already"),
        );
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(CallError::Invalid(faults))
    }
}

/// Boxes take an id twice, and forget the first one's history over it.
async fn check_new(place: &Place, desk: &mut Desk, id: &str) -> Result<(), CallError> {
    let known = place.left.knows(id) || !matches!(truth::standing(desk, id).await?, Standing::Absent);
    if !known {
        return Ok(());
    }
    let message = format!("the box has a prompt {id} already");
    let error = fault::error(tonic::Code::AlreadyExists, "prompt_exists", &message);
    Err(CallError::Backend(error, Executed::No))
}

/// A box's own name for a prompt goes into paths and texts.
fn check_name(id: &str) -> Result<(), CallError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(legal) {
        return Ok(());
    }
    Err(CallError::Broken {
        message: "the box calls the prompt something that is no id".to_owned(),
        executed: None,
    })
}

/// Uploads the files that came with a prompt; gives the workflow with their names at the box in it.
async fn with_files(desk: &mut Desk, prompt: &Prompt) -> Result<String, CallError> {
    let mut workflow = prompt.workflow.get().to_owned();
    for file in &prompt.files {
        let stored = files::attach(desk, &file.name, &file.bytes).await?;
        workflow = workflow::attach(&workflow, &file.name, &stored.reference());
    }
    Ok(workflow)
}

fn watch(prompt: &Prompt, streams: bool) -> Watch {
    let finals = prompt.classes.iter().filter(|(_, class)| *class == ON_THE_SOCKET);
    Watch {
        prompt: prompt.id.clone(),
        finals: finals.map(|(node, _)| node.clone()).collect::<HashSet<_>>(),
        previews: streams && prompt.preview_fps > 0.0,
        current: None,
    }
}

/// The box has taken the prompt.
async fn taken(
    session: &mut BoxSession,
    prompt: &Prompt,
    accepted: Accepted,
    (feed, sink): (&Arc<Feed>, &mut Sink),
) -> Result<Completion, CallError> {
    let (id, place) = (accepted.prompt_id, Arc::clone(&session.place));
    let mut tale = Tale::default();
    for (field, message) in fault::node_errors(accepted.node_errors) {
        tale.warnings.push(format!("{field}: {message}"));
    }
    if prompt.detach {
        if let Some(work) = session.works.last_mut() {
            work.detached = true;
        }
        return detached(&place, &id, &tale, sink).await;
    }
    let desk = session.desk().await.map_err(CallError::Dial)?;
    let mut follow = Follow {
        place: &place,
        prompt,
        id: &id,
        feed,
        desk: &mut *desk,
        sink: &mut *sink,
        tale,
    };
    let told = follow.until_it_ends().await;
    let tale = follow.tale;
    let finished = match told {
        Ok(Told::Finished(history)) => {
            finish(desk, (&place, &id), (&history, &prompt.wanted), &tale, sink).await
        }
        Ok(Told::Unseen) => unseen(&place, &id, &tale, sink).await,
        Err(error) => {
            if matches!(error, CallError::Backend(..)) {
                session.last_gone();
            }
            return Err(error);
        }
    };
    if prompt.delete_history {
        let named = serde_json::Value::from(id.as_str());
        // The prompt is done, and that is what the caller has to know.
        desk.post("/history", format!(r#"{{"delete":[{named}]}}"#))
            .await
            .ok();
    }
    session.last_gone();
    finished
}

/// The answer to who does not wait.
async fn detached(place: &Place, id: &str, tale: &Tale, sink: &mut Sink) -> Result<Completion, CallError> {
    let told = json!({
        "prompt_id": id, "endpoint": &*place.name, "status": "queued", "warnings": tale.warnings,
    });
    answer(sink, "detached", told.to_string()).await
}

/// A prompt that has ended well, but whose history the box does not give: what its nodes said on the socket is all.
async fn unseen(place: &Place, id: &str, tale: &Tale, sink: &mut Sink) -> Result<Completion, CallError> {
    let mut outputs = String::from("{");
    for (node, output) in &tale.outputs {
        let comma = if outputs.len() > 1 { "," } else { "" };
        outputs.push_str(&format!(
            "{comma}{}:{output}",
            serde_json::Value::from(node.as_str())
        ));
    }
    outputs.push('}');
    let told = document((place, id), &outputs, &[], tale, None);
    answer(sink, "done", told).await
}

/// Gives what a finished prompt has put out.
pub(super) async fn finish(
    desk: &mut Desk,
    (place, id): (&Place, &str),
    (history, wanted): (&History, &Wanted),
    tale: &Tale,
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    failure(history, id, sink).await?;
    let found = files::listed(&history.outputs, wanted);
    if sink.streams() {
        for file in &found {
            if wanted.how == How::Bytes {
                files::deliver(desk, file, sink).await?;
            } else {
                let mut event = file.json();
                files::put(&mut event, "event", json!("output"));
                files::send(sink, Event::Json(event.to_string())).await?;
            }
        }
    }
    let entry = (wanted.how == How::History).then(|| history.entry.get());
    let told = document((place, id), history.outputs.get(), &found, tale, entry);
    answer(sink, "done", told).await
}

/// Fails with what the history says of a prompt that did not end well.
async fn failure(history: &History, id: &str, sink: &mut Sink) -> Result<(), CallError> {
    match &history.ended {
        truth::Ended::Success => Ok(()),
        truth::Ended::Failed(data) => {
            if sink.streams() {
                let data = data.as_ref().map_or("null", |data| data.get());
                let event = format!(r#"{{"event":"error","prompt_id":"{id}","error":{data}}}"#);
                files::send(sink, Event::Json(event)).await?;
            }
            Err(fault::of_run(data.as_deref(), id))
        }
        truth::Ended::Interrupted => {
            if sink.streams() {
                let event = json!({ "event": "cancelled", "prompt_id": id });
                files::send(sink, Event::Json(event.to_string())).await?;
            }
            let message = "the prompt was interrupted by somebody else";
            Err(fault::stopped(id, message, Executed::Yes))
        }
    }
}

/// The answer's text. Outputs keep their bytes.
fn document(
    (place, id): (&Place, &str),
    outputs: &str,
    found: &[files::Found],
    tale: &Tale,
    entry: Option<&str>,
) -> String {
    let files: Vec<_> = found.iter().map(files::Found::json).collect();
    let name = serde_json::Value::from(&*place.name);
    let (files, warnings) = (json!(files), json!(tale.warnings));
    let mut told = format!(
        r#"{{"prompt_id":"{id}","endpoint":{name},"status":"success","files":{files},"warnings":{warnings},"outputs":{outputs}"#
    );
    if tale.degraded {
        told.push_str(r#","degraded":true"#);
    }
    if let Some(entry) = entry {
        told.push_str(&format!(r#","history":{entry}"#));
    }
    told.push('}');
    told
}

/// The last event of a stream, or the whole of an answer.
async fn answer(sink: &mut Sink, event: &str, told: String) -> Result<Completion, CallError> {
    if !sink.streams() {
        return Ok(Completion {
            output: Output::Json(told),
            ..Completion::default()
        });
    }
    let rest = told.strip_prefix('{').unwrap_or_default();
    files::send(sink, Event::Json(format!(r#"{{"event":"{event}",{rest}"#))).await?;
    Ok(Completion::default())
}
