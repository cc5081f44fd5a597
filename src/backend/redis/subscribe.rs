//! Pub/sub: messages as they come, until enough have come or the caller goes.
//!
//! In RESP3 everything about subscriptions is a push, and a command about them has no reply of its own, unless it is
//! refused. So a PING behind it marks its end.

use std::time::Duration;

use bytes::Bytes;
use prost_types::{Struct, Value, value::Kind as Shown};

use super::{
    command::Nature,
    plan::Channels,
    reply::write_text,
    resp::{Kind, Token},
    run::ELEMENT,
    session::{RedisSession, lost},
};
use crate::{
    backend::{CallError, Completion, Event, Sink},
    error::{Executed, Faults},
};

/// How often the server is asked whether it is still there while nothing comes. It counts as progress.
const ALIVE: Duration = Duration::from_secs(10);

/// What the server said next.
enum Heard {
    /// A push: its kind, and what belongs to it.
    Push(Vec<Bytes>),
    /// The answer to a PING.
    Pong,
    Refused(Bytes),
}

impl RedisSession {
    /// Emits a JSON object for each message: `channel`, `payload`, and `pattern` or `sharded`. Everything is
    /// unsubscribed at the end; a call that is dropped leaves that to the end of its connection.
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
        self.begin(wanted).await?;
        let count = if wanted.count == 0 { u64::MAX } else { wanted.count };
        let (mut left, mut confirmed, mut refused) = (count, false, None);
        while left > 0 || !confirmed {
            match self.hear_or_ask().await? {
                Heard::Push(parts) => {
                    if let (Some(json), true) = (message(&parts), left > 0) {
                        sink.send(Event::Json(json)).await.map_err(CallError::Sink)?;
                        left -= 1;
                    }
                }
                Heard::Pong if refused.is_some() => break,
                Heard::Pong if !confirmed => {
                    confirmed = true;
                    let subscribed = Event::Progress(subscribed(wanted));
                    sink.send(subscribed).await.map_err(CallError::Sink)?;
                }
                Heard::Pong => {}
                Heard::Refused(text) if !confirmed => {
                    self.wire.expect_again();
                    refused.get_or_insert(text);
                }
                Heard::Refused(text) => return Err(lost_because(&text)),
            }
        }
        self.unsubscribe(wanted).await?;
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

    /// Subscribes to everything. The answer to the PING behind it says that all is confirmed, or refused.
    async fn begin(&mut self, wanted: &Channels) -> Result<(), CallError> {
        self.subscribed = true;
        if self.dirty {
            // The holder may have chosen RESP2, in which nothing tells a message from a reply.
            self.wire.command(&["HELLO", "3"]);
            if let Token::Error(text) = self.reply().await? {
                self.subscribed = false;
                let (error, executed) = self.refusal(&text, Nature::State);
                return Err(CallError::Backend(error, executed));
            }
            while self.wire.is_within() {
                self.wire.token().await.map_err(lost)?;
            }
        }
        for (verb, channels) in verbs(wanted) {
            let mut command = vec![verb];
            command.extend(channels.iter().map(String::as_str));
            self.wire.unanswered(&command);
        }
        self.wire.command(&["PING"]);
        Ok(())
    }

    /// Leaves everything; messages that come meanwhile are dropped.
    async fn unsubscribe(&mut self, wanted: &Channels) -> Result<(), CallError> {
        for (verb, _) in verbs(wanted) {
            let verb = match verb {
                "SUBSCRIBE" => "UNSUBSCRIBE",
                "PSUBSCRIBE" => "PUNSUBSCRIBE",
                _ => "SUNSUBSCRIBE",
            };
            self.wire.unanswered(&[verb]);
        }
        self.wire.command(&["PING"]);
        loop {
            match self.hear().await? {
                Heard::Push(_) => {}
                // One of before may be still on its way.
                Heard::Pong if self.wire.expected() > 0 => {}
                Heard::Pong => break,
                // An old server has no shard channels, and a user may be forbidden to leave: a reset proves what is left.
                Heard::Refused(_) => {
                    self.wire.expect_again();
                    self.dirty = true;
                }
            }
        }
        self.subscribed = false;
        Ok(())
    }

    /// What comes next. While nothing does, the server is asked whether it is still there.
    async fn hear_or_ask(&mut self) -> Result<Heard, CallError> {
        loop {
            let again = self.clock.now() + ALIVE;
            let clock = self.clock.clone();
            tokio::select! {
                biased;
                token = self.wire.token() => return self.rest(token.map_err(lost)?).await,
                () = clock.sleep_until(again) => self.wire.command(&["PING"]),
            }
        }
    }

    async fn hear(&mut self) -> Result<Heard, CallError> {
        let token = self.wire.token().await.map_err(lost)?;
        self.rest(token).await
    }

    /// Takes the rest of what begins with `token`.
    async fn rest(&mut self, token: Token) -> Result<Heard, CallError> {
        match token {
            Token::Open(Kind::Push, count) => {
                let mut parts = Vec::new();
                for _ in 0..count {
                    match self.wire.token().await.map_err(lost)? {
                        Token::Text(text) => parts.push(text),
                        Token::Large(_) => return Err(CallError::Sink(ELEMENT)),
                        // A count of subscriptions, or something of another kind of push.
                        _ => parts.push(Bytes::new()),
                    }
                }
                while self.wire.is_pushing() {
                    self.wire.token().await.map_err(lost)?;
                }
                Ok(Heard::Push(parts))
            }
            Token::Error(text) => Ok(Heard::Refused(text)),
            _ => Ok(Heard::Pong),
        }
    }
}

/// The commands that subscribe, and to what.
fn verbs(wanted: &Channels) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
    let all = [
        ("SUBSCRIBE", &wanted.channels),
        ("PSUBSCRIBE", &wanted.patterns),
        ("SSUBSCRIBE", &wanted.sharded),
    ];
    all.into_iter().filter(|(_, channels)| !channels.is_empty())
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

/// The server refuses what it has taken before, and where the answers stand is not known any more.
fn lost_because(text: &[u8]) -> CallError {
    CallError::Lost {
        message: String::from_utf8_lossy(text).into_owned(),
        executed: None,
    }
}
