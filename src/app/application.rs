//! One broker, from its configuration to its end.
//!
//! Loops: the gRPC server, on its workers; the reaper of leases; the watch over the store's lock; the relay that tells
//! health of pools that come and go.

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use super::{exit::Exit, pool_health::BrokerPools, running::Running};
use crate::{
    backend::{registry::Surroundings, secrets::Secrets},
    broker::Broker,
    catalog::Catalog,
    clock::Clock,
    config::Config,
    grpc::{BindError, Server, Workers},
    store::{self, LockState, Store, StoreError},
};

/// The pause before the store is asked again for the number of this start.
const RETRY: Duration = Duration::from_millis(500);

/// A broker whose listener is bound: health answers as soon as it runs, everything else once its definitions are
/// loaded.
#[derive(Debug)]
pub struct Application {
    config: Config,
    clock: Clock,
    server: Server,
    workers: Workers,
    ready: watch::Sender<bool>,
    pools: BrokerPools,
}

impl Application {
    /// Binds the listener and starts the worker threads.
    ///
    /// # Errors
    /// When the address is in use or not ours, or the system gives no threads.
    pub async fn build(config: Config, clock: Clock) -> Result<Self, Exit> {
        let (ready, pools) = (watch::Sender::new(false), BrokerPools::default());
        let server = Server::bind(&config.grpc, ready.subscribe(), pools.clone(), clock.clone())
            .await
            .map_err(unbound)?;
        let workers = Workers::start(threads(config.grpc.workers))
            .map_err(|error| Exit::unavailable("cannot start worker threads", error))?;
        Ok(Self {
            config,
            clock,
            server,
            workers,
            ready,
            pools,
        })
    }

    /// The address that clients connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The port that clients connect to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address().port()
    }

    /// Runs until `stop` is ready and the drain that it begins has come to its end, or `stop_now` is ready after it.
    /// Health turns first; new requests are refused; leases and open streams go on until the grace has passed or the
    /// last of them has ended; only then the listener closes. Dropped, everything is cut at once.
    ///
    /// # Errors
    /// When the store cannot be used, or another broker has it: then the broker drains too.
    pub async fn run_until_stopped(
        self,
        stop: impl Future<Output = ()>,
        stop_now: impl Future<Output = ()>,
    ) -> Result<(), Exit> {
        let Self {
            config,
            clock,
            server,
            workers,
            ready,
            pools,
        } = self;
        let (door, workers) = (server.door(), Arc::new(workers));
        let serving = AbortOnDropHandle::new(tokio::spawn(server.run(Arc::clone(&workers))));
        let mut stop = pin!(stop);
        let loading = Loading {
            config: &config,
            clock,
            pools: &pools,
        };
        let ended = tokio::select! {
            () = stop.as_mut() => Ok(None),
            loaded = loading.load() => loaded.map(Some),
        };
        let ended = match ended {
            Ok(Some(loaded)) => {
                door.open(&loaded.broker, loaded.catalog.clone());
                ready.send_replace(true);
                tokio::select! {
                    () = stop => Ok(Some(loaded)),
                    exit = taken(loaded.store.lock()) => Err(exit),
                }
            }
            other => other,
        };
        ready.send_replace(false);
        let drained = async {
            if let Some(broker) = pools.broker() {
                info!(grace = ?config.grace, "draining: no new grants, leases go on until they end");
                broker.drain(config.grace).await;
            }
            door.close();
            serving.await.ok();
        };
        tokio::select! {
            () = drained => info!("stopped"),
            () = stop_now => info!("stopped at once"),
        }
        stop_threads(workers).await;
        ended.map(drop)
    }
}

/// What a broker needs to load its definitions.
struct Loading<'a> {
    config: &'a Config,
    clock: Clock,
    pools: &'a BrokerPools,
}

/// A broker with its definitions.
struct Loaded {
    store: Arc<dyn Store>,
    broker: Arc<Broker>,
    catalog: Catalog,
}

impl Loading<'_> {
    /// Loads the definitions, waiting for as long as the store does not answer. May be dropped at any time.
    async fn load(self) -> Result<Loaded, Exit> {
        let store = store::open_when_available(&self.config.store, &self.clock)
            .await
            .map_err(unusable)?;
        let boot = self.begin(&*store).await?;
        let broker = Broker::new(boot, self.clock.clone(), Handle::current())
            .map_err(|_| Exit::internal("cannot start", "the system has no randomness to give"))?;
        self.pools.begin(&broker);
        let surroundings = Surroundings {
            secrets: Secrets::below(&self.config.secrets_dir),
            clock: self.clock.clone(),
        };
        let running = Running(Arc::clone(&broker));
        let catalog = Catalog::new(Arc::clone(&store), running, surroundings, self.clock.clone());
        catalog
            .load()
            .await
            .map_err(|failure| Exit::unavailable("cannot load the definitions", failure))?;
        info!(store = store.place(), boot, "serving");
        Ok(Loaded {
            store,
            broker,
            catalog,
        })
    }

    /// Draws the number of this start, waiting for as long as the store does not answer.
    async fn begin(&self, store: &dyn Store) -> Result<u32, Exit> {
        loop {
            match store.begin_boot().await {
                Err(StoreError::Unavailable { .. }) => self.clock.sleep_until(self.clock.now() + RETRY).await,
                other => return other.map_err(unusable),
            }
        }
    }
}

/// Returns when another broker has taken the store.
async fn taken(mut lock: watch::Receiver<LockState>) -> Exit {
    let state = lock
        .wait_for(|state| matches!(state, LockState::Taken { .. }))
        .await;
    let by = match state.as_deref() {
        Ok(LockState::Taken { by }) => by.clone(),
        Ok(LockState::Held | LockState::Lost) | Err(_) => "the store is gone".to_owned(),
    };
    error!(%by, "another broker has taken the store");
    Exit::unavailable("another broker has taken the store", by)
}

fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

fn unusable(error: StoreError) -> Exit {
    Exit::unavailable("cannot start", error)
}

fn unbound(error: BindError) -> Exit {
    match error {
        BindError::Address { address, source } if source.kind() == std::io::ErrorKind::AddrInUse => {
            Exit::unavailable(
                format!("cannot listen on {address}"),
                "something else listens there already; stop it, or choose another with --listen",
            )
        }
        BindError::Address { address, source } => {
            Exit::unavailable(format!("cannot listen on {address}"), source)
        }
        BindError::Descriptors(source) => Exit::internal("cannot start", source),
    }
}

/// Stops the threads last of all: what the pools have spawned lives there too.
async fn stop_threads(workers: Arc<Workers>) {
    // The server's task has ended or was aborted, and gives its share back when it is dropped.
    let stopping = tokio::task::spawn_blocking(move || {
        if let Some(workers) = Arc::into_inner(workers) {
            workers.stop();
        }
    });
    stopping.await.ok();
}
