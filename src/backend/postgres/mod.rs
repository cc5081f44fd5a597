//! PostgreSQL. Each session is one connection, spoken to in the wire protocol itself: the transaction status of every
//! ReadyForQuery and every other message is seen, so that a session's state is known and not guessed.
//!
//! A call: [`plan`] reads the operation; [`run`] (or [`batch`], [`copy`], [`listen`]) sends it and takes the answers
//! off the [`wire`], [`rows`] brings them to the caller. After it, [`settle`] brings the session to rest if the call
//! was dropped ([`cancel`]), and cleans it for its next holder.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the protocol has many messages, and each place expects a few"
)]

mod aside;
mod batch;
mod cancel;
mod connect;
mod copy;
mod definition;
mod fault;
mod listen;
mod plan;
mod report;
mod rows;
mod run;
mod session;
mod settle;
mod sqlstate;
mod statements;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod wire;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

pub(super) use self::definition::DEFAULT_PORT;
use self::{definition::Server, plan::Plan, session::PostgresSession};
use super::{Backend, DialError, Fence, Needs, Operation, Session, registry::Surroundings};
use crate::{
    clock::Clock,
    error::Faults,
    proto::{PoolSpec, PostgresBackend},
};

/// Makes a PostgreSQL backend.
pub(super) fn build(
    spec: &PoolSpec,
    own: &PostgresBackend,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>, Faults> {
    let server = Arc::new(Server::read(spec, own, surroundings)?);
    let clock = surroundings.clock.clone();
    Ok(Arc::new(Postgres { server, clock }))
}

/// One pool's server.
#[derive(Debug)]
struct Postgres {
    server: Arc<Server>,
    clock: Clock,
}

impl Backend for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        let plan = Plan::read(operation)?;
        let needs = Plan::needs(&operation.name);
        operation.inspected.keep(plan);
        Ok(needs)
    }

    fn dial(&self, fence: Arc<Fence>, _: &str) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let (server, clock) = (Arc::clone(&self.server), self.clock.clone());
        async move {
            let session = PostgresSession::dial(server, clock, fence).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}
