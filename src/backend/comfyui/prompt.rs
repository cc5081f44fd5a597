//! `queue_prompt`: files first, then the workflow, then what becomes of it.

mod answer;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use self::answer::{Document, answer, shortened};
use super::{
    desk::Desk,
    fault,
    feed::{Feed, Watch},
    files,
    follow::{Follow, Tale, Told},
    leftovers::Claim,
    outputs,
    place::Place,
    plan::{How, Prompt, Wanted},
    session::BoxSession,
    truth::{self, Ended, History, Standing},
    workflow::{self, Beside},
};
use crate::{
    backend::{CallError, Completion, Event, Sink},
    error::{Executed, Faults},
};

/// Prompts that one lease may have on a box at the same time.
const MOST_AT_ONCE: usize = 100;
/// Ids are UUIDs, but older boxes take others too.
const LONGEST_ID: usize = 100;

/// What a box says to a submission that it takes.
#[derive(Deserialize)]
struct Accepted {
    prompt_id: String,
    #[serde(default)]
    node_errors: serde_json::Value,
}

/// Runs a prompt. If this is dropped, the session has to be settled, which cancels the prompt.
pub(super) async fn run(
    session: &mut BoxSession,
    prompt: Prompt,
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    check(&prompt, sink)?;
    let (claim, workflow) = prepared(session, &prompt)
        .await
        .map_err(fault::before_submission)?;
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
    let completion = match submitted(session, claim, &prompt.id, body).await {
        Ok(accepted) => {
            feed.rename(&accepted.prompt_id);
            taken(session, &prompt, accepted, (&feed, sink)).await
        }
        Err(error) => Err(error),
    };
    feed.watch(None);
    completion
}

/// What comes before the submission: its id is claimed, and the workflow is as it is to be sent.
async fn prepared(session: &mut BoxSession, prompt: &Prompt) -> Result<(Claim, String), CallError> {
    if session.works.len() >= MOST_AT_ONCE {
        session.forget_gone().await?;
    }
    if session.works.len() >= MOST_AT_ONCE {
        let message = format!("has left {MOST_AT_ONCE} prompts at the box that wait or run yet");
        return Err(CallError::Invalid(Faults::one("params.detach", message)));
    }
    // Before anything is waited for, so that of two calls with the same id one is refused.
    let claim = Claim::on(&session.place, &prompt.id).ok_or_else(|| taken_already(&prompt.id))?;
    let desk = session.desk().await.map_err(CallError::Dial)?;
    if prompt.id_given {
        check_new(desk, &prompt.id).await?;
    }
    Ok((claim, with_files(desk, prompt).await?))
}

/// Hands a prompt to the box.
async fn submitted(
    session: &mut BoxSession,
    claim: Claim,
    id: &str,
    body: String,
) -> Result<Accepted, CallError> {
    session.works.extend(claim.begin());
    let answer = session.submit(body).await?;
    if !answer.status.is_success() {
        return Err(refused(session, fault::of_submission(&answer), id).await);
    }
    let accepted: Accepted = answer.json()?;
    check_name(&accepted.prompt_id)?;
    session.rename(&accepted.prompt_id);
    Ok(accepted)
}

/// After some refusals the box may have taken the prompt all the same, and then it must not run on.
async fn refused(session: &mut BoxSession, error: CallError, id: &str) -> CallError {
    if !matches!(error, CallError::Backend(_, Executed::Unknown)) {
        session.last_gone();
        return fault::of_prompt(error, id);
    }
    match session.cancel_soon().await {
        Ok(()) => fault::of_prompt(error, id),
        // The session has to be settled, which cancels it.
        Err(lost) => CallError::Broken {
            message: format!("{error}; and what has become of prompt {id} is not known: {lost}"),
            executed: Some(Executed::Unknown),
        },
    }
}

/// What cannot be known from the operation alone.
fn check(prompt: &Prompt, sink: &Sink) -> Result<(), CallError> {
    if sink.streams() || prompt.wanted.how != How::Bytes {
        return Ok(());
    }
    let message = "`bytes` come in a stream only: use ExecuteStream, or `view`";
    Err(CallError::Invalid(Faults::one("params.outputs", message)))
}

/// Boxes take an id twice, and forget the first one's history over it.
async fn check_new(desk: &mut Desk, id: &str) -> Result<(), CallError> {
    match truth::standing(desk, id).await? {
        Standing::Absent => Ok(()),
        Standing::Finished(_) | Standing::Running | Standing::Pending(_) => Err(taken_already(id)),
    }
}

fn taken_already(id: &str) -> CallError {
    let message = format!("the box has a prompt {id} already");
    let error = fault::error(tonic::Code::AlreadyExists, "prompt_exists", &message);
    CallError::Backend(error, Executed::No)
}

/// Whether a box's own name for a prompt can go into paths and texts.
pub(super) fn is_name(id: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(legal)
}

fn check_name(id: &str) -> Result<(), CallError> {
    if is_name(id) {
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
    Watch {
        prompt: prompt.id.clone(),
        finals: prompt.on_the_socket().map(str::to_owned).collect(),
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
    for (field, message) in fault::node_errors(&accepted.node_errors) {
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
    let (finished, failed) = match told {
        Ok(Told::Finished(history)) => {
            let failed = !matches!(history.ended, Ended::Success);
            let about = (&*place, id.as_str());
            let finished = finish(desk, about, (&history, &prompt.wanted), &tale, sink).await;
            (finished, failed)
        }
        Ok(Told::Unseen(how)) => {
            let about = (&*place, id.as_str());
            (unseen(about, how, (&tale, &prompt.wanted), sink).await, false)
        }
        Err(error) => {
            if matches!(error, CallError::Backend(..)) {
                session.last_gone();
            }
            return Err(fault::of_prompt(error, &id));
        }
    };
    // Not what the caller has not been given, who may still fetch it.
    let told = finished.is_ok() || failed && matches!(finished, Err(CallError::Backend(..)));
    if prompt.delete_history && told {
        let named = serde_json::Value::from(id.as_str());
        // The prompt is done, and that is what the caller has to know.
        desk.post("/history", format!(r#"{{"delete":[{named}]}}"#))
            .await
            .ok();
    }
    session.last_gone();
    finished.map_err(|error| fault::of_prompt(error, &id))
}

/// The answer to who does not wait.
async fn detached(place: &Place, id: &str, tale: &Tale, sink: &mut Sink) -> Result<Completion, CallError> {
    let told = json!({
        "prompt_id": id, "endpoint": &*place.name, "status": "queued", "warnings": tale.warnings,
    });
    answer(sink, "detached", told.to_string()).await
}

/// A prompt whose history the box does not give: what was said on the socket is all.
async fn unseen(
    about: (&Place, &str),
    how: Option<Ended>,
    (tale, wanted): (&Tale, &Wanted),
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    let Some(how) = how else {
        return Err(CallError::Broken {
            message: format!("prompt {} has ended, and the box has no history of it", about.1),
            executed: Some(Executed::Unknown),
        });
    };
    failure(&how, about.1, sink).await?;
    let said = tale.told(wanted);
    let told = Document {
        about,
        files: &[],
        tale,
        outputs: said.as_deref(),
        history: None,
    };
    answer(sink, "done", told.fitting()?).await
}

/// Gives what a finished prompt has put out.
pub(super) async fn finish(
    desk: &mut Desk,
    about: (&Place, &str),
    (history, wanted): (&History, &Wanted),
    tale: &Tale,
    sink: &mut Sink,
) -> Result<Completion, CallError> {
    failure(&history.ended, about.1, sink).await?;
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
    let chosen = outputs::chosen(&history.outputs, wanted);
    let told = Document {
        about,
        files: &found,
        tale,
        outputs: Some(&chosen),
        history: entry,
    };
    answer(sink, "done", told.fitting()?).await
}

/// Fails with what the box says of a prompt that did not end well.
async fn failure(ended: &Ended, id: &str, sink: &mut Sink) -> Result<(), CallError> {
    match ended {
        Ended::Success => Ok(()),
        Ended::Failed(data) => {
            if sink.streams() {
                let data = data
                    .as_ref()
                    .map_or_else(|| "null".to_owned(), |data| shortened(data.get()));
                let event = format!(r#"{{"event":"error","prompt_id":"{id}","error":{data}}}"#);
                files::send(sink, Event::Json(event)).await?;
            }
            Err(fault::of_run(data.as_deref(), id))
        }
        Ended::Interrupted => {
            if sink.streams() {
                let event = json!({ "event": "cancelled", "prompt_id": id });
                files::send(sink, Event::Json(event.to_string())).await?;
            }
            let message = "the prompt was interrupted by somebody else";
            Err(fault::stopped(id, message, Executed::Yes))
        }
    }
}
