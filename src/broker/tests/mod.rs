//! The use cases over real pools of `echo`, under paused time.

mod doubt;
mod drain;
mod leases;
mod moments;
mod one_shots;
mod repeats;
mod sessions;
mod unread;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::{
    backend::{
        Body, Operation, Params,
        registry::{self, Surroundings},
        secrets::Secrets,
    },
    error::{Error, Executed},
    lease::Bounds,
    pool::Settings,
    proto::{EchoBackend, PoolSpec, pool_spec},
};

const SECOND: Duration = Duration::from_secs(1);

/// A broker with one pool, `echo`, of `sessions` sessions.
fn broker_with(sessions: u32) -> Arc<Broker> {
    let clock = Clock::tokio();
    let broker = Broker::new(7, clock.clone(), Handle::current()).unwrap();
    tokio::spawn(Arc::clone(&broker).run());
    let surroundings = Surroundings {
        secrets: Secrets::below("/nowhere"),
        clock,
    };
    let spec = PoolSpec {
        backend: Some(pool_spec::Backend::Echo(EchoBackend::default())),
        ..PoolSpec::default()
    };
    let plan = Plan {
        settings: Settings {
            max_sessions: sessions,
            max_idle: sessions,
            ..Settings::default()
        },
        policy: Policy {
            lease: Bounds {
                default_ttl: SECOND * 10,
                min_ttl: SECOND,
                max_ttl: SECOND * 60,
                max_duration: SECOND * 120,
            },
            ..Policy::default()
        },
        backend: registry::build(&spec, &surroundings).unwrap(),
    };
    broker.add_pool("echo", plan);
    broker
}

fn operation(name: &str, params: &str) -> CallRequest {
    CallRequest {
        operation: Operation {
            name: name.to_owned(),
            params: Params::Text(params.to_owned()),
            args: Vec::new(),
            body: Body::Whole(Bytes::new()),
            alone: false,
            inspected: crate::backend::Inspected::default(),
        },
        timeout: None,
        caller_deadline: None,
    }
}

fn lasting(timeout: Duration, call: CallRequest) -> CallRequest {
    CallRequest {
        timeout: Some(timeout),
        ..call
    }
}

fn acquire_in(wait: Duration) -> AcquireLease {
    AcquireLease {
        pool: "echo".to_owned(),
        waiting: Waiting {
            timeout: Some(wait),
            ..Waiting::default()
        },
        ttl: None,
        request: None,
    }
}

/// A lease and its token.
async fn lease(broker: &Arc<Broker>) -> (Arc<LeasedSession>, String) {
    let granted = broker.acquire_lease(acquire_in(SECOND)).await.unwrap();
    let token = broker.token(granted.leased.number);
    (granted.leased, token)
}

fn on_lease(token: &str, call: CallRequest) -> LeaseCall {
    LeaseCall {
        token: token.to_owned(),
        call,
        numbered: None,
    }
}

fn numbered(token: &str, seqno: u64, name: &str, params: &str) -> LeaseCall {
    let fingerprint = Fingerprint::of(format!("{name} {params}").as_bytes());
    LeaseCall {
        numbered: Some((seqno, fingerprint)),
        ..on_lease(token, operation(name, params))
    }
}

fn one_shot(call: CallRequest) -> PoolCall {
    PoolCall {
        pool: "echo".to_owned(),
        waiting: Waiting::default(),
        call,
        request: None,
        place: None,
    }
}

fn repeatable(id: Uuid, name: &str, params: &str) -> PoolCall {
    let fingerprint = Fingerprint::of(format!("{name} {params}").as_bytes());
    PoolCall {
        request: Some(RequestId { id, fingerprint }),
        ..one_shot(operation(name, params))
    }
}

fn json(answer: &Answer) -> String {
    let Output::Json(text) = &answer.output else {
        panic!("JSON was expected, not {:?}", answer.output);
    };
    text.clone()
}

/// How often the call named `id` reached the pool's backend: the truth that `executed` is compared with.
async fn received(broker: &Arc<Broker>, id: &str) -> usize {
    let count = one_shot(operation("count", r#"{"scope":"pool"}"#));
    let answer = broker.execute_on_pool(count).await.unwrap();
    let record: serde_json::Value = serde_json::from_str(&json(&answer)).unwrap();
    let ids = record["received"].as_array().unwrap();
    ids.iter().filter(|received| *received == id).count()
}

fn executed(result: &CallResult) -> Option<Executed> {
    match result {
        Ok(_) => Some(Executed::Yes),
        Err(failure) => failure.executed,
    }
}
