//! What can go wrong, named for what the caller can do about it. `grpc/status.rs` is the one place that turns these
//! into wire statuses.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use thiserror::Error;

/// Whether the backend carried a call out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executed {
    /// Nothing was handed to the backend, or the backend proves that it rolled it back.
    No,
    /// A final answer came, errors included.
    Yes,
    /// It was handed over, and no final answer came.
    Unknown,
}

impl Executed {
    /// The word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Yes => "yes",
            Self::Unknown => "unknown",
        }
    }
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// The field's path, such as `pool.spec.sizing.max_sessions`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

/// Collects every fault of a request, each with its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    prefix: String,
    found: Vec<FieldFault>,
}

impl Faults {
    /// A collector of faults below `prefix`; empty for the request itself.
    #[must_use]
    pub fn below(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            found: Vec::new(),
        }
    }

    /// One fault, ready to be returned.
    #[must_use]
    pub fn one(field: &str, message: impl Into<String>) -> Self {
        let mut faults = Self::default();
        faults.add(field, message);
        faults
    }

    /// Notes a fault of `field`, which is relative to the present path; empty for the path itself.
    pub fn add(&mut self, field: &str, message: impl Into<String>) {
        let field = self.path(field);
        self.found.push(FieldFault {
            field,
            message: message.into(),
        });
    }

    /// Runs `check` with its faults' paths below `field`.
    pub fn within(&mut self, field: &str, check: impl FnOnce(&mut Self)) {
        let inner = self.path(field);
        let outer = std::mem::replace(&mut self.prefix, inner);
        check(self);
        self.prefix = outer;
    }

    /// The faults so far, in the order they were found.
    #[must_use]
    pub fn list(&self) -> &[FieldFault] {
        &self.found
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// `value` if nothing is wrong.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn into_result<T>(self, value: T) -> Result<T, Error> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(Error::Invalid { faults: self })
        }
    }

    fn path(&self, field: &str) -> String {
        match (self.prefix.is_empty(), field.is_empty()) {
            (true, _) => field.to_owned(),
            (_, true) => self.prefix.clone(),
            _ => format!("{}.{field}", self.prefix),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.found.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", fault.field, fault.message)?;
        }
        Ok(())
    }
}

/// An error of the backend's own, already translated by its kind's table.
#[derive(Clone, Debug)]
pub struct BackendError {
    /// The gRPC code that the kind's table gives it.
    pub code: tonic::Code,
    /// The backend's message.
    pub message: String,
    /// Further facts, such as `sqlstate`.
    pub metadata: BTreeMap<&'static str, String>,
    /// When to try again, if the backend says so.
    pub retry_after: Option<Duration>,
}

/// The cause below an error, logged but never sent.
pub type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Everything a request can fail with.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// The request makes no sense; nothing was changed.
    #[error("invalid argument: {faults}")]
    Invalid {
        /// Every fault.
        faults: Faults,
    },
    /// No session came free in time.
    #[error("no session came free within {waited:?}")]
    AcquireTimeout {
        /// How long the caller waited.
        waited: Duration,
    },
    /// Too many wait already.
    #[error("the queue is full: {limit} callers wait already")]
    QueueFull {
        /// How many may wait.
        limit: u32,
    },
    /// Something of a limited size is full.
    #[error("there is no room {what}: come again a little later")]
    NoRoom {
        /// For what, and what the limit is.
        what: &'static str,
    },
    /// The answer is larger than a unary call may return.
    #[error("the answer is larger than {limit} bytes: use ExecuteStream")]
    ResponseTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A part of the answer is larger than any may be, streamed or not.
    #[error("{what} larger than {limit} bytes")]
    PartTooLarge {
        /// Which part, with its verb: `one row is`.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The pool is paused.
    #[error("the pool is paused: resume it with ResumePool, or wait")]
    PoolPaused,
    /// No session could be opened.
    #[error("the backend cannot be reached: {message}")]
    BackendUnreachable {
        /// What the last dial met, for people.
        message: String,
        /// When the broker dials again.
        retry_after: Option<Duration>,
    },
    /// The broker is stopping.
    #[error("the broker is stopping: go to another one, or come back when it has restarted")]
    BrokerDraining,
    /// The store does not answer, so nothing durable can be done.
    #[error("the store is not available; leases and calls go on without it")]
    StoreUnavailable {
        /// What the store said.
        #[source]
        source: Source,
    },
    /// The lease ran out, or reached its hard limit.
    #[error("the lease has expired ({how}): acquire a new one, and renew it before renew_after has passed")]
    LeaseExpired {
        /// `expired` or `hard limit`.
        how: &'static str,
    },
    /// The lease was given back.
    #[error("the lease was released")]
    LeaseReleased,
    /// The lease was taken away.
    #[error("the lease was revoked ({how})")]
    LeaseRevoked {
        /// `revoked` or `pool deleted`.
        how: &'static str,
    },
    /// A call runs on the lease already.
    #[error("a call runs on this lease already: wait for its answer, or take another lease")]
    LeaseBusy,
    /// A one-shot left a transaction open.
    #[error("this call left a transaction open, which was rolled back: take a lease, or use OpenSession")]
    TransactionLeftOpen,
    /// The pool was deleted.
    #[error("the pool is being deleted")]
    PoolDraining,
    /// The session broke.
    #[error("the session was lost: {message}")]
    SessionLost {
        /// What happened, for people.
        message: String,
    },
    /// Sequence numbers were left out.
    #[error("seqno {got} leaves a gap: the next one is {next}")]
    SeqnoGap {
        /// The number that came.
        got: u64,
        /// The number that would be next.
        next: u64,
    },
    /// Somebody else changed the pool first.
    #[error("the pool has changed meanwhile: read it again, then update it with its new etag")]
    EtagMismatch,
    /// There is no such pool.
    #[error("there is no pool `{name}`")]
    PoolNotFound {
        /// The name.
        name: String,
    },
    /// There is no such session in the pool.
    #[error("there is no session `{id}` in this pool")]
    SessionNotFound {
        /// The session's id.
        id: String,
    },
    /// There is no such lease, or it is not the caller's.
    #[error("there is no such lease")]
    LeaseNotFound,
    /// The name is taken.
    #[error("there is a pool `{name}` already")]
    PoolExists {
        /// The name.
        name: String,
    },
    /// The call was taken before, and its answer cannot be given again. Whether it ran is beside the error.
    #[error("this call came before, and its answer is not kept: `executed` tells whether it was carried out")]
    AlreadyExecuted,
    /// The call took too long.
    #[error("the call took longer than {limit:?} ({what})")]
    ExecuteTimeout {
        /// The limit that passed.
        limit: Duration,
        /// Which limit: `timeout`, `stall`, `first byte`, `write`, `reader`.
        what: &'static str,
    },
    /// A session could not be opened in time.
    #[error("no connection within {limit:?}")]
    ConnectTimeout {
        /// The limit that passed.
        limit: Duration,
    },
    /// The caller's own deadline passed.
    #[error("the call's deadline has passed")]
    DeadlineExceeded,
    /// The caller went away, or cancelled.
    #[error("the call was cancelled")]
    Cancelled,
    /// It is not known whether the call was carried out.
    #[error("it is not known whether this was carried out: {message}")]
    OutcomeUnknown {
        /// What happened, for people.
        message: String,
    },
    /// The backend answered with an error.
    #[error("the backend answered with an error: {}", .0.message)]
    Backend(Box<BackendError>),
    /// A defect of the broker.
    #[error("an internal error of the broker; its log says more")]
    Internal {
        /// What happened.
        #[source]
        source: Source,
    },
}

/// Where an error happened: goes into its metadata.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The pool.
    pub pool: Option<Arc<str>>,
    /// The lease's public id.
    pub lease: Option<String>,
    /// The endpoint.
    pub endpoint: Option<Arc<str>>,
}

/// An error with its place and whether the backend carried the call out.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// Whether the backend carried the call out; absent where there was nothing to carry out.
    pub executed: Option<Executed>,
    /// Where. Boxed, so that results stay small.
    pub place: Box<Place>,
}

impl Failure {
    /// With the pool's name.
    #[must_use]
    pub fn pool(mut self, name: &Arc<str>) -> Self {
        self.place.pool = Some(Arc::clone(name));
        self
    }

    /// With the lease's public id.
    #[must_use]
    pub fn lease(mut self, id: impl Into<String>) -> Self {
        self.place.lease = Some(id.into());
        self
    }

    /// With the endpoint's name.
    #[must_use]
    pub fn endpoint(mut self, name: &Arc<str>) -> Self {
        self.place.endpoint = Some(Arc::clone(name));
        self
    }

    /// With the fields of its faults below `field`: what failed is a part of a larger request.
    #[must_use]
    pub fn below(mut self, field: &str) -> Self {
        if let Error::Invalid { faults } = &mut self.error {
            for fault in &mut faults.found {
                fault.field = format!("{field}.{}", fault.field);
            }
        }
        self
    }

    /// With what is known of the call's execution.
    #[must_use]
    pub const fn executed(mut self, executed: Executed) -> Self {
        self.executed = Some(executed);
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            executed: None,
            place: Box::default(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}
