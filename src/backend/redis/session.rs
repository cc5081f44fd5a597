//! A session: one connection to a server, and what its holder may have left behind.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    code,
    command::{Nature, Step},
    connect::{self, Login},
    definition::Server,
    plan::Plan,
    resp::{Kind, Token},
    wire::{Wire, WireError},
};
use crate::{
    backend::{CallError, Cleanliness, Completion, DialError, Fence, Operation, Session, SessionLost, Sink},
    clock::Clock,
    error::{BackendError, Executed},
};

/// One session.
#[derive(Debug)]
pub(super) struct RedisSession {
    pub(super) server: Arc<Server>,
    pub(super) clock: Clock,
    pub(super) wire: Wire,
    pub(super) login: Login,
    /// Something may have been left behind since it was clean.
    pub(super) dirty: bool,
    /// It is subscribed to something.
    pub(super) subscribed: bool,
    /// Commands are queued by the server, up to EXEC.
    pub(super) in_transaction: bool,
    /// What the commands that are not answered yet do to the transaction.
    pub(super) steps: VecDeque<Step>,
    /// Every command of the call that was begun last is answered as soon as the server comes to it.
    pub(super) brief: bool,
    /// The server is no primary any more, or never was: the address may lead to another one now.
    outdated: bool,
}

impl RedisSession {
    /// Opens one. If the future is dropped, so is the socket.
    pub(super) async fn dial(
        server: Arc<Server>,
        clock: Clock,
        fence: Arc<Fence>,
    ) -> Result<Self, DialError> {
        let (wire, login) = connect::connect(&server, &fence).await?;
        Ok(Self {
            server,
            clock,
            wire,
            login,
            dirty: false,
            subscribed: false,
            in_transaction: false,
            steps: VecDeque::new(),
            brief: true,
            outdated: false,
        })
    }

    async fn run(&mut self, mut operation: Operation, sink: &mut Sink) -> Result<Completion, CallError> {
        let plan = operation.plan(Plan::read)?;
        self.wire.come_home().map_err(lost)?;
        self.wire.catch_up().await.map_err(CallError::lost_before)?;
        let natures = || plan.sent().iter().map(|sent| sent.nature);
        self.dirty |= natures().any(|nature| matches!(nature, Nature::State | Nature::Unknown));
        self.brief = natures().all(|nature| matches!(nature, Nature::Brief | Nature::State));
        self.steps = plan.steps();
        let done = match plan {
            Plan::Command { written, sent, typed } => self.command(&written, sent, typed, sink).await,
            Plan::Pipeline {
                written,
                sent,
                atomic: true,
                typed,
            } => self.transaction(&written, &sent, typed, sink).await,
            Plan::Pipeline {
                written, sent, typed, ..
            } => self.pipeline(&written, &sent, typed, sink).await,
            Plan::Subscribe(channels) => self.subscribe(&channels, sink).await,
        };
        self.wire.give_back();
        done
    }

    /// Notes what the answer to the oldest command that had none says about the session itself.
    pub(super) fn note(&mut self, answer: &Token) {
        let refused = matches!(answer, Token::Error(_));
        match self.steps.pop_front().unwrap_or(Step::None) {
            Step::Begins if !refused => self.in_transaction = true,
            Step::Discards if !refused => self.in_transaction = false,
            Step::Ends => self.in_transaction = false,
            Step::Begins | Step::Discards | Step::None => {}
        }
    }

    /// The error as a caller gets it.
    pub(super) fn refusal(&mut self, text: &[u8], nature: Nature) -> (BackendError, Executed) {
        let (error, executed) = code::judge(text, nature);
        self.outdated |= error
            .metadata
            .get("redis_code")
            .is_some_and(|code| code == "READONLY");
        (error, executed)
    }

    /// The next token of a reply; what the server says unasked before it is dropped.
    pub(super) async fn reply(&mut self) -> Result<Token, CallError> {
        loop {
            let token = self.wire.token().await.map_err(lost)?;
            if !self.wire.is_pushing() && !matches!(token, Token::Open(Kind::Push, 0)) {
                return Ok(token);
            }
            self.skip_push().await?;
        }
    }

    pub(super) async fn skip_push(&mut self) -> Result<(), CallError> {
        while self.wire.is_pushing() {
            if let Token::Large(_) = self.wire.token().await.map_err(lost)? {
                while self.wire.part().await.map_err(lost)?.is_some() {}
            }
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), SessionLost> {
        self.wire.come_home()?;
        self.wire.command(&["PING"]);
        match read_whole(&mut self.wire).await {
            // A server that refuses to answer now, because it loads its data or runs a script, is alive.
            Ok(Token::Error(_)) => Ok(()),
            Ok(Token::Text(text)) if *text == *b"PONG" && self.wire.is_at_rest() => Ok(()),
            Ok(_) => {
                self.wire.break_off();
                Err(SessionLost::because(
                    "PING was answered with something else: it was another's answer",
                ))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A reply of one token.
pub(super) async fn read_whole(wire: &mut Wire) -> Result<Token, WireError> {
    let token = wire.token().await?;
    if matches!(token, Token::Open(..) | Token::Large(_)) {
        wire.break_off();
        return Err(WireError::malformed("an answer of another form"));
    }
    Ok(token)
}

/// A connection that cannot go on. Whether the call was executed depends on what was handed over.
pub(super) fn lost(error: WireError) -> CallError {
    CallError::Lost {
        message: error.to_string(),
        executed: None,
    }
}

impl From<WireError> for SessionLost {
    fn from(error: WireError) -> Self {
        Self::because(error.to_string())
    }
}

impl Session for RedisSession {
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
        if self.wire.is_broken() || self.outdated || !self.wire.is_settled() {
            Cleanliness::Broken
        } else if self.dirty || self.subscribed {
            Cleanliness::Dirty
        } else if self.wire.is_at_rest() {
            Cleanliness::Clean
        } else {
            Cleanliness::Broken
        }
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.wash().boxed()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.ping().boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.wire.close().boxed()
    }
}
