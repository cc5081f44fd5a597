//! TCP services with a protocol of their own. Each session is one connection; what is sent and received on it are bytes.
//!
//! A call: [`plan`] reads the operation; [`session`] runs it on its [`link`], which knows by [`framing`] where a
//! message ends; [`tunnel`] carries bytes both ways. [`connect`] opens a session and says what the definition wants
//! said first.

mod connect;
mod definition;
mod framing;
mod link;
mod plan;
mod session;
#[cfg(test)]
mod tests;
mod tunnel;
mod typed;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use self::{definition::Peer, plan::Plan, session::TcpSession};
use super::{Backend, DialError, Fence, Needs, Operation, Session, registry::Surroundings};
use crate::{
    error::Faults,
    proto::{PoolSpec, TcpBackend},
};

/// Makes a TCP backend.
pub(super) fn build(
    spec: &PoolSpec,
    own: &TcpBackend,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>, Faults> {
    let peer = Arc::new(Peer::read(spec, own, surroundings)?);
    Ok(Arc::new(Tcp { peer }))
}

/// One pool's service.
#[derive(Debug)]
struct Tcp {
    peer: Arc<Peer>,
}

impl Backend for Tcp {
    fn kind(&self) -> &'static str {
        "tcp"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        let plan = Plan::read(operation, &self.peer)?;
        let needs = plan.needs();
        operation.inspected.keep(plan);
        Ok(needs)
    }

    fn dial(&self, fence: Arc<Fence>, _: &str) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let peer = Arc::clone(&self.peer);
        async move {
            let link = connect::connect(&peer, &fence).await?;
            Ok(Box::new(TcpSession::new(peer, fence, link)) as Box<dyn Session>)
        }
        .boxed()
    }
}
