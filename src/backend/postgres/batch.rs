//! A batch: statements sent in one go. Each stands for itself; or, if it is atomic, all of them or none.

use postgres_protocol::message::backend::Message;
use serde_json::{Value, json};

use super::{
    plan::Statement,
    report,
    rows::{self, Columns},
    run::{Reply, Sent, affected, ended},
    session::{PostgresSession, lost},
    text::is_procedural,
};
use crate::backend::{CallError, Completion, Event, Sink, SinkClosed};

/// One statement's rows, at most: they are kept until it is done. More is a `query`'s business.
const MAX_ROWS: usize = 1024 * 1024;

/// One statement's part of the answer.
#[derive(Debug, Default)]
struct Part {
    reply: Reply,
    rows: Vec<String>,
    bytes: usize,
}

impl PostgresSession {
    /// Runs the statements in order. Without `atomic` one that fails says so in its place, and the next ones run.
    pub(super) async fn batch(
        &mut self,
        statements: Vec<Statement>,
        atomic: bool,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        let mut sent = Vec::with_capacity(statements.len());
        for statement in &statements {
            sent.push(self.send(statement)?);
            if !atomic {
                self.wire.sync();
            }
        }
        if atomic {
            // What stands before one Sync is one transaction.
            self.wire.sync();
        }
        let count = sent.len();
        for (index, (sent, statement)) in sent.into_iter().zip(&statements).enumerate() {
            let last = index + 1 == count;
            let part = self.part(sent.columns(), !atomic || last).await?;
            if let (true, Some(report)) = (atomic, &part.reply.error) {
                let report = report.clone();
                self.remember(sent, &part.reply);
                return Err(self.fail(index, report, statement, last).await?);
            }
            self.remember(sent, &part.reply);
            let shown = shown(part, is_procedural(&statement.sql));
            sink.send(Event::Json(shown)).await.map_err(CallError::Sink)?;
        }
        self.statements.settle();
        Ok(Completion::default())
    }

    /// One statement's answer, up to its end; up to ReadyForQuery if one comes behind it.
    async fn part(&mut self, known: Option<Columns>, ready: bool) -> Result<Part, CallError> {
        let mut part = Part::default();
        part.reply.columns = known;
        loop {
            let message = self
                .wire
                .next()
                .await
                .map_err(|error| ended(part.reply.error.take(), error))?;
            match message {
                Message::ParseComplete | Message::BindComplete => part.reply.taken = true,
                Message::NoData => part.reply.described = true,
                Message::RowDescription(body) => {
                    part.reply.columns = rows::columns(&body);
                    part.reply.described = part.reply.columns.is_some();
                }
                Message::DataRow(body) => {
                    let columns = part.reply.columns.as_ref();
                    let row = columns.map_or_else(String::new, |columns| columns.json(&body));
                    part.bytes += row.len();
                    if part.bytes > MAX_ROWS {
                        return Err(CallError::Sink(SinkClosed::PartTooLarge {
                            what: "one statement's rows in a batch are",
                            limit: MAX_ROWS,
                        }));
                    }
                    part.rows.push(row);
                }
                Message::CommandComplete(body) => {
                    body.tag().unwrap_or_default().clone_into(&mut part.reply.tag);
                    if !ready {
                        return Ok(part);
                    }
                }
                Message::EmptyQueryResponse if !ready => return Ok(part),
                Message::CopyInResponse(_) => {
                    // It takes the statements behind it for its data: whose answers come then is not known.
                    self.wire.break_off();
                    return Err(CallError::Lost {
                        message: "a COPY FROM STDIN in a batch: use copy_in".to_owned(),
                        executed: None,
                    });
                }
                Message::ErrorResponse(body) => {
                    let found = report::read_of(&body, part.reply.taken);
                    self.note(&found);
                    part.reply.error.get_or_insert(found);
                    if !ready {
                        return Ok(part);
                    }
                }
                Message::ReadyForQuery(_) => return Ok(part),
                _ => {}
            }
        }
    }

    /// An atomic batch has failed: the server skips the rest, and has undone the beginning.
    async fn fail(
        &mut self,
        index: usize,
        mut report: super::sqlstate::Report,
        statement: &Statement,
        answered: bool,
    ) -> Result<CallError, CallError> {
        while !answered && self.wire.expected() > 0 {
            self.wire.next().await.map_err(lost)?;
        }
        // What it had prepared is still there, and what came behind was skipped.
        self.statements.break_off();
        report.message = format!("statements[{index}]: {}", report.message);
        let executed = report.executed(is_procedural(&statement.sql));
        Ok(CallError::Backend(report.into_error(), executed))
    }
}

impl Sent {
    fn columns(&self) -> Option<Columns> {
        self.prepared.columns.clone()
    }
}

/// A statement's result as JSON text: `tag`, `affected`, `rows`; or `error`.
fn shown(part: Part, procedural: bool) -> String {
    if let Some(report) = part.reply.error {
        let executed = report.executed(procedural);
        let error = report.into_error();
        let mut facts: serde_json::Map<String, Value> = error
            .metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        facts.insert("message".to_owned(), json!(error.message));
        facts.insert("executed".to_owned(), json!(executed.word()));
        return json!({ "error": facts }).to_string();
    }
    let tag = Value::from(part.reply.tag.as_str());
    let rows = part.rows.join(",");
    format!(
        r#"{{"tag":{tag},"affected":{},"rows":[{rows}]}}"#,
        affected(&part.reply.tag)
    )
}
