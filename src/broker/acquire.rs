//! `AcquireLease`: waits for a session and leases it; a repeat with the same request id gets the same lease.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    Broker, PoolEntry,
    call::before_deadline,
    leased::{Holder, LeasedSession, end_error},
    replay::Fingerprint,
};
use crate::{
    clock::Time,
    error::{Error, Executed, Failure, Faults},
    lease::{End, Status, Terms},
    pool::{Held, Priority, Refusal, Request},
};

/// How a caller wants to wait.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// How long; the pool's if absent, zero for an idle session or nothing.
    pub timeout: Option<Duration>,
    /// In which class.
    pub priority: Priority,
    /// What the caller calls itself.
    pub client: Option<Arc<str>>,
    /// The only endpoint that will do; absent, any will.
    pub endpoint: Option<Arc<str>>,
    /// How far beside the pool's own the session is to be ([`crate::backend::Needs::beside`]).
    pub beside: u8,
    /// The caller's own deadline.
    pub caller_deadline: Option<Time>,
}

/// Asks for a lease.
#[derive(Clone, Debug)]
pub struct AcquireLease {
    /// The pool's name.
    pub pool: String,
    /// How to wait.
    pub waiting: Waiting,
    /// The ttl asked for.
    pub ttl: Option<Duration>,
    /// Makes the call safe to repeat.
    pub request: Option<RequestId>,
}

/// A request id and what it stands for.
#[derive(Clone, Copy, Debug)]
pub struct RequestId {
    /// The id.
    pub id: Uuid,
    /// What the request asks for.
    pub fingerprint: Fingerprint,
}

/// A lease just granted.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The lease and its session.
    pub leased: Arc<LeasedSession>,
    /// Its life.
    pub status: Status,
}

type Joined = Shared<BoxFuture<'static, Result<Granted, Failure>>>;

/// The time a request id is kept after its lease has ended.
const KEPT: Duration = Duration::from_secs(60);

/// Request ids kept at most. Beyond it new ones are refused.
const CAPACITY: usize = 100_000;

/// What became of each acquire that has a request id.
#[derive(Debug, Default)]
pub(super) struct AcquireLog {
    entries: HashMap<(Arc<str>, Uuid), Entry>,
    ended: VecDeque<(Time, (Arc<str>, Uuid))>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It waits; its place lapses with its last joiner, who alone keep the future alive.
    Waiting(WeakShared<BoxFuture<'static, Result<Granted, Failure>>>),
    /// It got this lease.
    Granted(Arc<LeasedSession>),
}

impl AcquireLog {
    fn forget(&mut self, now: Time) {
        while let Some((at, key)) = self.ended.front()
            && now.since(*at) > KEPT
        {
            self.entries.remove(key);
            self.ended.pop_front();
        }
    }
}

impl Broker {
    /// Waits for a session and leases it. Dropped while it waits, it leaves the queue, unless another call with the
    /// same request id waits too.
    ///
    /// # Errors
    /// Why there is no lease; for a repeat also how its lease has ended.
    pub async fn acquire_lease(self: &Arc<Self>, ask: AcquireLease) -> Result<Granted, Failure> {
        let entry = self.pools.get(&ask.pool)?;
        match ask.request {
            None => self.lease_new(&entry, &ask).await,
            Some(request) => self.join(entry, ask, request)?.await,
        }
    }

    async fn lease_new(
        self: &Arc<Self>,
        entry: &Arc<PoolEntry>,
        ask: &AcquireLease,
    ) -> Result<Granted, Failure> {
        loop {
            let held = self.take_session(entry, &ask.waiting).await?;
            let granted = self.grant(entry, held, ask);
            if granted.leased.is_open() {
                return Ok(granted);
            }
            // The session was closed between its grant and now: whoever closed it found no lease to end.
            self.end_lease(granted.leased.number, End::Revoked, true);
        }
    }

    fn grant(&self, entry: &Arc<PoolEntry>, held: Held, ask: &AcquireLease) -> Granted {
        let holder = Holder {
            entry: Arc::clone(entry),
            client: ask.waiting.client.clone(),
            granted: self.clock.now(),
        };
        let terms = Terms {
            bounds: entry.policy().lease,
            ttl: ask.ttl,
            bound: false,
        };
        let (leased, status) = self.leases.grant(terms, |number| {
            let leased = LeasedSession::new(number, self.tokens.public_id(number), &held, holder);
            leased.put(held);
            Arc::new(leased)
        });
        tracing::debug!(lease = leased.id, pool = %entry.pool.name(), session = %leased.session_id, "lease granted");
        Granted { leased, status }
    }

    /// Joins the call with this request id, returns its lease, or starts it.
    fn join(
        self: &Arc<Self>,
        entry: Arc<PoolEntry>,
        ask: AcquireLease,
        request: RequestId,
    ) -> Result<BoxFuture<'static, Result<Granted, Failure>>, Failure> {
        let key = (Arc::clone(entry.pool.name()), request.id);
        let now = self.clock.now();
        let mut log = self.acquires.lock();
        log.forget(now);
        if let Some(known) = log.entries.get(&key) {
            if known.fingerprint != request.fingerprint {
                return Err(other_contents("request_id").into());
            }
            match &known.state {
                State::Granted(leased) => {
                    let leased = Arc::clone(leased);
                    drop(log);
                    return Ok(std::future::ready(self.again(leased)).boxed());
                }
                State::Waiting(waiting) => {
                    if let Some(joined) = waiting.upgrade() {
                        return Ok(joined.boxed());
                    }
                }
            }
        }
        if log.entries.len() >= CAPACITY {
            let limit = u32::try_from(CAPACITY).unwrap_or(u32::MAX);
            return Err(Failure::from(Error::QueueFull { limit }).pool(entry.pool.name()));
        }
        let joined = self.start(entry, ask, key.clone());
        if let Some(waiting) = joined.downgrade() {
            let state = State::Waiting(waiting);
            let fingerprint = request.fingerprint;
            log.entries.insert(key, Entry { fingerprint, state });
        }
        Ok(joined.boxed())
    }

    fn start(self: &Arc<Self>, entry: Arc<PoolEntry>, ask: AcquireLease, key: (Arc<str>, Uuid)) -> Joined {
        let lapse = Lapse {
            broker: Arc::clone(self),
            key,
            settled: false,
        };
        async move {
            let mut lapse = lapse;
            let granted = lapse.broker.lease_new(&entry, &ask).await;
            lapse.settle(granted.as_ref().ok().map(|granted| &granted.leased));
            granted
        }
        .boxed()
        .shared()
    }

    /// The lease of an earlier call, if it lives.
    fn again(&self, leased: Arc<LeasedSession>) -> Result<Granted, Failure> {
        match self.leases.status(leased.number) {
            Ok(status) => Ok(Granted { leased, status }),
            Err(end) => Err(leased.failure(end_error(end))),
        }
    }

    /// Starts the 60 seconds that an ended lease's request id is kept, and forgets its kept answer.
    pub(super) fn forget_later(&self, leased: &LeasedSession) {
        let mut ledger = leased.ledger.lock();
        ledger.close(&mut self.replays.lock().answers);
        let Some(id) = ledger.request_id else {
            return;
        };
        drop(ledger);
        let now = self.clock.now();
        let mut log = self.acquires.lock();
        log.ended.push_back((now, (Arc::clone(leased.pool().name()), id)));
        log.forget(now);
    }

    /// Waits for a session of a pool.
    pub(super) async fn take_session(
        &self,
        entry: &Arc<PoolEntry>,
        waiting: &Waiting,
    ) -> Result<Held, Failure> {
        if self.is_draining() {
            return Err(refused(entry, Error::BrokerDraining));
        }
        let now = self.clock.now();
        let timeout = effective_wait(entry.policy().acquire, waiting, now);
        // Without waiting there is still the time to check a session that has been idle for long.
        let patience = if timeout.is_zero() {
            entry.probe_timeout()
        } else {
            timeout
        };
        let request = Request {
            asked: now,
            deadline: now + patience,
            wait: !timeout.is_zero(),
            priority: waiting.priority,
            client: waiting.client.clone(),
            endpoint: waiting.endpoint.clone(),
            beside: waiting.beside,
        };
        let span = tracing::debug_span!("wait", pool = %entry.pool.name());
        let granted = entry.pool.acquire(request).instrument(span).await;
        granted.map_err(|refusal| refused(entry, refusal_error(entry, refusal)))
    }
}

/// Forgets a waiting request id when its last joiner has gone, so that the next one with it starts afresh.
struct Lapse {
    broker: Arc<Broker>,
    key: (Arc<str>, Uuid),
    settled: bool,
}

impl Lapse {
    /// Notes the lease, or forgets the request that got none.
    fn settle(&mut self, leased: Option<&Arc<LeasedSession>>) {
        self.settled = true;
        let Some(leased) = leased else {
            self.broker.acquires.lock().entries.remove(&self.key);
            return;
        };
        leased.ledger.lock().request_id = Some(self.key.1);
        let mut log = self.broker.acquires.lock();
        if let Some(entry) = log.entries.get_mut(&self.key) {
            entry.state = State::Granted(Arc::clone(leased));
        }
        drop(log);
        if self.broker.leases.status(leased.number).is_err() {
            // It has ended already, before it was noted.
            self.broker.forget_later(leased);
        }
    }
}

impl Drop for Lapse {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut log = self.broker.acquires.lock();
        let Some(State::Waiting(waiting)) = log.entries.get(&self.key).map(|entry| &entry.state) else {
            return;
        };
        let joined = waiting.upgrade();
        if joined.is_none() {
            log.entries.remove(&self.key);
        }
        // In this order: if this was the last of another call, its own drop takes the lock again.
        drop(log);
        drop(joined);
    }
}

/// How long a caller may wait: the least of what it asks for, or the pool's, and its own deadline less a margin; a
/// grant that came later would leak until its ttl.
fn effective_wait(pool: Duration, waiting: &Waiting, now: Time) -> Duration {
    let asked = waiting.timeout.unwrap_or(pool);
    match waiting.caller_deadline {
        Some(deadline) => asked.min(before_deadline(deadline, now)),
        None => asked,
    }
}

fn refused(entry: &PoolEntry, error: Error) -> Failure {
    Failure::from(error)
        .pool(entry.pool.name())
        .executed(Executed::No)
}

fn refusal_error(entry: &PoolEntry, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Timeout { waited } => Error::AcquireTimeout { waited },
        Refusal::QueueFull { limit } => Error::QueueFull { limit },
        Refusal::Paused => Error::PoolPaused,
        Refusal::Unreachable { message, retry_after } => Error::BackendUnreachable { message, retry_after },
        Refusal::NoSuchEndpoint => no_such_endpoint(entry),
        Refusal::Deleted => Error::PoolDraining,
        Refusal::BrokerStopping => Error::BrokerDraining,
    }
}

fn no_such_endpoint(entry: &PoolEntry) -> Error {
    let known = entry.pool.endpoints();
    let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    let message = format!("is no endpoint of this pool, which has {}", known.join(", "));
    Error::Invalid {
        faults: Faults::one("options.endpoint", message),
    }
}

pub(super) fn other_contents(field: &str) -> Error {
    let message = format!("this {field} was used for a request with other contents: use a new one");
    Error::Invalid {
        faults: Faults::one(field, message),
    }
}
