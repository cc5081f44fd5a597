//! An answer that comes whole: taken in unchanged, or passed on as it comes to a caller who takes events.

use bytes::{Bytes, BytesMut};
use http::header;

use super::{
    dialect::Doing,
    facts, fault,
    fault::Kind,
    reading::{self, Told},
    session::{Ended, Scene},
};
use crate::{
    backend::{CallError, Completion, Event, Output, Sink, SinkClosed, http::Exchange},
    error::Executed,
};

/// The largest answer of a unary call: what a gRPC client takes by default, less room for the rest of the message.
const UNARY_LIMIT: usize = (4 << 20) - (64 << 10);
/// A longer answer is passed on without a look at its end; so is any while many others are being looked at.
const MAX_COPY: usize = 4 << 20;
/// A frame's limit.
const MAX_FRAME: usize = 64 * 1024;
const NO_JSON: &str = "the answer is no JSON";
/// An error's body says in its first words what is wrong.
const MAX_ERROR: usize = 64 * 1024;

/// Takes an answer in.
pub(super) async fn take(
    exchange: &mut Exchange<'_>,
    scene: &Scene<'_>,
    sink: &mut Sink,
) -> Result<Completion, Ended> {
    if scene.plan.doing == Doing::Raw && sink.streams() {
        // It may be a stream itself, and nobody looks into it.
        while let Some(bytes) = next(exchange, scene).await? {
            send_data(sink, bytes).await?;
        }
        return Ok(completion(exchange, scene, &Told::default(), Output::None));
    }
    let limit = if sink.streams() { MAX_FRAME } else { UNARY_LIMIT };
    let (body, more) = collect(exchange, limit, scene).await?;
    if more && sink.streams() {
        return pass_on_and_look(exchange, scene, sink, body).await;
    }
    if more {
        return Err(Ended::For(CallError::Sink(SinkClosed::TooLarge)));
    }
    let output = shaped(exchange, scene, body)?;
    let told = told_by(scene, &output);
    let output = if sink.streams() {
        send_whole(sink, output, &told).await?;
        Output::None
    } else {
        output
    };
    Ok(completion(exchange, scene, &told, output))
}

/// Passes a long answer on as it comes, and looks at it when it has ended: what is wrong with it is told behind it.
async fn pass_on_and_look(
    exchange: &mut Exchange<'_>,
    scene: &Scene<'_>,
    sink: &mut Sink,
    begun: Bytes,
) -> Result<Completion, Ended> {
    let permit = scene.provider.copies.try_acquire();
    let mut kept = Kept::new(permit.is_ok());
    let mut part = Some(begun);
    while let Some(bytes) = part {
        kept.keep(&bytes);
        send_data(sink, bytes).await?;
        part = next(exchange, scene).await?;
    }
    let told = match kept.whole {
        Some(whole) => told_by(scene, &shaped(exchange, scene, whole.freeze())?),
        None => Told::default(),
    };
    if let Some(usage) = told.usage_event() {
        send(sink, usage).await?;
    }
    Ok(completion(exchange, scene, &told, Output::None))
}

/// An answer's copy; none once it is too long to be looked at.
struct Kept {
    whole: Option<BytesMut>,
}

impl Kept {
    fn new(wanted: bool) -> Self {
        Self {
            whole: wanted.then(BytesMut::new),
        }
    }

    fn keep(&mut self, part: &[u8]) {
        self.whole = self
            .whole
            .take()
            .filter(|kept| kept.len() + part.len() <= MAX_COPY);
        if let Some(kept) = &mut self.whole {
            kept.extend_from_slice(part);
        }
    }
}

fn told_by(scene: &Scene<'_>, output: &Output) -> Told {
    match output {
        Output::Json(text) => reading::whole(scene.provider.dialect, scene.plan.doing, text),
        Output::None | Output::Rows(_) | Output::Body(_) => Told::default(),
    }
}

/// Reads an answer of another status than success, which is the provider's error.
pub(super) async fn refusal(exchange: &mut Exchange<'_>, scene: &Scene<'_>) -> Ended {
    let clock = &scene.provider.clock;
    let due = clock.now() + scene.provider.idle;
    let body = tokio::select! {
        biased;
        body = collect(exchange, MAX_ERROR, scene) => body.ok(),
        () = clock.sleep_until(due) => None,
    };
    // What does not come is not missed: the status says the most.
    let (body, more) = body.unwrap_or((Bytes::new(), true));
    let body = exchange.redacted(&String::from_utf8_lossy(&body));
    let answer = (exchange.head.status, &exchange.head.headers);
    let (error, executed) = fault::of_answer(&scene.plan.method, answer, &body, scene.wall());
    Ended::Provider {
        error: Box::new(error),
        executed,
        whole: !more,
    }
}

/// Reads up to `limit` bytes, and says whether there are more.
async fn collect(
    exchange: &mut Exchange<'_>,
    limit: usize,
    scene: &Scene<'_>,
) -> Result<(Bytes, bool), Ended> {
    let mut body = BytesMut::new();
    while let Some(part) = next(exchange, scene).await? {
        body.extend_from_slice(&part);
        if body.len() > limit {
            return Ok((body.freeze(), true));
        }
    }
    Ok((body.freeze(), false))
}

/// The next bytes. An answer that breaks off is a loss that the provider has worked for.
async fn next(exchange: &mut Exchange<'_>, scene: &Scene<'_>) -> Result<Option<Bytes>, Ended> {
    match exchange.next().await {
        Err(CallError::Broken { message, .. }) => {
            Err(scene.lost(exchange, Kind::Truncated, &message, Executed::Unknown))
        }
        other => other.map_err(Ended::For),
    }
}

async fn send_data(sink: &mut Sink, mut bytes: Bytes) -> Result<(), Ended> {
    while !bytes.is_empty() {
        let frame = bytes.split_to(bytes.len().min(MAX_FRAME));
        send(sink, Event::Data(frame)).await?;
    }
    Ok(())
}

/// The answer as it is given on, unless it is an error in disguise, or no answer at all.
fn shaped(exchange: &Exchange<'_>, scene: &Scene<'_>, body: Bytes) -> Result<Output, Ended> {
    let is_raw = scene.plan.doing == Doing::Raw;
    let fault = serde_json::from_slice::<serde::de::IgnoredAny>(&body).err();
    if let Some(fault) = &fault
        && !is_raw
        && fault.is_eof()
        && !body.trim_ascii().is_empty()
    {
        // Without a length the end of a connection looks like the end of its answer, within a character too.
        let message = "the answer broke off within its JSON";
        return Err(scene.lost(exchange, Kind::Truncated, message, Executed::Unknown));
    }
    let text = match (String::from_utf8(body.into()), fault) {
        (Ok(text), None) => text,
        (Ok(text), Some(_)) if is_raw => return Ok(Output::Body(text.into())),
        (Err(bytes), _) if is_raw => return Ok(Output::Body(bytes.into_bytes().into())),
        (Ok(text), Some(_)) => return Err(scene.misshapen(exchange, NO_JSON, &text)),
        (Err(bytes), _) => {
            let text = String::from_utf8_lossy(bytes.as_bytes());
            return Err(scene.misshapen(exchange, NO_JSON, &text));
        }
    };
    if is_raw && !announces_json(exchange) {
        return Ok(Output::Body(text.into()));
    }
    if !is_raw && fault::is_error(&text) {
        return Err(scene.part(exchange, &text));
    }
    Ok(Output::Json(text))
}

fn announces_json(exchange: &Exchange<'_>) -> bool {
    let kind = exchange.head.headers.get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}

async fn send_whole(sink: &mut Sink, output: Output, told: &Told) -> Result<(), Ended> {
    let bytes = match output {
        Output::Json(text) => Bytes::from(text),
        Output::Body(bytes) => bytes,
        Output::None | Output::Rows(_) => Bytes::new(),
    };
    if !bytes.is_empty() {
        send(sink, Event::Data(bytes)).await?;
    }
    match told.usage_event() {
        Some(usage) => send(sink, usage).await,
        None => Ok(()),
    }
}

pub(super) async fn send(sink: &mut Sink, event: Event) -> Result<(), Ended> {
    let sent = sink.send(event).await;
    sent.map_err(|closed| Ended::For(CallError::Sink(closed)))
}

/// What a call completes with: the facts that callers need without reading the answer.
pub(super) fn completion(
    exchange: &Exchange<'_>,
    scene: &Scene<'_>,
    told: &Told,
    output: Output,
) -> Completion {
    let mut attributes = vec![("status".to_owned(), exchange.head.status.as_u16().to_string())];
    let facts = facts::of(&exchange.head.headers).into_iter();
    attributes.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    if let Some(model) = &told.model {
        attributes.push(("model".to_owned(), model.clone()));
    }
    if let Some(finish) = &told.finish {
        attributes.push(("finish_reason".to_owned(), finish.clone()));
    }
    if scene.plan.doing.generates() && told.finish.is_some() {
        let truncated = told.finish.as_deref().is_some_and(reading::is_truncated);
        attributes.push(("truncated".to_owned(), truncated.to_string()));
    }
    Completion {
        output,
        attributes,
        retries: exchange.retries(),
    }
}
