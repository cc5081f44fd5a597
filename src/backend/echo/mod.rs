//! A backend inside the broker, for trying things out and for tests: it answers what it is given, sleeps, fails and
//! breaks as it is told, and keeps a record of what reached it, so that the broker's claims can be checked.

mod call;
mod record;
mod session;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use self::{call::Call, record::Record, session::EchoSession};
use super::{Backend, DialError, Fence, Needs, Operation, Session, span};
use crate::{
    error::Faults,
    proto::{EchoBackend, PoolSpec},
};

const MAX_DIAL_DELAY: Duration = Duration::from_secs(60);

/// Makes an echo backend.
pub(super) fn build(spec: &PoolSpec, own: EchoBackend) -> Result<Arc<dyn Backend>, Faults> {
    let mut faults = Faults::default();
    if !spec.endpoints.is_empty() {
        faults.add("endpoints", "must be left out: `echo` is inside the broker");
    }
    let range = Duration::ZERO..=MAX_DIAL_DELAY;
    let dial_delay = span::defined(
        &mut faults,
        "echo.dial_delay",
        own.dial_delay,
        range,
        Duration::ZERO,
    );
    if faults.is_empty() {
        Ok(Arc::new(Echo::new(dial_delay)))
    } else {
        Err(faults)
    }
}

/// One pool's echo backend. All its sessions share one record.
#[derive(Debug)]
struct Echo {
    dial_delay: Duration,
    endpoint: Arc<str>,
    record: Arc<Record>,
}

impl Echo {
    fn new(dial_delay: Duration) -> Self {
        Self {
            dial_delay,
            endpoint: "echo".into(),
            record: Arc::default(),
        }
    }
}

impl Backend for Echo {
    fn kind(&self) -> &'static str {
        "echo"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        Call::read(operation).map(|call| Needs {
            lease: call.is_stateful(),
            ..Needs::default()
        })
    }

    fn dial(&self, fence: Arc<Fence>, _: &str) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let session = EchoSession::new(Arc::clone(&self.endpoint), Arc::clone(&self.record), fence);
        let delay = self.dial_delay;
        async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}
