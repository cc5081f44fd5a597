//! COPY: bytes in and out, in bounded memory. A slow reader pauses the server's sends, a slow server the caller's.

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::{
    backend::Message,
    frontend::{self, CopyData},
};

use super::{
    report,
    run::{Reply, affected, ended, misplaced},
    session::{PostgresSession, lost},
};
use crate::{
    backend::{Body, CallError, Completion, Event, Output, Sink},
    proto,
};

/// One frame of a COPY out, at most.
const FRAME: usize = 64 * 1024;
/// Bytes of a COPY in that wait to be written before the caller's next ones are taken, and in one message at most.
const AHEAD: usize = 256 * 1024;

impl PostgresSession {
    /// Feeds a COPY FROM STDIN with the operation's body.
    pub(super) async fn copy_in(&mut self, sql: &str, body: Body) -> Result<Completion, CallError> {
        let mut reply = Reply::default();
        self.start_copy(sql)?;
        if !self
            .await_copy(&mut reply, |message| {
                matches!(message, Message::CopyInResponse(_))
            })
            .await?
        {
            return self.no_copy(reply, "FROM STDIN");
        }
        self.copying = true;
        self.wire.be_patient(true).map_err(lost)?;
        self.feed(body, &mut reply).await?;
        // Until the end of the data is written, a caller who goes must end the COPY itself: no cancelling does.
        self.wire.flush().await.map_err(lost)?;
        self.copying = false;
        self.wire.be_patient(false).map_err(lost)?;
        self.end_copy(&mut reply).await?;
        self.copied(reply)
    }

    fn start_copy(&mut self, sql: &str) -> Result<(), CallError> {
        frontend::query(sql, self.wire.queue()).map_err(|error| lost(error.into()))?;
        self.wire.expect_ready();
        Ok(())
    }

    /// Waits until the server is ready for the COPY; false if it is ready for another statement instead.
    async fn await_copy(
        &mut self,
        reply: &mut Reply,
        begins: impl Fn(&Message) -> bool,
    ) -> Result<bool, CallError> {
        loop {
            match self.next(reply).await? {
                message if begins(&message) => return Ok(true),
                Message::CopyInResponse(_) => self.wire.refuse_copy("use copy_in").map_err(lost)?,
                Message::ReadyForQuery(_) => return Ok(false),
                Message::ErrorResponse(body) => self.note_error(reply, &body),
                _ => {}
            }
        }
    }

    /// Passes the body on. The server may refuse a row at any time; then the rest is dropped.
    async fn feed(&mut self, body: Body, reply: &mut Reply) -> Result<(), CallError> {
        let mut body = match body {
            Body::Whole(bytes) => {
                if self.push(bytes, reply).await? {
                    self.finish_copy();
                }
                return Ok(());
            }
            Body::Stream(reader) => reader,
        };
        loop {
            tokio::select! {
                biased;
                message = self.wire.next() => {
                    let message = message.map_err(|error| ended(reply.error.take(), error))?;
                    if self.is_refused(&message, reply) {
                        return Ok(());
                    }
                }
                chunk = body.next() => match chunk.map_err(|_| CallError::Input)? {
                    Some(bytes) => if !self.push(bytes, reply).await? {
                        return Ok(());
                    },
                    None => {
                        self.finish_copy();
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Passes a part of the body on; false if the server refuses it.
    async fn push(&mut self, mut bytes: Bytes, reply: &mut Reply) -> Result<bool, CallError> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(AHEAD));
            let data = CopyData::new(part).map_err(|error| lost(error.into()))?;
            data.write(self.wire.queue());
            while let Some(message) = self
                .wire
                .send()
                .await
                .map_err(|error| ended(reply.error.take(), error))?
            {
                if self.is_refused(&message, reply) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether the server has ended the COPY with an error.
    fn is_refused(&mut self, message: &Message, reply: &mut Reply) -> bool {
        let Message::ErrorResponse(refused) = message else {
            return false;
        };
        self.note_error(reply, refused);
        self.copying = false;
        true
    }

    fn finish_copy(&mut self) {
        frontend::copy_done(self.wire.queue());
    }

    /// Hands a COPY TO STDOUT on.
    pub(super) async fn copy_out(&mut self, sql: &str, sink: &mut Sink) -> Result<Completion, CallError> {
        let mut reply = Reply::default();
        self.start_copy(sql)?;
        if !self
            .await_copy(&mut reply, |message| {
                matches!(message, Message::CopyOutResponse(_))
            })
            .await?
        {
            return self.no_copy(reply, "TO STDOUT");
        }
        let mut frame = BytesMut::new();
        loop {
            if !frame.is_empty() && !self.wire.has_message() && sink.streams() || frame.len() >= FRAME {
                pass_on(&mut frame, sink).await?;
            }
            match self.next(&mut reply).await? {
                Message::CopyData(body) => frame.extend_from_slice(body.data()),
                Message::ErrorResponse(body) => self.note_error(&mut reply, &body),
                Message::CommandComplete(body) => body.tag().unwrap_or_default().clone_into(&mut reply.tag),
                Message::CopyInResponse(_) => self.wire.refuse_copy("use copy_in").map_err(lost)?,
                Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        pass_on(&mut frame, sink).await?;
        self.complete(reply, false, false)
    }

    async fn end_copy(&mut self, reply: &mut Reply) -> Result<(), CallError> {
        loop {
            match self.next(reply).await? {
                Message::ErrorResponse(body) => self.note_error(reply, &body),
                Message::CommandComplete(body) => body.tag().unwrap_or_default().clone_into(&mut reply.tag),
                Message::CopyInResponse(_) => self.wire.refuse_copy("one COPY at a time").map_err(lost)?,
                Message::ReadyForQuery(_) => return Ok(()),
                _ => {}
            }
        }
    }

    async fn next(&mut self, reply: &mut Reply) -> Result<Message, CallError> {
        self.wire
            .next()
            .await
            .map_err(|error| ended(reply.error.take(), error))
    }

    fn note_error(
        &mut self,
        reply: &mut Reply,
        body: &postgres_protocol::message::backend::ErrorResponseBody,
    ) {
        let found = report::read(body);
        self.note(&found);
        reply.error.get_or_insert(found);
    }

    fn copied(&self, reply: Reply) -> Result<Completion, CallError> {
        let rows = proto::Rows {
            affected: affected(&reply.tag),
            ..proto::Rows::default()
        };
        let mut done = self.complete(reply, false, false)?;
        done.output = Output::Rows(rows);
        Ok(done)
    }

    /// The statement was no COPY of the right direction; if the server had an error to tell, that.
    fn no_copy(&self, reply: Reply, direction: &str) -> Result<Completion, CallError> {
        let refused = reply
            .error
            .as_ref()
            .is_some_and(|report| report.sqlstate != "57014");
        if refused {
            return self.complete(reply, false, false);
        }
        let message = format!("must be a COPY … {direction}");
        Err(misplaced(reply.error.as_ref(), "params.sql", &message, false))
    }
}

/// Sends what there is, in frames. The server's own messages are rows, which may be larger than any answer's may.
async fn pass_on(rows: &mut BytesMut, sink: &mut Sink) -> Result<(), CallError> {
    while !rows.is_empty() {
        let frame = rows.split_to(rows.len().min(FRAME)).freeze();
        sink.send(Event::Data(frame)).await.map_err(CallError::Sink)?;
    }
    Ok(())
}
