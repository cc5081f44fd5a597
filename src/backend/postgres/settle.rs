//! Bringing a session to rest: after a call that was dropped, and between holders.

use std::time::Duration;

use fallible_iterator::FallibleIterator as _;
use futures_util::FutureExt as _;
use postgres_protocol::message::{backend::Message, frontend};

use super::{fault::WireError, session::PostgresSession, wire::Status};
use crate::backend::SessionLost;

/// Empty queries sent behind a cancel request until one comes back unharmed, at most.
const BARRIERS: usize = 3;

/// How long a cancelled statement may take to end before it is cancelled again, at first; then twice as long each time.
const CANCEL_AGAIN: Duration = Duration::from_millis(10);

/// Everything that a holder can leave behind, undone. Settings first: what follows must not look up its functions in
/// the holder's search path. What this session's own statements need (the prepared ones) stays. It is a transaction
/// with characteristics of its own, whatever the holder has made the default: a serializable deferrable one would wait
/// for others. Whether it may write is left open: a standby refuses to be asked, and nothing of this needs it. Its end
/// makes UNLISTEN true.
const WASH: &str = "BEGIN ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE; \
                    SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; \
                    DISCARD TEMP; DISCARD SEQUENCES; COMMIT; SELECT pg_catalog.pg_advisory_unlock_all(); ";

/// Counts what must be so afterwards: this session's own prepared statements, then nothing prepared by SQL, no
/// cursor, no channel.
const PROOF: &str = "SELECT pg_catalog.concat_ws('/', pg_catalog.count(*) FILTER (WHERE NOT from_sql), \
                     pg_catalog.count(*) FILTER (WHERE from_sql), \
                     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cursors \
                     WHERE name OPERATOR(pg_catalog.<>) ''), \
                     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels())) \
                     FROM pg_catalog.pg_prepared_statements";

impl PostgresSession {
    /// Brings the session back to a protocol boundary after a call was dropped or failed in the middle. The holder's
    /// transaction stays, failed if a statement of it was cancelled.
    pub(super) async fn come_to_rest(&mut self) -> Result<(), SessionLost> {
        if self.wire.is_broken() {
            return Err(SessionLost::because("the connection broke"));
        }
        if self.cancelling {
            // Settling was dropped before, and its request to cancel may be on its way still.
            self.wire.break_off();
            return Err(SessionLost::because("an earlier request to cancel was not met"));
        }
        self.statements.break_off();
        self.wire.come_home().map_err(SessionLost::because_of)?;
        self.wire.be_patient(false).map_err(SessionLost::because_of)?;
        self.finish_sending().await?;
        while self.wire.expected() > 0 && self.wire.has_message() {
            // A server that waits for a COPY's data meets no cancelling.
            // What is here may be nothing but notices, and the server busy for long behind them.
            let Some(message) = self.wire.next().now_or_never() else {
                break;
            };
            let message = message.map_err(SessionLost::because_of)?;
            self.copying |= matches!(message, Message::CopyInResponse(_));
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
                self.drain().await.map_err(SessionLost::because_of)?;
            } else {
                self.cancel_one().await?;
            }
        }
        for _ in 0..BARRIERS {
            let met = self.command("").await.map_err(SessionLost::because_of)?;
            if met.is_none() {
                self.cancelling = false;
                return Ok(());
            }
        }
        Err(SessionLost::because("the server goes on cancelling"))
    }

    /// Cancels until the next ReadyForQuery comes. A server that has not read the statement yet forgets the request,
    /// and would then run it to its end.
    async fn cancel_one(&mut self) -> Result<(), SessionLost> {
        let mut patience = CANCEL_AGAIN;
        loop {
            self.cancelling = true;
            self.canceller.cancel().await?;
            let again = self.clock.now() + patience;
            let clock = self.clock.clone();
            tokio::select! {
                biased;
                drained = self.drain() => return drained.map_err(SessionLost::because_of),
                () = clock.sleep_until(again) => patience *= 2,
            }
        }
    }

    /// Drops answers up to the next ReadyForQuery. May be dropped and called again.
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
            self.statements.settle();
            self.is_clean_now();
            self.take_asides();
        }
        washed
    }

    async fn wash_and_prove(&mut self) -> Result<(), SessionLost> {
        if self.wire.status() != Status::Idle {
            self.must("ROLLBACK").await?;
        }
        self.close_stale()?;
        if self.proof(&format!("{WASH}{PROOF}")).await? != self.clean_proof() {
            // SQL has prepared something, or removed something, perhaps to put another in its place.
            self.statements.forget_all();
            self.must("DEALLOCATE ALL").await?;
            if self.proof(PROOF).await? != self.clean_proof() {
                let left = "something was left behind that a reset does not remove";
                return Err(SessionLost::because(left));
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

    /// Statements of no more use, and those that a dropped call may have left, go along with the wash.
    fn close_stale(&mut self) -> Result<(), SessionLost> {
        if std::mem::take(&mut self.reads_otherwise) {
            self.statements.abandon_all();
        }
        self.statements.break_off();
        for name in self.statements.take_stale() {
            let closed = frontend::close(b'S', &name, self.wire.queue());
            closed.map_err(|error| SessionLost::because_of(error.into()))?;
        }
        Ok(())
    }

    /// What [`PROOF`] says of a clean session.
    fn clean_proof(&self) -> String {
        format!("{}/0/0/0", self.statements.len())
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

    /// Runs SQL and returns the only cell of the last statement's only row. Without one nothing is proven: the answer
    /// may be another's.
    async fn proof(&mut self, sql: &str) -> Result<String, SessionLost> {
        frontend::query(sql, self.wire.queue()).map_err(|error| SessionLost::because_of(error.into()))?;
        self.wire.expect_ready();
        let (mut found, mut fault) = (None, None);
        loop {
            match self.wire.next().await.map_err(SessionLost::because_of)? {
                Message::RowDescription(_) => found = None,
                Message::DataRow(body) => {
                    let cell = body.ranges().next().ok().flatten().flatten();
                    let text = cell.and_then(|range| body.buffer().get(range));
                    found = text.map(|text| String::from_utf8_lossy(text).into_owned());
                }
                Message::ErrorResponse(body) => fault = Some(super::report::read(&body).message),
                Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        match (found, fault) {
            (Some(found), None) => Ok(found),
            (_, Some(fault)) => Err(SessionLost::because(fault)),
            (None, None) => Err(SessionLost::because("a reset's proof was not answered")),
        }
    }
}
