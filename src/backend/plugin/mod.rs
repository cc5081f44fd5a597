//! Drivers of the user's own, which serve sublet.plugin.v1.DriverService. Each session is one HTTP/2 connection to the
//! driver, so that the fence is beneath all that a session ever writes.

mod access;
mod answer;
mod call;
mod connection;
mod course;
mod definition;
mod description;
mod dial;
mod exchange;
mod fault;
mod frames;
mod gate;
mod session;
mod sieve;
mod wire;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

pub(crate) use self::{
    access::Access,
    connection::Connection,
    course::Course,
    description::faults as description_faults,
    exchange::{Exchange, MAX_MESSAGE, frame},
    fault::{Fault, name as code_name},
};
use self::{definition::Target, description::Known, dial::Leftovers, session::PluginSession};
use super::{Backend, DialError, Fence, Needs, Operation, Session, registry::Surroundings};
use crate::{
    error::Faults,
    proto::{PluginBackend, PoolSpec},
};

/// Makes a plug-in's backend.
pub(super) fn build(
    spec: &PoolSpec,
    own: &PluginBackend,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>, Faults> {
    Ok(Arc::new(Plugin {
        target: Arc::new(Target::read(spec, own, surroundings)?),
        known: Arc::default(),
        leftovers: Arc::default(),
    }))
}

/// One pool's driver.
#[derive(Debug)]
struct Plugin {
    target: Arc<Target>,
    known: Arc<Known>,
    leftovers: Arc<Leftovers>,
}

impl Backend for Plugin {
    fn kind(&self) -> &'static str {
        "plugin"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        description::inspect(&self.known, operation)
    }

    fn dial(&self, fence: Arc<Fence>, _: &str) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let (target, known) = (Arc::clone(&self.target), Arc::clone(&self.known));
        let leftovers = Arc::clone(&self.leftovers);
        async move {
            let session = PluginSession::dial(target, known, leftovers, fence).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }

    fn withdraw(&self, fence: Arc<Fence>) -> BoxFuture<'static, ()> {
        let leftovers = Arc::clone(&self.leftovers);
        async move { leftovers.withdraw(&fence).await }.boxed()
    }
}

#[cfg(test)]
mod tests;
