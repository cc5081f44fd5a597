//! The one place that turns failures into wire statuses: code, reason, whether waiting helps, and the same mirrored in
//! plain metadata for clients that cannot decode details. Causes are logged here, once, and never sent.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, error::Error as _, time::Duration};

use prost::Message as _;
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::error::{Error, Executed, Failure, Faults};

/// The domain of every `ErrorInfo` of ours.
pub const DOMAIN: &str = "sublet.v1";

/// Field violations sent at most; the rest are counted.
const VIOLATIONS: usize = 25;

/// Bytes of details at most: proxies and clients refuse larger headers.
const DETAILS: usize = 4 << 10;

/// Bytes of a message, or of one metadata value, at most.
const TEXT: usize = 1024;

/// What the contract says about an error.
struct Row {
    code: Code,
    reason: &'static str,
    retry_after: Option<Duration>,
}

const fn row(code: Code, reason: &'static str) -> Row {
    Row {
        code,
        reason,
        retry_after: None,
    }
}

const fn retry(code: Code, reason: &'static str, retry_after: Duration) -> Row {
    Row {
        code,
        reason,
        retry_after: Some(retry_after),
    }
}

const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(5);

/// The table. No wildcard: a new error needs a row.
fn table(error: &Error) -> Row {
    match error {
        Error::Invalid { .. } => row(Code::InvalidArgument, "INVALID_ARGUMENT"),
        Error::AcquireTimeout { .. } => retry(Code::ResourceExhausted, "ACQUIRE_TIMEOUT", SOON),
        Error::QueueFull { .. } | Error::NoRoom { .. } => retry(Code::ResourceExhausted, "QUEUE_FULL", SOON),
        Error::ResponseTooLarge { .. } | Error::PartTooLarge { .. } => {
            row(Code::ResourceExhausted, "RESPONSE_TOO_LARGE")
        }
        Error::PoolPaused => retry(Code::Unavailable, "POOL_PAUSED", LATER),
        Error::BackendUnreachable { retry_after, .. } => retry(
            Code::Unavailable,
            "BACKEND_UNREACHABLE",
            retry_after.unwrap_or(SOON),
        ),
        Error::BrokerDraining => retry(Code::Unavailable, "BROKER_DRAINING", SOON),
        Error::StoreUnavailable { .. } => retry(Code::Unavailable, "STORE_UNAVAILABLE", LATER),
        Error::LeaseExpired { .. } => row(Code::FailedPrecondition, "LEASE_EXPIRED"),
        Error::LeaseReleased => row(Code::FailedPrecondition, "LEASE_RELEASED"),
        Error::LeaseRevoked { .. } => row(Code::FailedPrecondition, "LEASE_REVOKED"),
        Error::LeaseBusy => row(Code::FailedPrecondition, "LEASE_BUSY"),
        Error::TransactionLeftOpen => row(Code::FailedPrecondition, "TRANSACTION_LEFT_OPEN"),
        Error::PoolDraining => row(Code::FailedPrecondition, "POOL_DRAINING"),
        Error::SessionLost { .. } => row(Code::Aborted, "SESSION_LOST"),
        Error::SeqnoGap { .. } => row(Code::Aborted, "SEQNO_GAP"),
        Error::EtagMismatch => row(Code::Aborted, "ETAG_MISMATCH"),
        Error::PoolNotFound { .. } => row(Code::NotFound, "POOL_NOT_FOUND"),
        Error::SessionNotFound { .. } => row(Code::NotFound, "SESSION_NOT_FOUND"),
        Error::LeaseNotFound => row(Code::NotFound, "LEASE_NOT_FOUND"),
        Error::PoolExists { .. } => row(Code::AlreadyExists, "POOL_EXISTS"),
        Error::AlreadyExecuted => row(Code::AlreadyExists, "ALREADY_EXECUTED"),
        Error::ExecuteTimeout { .. } => row(Code::DeadlineExceeded, "EXECUTE_TIMEOUT"),
        Error::ConnectTimeout { .. } => row(Code::DeadlineExceeded, "CONNECT_TIMEOUT"),
        Error::DeadlineExceeded => row(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        Error::Cancelled => row(Code::Cancelled, "CANCELLED"),
        Error::OutcomeUnknown { .. } => row(Code::Unknown, "OUTCOME_UNKNOWN"),
        Error::Backend(error) => Row {
            code: error.code,
            reason: "BACKEND_ERROR",
            retry_after: error.retry_after,
        },
        Error::Internal { .. } => row(Code::Internal, "INTERNAL"),
    }
}

/// The wire status of a failure.
#[must_use]
pub fn status(failure: &Failure) -> Status {
    log(failure);
    let row = truthful(table(&failure.error), failure.executed);
    let mut limits = Limits {
        violations: VIOLATIONS,
        text: TEXT,
    };
    loop {
        let status = within(failure, &row, limits);
        if status.details().len() <= DETAILS || limits.text == 0 {
            return status;
        }
        limits = limits.tighter();
    }
}

/// UNAVAILABLE of ours promises that nothing was executed, so a backend's own is passed on only if that is true.
fn truthful(row: Row, executed: Option<Executed>) -> Row {
    match (row.code, executed) {
        (Code::Unavailable, Some(Executed::Yes | Executed::Unknown)) => Row {
            code: Code::Unknown,
            // A repeat could be a second run.
            retry_after: None,
            ..row
        },
        _ => row,
    }
}

/// What is cut to make the details fit.
#[derive(Clone, Copy)]
struct Limits {
    /// Violations at most.
    violations: usize,
    /// Bytes of each text at most.
    text: usize,
}

impl Limits {
    /// Violations go first, for most of them are told by their first words; then the texts.
    const fn tighter(self) -> Self {
        if self.violations > 1 {
            let violations = self.violations / 2;
            return Self { violations, ..self };
        }
        let text = self.text / 2;
        Self { text, ..self }
    }
}

fn within(failure: &Failure, row: &Row, limits: Limits) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(row.reason, DOMAIN, metadata(failure, row, limits));
    if row.retry_after.is_some() {
        details.set_retry_info(row.retry_after);
    }
    if let Error::Invalid { faults } = &failure.error {
        details.set_bad_request(violations(faults, limits));
    }
    let message = shortened(&failure.to_string(), limits.text);
    Status::with_error_details_and_metadata(row.code, message, details, trailers(failure, row))
}

/// The same as a message, for errors within a stream.
#[must_use]
pub fn message(failure: &Failure) -> tonic_types::Status {
    let status = status(failure);
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn violations(faults: &Faults, limits: Limits) -> Vec<FieldViolation> {
    let most = limits.violations;
    let short = |text: &str| shortened(text, limits.text);
    let all = faults.list();
    let mut sent: Vec<_> = all
        .iter()
        .take(most)
        .map(|fault| FieldViolation::new(short(&fault.field), short(&fault.message)))
        .collect();
    if all.len() > most {
        let more = format!("and {} more", all.len() - most);
        sent.push(FieldViolation::new("", more));
    }
    sent
}

fn metadata(failure: &Failure, row: &Row, limits: Limits) -> HashMap<String, String> {
    let mut metadata = HashMap::new();
    let mut add = |key: &str, value: String| metadata.insert(key.to_owned(), shortened(&value, limits.text));
    if let Error::Backend(error) = &failure.error {
        for (key, value) in &error.metadata {
            add(key, value.clone());
        }
        if error.code == Code::Unavailable && row.code != Code::Unavailable {
            add("backend_code", "UNAVAILABLE".to_owned());
        }
    }
    if let Error::ExecuteTimeout { what, .. } = &failure.error {
        add("timeout", (*what).to_owned());
    }
    if let Some(pool) = &failure.place.pool {
        add("pool", pool.to_string());
    }
    if let Some(lease) = &failure.place.lease {
        add("lease", lease.clone());
    }
    if let Some(endpoint) = &failure.place.endpoint {
        add("endpoint", endpoint.to_string());
    }
    if let Some(executed) = failure.executed {
        add("executed", executed.word().to_owned());
    }
    metadata
}

fn trailers(failure: &Failure, row: &Row) -> MetadataMap {
    let mut trailers = MetadataMap::new();
    let mut add = |key: &'static str, value: &str| {
        if let Ok(value) = value.parse() {
            trailers.insert(key, value);
        }
    };
    add("sublet-reason", row.reason);
    if let Some(executed) = failure.executed {
        add("sublet-executed", executed.word());
    }
    if let Some(retry_after) = row.retry_after {
        add("sublet-retry-after-ms", &retry_after.as_millis().to_string());
    }
    trailers
}

/// At most `limit` bytes of a text, and an ellipsis if some are missing.
fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let (short, _) = text.split_at(text.floor_char_boundary(limit));
    format!("{short}…")
}

/// Logs causes, which are never sent. What callers do wrong is not ours to log loudly.
fn log(failure: &Failure) {
    let Some(cause) = failure.error.source() else {
        return;
    };
    let pool = failure.place.pool.as_deref().unwrap_or_default();
    if matches!(failure.error, Error::Internal { .. }) {
        tracing::error!(pool, cause, "internal error");
    } else {
        tracing::warn!(pool, cause, error = %failure, "request failed");
    }
}
