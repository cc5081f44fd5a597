//! `ExecuteStream`: the same calls, with their events handed on as they come.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    Broker, CallResult, Info,
    call::CallRequest,
    execute::{Loan, PoolCall, inspect, inspect_one_shot, repeat_one_shot},
    on_lease::{LeaseCall, repeat_failure},
    replay::{self, Ask},
};
use crate::{
    backend::{Event, Sink},
    error::{Error, Executed, Failure},
};

/// Events in flight to a caller: with 64 KiB each, 1 MiB a stream.
pub(super) const EVENTS: usize = 16;

/// A call whose events are handed on. Dropping it cancels the call.
#[derive(Debug)]
pub struct CallStream {
    /// What is known before the call runs.
    pub info: Info,
    /// The events, until the call ends.
    pub events: mpsc::Receiver<Event>,
    /// How the call ended.
    pub outcome: oneshot::Receiver<CallResult>,
}

impl Broker {
    /// Starts a one-shot with a stream of events.
    ///
    /// # Errors
    /// Why it did not start; nothing was executed unless the failure says so.
    pub async fn stream_on_pool(self: &Arc<Self>, ask: PoolCall) -> Result<CallStream, Failure> {
        let entry = self.pools.get(&ask.pool)?;
        inspect_one_shot(&entry, &ask.call.operation)?;
        let Some(request) = ask.request else {
            let held = self.take_session(&entry, &ask.waiting).await?;
            let loan = Loan::new(&entry, held, &self.clock);
            return Ok(stream(loan.info(), |sink| loan.run(ask.call, sink)));
        };
        let repeat = Ask {
            fingerprint: request.fingerprint,
            field: "request_id",
            streamed: true,
        };
        let key = (Arc::clone(entry.pool.name()), request.id);
        let noted = Noted::start(self, key, &repeat).map_err(|error| repeat_one_shot(&entry, error))?;
        let held = self.take_session(&entry, &ask.waiting).await?;
        let loan = Loan::new(&entry, held, &self.clock);
        Ok(stream(loan.info(), |sink| noted.run(loan, ask.call, sink)))
    }

    /// Starts a call on a lease with a stream of events.
    ///
    /// # Errors
    /// Why it did not start; nothing was executed unless the failure says so.
    pub fn stream_on_lease(self: &Arc<Self>, ask: LeaseCall) -> Result<CallStream, Failure> {
        let leased = self.find_lease(&ask.token)?;
        inspect(&leased.entry, &ask.call.operation).map_err(|failure| failure.lease(leased.id.clone()))?;
        let Some((seqno, fingerprint)) = ask.numbered else {
            let turn = self.begin(&leased)?;
            return Ok(stream(turn.info(), |sink| turn.run(ask.call, sink)));
        };
        let repeat = Ask {
            fingerprint,
            field: "seqno",
            streamed: true,
        };
        let mut ledger = leased.ledger.lock();
        let admitted = ledger.admit(seqno, &repeat, &mut self.replays.lock().answers);
        match admitted {
            Ok(None) => {}
            // Streams are never replayed: whoever repeats one is told that it was executed.
            Ok(Some(_)) => return Err(repeat_failure(&leased, Error::AlreadyExecuted)),
            Err(error) => return Err(repeat_failure(&leased, error)),
        }
        let turn = self.begin(&leased)?.numbered(true);
        ledger.start(fingerprint, None);
        drop(ledger);
        Ok(stream(turn.info(), |sink| turn.run(ask.call, sink)))
    }
}

/// Runs a call in a task of its own, which ends when the stream's reader goes.
fn stream<F>(info: Info, call: impl FnOnce(Sink) -> F) -> CallStream
where
    F: Future<Output = CallResult> + Send + 'static,
{
    let (events, received) = mpsc::channel(EVENTS);
    let (done, outcome) = oneshot::channel();
    let running = call(Sink::Stream(events));
    // On the caller's own runtime: the task ends with its reader.
    tokio::spawn(async move {
        // A reader that has gone needs no answer.
        done.send(running.await).ok();
    });
    CallStream {
        info,
        events: received,
        outcome,
    }
}

/// A streamed one-shot's request id, whose fate is noted at its end, however it comes.
struct Noted {
    broker: Arc<Broker>,
    key: Option<(Arc<str>, uuid::Uuid)>,
}

impl Noted {
    fn start(broker: &Arc<Broker>, key: (Arc<str>, uuid::Uuid), ask: &Ask) -> Result<Self, Error> {
        let mut replays = broker.replays.lock();
        let replays = &mut *replays;
        let now = broker.clock.now();
        match replays.one_shots.admit(&key, ask, &mut replays.answers, now)? {
            Some(_) => return Err(Error::AlreadyExecuted),
            None => replays.one_shots.start(key.clone(), ask, None),
        }
        Ok(Self {
            broker: Arc::clone(broker),
            key: Some(key),
        })
    }

    async fn run(mut self, loan: Loan, call: CallRequest, sink: Sink) -> CallResult {
        let result = loan.run(call, sink).await;
        self.end(&result);
        result
    }

    fn end(&mut self, result: &CallResult) {
        if let Some(key) = self.key.take() {
            let mut replays = self.broker.replays.lock();
            let fate = replay::fate(result, true, &mut replays.answers);
            replays.one_shots.end(key, fate, self.broker.clock.now());
        }
    }
}

impl Drop for Noted {
    /// Dropped before it ran: nothing was executed.
    fn drop(&mut self) {
        self.end(&Err(Failure::from(Error::Cancelled).executed(Executed::No)));
    }
}
