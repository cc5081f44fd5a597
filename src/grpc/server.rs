//! The broker's gRPC face, put together: listener, spans, deadlines, routes, and the services behind them.

use std::{io, net::SocketAddr, sync::Arc};

use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService as _, service::RoutesBuilder};
use tonic_health::pb::health_server::HealthServer;

use super::{
    accept::{Acceptor, Settings},
    broker_service::BrokerApi,
    deadline::Deadlines,
    delivery::Delivery,
    health::{HealthService, PoolHealth},
    limits::MAX_MESSAGE_BYTES,
    pool_service::PoolApi,
    reflection,
    routes::Services,
    stats_service::StatsApi,
    trace::Traced,
    workers::{Workers, serve},
};
use crate::{
    broker::Broker,
    catalog::Catalog,
    clock::Clock,
    proto::{
        broker_service_server::BrokerServiceServer, pool_service_server::PoolServiceServer,
        stats_service_server::StatsServiceServer,
    },
};

type DataPlane = Delivery<BrokerServiceServer<BrokerApi>>;

/// The full names under which health tells the broker's readiness.
const SERVICES: &[&str] = &[
    DataPlane::NAME,
    PoolServiceServer::<PoolApi>::NAME,
    StatsServiceServer::<StatsApi>::NAME,
];

/// The server could not be made.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address is in use, or not ours.
    #[error("{address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The descriptors for reflection cannot be read, which is a defect of the build.
    #[error("the descriptors cannot be read")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// A bound server, in which only health and reflection answer until its door is opened.
#[derive(Debug)]
pub struct Server {
    acceptor: Acceptor,
    address: SocketAddr,
    clock: Clock,
    door: Door,
}

/// Opens the server's own services, and closes the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    services: Services<DataPlane>,
    closing: CancellationToken,
}

impl Server {
    /// Binds the address. Health tells `ready` for the broker and its services, and what `pools` say.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub async fn bind(
        settings: &Settings,
        ready: watch::Receiver<bool>,
        pools: impl PoolHealth,
        clock: Clock,
    ) -> Result<Self, BindError> {
        let address = settings.listen;
        let failed = |source| BindError::Address { address, source };
        let acceptor = Acceptor::bind(settings).await.map_err(failed)?;
        let closing = CancellationToken::new();
        let health = HealthService::new(ready, SERVICES, pools, closing.clone());
        let mut always = RoutesBuilder::default();
        always.add_service(HealthServer::new(health));
        reflection::add(&mut always)?;
        Ok(Self {
            address: acceptor.local_addr().map_err(failed)?,
            acceptor,
            clock,
            door: Door {
                services: Services::new(always),
                closing,
            },
        })
    }

    /// The address in use, with the port that was found for port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its door.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Serves on `workers` until its door is closed, and a few seconds more for what was begun. Dropping the future
    /// closes the listener.
    pub async fn run(self, workers: Arc<Workers>) {
        let Door { services, closing } = self.door;
        let stack = Traced::new(Deadlines::new(services, self.clock));
        serve(self.acceptor, &workers, stack, closing).await;
    }
}

impl Door {
    /// From now on the broker's own services answer.
    pub fn open(&self, broker: &Arc<Broker>, catalog: Catalog) {
        let data = BrokerServiceServer::new(BrokerApi::new(Arc::clone(broker)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let pools = PoolServiceServer::new(PoolApi::new(Arc::clone(broker), catalog))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let stats = StatsServiceServer::new(StatsApi::new(Arc::clone(broker)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let mut others = RoutesBuilder::default();
        others.add_service(pools).add_service(stats);
        self.services.open(Delivery(data), others);
    }

    /// Closes the listener, and lets connections end what they began.
    pub fn close(&self) {
        self.closing.cancel();
    }
}
