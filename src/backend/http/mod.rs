//! HTTP services. Each session is one kept connection that the pool itself owns, or one stream of an HTTP/2 connection
//! that its sessions share; there is no other pool inside.

mod address;
mod answer;
mod connection;
mod definition;
mod dial;
mod h2;
pub(super) mod headers;
mod link;
mod pace;
mod params;
mod payload;
mod plan;
mod redirect;
mod session;
mod stream;
#[cfg(test)]
pub(super) mod tests;
mod wire;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use self::{address::Address, definition::Target, h2::Table, plan::Plan, session::HttpSession};
pub(super) use self::{
    definition::SecretHeader,
    session::lend::{Asked, Client, Exchange, Grip, Service, Wanted},
    wire::Wire,
};
use super::{Backend, DialError, Fence, Needs, Operation, Place, Session, Shared, registry::Surroundings};
use crate::{
    error::Faults,
    proto::{HttpBackend, PoolSpec},
};

/// Makes an HTTP backend.
pub(super) fn build(
    spec: &PoolSpec,
    own: &HttpBackend,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>, Faults> {
    let target = Arc::new(Target::read(spec, own, surroundings)?);
    let table = Table::new(Arc::clone(&target));
    Ok(Arc::new(Http { target, table }))
}

/// Where an address points; `tls` says whether the definition turns TLS on, `base` is the path of an address without one.
/// `None` if it makes no sense.
pub(super) fn place(address: &str, tls: bool, base: &str) -> Option<Place> {
    Address::place(address, tls, base)
}

/// One pool's HTTP service.
#[derive(Debug)]
struct Http {
    target: Arc<Target>,
    table: Arc<Table>,
}

impl Backend for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        Plan::read(operation, &self.target).map(|_| Needs::default())
    }

    fn dial(&self, fence: Arc<Fence>, _: &str) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let (table, target) = (Arc::clone(&self.table), Arc::clone(&self.target));
        async move {
            let session = HttpSession::dial(table, target, fence).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }

    fn shared(&self) -> Shared {
        self.table.shared()
    }
}
