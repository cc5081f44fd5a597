//! The driver under test: what it has said of itself, and the ways to it, each answer within the limit.

use std::{sync::Arc, time::Duration};

use prost::Message;
use uuid::Uuid;

use super::{super::exit::Exit, asked::Asked, session::Session};
use crate::{
    backend::{
        Fence,
        plugin::{Access, Connection, Fault},
    },
    clock::{Clock, Time},
    proto::plugin::{
        ConnectRequest, ConnectResponse, DescribeRequest, DescribeResponse, DisconnectRequest,
        DisconnectResponse, Example, Operation, example::Purpose,
    },
};

/// The share of the limit in which something must have begun, or have come that is on its way; and for which it is
/// watched whether something happens that must not.
const MOMENT: u32 = 10;

/// A driver, and what it has said of itself.
pub(super) struct Subject {
    access: Access,
    connect: ConnectRequest,
    given: Vec<Example>,
    clock: Clock,
    pub(super) limit: Duration,
    pub(super) described: DescribeResponse,
}

impl Subject {
    pub(super) fn new(asked: &Asked, clock: &Clock) -> Result<Self, Exit> {
        Ok(Self {
            access: asked.access()?,
            connect: asked.connect()?,
            given: asked.examples(),
            clock: clock.clone(),
            limit: asked.limit(),
            described: DescribeResponse::default(),
        })
    }

    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(super) fn moment(&self) -> Duration {
        self.limit / MOMENT
    }

    /// Examples for a purpose: those given, else those that the driver names.
    fn examples(&self, purpose: Purpose) -> Vec<Example> {
        let own = |example: &&Example| {
            let told = example.purpose();
            told == purpose || (purpose == Purpose::Run && told == Purpose::Unspecified)
        };
        let given: Vec<_> = self.given.iter().filter(own).cloned().collect();
        if given.is_empty() {
            self.described.examples.iter().filter(own).cloned().collect()
        } else {
            given
        }
    }

    pub(super) fn runs(&self) -> Vec<Example> {
        self.examples(Purpose::Run)
    }

    pub(super) fn example(&self, purpose: Purpose) -> Option<Example> {
        self.examples(purpose).into_iter().next()
    }

    pub(super) fn operation(&self, name: &str) -> Option<&Operation> {
        self.described
            .operations
            .iter()
            .find(|operation| operation.name == name)
    }

    /// Waits for an answer, so long as the limit is.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, String> {
        tokio::time::timeout(self.limit, work)
            .await
            .map_err(|_| format!("{what} was not answered within {:?}", self.limit))
    }

    /// As [`Subject::within`], where only OK will do.
    pub(super) async fn ask<Q: Message, A: Message + Default>(
        &self,
        connection: &mut Connection,
        method: &str,
        question: &Q,
    ) -> Result<A, String> {
        let answer = self.within(method, connection.ask(method, question)).await?;
        answer.map_err(|fault| format!("{method}: {fault}"))
    }

    /// A connection of its own.
    pub(super) async fn reach(&self) -> Result<Connection, String> {
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let reached = tokio::time::timeout(self.limit, self.access.connect(fence)).await;
        let reached = reached.map_err(|_| format!("no connection within {:?}", self.limit))?;
        reached.map_err(|error| format!("no connection: {error}"))
    }

    pub(super) async fn describe(&self) -> Result<DescribeResponse, String> {
        let mut connection = self.reach().await?;
        self.ask(&mut connection, "Describe", &DescribeRequest {}).await
    }

    /// What Connect is asked, with a session's name that was never used.
    pub(super) fn introduction(&self) -> ConnectRequest {
        ConnectRequest {
            session_id: Uuid::new_v4().to_string(),
            ..self.connect.clone()
        }
    }

    /// A session over a connection of its own, as the broker has them, or what Connect came to instead.
    pub(super) async fn try_session(&self) -> Result<Result<Session<'_>, Fault>, String> {
        let mut connection = self.reach().await?;
        let request = self.introduction();
        let answer: Result<ConnectResponse, Fault> = self
            .within("Connect", connection.ask("Connect", &request))
            .await?;
        let session = Session::new(self, connection, request.session_id);
        match answer {
            Ok(answer) => match self.recognize("Connect", &answer.instance_id) {
                Ok(()) => Ok(Ok(session)),
                Err(why) => self.part(&session.id).await.and(Err(why)),
            },
            Err(fault) => Ok(Err(fault)),
        }
    }

    pub(super) async fn session(&self) -> Result<Session<'_>, String> {
        let session = self.try_session().await?;
        session.map_err(|fault| format!("Connect: {fault}"))
    }

    /// Does something with a session, and ends it whatever that came to, as the broker does: over a new connection, after
    /// the session's own was cut.
    pub(super) async fn with_session<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut session = self.session().await?;
        let done = work(&mut session).await;
        session.connection.cut();
        let parted = self.part(&session.id).await;
        let done = done?;
        parted.map(|()| done)
    }

    /// Ends a session over a new connection.
    pub(super) async fn part(&self, id: &str) -> Result<(), String> {
        let mut connection = self.reach().await?;
        self.disconnect(&mut connection, id).await
    }

    pub(super) async fn disconnect(&self, connection: &mut Connection, id: &str) -> Result<(), String> {
        let request = DisconnectRequest {
            session_id: id.to_owned(),
        };
        let answer: Result<DisconnectResponse, String> = self.ask(connection, "Disconnect", &request).await;
        answer.map(|_| ()).map_err(|why| {
            format!(
                "{why}; the protocol has it wait until the session's Connect or call has stopped, and answer OK"
            )
        })
    }

    /// Every answer names the instance that Describe named.
    pub(super) fn recognize(&self, method: &str, instance: &str) -> Result<(), String> {
        if instance == self.described.instance_id {
            return Ok(());
        }
        Err(format!(
            "{method} answered with the instance_id `{instance}`, Describe with `{}`: one run of a driver has one, or \
             its sessions count as lost",
            self.described.instance_id
        ))
    }
}
