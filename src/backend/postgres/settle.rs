//! Bringing a session to rest: after a call that was dropped, and between holders.

use postgres_protocol::message::{backend::Message, frontend};

use super::{io::WireError, session::PostgresSession, wire::Status};
use crate::backend::SessionLost;

/// Empty queries sent behind a cancel request until one comes back unharmed, at most.
const BARRIERS: usize = 3;

/// Everything that a holder can leave behind, undone. Settings first: what follows must not look up its functions in
/// the holder's search path. What this session's own statements need (the prepared ones) stays.
const WASH: &str = "SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; \
                    DISCARD TEMP; DISCARD SEQUENCES; SELECT pg_catalog.pg_advisory_unlock_all(); ";

/// What must be nothing afterwards: statements that SQL has prepared (by name, to be removed), cursors, channels.
const PROOF: &str = "SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql \
                     UNION ALL SELECT NULL FROM pg_catalog.pg_cursors WHERE name <> '' \
                     UNION ALL SELECT NULL FROM pg_catalog.pg_listening_channels()";

impl PostgresSession {
    /// Brings the session back to a protocol boundary after a call was dropped or failed in the middle. The holder's
    /// transaction stays, failed if a statement of it was cancelled.
    pub(super) async fn come_to_rest(&mut self) -> Result<(), SessionLost> {
        if self.wire.is_broken() {
            return Err(SessionLost::because("the connection broke"));
        }
        self.statements.break_off();
        self.wire.come_home().map_err(SessionLost::because_of)?;
        self.wire.be_patient(false).map_err(SessionLost::because_of)?;
        self.finish_sending().await?;
        while self.wire.expected() > 0 && self.wire.has_message() {
            self.wire.next().await.map_err(SessionLost::because_of)?;
        }
        if self.wire.expected() == 0 {
            self.copying = false;
            return Ok(());
        }
        let settled = self.cancel_all().await;
        if settled.is_err() {
            self.wire.break_off();
        }
        settled
    }

    /// Takes back what was not sent. A message that was begun may be finished for the holder whose it is, and for
    /// nobody else.
    async fn finish_sending(&mut self) -> Result<(), SessionLost> {
        if self.wire.unqueue() {
            return Ok(());
        }
        if self.fence.number() == self.author {
            return self.wire.flush().await.map_err(SessionLost::because_of);
        }
        self.wire.break_off();
        Err(SessionLost::because(
            "a statement was cut off in the middle of being sent",
        ))
    }

    /// Cancels until nothing runs any more: each request ends one statement of a batch.
    async fn cancel_all(&mut self) -> Result<(), SessionLost> {
        while self.wire.expected() > 0 {
            if std::mem::take(&mut self.copying) {
                // The server reads the COPY's data, and would find the cancelling only between two messages.
                self.wire
                    .refuse_copy("cancelled")
                    .map_err(SessionLost::because_of)?;
            } else {
                self.canceller.cancel().await?;
            }
            self.drain().await.map_err(SessionLost::because_of)?;
        }
        for _ in 0..BARRIERS {
            let met = self.command("").await.map_err(SessionLost::because_of)?;
            if met.is_none() {
                return Ok(());
            }
        }
        Err(SessionLost::because("the server goes on cancelling"))
    }

    /// Drops answers up to the next ReadyForQuery.
    async fn drain(&mut self) -> Result<(), WireError> {
        loop {
            match self.wire.next().await? {
                Message::ReadyForQuery(_) => return Ok(()),
                Message::CopyInResponse(_) => self.wire.refuse_copy("cancelled")?,
                _ => {}
            }
        }
    }

    /// Removes everything that a holder left behind, and proves it.
    pub(super) async fn wash(&mut self) -> Result<(), SessionLost> {
        self.wire.come_home().map_err(SessionLost::because_of)?;
        let washed = self.wash_and_prove().await;
        if washed.is_err() {
            self.wire.break_off();
        } else {
            self.is_clean_now();
            self.take_asides();
        }
        washed
    }

    async fn wash_and_prove(&mut self) -> Result<(), SessionLost> {
        if self.wire.status() != Status::Idle {
            self.must("ROLLBACK").await?;
        }
        let sql = format!("{WASH}{PROOF}");
        let left = self.names(&sql).await?;
        if !left.is_empty() {
            self.remove(left).await?;
            if !self.names(PROOF).await?.is_empty() {
                return Err(SessionLost::because(
                    "something was left behind that a reset does not remove",
                ));
            }
        }
        for index in 0..self.server.init_sql.len() {
            let sql = self.server.init_sql.get(index).cloned().unwrap_or_default();
            self.must(&sql).await?;
        }
        if self.wire.status() == Status::Idle {
            Ok(())
        } else {
            Err(SessionLost::because("a transaction is open after the reset"))
        }
    }

    /// Removes what SQL has prepared. Its names may be those of this session's own statements, if a holder has
    /// removed one and put another in its place.
    async fn remove(&mut self, left: Vec<Option<String>>) -> Result<(), SessionLost> {
        // A channel goes when the transaction of what removed it ends, after the first proof.
        let named: Vec<_> = left.into_iter().flatten().collect();
        if named.is_empty() {
            return Ok(());
        }
        for name in named {
            let quoted = name.replace('"', "\"\"");
            self.must(&format!("DEALLOCATE \"{quoted}\"")).await?;
        }
        self.statements.forget_all();
        self.must("DEALLOCATE ALL").await
    }

    async fn must(&mut self, sql: &str) -> Result<(), SessionLost> {
        match self.command(sql).await.map_err(SessionLost::because_of)? {
            None => Ok(()),
            Some(report) => Err(SessionLost::because(format!(
                "{}: {}",
                report.sqlstate, report.message
            ))),
        }
    }

    /// Runs SQL and returns the first column of the last statement's rows.
    async fn names(&mut self, sql: &str) -> Result<Vec<Option<String>>, SessionLost> {
        use fallible_iterator::FallibleIterator as _;
        frontend::query(sql, self.wire.queue()).map_err(|error| SessionLost::because_of(error.into()))?;
        self.wire.expect_ready();
        let mut found = Vec::new();
        let mut fault = None;
        loop {
            match self.wire.next().await.map_err(SessionLost::because_of)? {
                Message::RowDescription(_) => found.clear(),
                Message::DataRow(body) => {
                    let cell = body.ranges().next().ok().flatten().flatten();
                    let text = cell.and_then(|range| body.buffer().get(range));
                    found.push(text.map(|text| String::from_utf8_lossy(text).into_owned()));
                }
                Message::ErrorResponse(body) => fault = Some(super::report::read(&body).message),
                Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        match fault {
            None => Ok(found),
            Some(message) => Err(SessionLost::because(message)),
        }
    }
}
