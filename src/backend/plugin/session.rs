//! One session at a driver, over one connection: brought to rest, reset, looked at, closed.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use prost::Message;

use super::{
    connection::Connection,
    definition::Target,
    description::{Description, Known},
    dial::disconnect,
    fault::Fault,
};
use crate::{
    backend::{CallError, Cleanliness, Completion, DialError, Fence, Operation, Session, SessionLost, Sink},
    proto::plugin::{
        CancelRequest, CancelResponse, CheckRequest, CheckResponse, ResetRequest, ResetResponse,
        reset_response::Outcome,
    },
};

#[derive(Debug)]
pub(super) struct PluginSession {
    target: Arc<Target>,
    known: Arc<Known>,
    pub(super) fence: Arc<Fence>,
    pub(super) description: Arc<Description>,
    pub(super) connection: Connection,
    /// Its name at the driver.
    pub(super) id: String,
    /// Calls so far.
    pub(super) calls: u64,
    /// A call has begun and not come to its end.
    pub(super) running: Option<Running>,
    /// HTTP/2's number of the last call.
    pub(super) last: u32,
    /// A call may have left something behind.
    pub(super) used: bool,
    /// Why it is gone.
    pub(super) lost: Option<String>,
}

/// A call that has not come to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) call_id: u64,
    /// The grant that it was made under.
    pub(super) holder: u64,
}

impl PluginSession {
    /// One that the driver has just opened.
    pub(super) fn new(
        (target, known): (Arc<Target>, Arc<Known>),
        (fence, connection): (Arc<Fence>, Connection),
        description: Arc<Description>,
        id: String,
    ) -> Self {
        Self {
            target,
            known,
            fence,
            description,
            connection,
            id,
            calls: 0,
            running: None,
            last: 0,
            used: false,
            lost: None,
        }
    }

    /// Why it cannot be used any more, as far as is known without asking.
    fn gone(&self) -> Option<String> {
        if self.lost.is_some() {
            return self.lost.clone();
        }
        let past = self.known.is_past(&self.description.instance);
        past.then(|| "the driver was restarted: its sessions are lost".to_owned())
    }

    /// Makes sure that it can be used, before anything is sent.
    pub(super) async fn ready(&self) -> Result<(), SessionLost> {
        self.connection.wake();
        if let Some(why) = self.gone() {
            return Err(SessionLost { message: why });
        }
        if self.connection.is_dead().await {
            return Err(SessionLost::because("the driver closed the connection"));
        }
        Ok(())
    }

    /// Looks whether an answer is of the run of the driver that the session belongs to.
    pub(super) fn recognize(&mut self, instance: &str) -> Result<(), SessionLost> {
        if instance == self.description.instance {
            return Ok(());
        }
        let message = "another instance of the driver answered: the session is lost".to_owned();
        self.lost = Some(message.clone());
        Err(SessionLost { message })
    }

    /// Carries an RPC out, unless the fence is shut: then it could not be written, and nobody waits for it any more.
    async fn ask<Q: Message, A: Message + Default>(
        &mut self,
        method: &str,
        question: &Q,
    ) -> Result<A, Fault> {
        tokio::select! {
            biased;
            answer = self.connection.ask(method, question) => answer,
            () = self.fence.when_shut() => Err(Fault::Broken {
                message: "the session was taken away".to_owned(),
                refused: false,
            }),
        }
    }

    /// Stops a call that was given up, and waits until it has ended at the driver.
    async fn settled(&mut self) -> Result<(), SessionLost> {
        let Some(running) = self.running else {
            return Ok(());
        };
        self.ready().await?;
        // What HTTP/2 had taken of the call, and not written, would now be written in somebody else's time.
        if self.fence.number() != running.holder && !self.connection.has_written(self.last) {
            self.connection.cut();
            return Err(self.lose("a part of the call before was still to be written"));
        }
        let request = CancelRequest {
            session_id: self.id.clone(),
            call_id: running.call_id,
        };
        let answer: Result<CancelResponse, Fault> = self.ask("Cancel", &request).await;
        match answer {
            Ok(_) => {
                self.running = None;
                Ok(())
            }
            // The holder has gone meanwhile. The pool finds the session not clean, and its reset begins with this
            // again.
            Err(_) if !self.fence.is_open() => Ok(()),
            Err(fault) => Err(self.lose(&format!("Cancel: {fault}"))),
        }
    }

    async fn washed(&mut self) -> Result<(), SessionLost> {
        self.settled().await?;
        self.ready().await?;
        let request = ResetRequest {
            session_id: self.id.clone(),
        };
        let answer: Result<ResetResponse, Fault> = self.ask("Reset", &request).await;
        let answer = answer.map_err(|fault| fault.of_session("Reset"))?;
        self.recognize(&answer.instance_id)?;
        if answer.outcome() == Outcome::Clean {
            self.used = false;
            Ok(())
        } else {
            Err(self.lose("the driver wants it closed instead of reset"))
        }
    }

    async fn checked(&mut self) -> Result<(), SessionLost> {
        self.ready().await?;
        let request = CheckRequest {
            session_id: self.id.clone(),
        };
        let answer: Result<CheckResponse, Fault> = self.ask("Check", &request).await;
        let answer = answer.map_err(|fault| fault.of_session("Check"))?;
        self.recognize(&answer.instance_id)
    }

    pub(super) fn lose(&mut self, why: &str) -> SessionLost {
        self.lost = Some(why.to_owned());
        SessionLost::because(why)
    }

    /// Has the driver end the session, over a new connection: the old one is fenced, or broken, or holds something of
    /// the last call. Its end stops a call that still runs.
    async fn part(self) -> Result<(), DialError> {
        self.connection.cut();
        disconnect(&self.target, Some(&self.description.instance), self.id).await
    }
}

impl Session for PluginSession {
    fn endpoint(&self) -> &Arc<str> {
        &self.target.name
    }

    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        sink: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        self.run(operation, sink).boxed()
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.settled().boxed()
    }

    fn cleanliness(&self) -> Cleanliness {
        // A driver may answer before it has taken the whole call; the rest must not be written later. The fence opens for
        // the pool's own work before that begins, so that it is cut now.
        let written = self.connection.has_written(self.last);
        if !written && !self.fence.is_open() {
            self.connection.cut();
        }
        if self.gone().is_some() || !written {
            Cleanliness::Broken
        } else if self.used || self.running.is_some() {
            Cleanliness::Dirty
        } else {
            Cleanliness::Clean
        }
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.washed().boxed()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.checked().boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            // A driver that cannot be told has ended the session itself, or is gone.
            self.part().await.ok();
        }
        .boxed()
    }
}
