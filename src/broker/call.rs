//! Runs one operation on a held session, within its limits, and judges what became of it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Answer, Info, Policy};
use crate::{
    backend::{CallError, Completion, Event, Fence, Operation, Output, SessionLost, Sink, SinkClosed},
    clock::{Clock, Time},
    error::{Error, Executed, Failure},
    pool::Held,
};

/// How long a caller may leave a full stream unread.
const READER: Duration = Duration::from_secs(30);

/// The largest answer of a unary call: what a gRPC client takes by default, less room for the rest of the message.
pub const UNARY_LIMIT: usize = (4 << 20) - (64 << 10);

/// One call: what to run and how long it may take.
#[derive(Debug)]
pub struct CallRequest {
    /// What to run.
    pub operation: Operation,
    /// How long, from the grant to the last byte; the pool's if absent.
    pub timeout: Option<Duration>,
    /// The caller's own deadline, for a call that ends with its caller: it is cancelled a little earlier, so that what
    /// is known of its execution still reaches the caller.
    pub caller_deadline: Option<Time>,
}

/// A call's limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    timeout: Duration,
    deadline: Time,
    stall: Duration,
}

impl Limits {
    pub(super) fn new(policy: &Policy, call: &CallRequest, now: Time) -> Self {
        let mut timeout = call.timeout.unwrap_or(policy.execute);
        if let Some(deadline) = call.caller_deadline {
            timeout = timeout.min(before_deadline(deadline, now));
        }
        Self {
            timeout,
            deadline: now + timeout,
            stall: policy.stall,
        }
    }
}

/// Time until a little before a caller's deadline: less max(50 ms, 5 %), at most half of it. Else the caller's library
/// times out first, and the reason is lost.
pub(super) fn before_deadline(deadline: Time, now: Time) -> Duration {
    let left = deadline.since(now);
    let margin = (left / 20).max(Duration::from_millis(50)).min(left / 2);
    left.saturating_sub(margin)
}

/// What a session needs after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing: it stands at a boundary.
    Nothing,
    /// It must be settled before anything else.
    Settle,
    /// It is gone.
    Lost,
}

/// What became of a call.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: Result<Completion, Failure>,
    pub(super) after: After,
    /// The fence was shut: the lease ended in the middle of the call. Its end says how.
    pub(super) shut: bool,
}

/// Why a call was stopped.
enum Stop {
    Shut,
    Cancelled,
    Gone,
    TimedOut { what: &'static str, limit: Duration },
}

/// Knows whether anything was handed over since it was made.
#[derive(Debug)]
pub(super) struct Meter {
    fence: Arc<Fence>,
    sent: u64,
}

impl Meter {
    pub(super) fn start(fence: &Arc<Fence>) -> Self {
        Self {
            fence: Arc::clone(fence),
            sent: fence.sent(),
        }
    }

    /// What is known of a call that got no final answer.
    pub(super) fn executed(&self) -> Executed {
        if self.fence.sent() == self.sent {
            Executed::No
        } else {
            Executed::Unknown
        }
    }
}

/// Runs a call. Dropped, it cancels the call; then the session must be settled.
pub(super) async fn run(
    held: &mut Held,
    operation: Operation,
    sink: &mut Sink,
    limits: Limits,
    watched: Watched<'_>,
) -> Outcome {
    let fence = Arc::clone(held.fence());
    let meter = Meter::start(&fence);
    let events = match sink {
        Sink::Stream(events) => Some(events.clone()),
        Sink::Collect(_) => None,
    };
    let span = tracing::debug_span!(
        "execute",
        operation = operation.name,
        session = %held.session_id(),
        fence = held.number()
    );
    let stopped = tokio::select! {
        biased;
        result = unpanicked(held.session().execute(operation, sink).instrument(span)) => Err(result),
        stop = watch(&fence, events, limits, watched) => Ok(stop),
    };
    match stopped {
        Err(Ok(completion)) => Outcome {
            result: Ok(completion),
            after: After::Nothing,
            shut: false,
        },
        // A call that fails because the fence is shut fails for that reason, whatever the backend's error says.
        Err(Err(error)) if !fence.is_open() && !is_final(&error) => stop_outcome(Stop::Shut, &meter),
        Err(Err(error)) => error_outcome(error, &meter),
        Ok(stop) => stop_outcome(stop, &meter),
    }
}

/// Whether the backend itself gave an answer.
const fn is_final(error: &CallError) -> bool {
    matches!(error, CallError::Backend(..) | CallError::Invalid(_))
}

/// What a session's future comes to; a panic in a backend's code costs its session, and no more.
pub(super) trait Panicked {
    /// What to make of a panic.
    fn panicked() -> Self;
}

impl Panicked for Result<Completion, CallError> {
    fn panicked() -> Self {
        Err(CallError::Lost {
            message: PANICKED.to_owned(),
            executed: None,
        })
    }
}

impl Panicked for Result<(), SessionLost> {
    fn panicked() -> Self {
        Err(SessionLost::because(PANICKED))
    }
}

const PANICKED: &str = "the backend's code in the broker failed";

/// Runs a session's future, and makes a loss of a panic in it.
pub(super) async fn unpanicked<T: Panicked>(future: impl Future<Output = T>) -> T {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(result) => result,
        // What was half done is in the session only, and that is closed.
        Err(_) => T::panicked(),
    }
}

/// What can stop a call from outside, beside its limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched<'a> {
    pub(super) clock: &'a Clock,
    pub(super) cancel: Option<&'a CancellationToken>,
}

/// Returns when the call must stop.
async fn watch(
    fence: &Fence,
    events: Option<mpsc::Sender<Event>>,
    limits: Limits,
    watched: Watched<'_>,
) -> Stop {
    let gone = async {
        match &events {
            Some(events) => events.closed().await,
            None => std::future::pending().await,
        }
    };
    let cancelled = async {
        match watched.cancel {
            Some(cancel) => cancel.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = fence.when_shut() => Stop::Shut,
        () = gone => Stop::Gone,
        () = cancelled => Stop::Cancelled,
        () = watched.clock.sleep_until(limits.deadline) => Stop::TimedOut { what: "timeout", limit: limits.timeout },
        stop = stalled(fence, events.as_ref(), limits, watched.clock) => stop,
    }
}

/// Returns when nothing has moved for too long: the backend's fault (stall), or that of a caller who does not read.
/// Looks four times in each span, so it may be late by a quarter of it.
async fn stalled(fence: &Fence, events: Option<&mpsc::Sender<Event>>, limits: Limits, clock: &Clock) -> Stop {
    let step = limits.stall.min(READER) / 4;
    let mut seen = fence.progress();
    let (mut idle_since, mut unread_since) = (clock.now(), None);
    loop {
        clock.sleep_until(clock.now() + step).await;
        let now = clock.now();
        let full = events.is_some_and(|events| events.capacity() == 0);
        let moved = fence.progress() != seen;
        seen = fence.progress();
        unread_since = if full && !moved {
            unread_since.or(Some(now))
        } else {
            None
        };
        if moved || full {
            idle_since = now;
        }
        if now.since(idle_since) >= limits.stall {
            return Stop::TimedOut {
                what: "stall: no progress from the backend",
                limit: limits.stall,
            };
        }
        if unread_since.is_some_and(|since| now.since(since) >= READER) {
            return Stop::TimedOut {
                what: "the caller did not read the stream",
                limit: READER,
            };
        }
    }
}

fn stop_outcome(stop: Stop, meter: &Meter) -> Outcome {
    let shut = matches!(stop, Stop::Shut);
    let error = match stop {
        // The lease's end replaces this, or, for a one-shot, what closed its session.
        Stop::Shut => Error::LeaseRevoked {
            how: "the session was closed",
        },
        Stop::Cancelled | Stop::Gone => Error::Cancelled,
        Stop::TimedOut { what, limit } => Error::ExecuteTimeout { limit, what },
    };
    Outcome {
        result: Err(Failure::from(error).executed(meter.executed())),
        after: After::Settle,
        shut,
    }
}

fn error_outcome(error: CallError, meter: &Meter) -> Outcome {
    let unless = |known: Option<Executed>| known.unwrap_or_else(|| meter.executed());
    let (error, executed, after) = match error {
        CallError::Invalid(faults) => {
            let mut all = crate::error::Faults::below("operation");
            for fault in faults.list() {
                all.add(&fault.field, fault.message.clone());
            }
            (Error::Invalid { faults: all }, Executed::No, After::Nothing)
        }
        CallError::Backend(error, executed) => (Error::Backend(Box::new(error)), executed, After::Nothing),
        CallError::LeftOpen(executed) => (Error::TransactionLeftOpen, executed, After::Nothing),
        CallError::Lost { message, executed } => {
            (Error::SessionLost { message }, unless(executed), After::Lost)
        }
        CallError::Broken { message, executed } => match unless(executed) {
            Executed::No => (
                Error::BackendUnreachable {
                    message,
                    retry_after: None,
                },
                Executed::No,
                After::Settle,
            ),
            executed @ (Executed::Yes | Executed::Unknown) => {
                (Error::OutcomeUnknown { message }, executed, After::Settle)
            }
        },
        CallError::Timeout { what, limit } => (
            Error::ExecuteTimeout { limit, what },
            meter.executed(),
            After::Settle,
        ),
        CallError::Dial(error) => (
            Error::BackendUnreachable {
                message: error.message,
                retry_after: None,
            },
            Executed::No,
            After::Settle,
        ),
        CallError::Sink(SinkClosed::TooLarge) => (
            Error::ResponseTooLarge { limit: UNARY_LIMIT },
            meter.executed(),
            After::Settle,
        ),
        CallError::Sink(SinkClosed::PartTooLarge { what, limit }) => (
            Error::PartTooLarge { what, limit },
            meter.executed(),
            After::Settle,
        ),
        CallError::Sink(SinkClosed::Gone) | CallError::Input => {
            (Error::Cancelled, meter.executed(), After::Settle)
        }
    };
    Outcome {
        result: Err(Failure::from(error).executed(executed)),
        after,
        shut: false,
    }
}

/// The facts about a call on a held session, before it runs.
pub(super) fn info(held: &Held) -> Info {
    Info {
        session_id: Arc::clone(held.session_id()),
        endpoint: Arc::clone(held.endpoint()),
        attempt: 1,
        reused: held.reused(),
        fence: held.number(),
        waited: held.waited(),
        elapsed: Duration::ZERO,
    }
}

/// Puts an answer together: the completion's output, or what the sink collected.
pub(super) fn answer(completion: Completion, sink: Sink, mut info: Info, want_text: bool) -> Answer {
    let (mut output, mut attributes) = match sink {
        Sink::Collect(collected) => collected.into_parts(),
        Sink::Stream(_) => (Output::None, Vec::new()),
    };
    if !matches!(completion.output, Output::None) {
        output = completion.output;
    }
    attributes.extend(completion.attributes);
    info.attempt += completion.retries;
    Answer {
        output,
        attributes,
        info,
        want_text,
    }
}
