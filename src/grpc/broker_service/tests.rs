use std::net::SocketAddr;

use futures_util::{FutureExt as _, future::BoxFuture, stream};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::{
    backend::{
        registry::{self, Surroundings},
        secrets::Secrets,
    },
    broker::{Plan, Policy},
    grpc::connection::Connection,
    pool::Settings,
    proto::{
        EchoBackend, ExecuteRequest, Operation, PoolSpec, execute_request::Target, operation::Input,
        pool_spec,
    },
};

#[tokio::test(start_paused = true)]
async fn session_that_is_never_opened_ends() {
    let clock = Clock::tokio();
    let failure = first_message(&mut stream::pending(), &clock).await.unwrap_err();
    assert!(matches!(failure.error, Error::Invalid { .. }), "{failure:?}");
    let unreadable = Status::out_of_range("5000000 bytes");
    let mut inbound = stream::iter([Err(unreadable)]);
    let failure = first_message(&mut inbound, &clock).await.unwrap_err();
    assert!(matches!(failure.error, Error::Invalid { .. }), "{failure:?}");
}

/// As many running calls as a connection's requests may wait.
const MANY: u32 = MAX_WAITING;

/// The data plane of a broker with one pool, `echo`.
fn api(sessions: u32) -> BrokerApi {
    let clock = Clock::tokio();
    let broker = Broker::new(1, clock.clone(), Handle::current()).unwrap();
    let spec = PoolSpec {
        backend: Some(pool_spec::Backend::Echo(EchoBackend::default())),
        ..PoolSpec::default()
    };
    let secrets = Secrets::below("/nowhere");
    let plan = Plan {
        settings: Settings {
            max_sessions: sessions,
            max_idle: sessions,
            ..Settings::default()
        },
        policy: Policy::default(),
        backend: registry::build(&spec, &Surroundings { secrets, clock }).unwrap(),
    };
    broker.add_pool("echo", plan);
    BrokerApi::new(broker)
}

fn long_call(request_id: &str) -> ExecuteRequest {
    ExecuteRequest {
        target: Some(Target::Pool("echo".to_owned())),
        operation: Some(Operation {
            name: "sleep".to_owned(),
            input: Some(Input::ParamsJson(r#"{"duration":"9s"}"#.to_owned())),
            ..Operation::default()
        }),
        request_id: request_id.to_owned(),
        ..ExecuteRequest::default()
    }
}

fn caller() -> Caller {
    let address = SocketAddr::from(([127, 0, 0, 1], 4711));
    let mut request = Request::new(());
    request
        .extensions_mut()
        .insert(Arc::new(Connection::new(1, address)));
    Caller::of(&request)
}

fn poll<T: std::fmt::Debug>(calls: &mut [BoxFuture<'_, T>]) {
    for call in calls {
        if let Some(ended) = call.now_or_never() {
            panic!("it sleeps: {ended:?}");
        }
    }
}

/// Starts one-shots on one connection, and lets those run that can. Dropped, they are cancelled.
async fn one_shots<'a>(
    api: &'a BrokerApi,
    caller: &'a Caller,
    ids: impl Iterator<Item = String>,
) -> Vec<BoxFuture<'a, Result<proto::Result, Failure>>> {
    let mut calls: Vec<_> = ids.map(|id| api.run(long_call(&id), caller).boxed()).collect();
    poll(&mut calls);
    // Sessions are dialed by tasks, a few at a time.
    while api.broker.pools.get("echo").unwrap().pool.stats().waiters > 0 {
        tokio::task::yield_now().await;
    }
    poll(&mut calls);
    // Those with a request id run in tasks too.
    tokio::task::yield_now().await;
    poll(&mut calls);
    calls
}

#[tokio::test(start_paused = true)]
async fn one_shots_that_run_keep_nobody_from_waiting() {
    let (api, caller) = (api(MANY + 1), caller());
    let _running = one_shots(&api, &caller, (0..MANY).map(|_| String::new())).await;
    let next = api.run(long_call(""), &caller).await;
    assert!(next.is_ok(), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn one_shots_with_a_request_id_and_their_repeats_keep_nobody_from_waiting_while_they_run() {
    let (api, caller) = (api(MANY / 2 + 1), caller());
    let ids = || (0..MANY / 2).map(|number| Uuid::from_u128(number.into()).to_string());
    let running = one_shots(&api, &caller, ids()).await;
    drop(running);
    let _joined = one_shots(&api, &caller, ids().chain(ids())).await;
    let next = api.run(long_call(""), &caller).await;
    assert!(next.is_ok(), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn one_shots_that_wait_are_limited_and_so_are_their_repeats() {
    let (api, caller) = (api(1), caller());
    let _holder = one_shots(&api, &caller, std::iter::once(String::new())).await;
    let id = Uuid::from_u128(1).to_string();
    let mut waiting: Vec<_> = (0..MANY)
        .map(|_| api.run(long_call(&id), &caller).boxed())
        .collect();
    for call in &mut waiting {
        assert!(call.now_or_never().is_none());
    }
    let refused = api.run(long_call(&id), &caller).await.unwrap_err();
    assert!(
        matches!(refused.error, Error::QueueFull { limit: MAX_WAITING }),
        "{refused:?}"
    );
    waiting.pop();
    let mut next = api.run(long_call(&id), &caller).boxed();
    assert!(
        (&mut next).now_or_never().is_none(),
        "a place is given back with its caller"
    );
}
