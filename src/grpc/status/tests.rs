//! The table, and what fits a status.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use super::*;
use crate::error::BackendError;

fn source() -> Arc<dyn std::error::Error + Send + Sync> {
    Arc::new(std::io::Error::other("a secret cause"))
}

fn waiting() -> Vec<Error> {
    vec![
        Error::AcquireTimeout { waited: SOON },
        Error::QueueFull { limit: 1000 },
        Error::NoRoom { what: "for one more" },
        Error::ResponseTooLarge { limit: 4_128_768 },
        Error::PartTooLarge {
            what: "one row of the answer is",
            limit: 4_128_768,
        },
        Error::PoolPaused,
        Error::BackendUnreachable {
            message: "connection refused".to_owned(),
            retry_after: Some(Duration::from_millis(250)),
        },
        Error::BrokerDraining,
        Error::StoreUnavailable { source: source() },
    ]
}

fn leases() -> Vec<Error> {
    vec![
        Error::LeaseExpired { how: "expired" },
        Error::LeaseReleased,
        Error::LeaseRevoked { how: "revoked" },
        Error::LeaseBusy,
        Error::TransactionLeftOpen,
        Error::PoolDraining,
        Error::SessionLost {
            message: "the peer closed".to_owned(),
        },
        Error::SeqnoGap { got: 5, next: 3 },
        Error::EtagMismatch,
        Error::PoolNotFound { name: "p".to_owned() },
        Error::SessionNotFound { id: "s".to_owned() },
        Error::LeaseNotFound,
        Error::PoolExists { name: "p".to_owned() },
        Error::AlreadyExecuted,
    ]
}

fn others() -> Vec<Error> {
    vec![
        Error::Invalid {
            faults: Faults::one("pool.name", "is missing"),
        },
        Error::ExecuteTimeout {
            limit: SOON,
            what: "timeout",
        },
        Error::ConnectTimeout { limit: SOON },
        Error::DeadlineExceeded,
        Error::Cancelled,
        Error::OutcomeUnknown {
            message: "the connection broke".to_owned(),
        },
        Error::Backend(Box::new(BackendError {
            code: Code::Aborted,
            message: "could not serialize".to_owned(),
            metadata: BTreeMap::from([("sqlstate", "40001".to_owned())]),
            retry_after: None,
        })),
        Error::Internal { source: source() },
    ]
}

#[test]
fn table_is_the_clients_contract() {
    let mut text = String::new();
    for error in waiting().into_iter().chain(leases()).chain(others()) {
        let failure = Failure::from(error).pool(&Arc::from("p")).executed(Executed::No);
        let status = status(&failure);
        let details = status.get_error_details();
        let reason = details
            .error_info()
            .map(|info| info.reason.clone())
            .unwrap_or_default();
        let retry = details.retry_info().and_then(|info| info.retry_delay);
        writeln!(
            text,
            "{:?} {reason} retry={retry:?}: {}",
            status.code(),
            status.message()
        )
        .unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn causes_are_never_sent() {
    let status = status(&Error::Internal { source: source() }.into());
    assert!(!status.message().contains("secret"));
    assert!(!String::from_utf8_lossy(status.details()).contains("secret"));
}

#[test]
fn reason_is_mirrored_in_plain_metadata() {
    let failure = Failure::from(Error::QueueFull { limit: 1 }).executed(Executed::No);
    let status = status(&failure);
    let plain = |key| status.metadata().get(key).unwrap().to_str().unwrap().to_owned();
    assert_eq!(plain("sublet-reason"), "QUEUE_FULL");
    assert_eq!(plain("sublet-executed"), "no");
    assert_eq!(plain("sublet-retry-after-ms"), "1000");
}

#[test]
fn many_faults_are_counted_and_fit_the_limit() {
    let mut faults = Faults::default();
    for index in 0..1000 {
        faults.add(&format!("pool.spec.field_{index}"), "x".repeat(400));
    }
    let status = status(&Error::Invalid { faults }.into());
    assert!(status.details().len() <= DETAILS);
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert!(violations.len() > 1);
    assert!(violations.last().unwrap().description.starts_with("and "));
}

#[test]
fn message_within_a_stream_carries_the_same_details() {
    let message = message(&Error::LeaseBusy.into());
    assert_eq!(message.code, i32::from(Code::FailedPrecondition));
    assert_eq!(message.details.len(), 1);
}

fn unavailable(metadata: BTreeMap<&'static str, String>) -> Failure {
    let error = BackendError {
        code: Code::Unavailable,
        message: "busy".to_owned(),
        metadata,
        retry_after: None,
    };
    Failure::from(Error::Backend(Box::new(error)))
}

#[test]
fn details_of_any_error_fit_the_limit() {
    let long = "\u{1f600}".repeat(2000);
    let name = Arc::from(long.as_str());
    let mut faults = Faults::default();
    for _ in 0..50 {
        faults.add(&long, long.clone());
    }
    let metadata = ["a", "b", "c", "d", "e", "f"].map(|key| (key, long.clone()));
    for failure in [
        Error::PoolNotFound { name: long.clone() }.into(),
        Error::Invalid { faults }.into(),
        unavailable(metadata.into()),
    ] {
        let failure = failure.pool(&name).lease(long.clone()).endpoint(&name);
        let status = status(&failure);
        assert!(status.details().len() <= DETAILS, "{}", status.details().len());
        assert!(status.get_error_details().error_info().is_some());
    }
}

#[test]
fn unavailable_is_never_said_of_what_may_have_been_executed() {
    for executed in [Executed::Yes, Executed::Unknown] {
        let status = status(&unavailable(BTreeMap::new()).executed(executed));
        assert_eq!(status.code(), Code::Unknown);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.reason, "BACKEND_ERROR");
        assert_eq!(info.metadata["backend_code"], "UNAVAILABLE");
    }
    let status = status(&unavailable(BTreeMap::new()).executed(Executed::No));
    assert_eq!(status.code(), Code::Unavailable);
}

#[test]
fn retry_is_advised_only_where_nothing_was_executed() {
    for (executed, code, advised) in [
        (Executed::No, Code::Unavailable, true),
        (Executed::Unknown, Code::Unknown, false),
    ] {
        let status = status(&Failure::from(Error::BrokerDraining).executed(executed));
        assert_eq!(status.code(), code);
        assert_eq!(status.get_error_details().retry_info().is_some(), advised);
        assert_eq!(status.metadata().contains_key("sublet-retry-after-ms"), advised);
        assert_eq!(status.metadata().get("sublet-reason").unwrap(), "BROKER_DRAINING");
    }
}
