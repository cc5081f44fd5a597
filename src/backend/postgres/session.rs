//! A session: one connection to a server, its prepared statements, and what its holder may have left behind.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use postgres_protocol::message::{backend::Message, frontend};

use super::{
    aside::Aside,
    cancel::Canceller,
    connect::{self, Connected},
    definition::Server,
    fault::{MAX_MESSAGE, WireError},
    plan::Plan,
    report,
    rows::ONE_ROW,
    sqlstate::Report,
    statements::Statements,
    wire::{Status, Wire},
};
use crate::{
    backend::{
        CallError, Cleanliness, Completion, DialError, Fence, Operation, Session, SessionLost, Sink,
        SinkClosed,
    },
    clock::Clock,
    error::Executed,
};

/// One session.
#[derive(Debug)]
pub(super) struct PostgresSession {
    pub(super) server: Arc<Server>,
    pub(super) clock: Clock,
    pub(super) wire: Wire,
    pub(super) statements: Statements,
    pub(super) canceller: Canceller,
    pub(super) fence: Arc<Fence>,
    /// The grant that the bytes on their way out belong to.
    pub(super) author: u64,
    /// Whether the server waits for the rows of a COPY.
    pub(super) copying: bool,
    used: Used,
    /// A request to cancel was made, and it is not known yet whether it was met: it may come at any time.
    pub(super) cancelling: bool,
    /// Statements are prepared by other settings than a clean session's: none is kept, until a reset.
    pub(super) reads_otherwise: bool,
    /// The server is a standby: it was the primary's place once, and may not be any more.
    standby: bool,
}

/// What has run since the session was last clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Used {
    No,
    Alone,
    Lease,
}

impl PostgresSession {
    /// Opens one. If the future is dropped, so is the socket.
    pub(super) async fn dial(
        server: Arc<Server>,
        clock: Clock,
        fence: Arc<Fence>,
    ) -> Result<Self, DialError> {
        let Connected { wire, canceller } = connect::connect(&server, &fence).await?;
        let statements = Statements::new(server.cache);
        let mut session = Self {
            server,
            clock,
            wire,
            statements,
            canceller,
            author: 0,
            fence,
            copying: false,
            used: Used::No,
            cancelling: false,
            reads_otherwise: false,
            standby: false,
        };
        session.take_asides();
        Ok(session)
    }

    async fn run(&mut self, mut operation: Operation, sink: &mut Sink) -> Result<Completion, CallError> {
        let plan = operation.plan(Plan::read)?;
        self.wire.come_home().map_err(lost)?;
        self.wire.catch_up().await.map_err(CallError::lost_before)?;
        let (alone, in_parts) = (operation.alone, plan.may_commit_in_parts(&operation.name));
        self.used = self.used.max(if alone { Used::Alone } else { Used::Lease });
        let holder = self.fence.number();
        self.wire.drop_asides(holder != self.author);
        self.author = holder;
        let done = match plan {
            Plan::Statement(statement) => self.statement(statement, sink).await,
            Plan::Simple { sql, shape } => self.simple(&operation.name, &sql, shape, sink).await,
            Plan::Batch { statements, atomic } => self.batch(statements, atomic, sink).await,
            Plan::CopyIn { sql } => self.copy_in(&sql, operation.body).await,
            Plan::CopyOut { sql } => self.copy_out(&sql, sink).await,
            Plan::Listen { channels, count } => self.listen(&channels, count, sink).await,
        };
        let done = match done {
            // The rollback of a part proves nothing of the others.
            Err(CallError::Backend(error, Executed::No)) if in_parts => {
                Err(CallError::Backend(error, Executed::Yes))
            }
            done => done,
        };
        if alone && self.wire.expected() == 0 && self.wire.status() != Status::Idle {
            let executed = if in_parts { Executed::Yes } else { Executed::No };
            return Err(self.end_left_open(done, executed).await);
        }
        done
    }

    /// Rolls a one-shot's transaction back. A failed statement's own error says more than that it left it open.
    async fn end_left_open(&mut self, done: Result<Completion, CallError>, executed: Executed) -> CallError {
        match self.command("ROLLBACK").await {
            Err(error) => lost(error),
            Ok(Some(report)) => {
                self.wire.break_off();
                CallError::Lost {
                    message: report.message,
                    executed: None,
                }
            }
            Ok(None) => done.err().unwrap_or(CallError::LeftOpen(executed)),
        }
    }

    /// Runs SQL whose rows nobody wants; the first error of the server's, if there is one.
    pub(super) async fn command(&mut self, sql: &str) -> Result<Option<Report>, WireError> {
        frontend::query(sql, self.wire.queue())?;
        self.wire.expect_ready();
        let mut found = None;
        loop {
            match self.wire.next().await? {
                Message::ErrorResponse(body) => {
                    found.get_or_insert(report::read(&body));
                }
                Message::ReadyForQuery(_) if self.wire.expected() == 0 => return Ok(found),
                _ => {}
            }
        }
    }

    /// What came beside the answers, less what only the session itself needs.
    pub(super) fn take_asides(&mut self) -> VecDeque<Aside> {
        let mut asides = self.wire.take_asides();
        asides.retain(|aside| match aside {
            Aside::Standby(standby) => {
                self.standby = *standby;
                false
            }
            Aside::Notice { .. } | Aside::Notification { .. } => true,
        });
        asides
    }

    /// An error that says something about the session itself.
    pub(super) fn note(&mut self, report: &Report) {
        // A write on what was the primary: after a failover a new session finds the new one.
        if report.severity != "ERROR" || report.sqlstate == "25006" && self.standby {
            self.wire.break_off();
        }
    }

    async fn ping(&mut self) -> Result<(), SessionLost> {
        self.wire.come_home().map_err(SessionLost::because_of)?;
        match self.command("").await {
            Ok(None) => Ok(()),
            Ok(Some(report)) => Err(SessionLost::because(report.message)),
            Err(error) => Err(SessionLost::because_of(error)),
        }
    }

    pub(super) const fn is_clean_now(&mut self) {
        self.used = Used::No;
    }
}

/// A connection that cannot go on. Whether the call was executed depends on what was handed over.
pub(super) fn lost(error: WireError) -> CallError {
    if matches!(error, WireError::TooLarge) {
        return CallError::Sink(SinkClosed::PartTooLarge {
            what: ONE_ROW,
            limit: MAX_MESSAGE,
        });
    }
    CallError::Lost {
        message: error.to_string(),
        executed: None,
    }
}

impl SessionLost {
    pub(super) fn because_of(error: WireError) -> Self {
        Self::because(error.to_string())
    }
}

impl Session for PostgresSession {
    fn endpoint(&self) -> &Arc<str> {
        &self.server.site.name
    }

    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        sink: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        self.run(operation, sink).boxed()
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.come_to_rest().boxed()
    }

    fn cleanliness(&self) -> Cleanliness {
        if self.wire.is_broken() || self.wire.expected() > 0 || self.cancelling {
            return Cleanliness::Broken;
        }
        let kept = match self.used {
            Used::No => false,
            Used::Alone => !self.server.transaction_only,
            Used::Lease => true,
        };
        if kept || self.wire.status() != Status::Idle {
            Cleanliness::Dirty
        } else {
            Cleanliness::Clean
        }
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.wash().boxed()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.ping().boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            if self.wire.expected() > 0 {
                self.canceller.cancel_for_good().await;
            }
            self.wire.close().await;
        }
        .boxed()
    }
}
