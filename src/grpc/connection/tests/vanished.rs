//! A client that vanishes: its connection stays open and nothing passes any more, as when every packet is dropped.

use tokio::{io::copy_bidirectional, runtime::Handle, sync::Notify};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::*;
use crate::{
    backend::{
        registry::{self, Surroundings},
        secrets::Secrets,
    },
    broker::{AcquireLease, Broker, Plan, Policy, Waiting},
    grpc::BrokerApi,
    pool::Settings,
    proto::{
        AcquireLeaseRequest, Call, EchoBackend, Open, OpenSessionRequest, OpenSessionResponse, Operation,
        PoolSpec, broker_service_client::BrokerServiceClient, broker_service_server::BrokerServiceServer,
        open_session_request::Message, operation::Input, pool_spec,
    },
};

type Client = BrokerServiceClient<tonic::transport::Channel>;

/// Time in which a client that has vanished must be noticed.
const NOTICED: Duration = Duration::from_secs(15);

/// A broker with one pool, `one`, of one session.
fn broker() -> Arc<Broker> {
    let clock = Clock::tokio();
    let broker = Broker::new(1, clock.clone(), Handle::current()).unwrap();
    tokio::spawn(Arc::clone(&broker).run());
    let spec = PoolSpec {
        backend: Some(pool_spec::Backend::Echo(EchoBackend::default())),
        ..PoolSpec::default()
    };
    let surroundings = Surroundings {
        secrets: Secrets::below("/nowhere"),
        clock,
    };
    let settings = Settings {
        max_sessions: 1,
        max_idle: 1,
        ..Settings::default()
    };
    let plan = Plan {
        settings,
        policy: Policy::default(),
        backend: registry::build(&spec, &surroundings).unwrap(),
    };
    broker.add_pool("one", plan);
    broker
}

/// A client on a connection of its own.
struct Connected {
    client: Client,
    /// Makes it vanish.
    vanish: Arc<Notify>,
    /// The broker's side of the connection.
    serving: JoinHandle<()>,
}

async fn client_of(broker: &Arc<Broker>) -> Connected {
    let (near, mut near_end) = duplex(1 << 16);
    let (mut far_end, far) = duplex(1 << 16);
    let api = BrokerServiceServer::new(BrokerApi::new(Arc::clone(broker)));
    let serving = tokio::spawn(serve(far, connection(), api, CancellationToken::new()));
    let vanish = Arc::new(Notify::new());
    let vanished = Arc::clone(&vanish);
    tokio::spawn(async move {
        tokio::select! {
            _ = copy_bidirectional(&mut near_end, &mut far_end) => {}
            () = vanished.notified() => std::future::pending().await,
        }
    });
    let near = parking_lot::Mutex::new(Some(near));
    let connector = tower_fn(move |_: http::Uri| {
        let io = near.lock().take().ok_or(std::io::ErrorKind::NotConnected);
        std::future::ready(io.map(TokioIo::new).map_err(std::io::Error::from))
    });
    // With windows this wide only the pipe holds the broker up.
    let channel = Endpoint::from_static("http://broker")
        .initial_stream_window_size(1 << 30)
        .initial_connection_window_size(1 << 30)
        .connect_with_connector(connector)
        .await
        .unwrap();
    Connected {
        client: Client::new(channel),
        vanish,
        serving,
    }
}

/// An open session with `calls` sent on it.
async fn open(client: &mut Client, calls: Vec<Call>) -> Streaming<OpenSessionResponse> {
    let (sender, messages) = tokio::sync::mpsc::unbounded_channel();
    let opening = Message::Open(Open {
        pool: "one".to_owned(),
        options: None,
    });
    for message in std::iter::once(opening).chain(calls.into_iter().map(Message::Call)) {
        let message = OpenSessionRequest {
            message: Some(message),
        };
        sender.send(message).unwrap();
    }
    // A stream that is never half-closed.
    tokio::spawn(async move { sender.closed().await });
    let messages = UnboundedReceiverStream::new(messages);
    let mut answers = client.open_session(messages).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    answers
}

fn streaming(params: &str) -> Call {
    Call {
        id: 1,
        operation: Some(Operation {
            name: "stream".to_owned(),
            input: Some(Input::ParamsJson(params.to_owned())),
            ..Operation::default()
        }),
        stream: true,
        ..Call::default()
    }
}

/// Makes a client vanish that holds the pool's only session, which the next in line must get in time.
async fn vanishes(holder: &Connected, broker: &Arc<Broker>) {
    let started = broker.clock().now();
    holder.vanish.notify_one();
    let next = AcquireLease {
        pool: "one".to_owned(),
        waiting: Waiting {
            timeout: Some(NOTICED * 20),
            ..Waiting::default()
        },
        ttl: None,
        request: None,
    };
    broker.acquire_lease(next).await.unwrap();
    let passed = broker.clock().now().since(started);
    assert!(passed <= NOTICED, "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn open_session_of_a_client_that_vanishes_is_free_within_fifteen_seconds() {
    let broker = broker();
    let mut holder = client_of(&broker).await;
    let _held = open(&mut holder.client, Vec::new()).await;
    vanishes(&holder, &broker).await;
    holder.serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn call_that_waits_for_its_backend_ends_with_the_client_that_vanishes() {
    let broker = broker();
    let mut holder = client_of(&broker).await;
    let call = streaming(r#"{"count":1000,"interval":"20s"}"#);
    let mut answers = open(&mut holder.client, vec![call]).await;
    answers.message().await.unwrap().unwrap();
    vanishes(&holder, &broker).await;
    holder.serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn call_in_mid_answer_ends_with_the_client_that_vanishes() {
    let broker = broker();
    let mut holder = client_of(&broker).await;
    let call = streaming(r#"{"count":1000000,"size":65536}"#);
    let mut answers = open(&mut holder.client, vec![call]).await;
    answers.message().await.unwrap().unwrap();
    vanishes(&holder, &broker).await;
    // The socket itself goes by the time limit for unacknowledged bytes, which is the kernel's: no pipe has it.
}

#[tokio::test(start_paused = true)]
async fn waiter_that_vanishes_leaves_the_queue_and_is_granted_nothing() {
    let broker = broker();
    let mut holder = client_of(&broker).await;
    let _held = open(&mut holder.client, Vec::new()).await;
    let mut waiter = client_of(&broker).await;
    let request = AcquireLeaseRequest {
        pool: "one".to_owned(),
        ..AcquireLeaseRequest::default()
    };
    let _waiting = tokio::spawn(async move { waiter.client.acquire_lease(request).await });
    let stats = || broker.pools.get("one").unwrap().pool.stats();
    while stats().waiters == 0 {
        tokio::task::yield_now().await;
    }
    let started = broker.clock().now();
    waiter.vanish.notify_one();
    waiter.serving.await.unwrap();
    let passed = broker.clock().now().since(started);
    assert!(passed <= NOTICED, "{passed:?}");
    assert_eq!((stats().waiters, stats().cancelled), (0, 1));
}
