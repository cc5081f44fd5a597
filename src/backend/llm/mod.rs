//! LLM providers, and servers that speak as they do. A session is one slot for one request at a time; it holds no
//! conversation. How bytes come and go is the http kind's; what they say is this one's.
//!
//! A call: [`plan`] makes a request of the operation, changing its text in places only (what is [`filled`]
//! in); [`session`] sends it, and either [`whole`] takes the answer in, or [`stream`] passes it on part by part:
//! [`frames`] are read by the provider's dialect in [`reading`]. [`fault`] is the table of what providers answer instead.

mod definition;
mod dialect;
mod excerpt;
mod facts;
mod fault;
mod filled;
mod frames;
mod plan;
mod reading;
mod retry;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use self::{definition::Provider, dialect::Dialect, plan::Plan, session::LlmSession};
use super::{Backend, DialError, Fence, Needs, Operation, Session, Shared, registry::Surroundings};
use crate::{
    error::Faults,
    proto::{LlmBackend, PoolSpec},
};

/// Makes a provider's backend.
pub(super) fn build(
    spec: &PoolSpec,
    own: &LlmBackend,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>, Faults> {
    let provider = Arc::new(Provider::read(spec, own, surroundings)?);
    Ok(Arc::new(Llm { provider }))
}

/// What the paths of an address without a path begin with.
pub(super) fn base(own: &LlmBackend) -> &'static str {
    Dialect::read(own.dialect).map_or("", Dialect::base)
}

/// One pool's provider.
#[derive(Debug)]
struct Llm {
    provider: Arc<Provider>,
}

/// What was read of an operation, and by which definition: the session that runs it may be an older one's.
#[derive(Debug)]
struct Read {
    plan: Plan,
    by: Arc<Provider>,
}

impl Backend for Llm {
    fn kind(&self) -> &'static str {
        "llm"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        let plan = Plan::read(operation, &self.provider)?;
        operation.inspected.keep(Read {
            plan,
            by: Arc::clone(&self.provider),
        });
        Ok(Needs::default())
    }

    fn dial(
        &self,
        fence: Arc<Fence>,
        endpoint: &str,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let (provider, place) = (Arc::clone(&self.provider), self.provider.place(endpoint));
        async move {
            let place = place.ok_or_else(|| DialError::permanent("the pool has no such endpoint"))?;
            let session = LlmSession::dial(provider, place, fence).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }

    fn shared(&self) -> Shared {
        let open = self
            .provider
            .places
            .iter()
            .map(|place| place.service.shared().open);
        Shared {
            open: open.sum(),
            most: None,
        }
    }
}
