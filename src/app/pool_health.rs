//! Keeps the broker that may come later: runs its loops, and tells health of its pools.
//!
//! Loops: the broker's own, which ends leases as they come due; the relay of changes to its table of pools. Both end
//! when the last copy is dropped.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{broker::Broker, grpc::PoolHealth};

/// The pools of a broker that may come later. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct BrokerPools(Arc<Later>);

#[derive(Debug, Default)]
struct Later {
    begun: OnceLock<Begun>,
    changes: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct Begun {
    broker: Arc<Broker>,
    _loops: [AbortOnDropHandle<()>; 2],
}

impl BrokerPools {
    /// The broker has come: its loops begin.
    pub(super) fn begin(&self, broker: &Arc<Broker>) {
        self.0.begun.get_or_init(|| Begun {
            broker: Arc::clone(broker),
            _loops: [
                AbortOnDropHandle::new(tokio::spawn(Arc::clone(broker).run())),
                AbortOnDropHandle::new(tokio::spawn(relay(
                    broker.pools.changes(),
                    Arc::clone(&self.0.changes),
                ))),
            ],
        });
    }

    /// The broker, if it has come.
    pub(super) fn broker(&self) -> Option<&Arc<Broker>> {
        self.0.begun.get().map(|begun| &begun.broker)
    }
}

async fn relay(mut theirs: watch::Receiver<u64>, ours: Arc<watch::Sender<u64>>) {
    while theirs.changed().await.is_ok() {
        ours.send_modify(|change| *change += 1);
    }
}

impl PoolHealth for BrokerPools {
    fn serving(&self, name: &str) -> Option<watch::Receiver<bool>> {
        let entry = self.broker()?.pools.get(name).ok()?;
        Some(entry.pool.serving())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}
