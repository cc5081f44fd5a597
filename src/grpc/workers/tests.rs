use std::net::SocketAddr;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tonic::{Code, service::RoutesBuilder, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    health_server::HealthServer,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::*;
use crate::{
    clock::Clock,
    grpc::{Deadlines, HealthService, PoolHealth, Services, Settings, Traced, add_reflection},
    proto::{
        AcquireLeaseRequest, GetPoolRequest, broker_service_client::BrokerServiceClient,
        pool_service_client::PoolServiceClient,
    },
};

struct NoPools(watch::Sender<u64>);

impl PoolHealth for NoPools {
    fn serving(&self, _: &str) -> Option<watch::Receiver<bool>> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Stands for the data plane: its methods say that they were found.
#[derive(Clone)]
struct Fast;

impl tonic::server::NamedService for Fast {
    const NAME: &'static str = "sublet.v1.BrokerService";
}

impl<A> Service<Request<A>> for Fast {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<A>) -> Self::Future {
        std::future::ready(Ok(tonic::Status::already_exists("found").into_http()))
    }
}

struct Served {
    address: SocketAddr,
    services: Services<Fast>,
    closing: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

async fn served(max_connections: usize) -> Served {
    let settings = Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        max_connections,
        workers: 2,
    };
    let acceptor = Acceptor::bind(&settings).await.unwrap();
    let address = acceptor.local_addr().unwrap();
    let closing = CancellationToken::new();
    let ready = watch::Sender::new(true);
    let health = HealthService::new(
        ready.subscribe(),
        &[],
        NoPools(watch::Sender::new(0)),
        closing.clone(),
    );
    let mut always = RoutesBuilder::default();
    always.add_service(HealthServer::new(health));
    add_reflection(&mut always).unwrap();
    let services = Services::new(always);
    let stack = Traced::new(Deadlines::new(services.clone(), Clock::real()));
    let closed = closing.clone();
    let serving = tokio::spawn(async move {
        let workers = Workers::start(settings.workers).unwrap();
        serve(acceptor, &workers, stack, closed).await;
        // The readiness lives as long as the broker.
        drop(ready);
    });
    Served {
        address,
        services,
        closing,
        serving,
    }
}

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_client_is_served_on_a_worker_and_its_watch_ends_with_the_listener() {
    let broker = served(10).await;
    let mut client = HealthClient::new(channel(broker.address).await);
    let mut watch = client
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        watch.next().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    broker.closing.cancel();
    assert!(watch.next().await.is_none(), "the stream ends without an error");
    broker.serving.await.unwrap();
    assert!(
        TcpStream::connect(broker.address).await.is_err(),
        "the listener is closed"
    );
}

#[tokio::test]
async fn the_brokers_own_services_answer_once_they_are_open() {
    let broker = served(10).await;
    let channel = channel(broker.address).await;
    let mut data = BrokerServiceClient::new(channel.clone());
    let code = |result: Result<_, tonic::Status>| result.map(|_| ()).unwrap_err().code();
    assert_eq!(
        code(data.acquire_lease(AcquireLeaseRequest::default()).await),
        Code::Unavailable
    );
    broker.services.open(Fast, RoutesBuilder::default());
    assert_eq!(
        code(data.acquire_lease(AcquireLeaseRequest::default()).await),
        Code::AlreadyExists
    );
    let mut pools = PoolServiceClient::new(channel);
    let unknown = pools.get_pool(GetPoolRequest::default()).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_leave_room_when_they_end() {
    use tokio::io::AsyncReadExt as _;
    let broker = served(1).await;
    let first = channel(broker.address).await;
    HealthClient::new(first.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    let mut second = TcpStream::connect(broker.address).await.unwrap();
    assert!(matches!(second.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    drop(first);
    // Its place comes free when the worker has seen its end.
    loop {
        let connected = Channel::from_shared(format!("http://{}", broker.address))
            .unwrap()
            .connect_lazy();
        if HealthClient::new(connected)
            .check(HealthCheckRequest::default())
            .await
            .is_ok()
        {
            break;
        }
    }
}

#[tokio::test]
async fn reflection_lists_every_service_and_knows_the_error_details() {
    let broker = served(10).await;
    let mut client = ServerReflectionClient::new(channel(broker.address).await);
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("google.rpc.BadRequest".to_owned()),
    ];
    let requests = asked.map(|message| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    });
    let mut answers = client
        .server_reflection_info(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.next().await.unwrap().unwrap().message_response
    else {
        panic!("no list");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "sublet.v1.BrokerService",
            "sublet.v1.PoolService",
            "sublet.v1.StatsService",
        ]
    );
    let details = answers.next().await.unwrap().unwrap().message_response;
    assert!(matches!(
        details,
        Some(MessageResponse::FileDescriptorResponse(_))
    ));
}
