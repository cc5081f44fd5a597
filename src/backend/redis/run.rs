//! Commands: sent in one go, answered value by value.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{
    command::Nature,
    plan::Sent,
    reply::{TooLarge, Writer},
    resp::{self, Kind, MAX_WHOLE, Token},
    session::{RedisSession, lost},
};
use crate::{
    backend::{CallError, Completion, Event, Output, Sink, SinkClosed},
    error::{BackendError, Executed, Faults},
};

/// Bytes of a caller's event, at most.
const PART: usize = 64 * 1024;
/// What streaming does not help with.
pub(super) const ELEMENT: SinkClosed = SinkClosed::PartTooLarge {
    what: "one value of the answer is",
    limit: MAX_WHOLE,
};

impl RedisSession {
    /// Runs one command. Streamed, the elements of its answer come one by one and text in parts, so that an answer of
    /// any size takes little memory.
    pub(super) async fn command(
        &mut self,
        written: &[u8],
        sent: Sent,
        typed: bool,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        self.wire.queue(written, 1);
        let first = self.reply().await?;
        self.note(&first);
        let name = name(&first);
        let output = match first {
            Token::Error(text) => {
                let (error, executed) = self.refusal(&text, sent.nature);
                return Err(CallError::Backend(error, executed));
            }
            first if sink.streams() => {
                self.stream(first, typed, sink).await?;
                Output::None
            }
            first => Output::Json(self.value(first, typed, SinkClosed::TooLarge).await?),
        };
        Ok(Completion {
            output,
            attributes: vec![("type".to_owned(), name.to_owned())],
            ..Completion::default()
        })
    }

    /// Runs commands, each of which stands for itself: an error is a value in its place.
    pub(super) async fn pipeline(
        &mut self,
        written: &[u8],
        sent: &[Sent],
        typed: bool,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        self.wire.queue(written, sent.len());
        let mut errors = 0;
        for one in sent {
            let first = self.reply().await?;
            self.note(&first);
            if let Token::Error(text) = &first {
                errors += 1;
                self.refusal(text, one.nature);
            }
            let json = self.value(first, typed, ELEMENT).await?;
            sink.send(Event::Json(json)).await.map_err(CallError::Sink)?;
        }
        Ok(completed(errors))
    }

    /// Runs commands between MULTI and EXEC: all of them, or none.
    pub(super) async fn transaction(
        &mut self,
        written: &[u8],
        sent: &[Sent],
        typed: bool,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        if self.in_transaction {
            let message = "is a transaction, and the lease has one open: EXEC or DISCARD it first";
            return Err(CallError::Invalid(Faults::one("params.atomic", message)));
        }
        let mut all = BytesMut::new();
        resp::encode(&["MULTI"], &mut all);
        all.extend_from_slice(written);
        resp::encode(&["EXEC"], &mut all);
        self.wire.queue(&all, sent.len() + 2);
        if let Token::Error(text) = self.reply().await? {
            return Err(self.untransacted(&text, sent.len()).await?);
        }
        let mut refused = None;
        for index in 0..sent.len() {
            // Each is answered with QUEUED.
            if let Token::Error(text) = self.reply().await? {
                refused.get_or_insert((text, index));
            }
        }
        let outcome = self.reply().await?;
        match (refused, outcome) {
            (None, Token::Open(_, count)) => self.outcome(count, typed, sink).await,
            (None, Token::Null) => Err(changed()),
            // The first refused command says more than that the transaction was discarded.
            (Some((text, index)), Token::Error(_)) => {
                let (mut error, _) = self.refusal(&text, Nature::State);
                error.message = format!("commands[{index}]: {}", error.message);
                // What is discarded was not executed, whatever the command was refused for.
                Err(CallError::Backend(error, Executed::No))
            }
            (None, Token::Error(text)) => {
                let (error, executed) = self.refusal(&text, Nature::State);
                Err(CallError::Backend(error, executed))
            }
            _ => {
                self.wire.break_off();
                Err(CallError::Lost {
                    message: "the server broke the protocol: EXEC was answered by another value".to_owned(),
                    executed: None,
                })
            }
        }
    }

    /// MULTI was refused, and what came behind it was no transaction: each command was carried out by itself, or refused
    /// as well.
    async fn untransacted(&mut self, why: &[u8], sent: usize) -> Result<CallError, CallError> {
        let mut any = false;
        for _ in 0..sent {
            let first = self.reply().await?;
            any |= !matches!(first, Token::Error(_));
            self.value(first, false, ELEMENT).await?;
        }
        // EXEC, without MULTI.
        let exec = self.reply().await?;
        self.value(exec, false, ELEMENT).await?;
        let (mut error, executed) = self.refusal(why, Nature::State);
        if !any {
            return Ok(CallError::Backend(error, executed));
        }
        error.message = format!(
            "MULTI was refused, commands were executed without it: {}",
            error.message
        );
        Ok(CallError::Backend(error, Executed::Yes))
    }

    /// What EXEC's answer has for each command.
    async fn outcome(&mut self, count: u64, typed: bool, sink: &mut Sink) -> Result<Completion, CallError> {
        let mut errors = 0;
        for _ in 0..count {
            let first = self.wire.token().await.map_err(lost)?;
            errors += u32::from(matches!(first, Token::Error(_)));
            let json = self.value(first, typed, ELEMENT).await?;
            sink.send(Event::Json(json)).await.map_err(CallError::Sink)?;
        }
        Ok(completed(errors))
    }

    /// A value as JSON, of which the first token is here.
    async fn value(&mut self, first: Token, typed: bool, too_large: SinkClosed) -> Result<String, CallError> {
        let mut writer = Writer::new(typed);
        let mut next = first;
        loop {
            match writer.token(next) {
                Ok(true) => return Ok(writer.into_json()),
                Ok(false) => next = self.wire.token().await.map_err(lost)?,
                Err(TooLarge) => return Err(CallError::Sink(too_large)),
            }
        }
    }

    async fn stream(&mut self, first: Token, typed: bool, sink: &mut Sink) -> Result<(), CallError> {
        match first {
            Token::Open(Kind::Array | Kind::Set | Kind::Push, count) => {
                for _ in 0..count {
                    let first = self.wire.token().await.map_err(lost)?;
                    let json = self.value(first, typed, ELEMENT).await?;
                    sink.send(Event::Json(json)).await.map_err(CallError::Sink)?;
                }
            }
            Token::Open(Kind::Map, count) => {
                for _ in 0..count {
                    // A key and its value are written as a list of two, which the wire knows nothing of.
                    let pair = self.value(Token::Open(Kind::Array, 2), typed, ELEMENT).await?;
                    sink.send(Event::Json(pair)).await.map_err(CallError::Sink)?;
                }
            }
            Token::Large(_) => {
                while let Some(part) = self.wire.part().await.map_err(lost)? {
                    sink.send(Event::Data(part)).await.map_err(CallError::Sink)?;
                }
            }
            Token::Text(mut text) => {
                while !text.is_empty() {
                    let part = text.split_to(text.len().min(PART));
                    sink.send(Event::Data(part)).await.map_err(CallError::Sink)?;
                }
            }
            other => {
                let json = self.value(other, typed, ELEMENT).await?;
                sink.send(Event::Json(json)).await.map_err(CallError::Sink)?;
            }
        }
        Ok(())
    }
}

/// What RESP calls a value.
const fn name(token: &Token) -> &'static str {
    match token {
        Token::Null => "null",
        Token::Bool(_) => "boolean",
        Token::Int(_) => "integer",
        Token::Double(_) => "double",
        Token::Big(_) => "big_number",
        Token::Text(_) | Token::Large(_) => "string",
        Token::Verbatim(_) => "verbatim",
        Token::Error(_) => "error",
        Token::Open(Kind::Array, _) => "array",
        Token::Open(Kind::Set, _) => "set",
        Token::Open(Kind::Map, _) => "map",
        Token::Open(Kind::Push, _) => "push",
        Token::Open(Kind::Attribute, _) => "attribute",
    }
}

fn completed(errors: u32) -> Completion {
    Completion {
        attributes: vec![("errors".to_owned(), errors.to_string())],
        ..Completion::default()
    }
}

/// A key that the lease watched was changed by another.
fn changed() -> CallError {
    let error = BackendError {
        code: tonic::Code::Aborted,
        message: "a watched key was changed: nothing of the transaction was executed".to_owned(),
        metadata: BTreeMap::from([("redis_code", "WATCH".to_owned())]),
        retry_after: None,
    };
    CallError::Backend(error, Executed::No)
}
