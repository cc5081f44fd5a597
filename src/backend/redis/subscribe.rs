//! Pub/sub: messages as they come, until enough have come or the caller goes.
//!
//! In RESP3 everything about subscriptions is a push: a command about them is answered by one for each of its channels,
//! or refused as a whole. A server that ends a subscription by itself says the same, and may refuse the command that
//! was to end it. So behind the last command stands a question with a text of its own, and nothing but that text proves
//! that everything before it has been answered.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use prost_types::{Struct, Value, value::Kind as Shown};
use uuid::Uuid;

use super::{
    command::Nature,
    plan::Channels,
    reply::write_text,
    resp::{Kind, Token},
    run::ELEMENT,
    session::{RedisSession, lost},
    wire::WireError,
};
use crate::{
    backend::{CallError, Completion, Event, Fence, Sink},
    error::{Executed, Faults},
};

/// How long nothing may come before the server is asked whether it is still there.
const ALIVE: Duration = Duration::from_secs(10);

/// What the server said next.
enum Heard {
    /// A push: its kind, and what belongs to it.
    Push(Vec<Bytes>),
    /// The answer to a command, or why it was refused.
    Answer(Result<Bytes, Bytes>),
}

/// What the server has not answered yet.
enum Owed<'a> {
    Pong,
    /// A push of this kind for each of these channels, in their order, or a refusal.
    Pushes(&'static str, &'a [String]),
    /// This text, and nothing else: the end of it all.
    End(String),
}

/// Channels of one kind.
struct Group<'a> {
    join: &'static str,
    leave: &'static str,
    channels: &'a [String],
}

/// Whether silence is as it should be, as the fence is told until this is dropped.
struct Silence(Arc<Fence>);

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.set_at_rest(false);
    }
}

/// A subscription, while its call runs. Dropped, it leaves the end of it all to the end of its connection.
struct Subscription<'a> {
    session: &'a mut RedisSession,
    wanted: &'a Channels,
    silence: Silence,
    /// In the order of the commands.
    owed: VecDeque<Owed<'a>>,
    refused: Option<Bytes>,
}

impl RedisSession {
    /// Emits a JSON object for each message: `channel`, `payload`, and `pattern` or `sharded`. Everything is
    /// unsubscribed at the end; if that cannot be proven, the call has its messages all the same, and the connection
    /// is of no more use.
    pub(super) async fn subscribe(
        &mut self,
        wanted: &Channels,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        if wanted.count == 0 && !sink.streams() {
            let message =
                "is needed for one answer to all: or use ExecuteStream, or a streamed call of OpenSession";
            return Err(CallError::Invalid(Faults::one("params.count", message)));
        }
        if self.in_transaction {
            let message = "`subscribe` does not belong into a transaction: EXEC or DISCARD it first";
            return Err(CallError::Invalid(Faults::one("name", message)));
        }
        self.speak_resp3().await?;
        self.subscribed = true;
        let count = if wanted.count == 0 { u64::MAX } else { wanted.count };
        let mut subscription = Subscription::to(wanted, self);
        let heard = subscription.run(count, sink).await;
        let ended = heard.is_ok() && subscription.leave().await.is_ok();
        drop(subscription);
        if !ended {
            self.wire.break_off();
        }
        let (left, refused) = heard?;
        self.subscribed = false;
        let Some(text) = refused else {
            return Ok(Completion::default());
        };
        let (error, _) = self.refusal(&text, Nature::State);
        // Where nothing was delivered, all is as it was before.
        let executed = if left == count {
            Executed::No
        } else {
            Executed::Yes
        };
        Err(CallError::Backend(error, executed))
    }

    /// The holder may have chosen RESP2, in which nothing tells a message from a reply.
    async fn speak_resp3(&mut self) -> Result<(), CallError> {
        if !self.dirty {
            return Ok(());
        }
        self.wire.command(&["HELLO", "3"]);
        if let Token::Error(text) = self.reply().await? {
            let (error, executed) = self.refusal(&text, Nature::State);
            return Err(CallError::Backend(error, executed));
        }
        while self.wire.is_within() {
            self.wire.token().await.map_err(lost)?;
        }
        Ok(())
    }
}

impl<'a> Subscription<'a> {
    fn to(wanted: &'a Channels, session: &'a mut RedisSession) -> Self {
        Self {
            silence: Silence(Arc::clone(session.wire.fence())),
            session,
            wanted,
            owed: VecDeque::new(),
            refused: None,
        }
    }

    /// Runs until there are enough messages; says how many are left to come, and whether a command that subscribes was
    /// refused.
    async fn run(&mut self, count: u64, sink: &mut Sink) -> Result<(u64, Option<Bytes>), CallError> {
        let mut left = count;
        for group in groups(self.wanted) {
            self.ask(group.join, group.channels);
        }
        let mut confirmed = false;
        while self.refused.is_none() && (left > 0 || !confirmed) {
            if let (Some(json), true) = (self.next().await?, left > 0) {
                sink.send(Event::Json(json)).await.map_err(CallError::Sink)?;
                left -= 1;
            }
            if !confirmed && self.owed.is_empty() && self.refused.is_none() {
                confirmed = true;
                let subscribed = Event::Progress(subscribed(self.wanted));
                sink.send(subscribed).await.map_err(CallError::Sink)?;
            }
        }
        Ok((left, self.refused.take()))
    }

    /// Leaves everything, and proves that the server has nothing more to say of it.
    async fn leave(&mut self) -> Result<(), CallError> {
        for group in groups(self.wanted) {
            self.ask(group.leave, group.channels);
        }
        let end = Uuid::new_v4().to_string();
        self.session.wire.command(&["PING", &end]);
        self.owed.push_back(Owed::End(end));
        while !self.owed.is_empty() {
            let message = self.next().await?;
            if message.is_some() && matches!(self.owed.front(), Some(Owed::End(_))) {
                return Err(nonsense());
            }
        }
        // What else was refused by now is refused for the same reason: a reset proves what is left.
        self.session.dirty |= self.refused.is_some();
        Ok(())
    }

    fn ask(&mut self, verb: &'static str, channels: &'a [String]) {
        let command: Vec<&str> = [verb]
            .into_iter()
            .chain(channels.iter().map(String::as_str))
            .collect();
        self.session.wire.command(&command);
        self.owed.push_back(Owed::Pushes(verb, channels));
    }

    /// Takes what comes next; if it is a message, it is given.
    async fn next(&mut self) -> Result<Option<String>, CallError> {
        match self.hear().await? {
            Heard::Push(parts) => {
                if self.is_owed(&parts)? {
                    return Ok(None);
                }
                match parts.first() {
                    Some(kind) if kind.ends_with(b"unsubscribe") => Err(ended(&parts)),
                    Some(kind) if kind.ends_with(b"subscribe") => Err(nonsense()),
                    _ => Ok(message(&parts)),
                }
            }
            Heard::Answer(answer) => match (self.owed.pop_front(), answer) {
                // Whoever refuses to answer is there: a server that is busy, or one whose user may not ask.
                (Some(Owed::Pong), _) => Ok(None),
                (Some(Owed::Pushes(..)), Err(text)) => {
                    self.refused.get_or_insert(text);
                    Ok(None)
                }
                (Some(Owed::End(end)), Ok(text)) if *text == *end.as_bytes() => Ok(None),
                (Some(Owed::Pushes(..) | Owed::End(_)) | None, _) => Err(nonsense()),
            },
        }
    }

    /// Whether a push is the next part of the answer that comes next; it is noted. What was not written yet has no
    /// answer: then the server says it by itself.
    fn is_owed(&mut self, push: &[Bytes]) -> Result<bool, CallError> {
        let Some(Owed::Pushes(verb, channels)) = self.owed.front_mut() else {
            return Ok(false);
        };
        let ([kind, channel, ..], Some((next, rest))) = (push, channels.split_first()) else {
            return Ok(false);
        };
        let same = kind.eq_ignore_ascii_case(verb.as_bytes()) && **channel == *next.as_bytes();
        if !same || !self.session.wire.is_awaiting() {
            return Ok(false);
        }
        *channels = rest;
        if rest.is_empty() {
            self.owed.pop_front();
            self.session.wire.answered_by_pushes().map_err(lost)?;
        }
        Ok(true)
    }

    /// Waits for what comes next. While nothing does, and nothing is owed, silence is no stall, and the server is asked
    /// from time to time; while its answer is owed, silence is one.
    async fn hear(&mut self) -> Result<Heard, CallError> {
        let clock = self.session.clock.clone();
        let token = loop {
            let quiet = self.owed.is_empty();
            self.silence.0.set_at_rest(quiet);
            let again = clock.now() + ALIVE;
            tokio::select! {
                biased;
                token = self.session.wire.token() => break token.map_err(lost)?,
                () = clock.sleep_until(again), if quiet => {
                    self.session.wire.command(&["PING"]);
                    self.owed.push_back(Owed::Pong);
                }
            }
        };
        self.silence.0.set_at_rest(false);
        match token {
            Token::Open(Kind::Push, count) => Ok(Heard::Push(self.session.push(count).await?)),
            Token::Text(text) => Ok(Heard::Answer(Ok(text))),
            Token::Error(text) => Ok(Heard::Answer(Err(text))),
            _ => Err(nonsense()),
        }
    }
}

impl RedisSession {
    /// The parts of a push of so many.
    async fn push(&mut self, count: u64) -> Result<Vec<Bytes>, CallError> {
        let mut parts = Vec::new();
        for _ in 0..count {
            match self.wire.token().await.map_err(lost)? {
                Token::Text(text) => parts.push(text),
                Token::Large(_) => return Err(CallError::Sink(ELEMENT)),
                // A count of subscriptions, or something of another kind of push.
                _ => parts.push(Bytes::new()),
            }
        }
        self.skip_push().await?;
        Ok(parts)
    }
}

/// What there is to subscribe to.
fn groups(wanted: &Channels) -> impl Iterator<Item = Group<'_>> {
    let all = [
        ("SUBSCRIBE", "UNSUBSCRIBE", &wanted.channels),
        ("PSUBSCRIBE", "PUNSUBSCRIBE", &wanted.patterns),
        ("SSUBSCRIBE", "SUNSUBSCRIBE", &wanted.sharded),
    ];
    all.into_iter()
        .filter(|(_, _, channels)| !channels.is_empty())
        .map(|(join, leave, channels)| Group {
            join,
            leave,
            channels,
        })
}

/// The server itself has unsubscribed it: a shard's slot has moved, or the channel is forbidden now.
fn ended(parts: &[Bytes]) -> CallError {
    let channel = parts.get(1).map(|channel| String::from_utf8_lossy(channel));
    let channel = channel.unwrap_or_default();
    CallError::Lost {
        message: format!("the server has ended the subscription to `{channel}`"),
        executed: None,
    }
}

fn nonsense() -> CallError {
    lost(WireError::malformed(
        "an answer about subscriptions that makes no sense",
    ))
}

/// A message as its caller sees it; other pushes are none.
fn message(parts: &[Bytes]) -> Option<String> {
    let (kind, parts) = parts.split_first()?;
    let fields: &[(&str, &Bytes)] = match (&**kind, parts) {
        (b"message" | b"smessage", [channel, payload]) => &[("channel", channel), ("payload", payload)],
        (b"pmessage", [pattern, channel, payload]) => {
            &[("channel", channel), ("payload", payload), ("pattern", pattern)]
        }
        _ => return None,
    };
    let mut json = String::from("{");
    for (name, value) in fields {
        json.push_str(&format!("\"{name}\":"));
        write_text(&mut json, value);
        json.push(',');
    }
    if **kind == *b"smessage" {
        json.push_str("\"sharded\":true,");
    }
    json.pop();
    json.push('}');
    Some(json)
}

/// `{"subscribed": N}`.
fn subscribed(wanted: &Channels) -> Struct {
    let count = wanted.channels.len() + wanted.patterns.len() + wanted.sharded.len();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let kind = Some(Shown::NumberValue(f64::from(count)));
    Struct {
        fields: [("subscribed".to_owned(), Value { kind })].into(),
    }
}
