use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::*;

const SERVICES: &[&str] = &["sublet.v1.BrokerService"];

#[derive(Clone)]
struct Pools {
    pools: Arc<Mutex<BTreeMap<String, watch::Sender<bool>>>>,
    changes: watch::Sender<u64>,
}

impl Pools {
    fn new() -> Self {
        Self {
            pools: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }

    fn set(&self, name: &str, serving: bool) {
        self.pools
            .lock()
            .entry(name.to_owned())
            .or_insert_with(|| watch::Sender::new(serving))
            .send_replace(serving);
        self.changes.send_modify(|count| *count += 1);
    }

    fn remove(&self, name: &str) {
        self.pools.lock().remove(name);
        self.changes.send_modify(|count| *count += 1);
    }
}

impl PoolHealth for Pools {
    fn serving(&self, name: &str) -> Option<watch::Receiver<bool>> {
        self.pools.lock().get(name).map(watch::Sender::subscribe)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Broker {
    ready: watch::Sender<bool>,
    pools: Pools,
    closing: CancellationToken,
    health: HealthService<Pools>,
}

fn broker() -> Broker {
    let (ready, pools, closing) = (watch::Sender::new(false), Pools::new(), CancellationToken::new());
    let health = HealthService::new(ready.subscribe(), SERVICES, pools.clone(), closing.clone());
    Broker {
        ready,
        pools,
        closing,
        health,
    }
}

fn asking(service: &str) -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest {
        service: service.to_owned(),
    })
}

async fn check(health: &HealthService<Pools>, service: &str) -> Result<ServingStatus, tonic::Code> {
    let answer = health
        .check(asking(service))
        .await
        .map_err(|status| status.code())?;
    Ok(answer.into_inner().status())
}

#[tokio::test]
async fn the_broker_and_its_services_follow_its_readiness_whatever_its_pools_do() {
    let broker = broker();
    broker.pools.set("dead", false);
    assert_eq!(check(&broker.health, "").await, Ok(ServingStatus::NotServing));
    broker.ready.send_replace(true);
    assert_eq!(check(&broker.health, "").await, Ok(ServingStatus::Serving));
    assert_eq!(
        check(&broker.health, "sublet.v1.BrokerService").await,
        Ok(ServingStatus::Serving)
    );
    assert_eq!(
        check(&broker.health, "pools/dead").await,
        Ok(ServingStatus::NotServing)
    );
}

#[tokio::test]
async fn a_check_on_something_unknown_is_not_found() {
    let broker = broker();
    for unknown in ["pools/none", "pools/", "sublet.v1.NoService", "pools"] {
        assert_eq!(
            check(&broker.health, unknown).await,
            Err(tonic::Code::NotFound),
            "{unknown}"
        );
    }
}

#[tokio::test]
async fn a_watch_on_an_unknown_pool_stays_open_and_follows_it_through_its_life() {
    let broker = broker();
    let mut watch = broker
        .health
        .watch(asking("pools/late"))
        .await
        .unwrap()
        .into_inner();
    let mut next = async || watch.next().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::ServiceUnknown);
    broker.pools.set("other", true);
    broker.pools.set("late", true);
    assert_eq!(next().await, ServingStatus::Serving);
    broker.pools.set("late", false);
    assert_eq!(next().await, ServingStatus::NotServing);
    broker.pools.remove("late");
    assert_eq!(next().await, ServingStatus::ServiceUnknown);
    broker.pools.set("late", true);
    assert_eq!(next().await, ServingStatus::Serving);
}

#[tokio::test]
async fn a_watch_says_nothing_while_nothing_changes_and_ends_with_the_listener() {
    let broker = broker();
    let mut watch = broker.health.watch(asking("")).await.unwrap().into_inner();
    assert_eq!(
        watch.next().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    broker.pools.set("other", true);
    broker.ready.send_replace(false);
    assert!(watch.next().now_or_never().is_none());
    broker.closing.cancel();
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn watches_are_bounded_and_give_their_place_back() {
    let broker = broker();
    let mut watches = Vec::new();
    for _ in 0..MAX_WATCHES {
        watches.push(broker.health.watch(asking("")).await.unwrap());
    }
    let refused = broker.health.watch(asking("")).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    watches.pop();
    assert!(broker.health.watch(asking("")).await.is_ok());
}
