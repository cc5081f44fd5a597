//! The demo's two pools, and the channels to the broker.

use std::{net::SocketAddr, time::Duration};

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint as Target},
};

use crate::proto::{
    CreatePoolRequest, EchoBackend, Endpoint, HttpBackend, ListPoolStatsRequest, Pool, PoolSpec, PoolStats,
    Sizing, pool_service_client::PoolServiceClient, pool_spec::Backend,
    stats_service_client::StatsServiceClient,
};

/// Channels that the clients share.
const CHANNELS: usize = 4;

/// One of the demo's pools, by name.
pub(super) struct DemoPool {
    pub(super) name: &'static str,
    /// What its clients run: an operation and its params.
    pub(super) unary: (&'static str, &'static str),
    /// The same for those who stream.
    pub(super) streamed: (&'static str, &'static str),
    pub(super) sessions: u32,
    /// Clients of each of the four kinds.
    pub(super) clients: usize,
}

/// The pools, by name, as `ListPoolStats` has them.
pub(super) const POOLS: [DemoPool; 2] = [
    DemoPool {
        name: "database",
        unary: ("sleep", r#"{"duration": "30ms"}"#),
        streamed: ("stream", r#"{"count": 5, "interval": "6ms"}"#),
        sessions: 4,
        clients: 4,
    },
    DemoPool {
        name: "web-api",
        unary: ("request", r#"{"path": "/price"}"#),
        streamed: ("request", r#"{"path": "/price"}"#),
        sessions: 2,
        clients: 2,
    },
];

/// How long a session of the first pool takes to open: what a database's handshake and login may well cost.
const DIAL_DELAY: Duration = Duration::from_millis(250);

/// A broker with its pools.
pub(super) struct Stage {
    channels: Vec<Channel>,
}

impl Stage {
    /// Connects to the broker at `address`, and makes the pools; the second one's sessions go to `service`.
    pub(super) async fn set(address: SocketAddr, service: SocketAddr) -> Result<Self, Status> {
        let target = Target::from_shared(format!("http://{address}"))
            .map_err(|error| Status::internal(error.to_string()))?
            .tcp_nodelay(true);
        let mut channels = Vec::new();
        for _ in 0..CHANNELS {
            let channel = target
                .connect()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            channels.push(channel);
        }
        let stage = Self { channels };
        let dial_delay = DIAL_DELAY.try_into().ok();
        stage
            .create(&POOLS[0], Backend::Echo(EchoBackend { dial_delay }), Vec::new())
            .await?;
        let endpoint = Endpoint {
            address: service.to_string(),
            ..Endpoint::default()
        };
        stage
            .create(&POOLS[1], Backend::Http(HttpBackend::default()), vec![endpoint])
            .await?;
        Ok(stage)
    }

    async fn create(
        &self,
        pool: &DemoPool,
        backend: Backend,
        endpoints: Vec<Endpoint>,
    ) -> Result<(), Status> {
        let spec = PoolSpec {
            endpoints,
            sizing: Some(Sizing {
                max_sessions: Some(pool.sessions),
                ..Sizing::default()
            }),
            backend: Some(backend),
            ..PoolSpec::default()
        };
        let request = CreatePoolRequest {
            pool: Some(Pool {
                name: pool.name.to_owned(),
                spec: Some(spec),
                ..Pool::default()
            }),
            validate_only: false,
        };
        let mut client = PoolServiceClient::new(self.channel(0));
        loop {
            match client.create_pool(request.clone()).await {
                Ok(_) => return Ok(()),
                // The broker answers from the first moment, and its store may need another.
                Err(status) if status.code() == Code::Unavailable => tokio::task::yield_now().await,
                Err(status) => return Err(status),
            }
        }
    }

    /// A channel for the client `number`.
    pub(super) fn channel(&self, number: usize) -> Channel {
        let mut channels = self.channels.iter().cycle().skip(number % self.channels.len());
        // A stage always has channels, so that the other arm is never taken.
        channels
            .next()
            .cloned()
            .unwrap_or_else(|| Target::from_static("http://127.0.0.1").connect_lazy())
    }

    /// A client for [`Stage::pools`].
    pub(super) fn stats(&self) -> StatsServiceClient<Channel> {
        StatsServiceClient::new(self.channel(0))
    }

    /// What the pools are doing, in the order of [`POOLS`].
    pub(super) async fn pools(
        &self,
        client: &mut StatsServiceClient<Channel>,
    ) -> Result<Vec<PoolStats>, Status> {
        let answer = client.list_pool_stats(ListPoolStatsRequest::default()).await?;
        Ok(answer.into_inner().stats)
    }
}
