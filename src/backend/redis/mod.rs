//! Redis. Each session is one connection, spoken to in RESP3 itself: every reply is accounted for, so that a session's
//! state is known and not guessed.
//!
//! A call: [`plan`] reads the operation, and [`command`] knows what its commands do to a session; [`run`] or
//! [`subscribe`] sends it and takes the answers off the [`wire`], token by token ([`resp`]), and [`reply`] makes JSON
//! of them. After it, [`settle`] brings the session to rest if the call was dropped, and cleans it for its next holder.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the protocol has many forms, and each place expects a few"
)]

mod account;
mod code;
mod command;
mod connect;
mod definition;
mod plan;
mod reply;
mod resp;
mod run;
mod session;
mod settle;
mod subscribe;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

pub(super) use self::definition::DEFAULT_PORT;
use self::{definition::Server, plan::Plan, session::RedisSession};
use super::{Backend, DialError, Fence, Needs, Operation, Session, registry::Surroundings};
use crate::{
    clock::Clock,
    error::Faults,
    proto::{PoolSpec, RedisBackend},
};

/// Makes a Redis backend.
pub(super) fn build(
    spec: &PoolSpec,
    own: &RedisBackend,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>, Faults> {
    let server = Arc::new(Server::read(spec, own, surroundings)?);
    let clock = surroundings.clock.clone();
    Ok(Arc::new(Redis { server, clock }))
}

/// One pool's server.
#[derive(Debug)]
struct Redis {
    server: Arc<Server>,
    clock: Clock,
}

impl Backend for Redis {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        let plan = Plan::read(operation)?;
        let lease = plan.needs_lease();
        operation.inspected.keep(plan);
        Ok(Needs {
            lease,
            ..Needs::default()
        })
    }

    fn dial(&self, fence: Arc<Fence>, _: &str) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let (server, clock) = (Arc::clone(&self.server), self.clock.clone());
        async move {
            let session = RedisSession::dial(server, clock, fence).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}
