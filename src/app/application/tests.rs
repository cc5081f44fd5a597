use std::path::Path;

use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Code, transport::Channel};

use super::*;
use crate::{
    grpc::ask_health,
    proto::{
        AcquireLeaseRequest, CreatePoolRequest, EchoBackend, ExecuteRequest, GetPoolRequest,
        GetPoolStatsRequest, LeaseEnd, LeasePolicy, Open, OpenSessionRequest, Operation, Pool, PoolSpec,
        ReleaseLeaseRequest, RenewLeaseRequest, broker_service_client::BrokerServiceClient,
        execute_request::Target, open_session_request, open_session_response,
        pool_service_client::PoolServiceClient, pool_spec::Backend, stats_service_client::StatsServiceClient,
    },
};

/// A broker that runs, and the signals that it waits for.
struct Running {
    address: SocketAddr,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    stop_now: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), Exit>>,
}

fn config(folder: &Path, grace: Duration) -> Config {
    let mut config = Config::default();
    config.grpc.listen.set_port(0);
    config.grpc.workers = 1;
    config.store.data_dir = folder.join("data");
    config.grace = grace;
    config
}

async fn started(config: Config) -> Running {
    let application = Application::build(config, Clock::real()).await.unwrap();
    let address = application.address();
    let ((stop, first), (stop_now, second)) = (oneshot::channel(), oneshot::channel());
    let came = |signal: oneshot::Receiver<()>| async move { signal.await.unwrap() };
    let ended = tokio::spawn(application.run_until_stopped(came(first), came(second)));
    let target = Channel::from_shared(format!("http://{address}")).unwrap();
    Running {
        address,
        channel: target.connect().await.unwrap(),
        stop: Some(stop),
        stop_now: Some(stop_now),
        ended,
    }
}

impl Running {
    /// Returns once the broker is ready, or no longer ready.
    async fn ready(&self, expected: bool) {
        while ask_health(self.channel.clone(), "").await.unwrap() != expected {
            tokio::task::yield_now().await;
        }
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    fn leases(&self) -> BrokerServiceClient<Channel> {
        BrokerServiceClient::new(self.channel.clone())
    }

    fn pools(&self) -> PoolServiceClient<Channel> {
        PoolServiceClient::new(self.channel.clone())
    }

    async fn create_pool(&self) {
        self.create_pool_with_ttl(Duration::from_secs(30)).await;
    }

    async fn create_pool_with_ttl(&self, ttl: Duration) {
        let spec = PoolSpec {
            lease: Some(LeasePolicy {
                min_ttl: ttl.try_into().ok(),
                default_ttl: ttl.try_into().ok(),
                ..LeasePolicy::default()
            }),
            backend: Some(Backend::Echo(EchoBackend::default())),
            ..PoolSpec::default()
        };
        let pool = Pool {
            name: "p".to_owned(),
            spec: Some(spec),
            ..Pool::default()
        };
        let request = CreatePoolRequest {
            pool: Some(pool),
            validate_only: false,
        };
        self.pools().create_pool(request).await.unwrap();
    }

    async fn acquire(&self) -> Result<String, Code> {
        let request = AcquireLeaseRequest {
            pool: "p".to_owned(),
            ..AcquireLeaseRequest::default()
        };
        let granted = self.leases().acquire_lease(request).await;
        granted
            .map(|granted| granted.into_inner().lease_token)
            .map_err(|status| status.code())
    }

    async fn execute(&self, target: Target) -> Result<(), Code> {
        let request = ExecuteRequest {
            target: Some(target),
            operation: Some(Operation {
                name: "echo".to_owned(),
                ..Operation::default()
            }),
            ..ExecuteRequest::default()
        };
        self.leases()
            .execute(request)
            .await
            .map(|_| ())
            .map_err(|status| status.code())
    }

    async fn release(&self, lease_token: String) -> LeaseEnd {
        let request = ReleaseLeaseRequest {
            lease_token,
            discard: false,
        };
        self.leases()
            .release_lease(request)
            .await
            .unwrap()
            .into_inner()
            .ended()
    }
}

#[tokio::test]
async fn definitions_outlive_the_broker_that_took_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = started(config(folder.path(), Duration::ZERO)).await;
    first.ready(true).await;
    first.create_pool().await;
    first.stop();
    first.ended.await.unwrap().unwrap();
    let second = started(config(folder.path(), Duration::ZERO)).await;
    second.ready(true).await;
    let name = "p".to_owned();
    let pool = second
        .pools()
        .get_pool(GetPoolRequest { name })
        .await
        .unwrap()
        .into_inner()
        .pool
        .unwrap();
    assert_eq!(pool.name, "p");
    assert!(ask_health(second.channel.clone(), "pools/p").await.unwrap());
    assert_eq!(second.execute(Target::Pool("p".to_owned())).await, Ok(()));
}

#[tokio::test]
async fn a_draining_broker_serves_its_lease_holders_and_refuses_everyone_else_until_the_last_one_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = started(config(folder.path(), Duration::from_secs(600))).await;
    broker.ready(true).await;
    broker.create_pool().await;
    let token = broker.acquire().await.unwrap();
    broker.stop();
    broker.ready(false).await;
    assert_eq!(broker.acquire().await, Err(Code::Unavailable));
    assert_eq!(
        broker.execute(Target::Pool("p".to_owned())).await,
        Err(Code::Unavailable)
    );
    assert_eq!(broker.execute(Target::LeaseToken(token.clone())).await, Ok(()));
    let renewal = RenewLeaseRequest {
        lease_token: token.clone(),
        ttl: None,
    };
    let renewed = broker.leases().renew_lease(renewal).await.unwrap().into_inner();
    assert!(renewed.status.unwrap().ttl.is_some());
    // A new connection is taken too: the listener stays open until the end.
    Channel::from_shared(format!("http://{}", broker.address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    assert_eq!(broker.release(token).await, LeaseEnd::Released);
    broker.ended.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(broker.address).await.is_err());
}

#[tokio::test]
async fn a_session_that_outlasts_the_grace_ends_as_broker_stopped_and_the_broker_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = started(config(folder.path(), Duration::from_millis(1))).await;
    broker.ready(true).await;
    broker.create_pool().await;
    let (messages, requests) = tokio::sync::mpsc::channel(1);
    let open = Open {
        pool: "p".to_owned(),
        options: None,
    };
    let message = Some(open_session_request::Message::Open(open));
    messages.send(OpenSessionRequest { message }).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = broker.leases().open_session(requests).await.unwrap().into_inner();
    let opened = answers.message().await.unwrap().unwrap().message;
    assert!(
        matches!(opened, Some(open_session_response::Message::Opened(_))),
        "{opened:?}"
    );
    broker.stop();
    let last = answers.message().await.unwrap().unwrap();
    let Some(open_session_response::Message::Error(error)) = last.message else {
        panic!("{last:?}");
    };
    assert_eq!((last.call_id, Code::from(error.code)), (0, Code::Unavailable));
    broker.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lease_that_nobody_renews_gives_its_session_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = started(config(folder.path(), Duration::ZERO)).await;
    broker.ready(true).await;
    broker.create_pool_with_ttl(Duration::from_millis(100)).await;
    broker.acquire().await.unwrap();
    let mut stats = StatsServiceClient::new(broker.channel.clone());
    let mut active = async || {
        let request = GetPoolStatsRequest { pool: "p".to_owned() };
        stats
            .get_pool_stats(request)
            .await
            .unwrap()
            .into_inner()
            .stats
            .unwrap()
            .active_sessions
    };
    assert_eq!(active().await, 1);
    while active().await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_broker_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = started(config(folder.path(), Duration::from_secs(600))).await;
    broker.ready(true).await;
    broker.create_pool().await;
    broker.acquire().await.unwrap();
    broker.stop();
    broker.ready(false).await;
    broker.stop_now.take().unwrap().send(()).unwrap();
    broker.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_store_that_another_broker_has_is_refused_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let first = started(config(folder.path(), Duration::ZERO)).await;
    first.ready(true).await;
    let second = Application::build(config(folder.path(), Duration::ZERO), Clock::real())
        .await
        .unwrap();
    let ended = second
        .run_until_stopped(std::future::pending(), std::future::pending())
        .await;
    let exit = ended.unwrap_err();
    assert_eq!(exit.code(), 69, "{exit}");
    assert!(exit.to_string().contains("another broker"), "{exit}");
}

#[tokio::test]
async fn a_port_in_use_is_refused_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let first = Application::build(config(folder.path(), Duration::ZERO), Clock::real())
        .await
        .unwrap();
    let mut config = config(folder.path(), Duration::ZERO);
    config.grpc.listen = first.address();
    let exit = Application::build(config, Clock::real()).await.unwrap_err();
    assert_eq!(exit.code(), 69);
    assert!(
        exit.to_string().contains("something else listens there"),
        "{exit}"
    );
}

#[tokio::test]
async fn while_its_store_does_not_answer_a_broker_tells_its_health_and_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), Duration::ZERO);
    // Port 9 of loopback (discard) is served by nobody.
    config.store.url = Some("postgres://sublet@127.0.0.1:9/sublet".to_owned());
    let mut broker = started(config).await;
    broker.ready(false).await;
    assert_eq!(broker.acquire().await, Err(Code::Unavailable));
    broker.stop();
    broker.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_store_that_is_taken_ends_the_broker_and_one_that_is_lost_for_a_while_does_not() {
    let lock = watch::Sender::new(LockState::Held);
    let mut ended = Box::pin(taken(lock.subscribe()));
    lock.send_replace(LockState::Lost);
    assert!(futures_util::poll!(&mut ended).is_pending());
    let by = "process 7".to_owned();
    lock.send_replace(LockState::Taken { by });
    let exit = ended.await;
    assert_eq!(exit.code(), 69);
    assert!(exit.to_string().contains("process 7"), "{exit}");
}
