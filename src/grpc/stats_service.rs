//! `StatsService` on the wire.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{encode, page::Page, status::status};
use crate::{
    broker::{Broker, PoolEntry},
    error::Failure,
    pool::{Histogram, Stats},
    proto::{self, stats_service_server::StatsService},
};

/// Statistics on the wire.
#[derive(Clone, Debug)]
pub struct StatsApi {
    broker: Arc<Broker>,
}

impl StatsApi {
    /// The statistics of a broker's pools.
    #[must_use]
    pub const fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }

    fn find(&self, pool: &str) -> Result<Arc<PoolEntry>, Status> {
        self.broker.pools.get(pool).map_err(|failure| status(&failure))
    }

    fn encode(&self, entry: &PoolEntry, stats: &Stats) -> proto::PoolStats {
        let wall = |moment| encode::timestamp(self.broker.clock().wall(moment));
        let shared = entry.pool.backend().shared();
        let count = |connections: usize| u32::try_from(connections).unwrap_or(u32::MAX);
        proto::PoolStats {
            pool: entry.pool.name().to_string(),
            total_sessions: stats.total,
            active_sessions: stats.active,
            idle_sessions: stats.idle,
            dialing_sessions: stats.dialing,
            probing_sessions: stats.probing,
            resetting_sessions: stats.resetting,
            closing_sessions: stats.closing,
            max_sessions: stats.max,
            peak_sessions: stats.peak,
            waiters: stats.waiters,
            peak_waiters: stats.peak_waiters,
            acquires: stats.acquires,
            granted: stats.granted,
            refused: stats.refused,
            cancelled: stats.cancelled,
            requests: stats.requests,
            requests_ok: stats.requests_ok,
            requests_failed: stats.requests_failed,
            sessions_created: stats.sessions_created,
            sessions_closed: stats.sessions_closed,
            sessions_failed: stats.sessions_failed,
            sessions_reused: stats.sessions_reused,
            reuse_ratio: stats.reuse_ratio(),
            wait: Some(timing(&stats.wait)),
            dial: Some(timing(&stats.dial)),
            execute: Some(timing(&stats.execute)),
            hold: Some(timing(&stats.hold)),
            uptime: Some(encode::duration(stats.uptime)),
            last_reset_time: stats.last_reset.map(wall),
            shared_connections: count(shared.open),
            max_shared_connections: count(shared.most.unwrap_or_default()),
            sessions_beside: stats.sessions_beside,
            waiters_beside: stats.waiters_beside,
        }
    }
}

fn timing(histogram: &Histogram) -> proto::Timing {
    let percentile = |per_mille| Some(encode::duration(histogram.percentile(per_mille)));
    proto::Timing {
        count: histogram.count(),
        average: Some(encode::duration(histogram.average())),
        p50: percentile(500),
        p90: percentile(900),
        p99: percentile(990),
        max: Some(encode::duration(histogram.max())),
    }
}

#[tonic::async_trait]
impl StatsService for StatsApi {
    async fn get_pool_stats(
        &self,
        request: Request<proto::GetPoolStatsRequest>,
    ) -> Result<Response<proto::GetPoolStatsResponse>, Status> {
        let entry = self.find(&request.into_inner().pool)?;
        let stats = Some(self.encode(&entry, &entry.pool.stats()));
        Ok(Response::new(proto::GetPoolStatsResponse { stats }))
    }

    async fn list_pool_stats(
        &self,
        request: Request<proto::ListPoolStatsRequest>,
    ) -> Result<Response<proto::ListPoolStatsResponse>, Status> {
        let request = request.into_inner();
        let name = |entry: &Arc<PoolEntry>| entry.pool.name().to_string();
        let page = Page::of(
            self.broker.pools.all(),
            request.page_size,
            &request.page_token,
            name,
        )
        .map_err(|error| status(&Failure::from(error)))?;
        let stats = page
            .items
            .iter()
            .map(|entry| self.encode(entry, &entry.pool.stats()));
        Ok(Response::new(proto::ListPoolStatsResponse {
            stats: stats.collect(),
            next_page_token: page.next,
        }))
    }

    async fn reset_pool_stats(
        &self,
        request: Request<proto::ResetPoolStatsRequest>,
    ) -> Result<Response<proto::ResetPoolStatsResponse>, Status> {
        let entry = self.find(&request.into_inner().pool)?;
        let stats = Some(self.encode(&entry, &entry.pool.reset_stats()));
        Ok(Response::new(proto::ResetPoolStatsResponse { stats }))
    }
}
