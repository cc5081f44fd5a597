//! Statements: sent in one go, answered row by row.

use std::collections::BTreeMap;

use bytes::{BufMut as _, BytesMut};
use postgres_protocol::{
    IsNull,
    message::{backend::Message, frontend},
};

use super::{
    aside::Aside,
    plan::{self, Statement},
    report,
    rows::{self, Columns, Frames, Shape},
    session::{PostgresSession, lost},
    sqlstate::Report,
    statements::{Key, Prepared},
    text::{is_procedural, sets_how_literals_are_read},
    value::Format,
    wire::Status,
};
use crate::{
    backend::{CallError, Completion, Event, Output, Sink},
    error::{BackendError, Executed, Faults},
};

/// Notices in a unary answer's attributes, at most.
const MAX_NOTICES: usize = 10;
/// Bytes of one notice there.
const MAX_NOTICE: usize = 512;

/// A statement on its way.
#[derive(Debug)]
pub(super) struct Sent {
    key: Key,
    pub(super) prepared: Prepared,
    /// The server is asked to prepare it now.
    fresh: bool,
}

/// What a call's answers came to.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The last statement's command tag, such as `UPDATE 3`.
    pub(super) tag: String,
    pub(super) error: Option<Report>,
    /// The server has taken the statement's text, or its arguments for one that it has: what is stale it refuses before.
    pub(super) taken: bool,
    pub(super) columns: Option<Columns>,
    /// The server has said what the statement returns.
    pub(super) described: bool,
    /// It asked for, or sent, a COPY's data.
    pub(super) copied: bool,
    notices: Vec<String>,
}

impl PostgresSession {
    /// Runs one statement with its arguments. If a kept statement has become useless, because the schema changed or
    /// the caller removed it, it is prepared anew: the server refuses such a one before it does anything.
    pub(super) async fn statement(
        &mut self,
        statement: Statement,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        let mut frames = Frames::new(sink, statement.shape);
        let mut reply = self.attempt(&statement, &mut frames).await?;
        let stale = reply.error.as_ref().is_some_and(|report| report.stale);
        if stale && self.wire.status() == Status::Idle {
            reply = self.attempt(&statement, &mut frames).await?;
        }
        let procedural = is_procedural(&statement.sql);
        self.complete(reply, procedural, frames.is_empty_json())
    }

    async fn attempt(&mut self, statement: &Statement, frames: &mut Frames<'_>) -> Result<Reply, CallError> {
        let sent = self.send(statement)?;
        self.wire.sync();
        if let Some(columns) = sent.prepared.columns.clone() {
            frames.begin(columns);
        }
        let reply = self.answers(frames, false).await?;
        self.remember(sent, &reply);
        self.statements.settle();
        Ok(reply)
    }

    /// Queues a statement, without the Sync behind it.
    pub(super) fn send(&mut self, statement: &Statement) -> Result<Sent, CallError> {
        let arguments = plan::arguments(&statement.args).map_err(CallError::Invalid)?;
        let types = arguments.iter().map(|argument| argument.oid).collect();
        let key = Key {
            sql: statement.sql.as_str().into(),
            types,
        };
        if self.wire.reads_otherwise() || self.reads_otherwise {
            self.statements.abandon_all();
        }
        let known = self.statements.find(&key);
        let fresh = known.is_none();
        self.reads_otherwise |= fresh && sets_how_literals_are_read(&key.sql);
        let prepared = known.unwrap_or_else(|| Prepared {
            name: self.statements.name(&key),
            columns: None,
        });
        let stale = self.statements.take_stale();
        let queue = self.wire.queue();
        let written = (|| {
            for name in &stale {
                frontend::close(b'S', name, queue)?;
            }
            if fresh {
                frontend::parse(&prepared.name, &key.sql, key.types.iter().copied(), queue)?;
                frontend::describe(b'S', &prepared.name, queue)?;
            }
            let formats = arguments
                .iter()
                .map(|argument| i16::from(argument.format == Format::Binary));
            let value = |argument: &super::value::Argument<'_>, buffer: &mut BytesMut| {
                Ok(match &argument.bytes {
                    None => IsNull::Yes,
                    Some(bytes) => {
                        buffer.put_slice(bytes);
                        IsNull::No
                    }
                })
            };
            let bound = frontend::bind("", &prepared.name, formats, &arguments, value, [0_i16], queue);
            bound.map_err(|_| too_long())?;
            frontend::execute("", 0, queue)
        })();
        written.map_err(|error| lost(error.into()))?;
        Ok(Sent { key, prepared, fresh })
    }

    /// Keeps a statement that the server has prepared, and forgets one that it has not any more.
    pub(super) fn remember(&mut self, sent: Sent, reply: &Reply) {
        let Sent {
            key,
            mut prepared,
            fresh,
        } = sent;
        if fresh && reply.described {
            prepared.columns.clone_from(&reply.columns);
            self.statements.keep(key, prepared);
        } else if !fresh && reply.error.as_ref().is_some_and(|report| report.stale) {
            self.statements.forget(&key);
        }
        if matches!(reply.tag.as_str(), "DISCARD ALL" | "DEALLOCATE ALL") {
            self.statements.forget_all();
        }
    }

    /// Runs text of any number of statements.
    pub(super) async fn simple(
        &mut self,
        name: &str,
        sql: &str,
        shape: Shape,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        self.reads_otherwise |= sets_how_literals_are_read(sql);
        frontend::query(sql, self.wire.queue()).map_err(|error| lost(error.into()))?;
        self.wire.expect_ready();
        let mut frames = Frames::new(sink, shape);
        let reply = self.answers(&mut frames, true).await?;
        if name == "commit" && reply.tag == "ROLLBACK" {
            return Err(rolled_back());
        }
        if sql.to_ascii_uppercase().contains("DEALLOCATE") || reply.tag.starts_with("DISCARD") {
            self.statements.abandon_all();
        }
        // Several statements may have been committed one by one before the one that failed.
        self.complete(reply, name == "simple", frames.is_empty_json())
    }

    /// Takes answers until the server is ready for more. What came as text is `taken` from the beginning.
    pub(super) async fn answers(&mut self, frames: &mut Frames<'_>, taken: bool) -> Result<Reply, CallError> {
        let mut reply = Reply {
            taken,
            ..Reply::default()
        };
        loop {
            if frames.is_waiting() && !self.wire.has_message() {
                frames.flush().await.map_err(CallError::Sink)?;
            }
            let message = match self.wire.next().await {
                Ok(message) => message,
                Err(error) => return Err(ended(reply.error, error)),
            };
            self.pass_asides(frames, &mut reply).await?;
            match message {
                Message::ReadyForQuery(_) if self.wire.expected() == 0 => break,
                message => self.take(message, frames, &mut reply).await?,
            }
        }
        Ok(reply)
    }

    async fn take(
        &mut self,
        message: Message,
        frames: &mut Frames<'_>,
        reply: &mut Reply,
    ) -> Result<(), CallError> {
        match message {
            Message::DataRow(body) => frames.add(&body).await.map_err(CallError::Sink)?,
            Message::ParseComplete | Message::BindComplete => reply.taken = true,
            Message::NoData => reply.described = true,
            Message::RowDescription(body) => {
                let columns = rows::columns(&body);
                reply.described = columns.is_some();
                reply.columns.clone_from(&columns);
                if let Some(columns) = columns {
                    frames.begin(columns);
                }
            }
            Message::CommandComplete(body) => {
                body.tag().unwrap_or_default().clone_into(&mut reply.tag);
                frames.end(affected(&reply.tag)).await.map_err(CallError::Sink)?;
            }
            Message::ErrorResponse(body) => {
                let report = report::read_of(&body, reply.taken);
                self.note(&report);
                reply.error.get_or_insert(report);
            }
            Message::CopyInResponse(_) => {
                reply.copied = true;
                self.wire.refuse_copy("use copy_in").map_err(lost)?;
            }
            Message::CopyOutResponse(_) => reply.copied = true,
            _ => {}
        }
        Ok(())
    }

    /// Notices and notifications: events for who streams, attributes else.
    async fn pass_asides(&mut self, frames: &mut Frames<'_>, reply: &mut Reply) -> Result<(), CallError> {
        if !self.wire.has_asides() {
            return Ok(());
        }
        for aside in self.take_asides() {
            if frames.streams() {
                if let Some(event) = aside.event() {
                    frames
                        .beside(Event::Progress(event))
                        .await
                        .map_err(CallError::Sink)?;
                }
            } else if let Aside::Notice {
                severity, message, ..
            } = aside
                && reply.notices.len() < MAX_NOTICES
            {
                let mut notice = format!("{severity}: {message}");
                notice.truncate(notice.floor_char_boundary(MAX_NOTICE));
                reply.notices.push(notice);
            }
        }
        Ok(())
    }

    /// What the caller is told.
    pub(super) fn complete(
        &self,
        reply: Reply,
        procedural: bool,
        empty_json: bool,
    ) -> Result<Completion, CallError> {
        if reply.copied {
            let message = "a COPY needs `copy_in` or `copy_out`: its data does not fit a query's answer";
            return Err(misplaced(reply.error.as_ref(), "name", message, procedural));
        }
        if let Some(report) = reply.error {
            let executed = report.executed(procedural);
            return Err(CallError::Backend(report.into_error(), executed));
        }
        let notices = reply.notices.into_iter().enumerate();
        let mut attributes: Vec<_> = notices
            .map(|(index, text)| (format!("notice.{index}"), text))
            .collect();
        attributes.push(("tag".to_owned(), reply.tag));
        Ok(Completion {
            output: if empty_json {
                Output::Json("[]".to_owned())
            } else {
                Output::None
            },
            attributes,
            ..Completion::default()
        })
    }
}

/// The end of a connection in the middle of a call. The server's own last word says most.
pub(super) fn ended(report: Option<Report>, error: super::fault::WireError) -> CallError {
    match report {
        Some(report) => CallError::Lost {
            message: format!("{} (SQLSTATE {})", report.message, report.sqlstate),
            executed: None,
        },
        None => lost(error),
    }
}

/// Rows that a command changed, by its tag: `INSERT 0 5`, `UPDATE 3`, `COPY 7`. A SELECT changes none.
pub(super) fn affected(tag: &str) -> i64 {
    let mut words = tag.split(' ');
    match words.next() {
        Some("INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY") => words
            .next_back()
            .and_then(|count| count.parse().ok())
            .unwrap_or(0),
        _ => 0,
    }
}

/// A COPY where none belongs. What ran all the same, such as the DELETE in a COPY of what it returns, is said.
pub(super) fn misplaced(report: Option<&Report>, field: &str, message: &str, procedural: bool) -> CallError {
    let executed = report.map_or(Executed::Yes, |report| report.executed(procedural));
    if executed == Executed::No {
        return CallError::Invalid(Faults::one(field, message));
    }
    CallError::Backend(
        BackendError {
            code: tonic::Code::InvalidArgument,
            message: message.to_owned(),
            metadata: BTreeMap::new(),
            retry_after: None,
        },
        executed,
    )
}

fn rolled_back() -> CallError {
    let metadata = [("sqlstate", "25P02".to_owned())].into();
    CallError::Backend(
        BackendError {
            code: tonic::Code::Aborted,
            message: "the transaction had failed: COMMIT rolled it back".to_owned(),
            metadata,
            retry_after: None,
        },
        Executed::No,
    )
}

fn too_long() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidInput,
        "more arguments than the protocol can carry",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_tell_how_many_rows_were_changed() {
        let tags = [
            "INSERT 0 5",
            "UPDATE 3",
            "DELETE 0",
            "SELECT 9",
            "COPY 7",
            "BEGIN",
            "",
        ];
        assert_eq!(tags.map(affected), [5, 3, 0, 0, 7, 0, 0]);
    }
}
