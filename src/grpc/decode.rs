//! Requests as the use cases want them. Every fault of a request is found at once.

mod session;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use prost::Message as _;
use serde_json::Value;
use tonic::Request;
use uuid::Uuid;

pub(super) use self::session::{is_unreadable, session_message, unreadable};
use super::{Connection, Deadline, params::json_object};
use crate::{
    backend::{Body, Operation, Params},
    broker::{CallRequest, Fingerprint, LeaseCall, PoolCall, RequestId, Waiting},
    clock::Time,
    error::{Error, Executed, Failure, Faults},
    pool::Priority,
    proto,
};

/// A day: the longest that an operation may take.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The longest wait for a session.
const HOUR: Duration = Duration::from_secs(3600);

/// Characters of `sublet-client` that are kept.
const CLIENT: usize = 64;

/// Who calls, and how long they will wait.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    client: Option<Arc<str>>,
    deadline: Option<Time>,
    pub(super) connection: Option<Arc<Connection>>,
}

impl Caller {
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let client = request.metadata().get("sublet-client");
        let client = client.and_then(|client| client.to_str().ok()).map(|client| {
            let short: String = client.chars().take(CLIENT).collect();
            Arc::from(short)
        });
        Self {
            client,
            deadline: request.extensions().get::<Deadline>().map(|deadline| deadline.0),
            connection: request.extensions().get::<Arc<Connection>>().cloned(),
        }
    }

    /// How the caller wants to wait, from its options at `field`.
    pub(super) fn waiting(
        &self,
        options: Option<&proto::AcquireOptions>,
        field: &str,
        faults: &mut Faults,
    ) -> Waiting {
        let mut waiting = Waiting {
            client: self.client.clone(),
            caller_deadline: self.deadline,
            ..Waiting::default()
        };
        if let Some(options) = options {
            faults.within(field, |faults| {
                let range = Duration::ZERO..=HOUR;
                waiting.timeout = duration(options.wait_timeout.as_ref(), "wait_timeout", range, faults);
                waiting.priority = priority(options.priority, faults);
                waiting.endpoint = Some(&*options.endpoint)
                    .filter(|name| !name.is_empty())
                    .map(Arc::from);
            });
        }
        waiting
    }
}

fn priority(number: i32, faults: &mut Faults) -> Priority {
    match proto::Priority::try_from(number) {
        Ok(proto::Priority::Low) => Priority::Low,
        Ok(proto::Priority::Unspecified | proto::Priority::Normal) => Priority::Normal,
        Ok(proto::Priority::High) => Priority::High,
        Err(_) => {
            faults.add("priority", "is none of LOW, NORMAL, HIGH");
            Priority::Normal
        }
    }
}

/// A duration within a range.
pub(super) fn duration(
    value: Option<&prost_types::Duration>,
    field: &str,
    range: RangeInclusive<Duration>,
    faults: &mut Faults,
) -> Option<Duration> {
    let value = value?;
    match Duration::try_from(*value) {
        Ok(duration) if range.contains(&duration) => Some(duration),
        _ => {
            let message = format!("must be from {:?} to {:?}", range.start(), range.end());
            faults.add(field, message);
            None
        }
    }
}

/// The pool's name, which is required.
pub(super) fn required(value: &str, field: &str, faults: &mut Faults) {
    if value.is_empty() {
        faults.add(field, "is required");
    }
}

/// A request id: a UUID, or nothing.
pub(super) fn request_id(text: &str, faults: &mut Faults) -> Option<Uuid> {
    if text.is_empty() {
        return None;
    }
    let id = Uuid::parse_str(text).ok();
    if id.is_none() {
        faults.add(
            "request_id",
            "must be a UUID such as 3f2b7c1e-58d4-4e0a-9c1f-6f1d2a9b7e10",
        );
    }
    id
}

/// A call as Execute takes it: on a pool or on a lease.
#[derive(Debug)]
pub(super) enum Target {
    Pool(PoolCall),
    Lease(LeaseCall),
}

/// Decodes an Execute; nothing was executed if it fails.
pub(super) fn execute(mut request: proto::ExecuteRequest, caller: &Caller) -> Result<Target, Failure> {
    let mut faults = Faults::default();
    let waiting = caller.waiting(request.options.as_ref(), "options", &mut faults);
    let id = request_id(&request.request_id, &mut faults);
    let repeatable = id.is_some() || request.seqno > 0;
    let fingerprint = repeatable.then(|| execute_fingerprint(&mut request));
    let call = operation(request.operation.take(), "operation", &mut faults);
    let target = request.target.take();
    check_target(&request, target.as_ref(), &mut faults);
    let (Some(mut call), Some(target), true) = (call, target, faults.is_empty()) else {
        return faults
            .into_result(())
            .map_or_else(not_executed, |()| Err(missing()));
    };
    // A call that can be repeated runs on when its caller goes.
    call.caller_deadline = if repeatable { None } else { caller.deadline };
    Ok(match target {
        proto::execute_request::Target::Pool(pool) => Target::Pool(PoolCall {
            pool,
            waiting,
            call,
            request: id
                .zip(fingerprint)
                .map(|(id, fingerprint)| RequestId { id, fingerprint }),
            place: None,
        }),
        proto::execute_request::Target::LeaseToken(token) => Target::Lease(LeaseCall {
            token,
            call,
            numbered: fingerprint.map(|fingerprint| (request.seqno, fingerprint)),
        }),
    })
}

fn not_executed<T>(error: Error) -> Result<T, Failure> {
    Err(Failure::from(error).executed(Executed::No))
}

fn missing() -> Failure {
    let faults = Faults::one("operation", "is required");
    Failure::from(Error::Invalid { faults }).executed(Executed::No)
}

fn check_target(
    request: &proto::ExecuteRequest,
    target: Option<&proto::execute_request::Target>,
    faults: &mut Faults,
) {
    match target {
        None => faults.add("target", "give a lease_token or a pool"),
        Some(proto::execute_request::Target::Pool(pool)) => {
            required(pool, "pool", faults);
            if request.seqno > 0 {
                faults.add(
                    "seqno",
                    "is for leases; on a pool a request_id makes a call safe to repeat",
                );
            }
        }
        Some(proto::execute_request::Target::LeaseToken(token)) => {
            required(token, "lease_token", faults);
            if !request.request_id.is_empty() {
                faults.add(
                    "request_id",
                    "is for pools; on a lease a seqno makes a call safe to repeat",
                );
            }
            if request.options.is_some() {
                faults.add("options", "say how to wait for a session, and a lease has one");
            }
        }
    }
}

/// What a repeat must have in common.
fn execute_fingerprint(request: &mut proto::ExecuteRequest) -> Fingerprint {
    // Put back afterwards: a copy of the request could be 4 MiB large.
    let options = request.options.take();
    request.options = without_wait(options.as_ref());
    let fingerprint = Fingerprint::of(&request.encode_to_vec());
    request.options = options;
    fingerprint
}

/// What a repeated acquire must have in common.
pub(super) fn acquire_fingerprint(request: &proto::AcquireLeaseRequest) -> Fingerprint {
    let mut request = request.clone();
    request.options = without_wait(request.options.as_ref());
    Fingerprint::of(&request.encode_to_vec())
}

/// A repeat may be ready to wait for another time. Options that say nothing else are as good as none.
fn without_wait(options: Option<&proto::AcquireOptions>) -> Option<proto::AcquireOptions> {
    let mut options = options?.clone();
    options.wait_timeout = None;
    (options != proto::AcquireOptions::default()).then_some(options)
}

/// Decodes an operation; `None` if something is wrong with it.
fn operation(operation: Option<proto::Operation>, field: &str, faults: &mut Faults) -> Option<CallRequest> {
    let Some(operation) = operation else {
        faults.add(field, "is required");
        return None;
    };
    let before = faults.list().len();
    let mut params = Params::Empty;
    let mut timeout = None;
    faults.within(field, |faults| {
        required(&operation.name, "name", faults);
        let range = Duration::from_millis(1)..=DAY;
        timeout = duration(operation.timeout.as_ref(), "timeout", range, faults);
        params = match operation.input {
            None => Params::Empty,
            Some(proto::operation::Input::Params(fields)) if fields.fields.is_empty() => Params::Empty,
            Some(proto::operation::Input::Params(fields)) => {
                let mut object = Value::Null;
                faults.within("params", |faults| object = json_object(fields, faults));
                Params::Object(object)
            }
            Some(proto::operation::Input::ParamsJson(text)) => {
                if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                    faults.add("params_json", format!("is not JSON: {error}"));
                }
                Params::Text(text)
            }
        };
    });
    (faults.list().len() == before).then(|| CallRequest {
        operation: Operation {
            name: operation.name,
            params,
            args: operation.args,
            body: Body::Whole(operation.body),
            alone: false,
            inspected: crate::backend::Inspected::default(),
        },
        timeout,
        caller_deadline: None,
    })
}

/// The failure of a message that came to nothing.
pub(super) fn not_sent(field: &str, message: impl Into<String>) -> Failure {
    let faults = Faults::one(field, message);
    Failure::from(Error::Invalid { faults }).executed(Executed::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(wait: i64, priority: proto::Priority) -> Option<proto::AcquireOptions> {
        Some(proto::AcquireOptions {
            wait_timeout: Some(prost_types::Duration {
                seconds: wait,
                nanos: 0,
            }),
            priority: priority.into(),
            endpoint: String::new(),
        })
    }

    #[test]
    fn repeat_that_only_says_how_long_it_waits_is_the_same_request() {
        let acquire = |options| {
            acquire_fingerprint(&proto::AcquireLeaseRequest {
                options,
                ..Default::default()
            })
        };
        let execute = |options: Option<proto::AcquireOptions>| {
            let mut request = proto::ExecuteRequest {
                options: options.clone(),
                ..Default::default()
            };
            let fingerprint = execute_fingerprint(&mut request);
            assert_eq!(request.options, options, "it is put back");
            fingerprint
        };
        let waits = options(5, proto::Priority::Unspecified);
        assert_eq!(acquire(None), acquire(waits.clone()));
        assert_eq!(execute(None), execute(waits));
        let other = options(5, proto::Priority::High);
        assert_ne!(acquire(None), acquire(other.clone()));
        assert_ne!(execute(None), execute(other));
    }
}
