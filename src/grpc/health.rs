//! grpc.health.v1: the broker's readiness as `""` and under each service's name, each pool as `pools/NAME`.
//!
//! tonic-health's own service answers a Watch on an unknown name with `NOT_FOUND`; the protocol wants an open stream
//! that says `SERVICE_UNKNOWN` until the name is known.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{Either, pending, select_all},
    stream::{BoxStream, unfold},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::status::status;
use crate::error::Error;

/// Watches at the same time, over all connections.
const MAX_WATCHES: u32 = 10_000;

/// Where the health of pools comes from.
pub trait PoolHealth: Send + Sync + 'static {
    /// Whether the pool `name` serves, as it changes; none if there is no such pool.
    fn serving(&self, name: &str) -> Option<watch::Receiver<bool>>;

    /// Changes whenever a pool comes or goes.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The health service.
#[derive(Debug)]
pub struct HealthService<P> {
    sources: Arc<Sources<P>>,
    watches: Arc<Semaphore>,
    closing: CancellationToken,
}

#[derive(Debug)]
struct Sources<P> {
    ready: watch::Receiver<bool>,
    services: &'static [&'static str],
    pools: P,
}

impl<P: PoolHealth> HealthService<P> {
    /// Health of the broker, which is `ready` or not, of its `services` (full names), and of `pools`. Watches end
    /// when `closing` is cancelled.
    #[must_use]
    pub fn new(
        ready: watch::Receiver<bool>,
        services: &'static [&'static str],
        pools: P,
        closing: CancellationToken,
    ) -> Self {
        Self {
            sources: Arc::new(Sources {
                ready,
                services,
                pools,
            }),
            watches: Arc::new(Semaphore::new(MAX_WATCHES as usize)),
            closing,
        }
    }
}

impl<P: PoolHealth> Sources<P> {
    /// What decides on `service` now; none if the name is unknown.
    fn source(&self, service: &str) -> Option<watch::Receiver<bool>> {
        match service.strip_prefix("pools/") {
            Some(pool) => self.pools.serving(pool),
            None if service.is_empty() || self.services.contains(&service) => Some(self.ready.clone()),
            None => None,
        }
    }
}

fn serving(source: Option<&mut watch::Receiver<bool>>) -> ServingStatus {
    match source.map(|source| *source.borrow_and_update()) {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl<P: PoolHealth> Health for HealthService<P> {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match serving(self.sources.source(&service).as_mut()) {
            ServingStatus::ServiceUnknown => Err(Status::not_found(format!(
                "nothing is known of `{service}`: ask for \"\" (the broker), a service's full name, or pools/NAME"
            ))),
            known @ (ServingStatus::Unknown | ServingStatus::Serving | ServingStatus::NotServing) => {
                Ok(Response::new(response(known)))
            }
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let place = Arc::clone(&self.watches)
            .try_acquire_owned()
            .map_err(|_| status(&Error::QueueFull { limit: MAX_WATCHES }.into()))?;
        let watch = Watch {
            service: request.into_inner().service,
            changes: self.sources.pools.changes(),
            sources: Arc::clone(&self.sources),
            said: None,
            _place: place,
        };
        let statuses = unfold(watch, |mut watch| async move {
            let next = watch.next().await;
            Some((Ok(response(next)), watch))
        });
        let closing = self.closing.clone();
        Ok(Response::new(
            statuses
                .take_until(async move { closing.cancelled().await })
                .boxed(),
        ))
    }
}

/// One watch: says a status when it differs from what was said last.
struct Watch<P> {
    service: String,
    sources: Arc<Sources<P>>,
    changes: watch::Receiver<u64>,
    said: Option<ServingStatus>,
    _place: OwnedSemaphorePermit,
}

impl<P: PoolHealth> Watch<P> {
    /// The next status. May be dropped at any time.
    async fn next(&mut self) -> ServingStatus {
        loop {
            // Marked as seen before the pools are looked at, so that a change in between wakes us again.
            self.changes.mark_unchanged();
            let mut source = self.sources.source(&self.service);
            let now = serving(source.as_mut());
            if self.said.replace(now) != Some(now) {
                return now;
            }
            let changed = [
                changed(&mut self.changes).boxed(),
                either(source.as_mut()).boxed(),
            ];
            select_all(changed).await;
        }
    }
}

fn either(source: Option<&mut watch::Receiver<bool>>) -> impl Future<Output = ()> + Send {
    source.map_or_else(
        || Either::Right(pending()),
        |source| Either::Left(changed(source)),
    )
}

/// Waits for a change; for ever if none can come. A pool's sender goes with the pool, which the table then tells.
async fn changed<T: Send + Sync>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending().await
    }
}
