//! `PoolService` on the wire.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};

use super::{decode, encode, page::Page, status::status};
use crate::{
    broker::{Broker, PoolEntry},
    catalog::Catalog,
    error::{Error, Failure, Faults},
    lease::{End, Listed},
    pool::{CheckReport, Priority, SessionInfo, SessionState, WaiterInfo},
    proto::{self, pool_service_server::PoolService},
};

/// Waiters listed at most.
const WAITERS: usize = 1000;

/// The longest wait for sessions.
const HOUR: Duration = Duration::from_secs(3600);

/// Administration on the wire.
#[derive(Clone, Debug)]
pub struct PoolApi {
    broker: Arc<Broker>,
    catalog: Catalog,
}

type Answer<T> = Result<Response<T>, Status>;

impl PoolApi {
    /// The administration of a broker's pools and their definitions.
    #[must_use]
    pub const fn new(broker: Arc<Broker>, catalog: Catalog) -> Self {
        Self { broker, catalog }
    }

    fn find(&self, pool: &str) -> Result<Arc<PoolEntry>, Status> {
        self.broker.pools.get(pool).map_err(wire)
    }

    fn definition(&self, name: &str) -> Result<Option<proto::Pool>, Status> {
        self.catalog.get(name).map(Some).map_err(wire)
    }

    fn lease_entry(&self, listed: &Listed<Arc<crate::broker::LeasedSession>>) -> proto::LeaseEntry {
        let clock = self.broker.clock();
        let leased = &listed.handle;
        proto::LeaseEntry {
            lease: Some(encode::lease(leased, listed.status, listed.bound, clock)),
            client: leased.client.as_deref().unwrap_or_default().to_owned(),
            // A stream holds its session for as long as it lives; whether a call runs is its own affair.
            executing: listed.running && !listed.bound,
            stream_bound: listed.bound,
            grant_time: Some(encode::timestamp(clock.wall(leased.granted))),
        }
    }
}

fn wire(failure: Failure) -> Status {
    status(&failure)
}

fn invalid(faults: Faults) -> Status {
    status(&Error::Invalid { faults }.into())
}

fn session(info: SessionInfo) -> proto::Session {
    proto::Session {
        id: info.id.to_string(),
        state: session_state(info.state).into(),
        endpoint: info.endpoint.to_string(),
        age: Some(encode::duration(info.age)),
        state_age: Some(encode::duration(info.state_age)),
        grants: info.grants,
        fence: info.fence,
        beside: info.beside,
    }
}

const fn session_state(state: SessionState) -> proto::SessionState {
    match state {
        SessionState::Dialing => proto::SessionState::Dialing,
        SessionState::Idle => proto::SessionState::Idle,
        SessionState::Leased => proto::SessionState::Leased,
        SessionState::Probing => proto::SessionState::Probing,
        SessionState::Resetting => proto::SessionState::Resetting,
        SessionState::Closing => proto::SessionState::Closing,
    }
}

/// What failed, and where.
fn failures(reports: &[CheckReport]) -> String {
    let failed = reports.iter().filter(|report| !report.healthy);
    let told = failed.map(|report| match &*report.endpoint {
        "" => report.message.clone(),
        endpoint => format!("{endpoint}: {}", report.message),
    });
    told.collect::<Vec<_>>().join("; ")
}

fn endpoint_check(report: CheckReport) -> proto::EndpointCheck {
    proto::EndpointCheck {
        endpoint: report.endpoint.to_string(),
        healthy: report.healthy,
        message: report.message,
        dial_time: Some(encode::duration(report.dial_time)),
        probe_time: Some(encode::duration(report.probe_time)),
    }
}

fn waiter(info: WaiterInfo) -> proto::Waiter {
    proto::Waiter {
        client: info.client.as_deref().unwrap_or_default().to_owned(),
        endpoint: info.endpoint.as_deref().unwrap_or_default().to_owned(),
        priority: priority(info.priority).into(),
        effective_priority: priority(info.effective_priority).into(),
        waited: Some(encode::duration(info.waited)),
        remaining: Some(encode::duration(info.remaining)),
        beside: info.beside,
    }
}

const fn priority(priority: Priority) -> proto::Priority {
    match priority {
        Priority::Low => proto::Priority::Low,
        Priority::Normal => proto::Priority::Normal,
        Priority::High => proto::Priority::High,
    }
}

#[tonic::async_trait]
impl PoolService for PoolApi {
    async fn create_pool(
        &self,
        request: Request<proto::CreatePoolRequest>,
    ) -> Answer<proto::CreatePoolResponse> {
        let request = request.into_inner();
        let Some(pool) = request.pool else {
            return Err(invalid(Faults::one("pool", "is required")));
        };
        let pool = self
            .catalog
            .create(pool, request.validate_only)
            .await
            .map_err(wire)?;
        Ok(Response::new(proto::CreatePoolResponse { pool: Some(pool) }))
    }

    async fn get_pool(&self, request: Request<proto::GetPoolRequest>) -> Answer<proto::GetPoolResponse> {
        let pool = self.definition(&request.into_inner().name)?;
        Ok(Response::new(proto::GetPoolResponse { pool }))
    }

    async fn list_pools(
        &self,
        request: Request<proto::ListPoolsRequest>,
    ) -> Answer<proto::ListPoolsResponse> {
        let request = request.into_inner();
        let (pools, next_page_token) = self
            .catalog
            .list(request.page_size, &request.page_token)
            .map_err(wire)?;
        Ok(Response::new(proto::ListPoolsResponse {
            pools,
            next_page_token,
        }))
    }

    async fn update_pool(
        &self,
        request: Request<proto::UpdatePoolRequest>,
    ) -> Answer<proto::UpdatePoolResponse> {
        let request = request.into_inner();
        let Some(pool) = request.pool else {
            return Err(invalid(Faults::one("pool", "is required")));
        };
        let updated = self
            .catalog
            .update(pool, request.update_mask, request.validate_only);
        let pool = updated.await.map_err(wire)?;
        Ok(Response::new(proto::UpdatePoolResponse { pool: Some(pool) }))
    }

    async fn delete_pool(
        &self,
        request: Request<proto::DeletePoolRequest>,
    ) -> Answer<proto::DeletePoolResponse> {
        self.catalog.delete(request.into_inner()).await.map_err(wire)?;
        Ok(Response::new(proto::DeletePoolResponse {}))
    }

    async fn pause_pool(
        &self,
        request: Request<proto::PausePoolRequest>,
    ) -> Answer<proto::PausePoolResponse> {
        let name = request.into_inner().name;
        self.find(&name)?.pool.pause();
        let pool = self.definition(&name)?;
        Ok(Response::new(proto::PausePoolResponse { pool }))
    }

    async fn resume_pool(
        &self,
        request: Request<proto::ResumePoolRequest>,
    ) -> Answer<proto::ResumePoolResponse> {
        let name = request.into_inner().name;
        self.find(&name)?.pool.resume();
        let pool = self.definition(&name)?;
        Ok(Response::new(proto::ResumePoolResponse { pool }))
    }

    async fn recycle_pool(
        &self,
        request: Request<proto::RecyclePoolRequest>,
    ) -> Answer<proto::RecyclePoolResponse> {
        let sessions = self.find(&request.into_inner().name)?.pool.recycle();
        Ok(Response::new(proto::RecyclePoolResponse { sessions }))
    }

    async fn warm_pool(&self, request: Request<proto::WarmPoolRequest>) -> Answer<proto::WarmPoolResponse> {
        let request = request.into_inner();
        let entry = self.find(&request.name)?;
        let mut faults = Faults::default();
        let range = Duration::ZERO..=HOUR;
        let wait = decode::duration(request.wait_timeout.as_ref(), "wait_timeout", range, &mut faults);
        let most = entry.max_sessions();
        if request.sessions > most {
            faults.add(
                "sessions",
                format!("must be at most max_sessions, which is {most}"),
            );
        }
        faults.into_result(()).map_err(|error| wire(error.into()))?;
        let sessions = if request.sessions == 0 {
            most
        } else {
            request.sessions
        };
        let deadline = self.broker.clock().now() + wait.unwrap_or(entry.policy().acquire);
        let open_sessions = entry.pool.warm(sessions, deadline).await;
        Ok(Response::new(proto::WarmPoolResponse { open_sessions }))
    }

    async fn check_pool(
        &self,
        request: Request<proto::CheckPoolRequest>,
    ) -> Answer<proto::CheckPoolResponse> {
        let reports = self.find(&request.into_inner().name)?.pool.check().await;
        Ok(Response::new(proto::CheckPoolResponse {
            healthy: reports.iter().all(|report| report.healthy),
            message: failures(&reports),
            endpoints: reports.into_iter().map(endpoint_check).collect(),
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Answer<proto::ListSessionsResponse> {
        let sessions = self.find(&request.into_inner().pool)?.pool.sessions();
        Ok(Response::new(proto::ListSessionsResponse {
            sessions: sessions.into_iter().map(session).collect(),
        }))
    }

    async fn close_session(
        &self,
        request: Request<proto::CloseSessionRequest>,
    ) -> Answer<proto::CloseSessionResponse> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        decode::required(&request.pool, "pool", &mut faults);
        decode::required(&request.session_id, "session_id", &mut faults);
        faults.into_result(()).map_err(|error| wire(error.into()))?;
        self.broker
            .close_session(&request.pool, &request.session_id)
            .map_err(wire)?;
        Ok(Response::new(proto::CloseSessionResponse {}))
    }

    async fn list_waiters(
        &self,
        request: Request<proto::ListWaitersRequest>,
    ) -> Answer<proto::ListWaitersResponse> {
        let (waiters, total) = self.find(&request.into_inner().pool)?.pool.waiters(WAITERS);
        Ok(Response::new(proto::ListWaitersResponse {
            waiters: waiters.into_iter().map(waiter).collect(),
            total,
        }))
    }

    async fn list_leases(
        &self,
        request: Request<proto::ListLeasesRequest>,
    ) -> Answer<proto::ListLeasesResponse> {
        let request = request.into_inner();
        let leases = self.broker.leases_of(&*self.find(&request.pool)?);
        let page = Page::of(leases, request.page_size, &request.page_token, |lease| {
            lease.handle.number
        })
        .map_err(|error| wire(error.into()))?;
        Ok(Response::new(proto::ListLeasesResponse {
            leases: page.items.iter().map(|lease| self.lease_entry(lease)).collect(),
            next_page_token: page.next,
        }))
    }

    async fn revoke_lease(
        &self,
        request: Request<proto::RevokeLeaseRequest>,
    ) -> Answer<proto::RevokeLeaseResponse> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        decode::required(&request.lease_id, "lease_id", &mut faults);
        faults.into_result(()).map_err(|error| wire(error.into()))?;
        let end = self.broker.revoke(&request.lease_id);
        if end == End::NotFound {
            return Err(wire(Error::LeaseNotFound.into()));
        }
        let mut response = proto::RevokeLeaseResponse::default();
        response.set_ended(encode::lease_end(end));
        Ok(Response::new(response))
    }
}
