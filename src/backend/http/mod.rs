//! HTTP/1.1 services. Each session is one kept connection that the pool itself owns, without another pool inside.

mod answer;
mod connection;
mod definition;
mod headers;
mod pace;
mod params;
mod payload;
mod plan;
mod redirect;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use self::{definition::Target, plan::Plan, session::HttpSession};
use super::{Backend, DialError, Fence, Needs, Operation, Session, registry::Surroundings};
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
    Ok(Arc::new(Http { target }))
}

/// One pool's HTTP service.
#[derive(Debug)]
struct Http {
    target: Arc<Target>,
}

impl Backend for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        Plan::read(operation, &self.target).map(|_| Needs::default())
    }

    fn dial(&self, fence: Arc<Fence>) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let target = Arc::clone(&self.target);
        async move {
            let session = HttpSession::dial(target, fence).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}
