//! `ExecuteStream`: the same calls, with their events handed on as they come.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    Broker, CallResult, Info,
    execute::{Loan, PoolCall, inspect, inspect_one_shot, repeat_one_shot},
    on_lease::{LeaseCall, repeat_failure},
    replay::Ask,
};
use crate::{
    backend::{Event, Sink},
    error::Failure,
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
    pub async fn stream_on_pool(self: &Arc<Self>, mut ask: PoolCall) -> Result<CallStream, Failure> {
        let entry = self.pools.get_to_execute(&ask.pool)?;
        inspect_one_shot(&entry, &mut ask)?;
        let Some(request) = ask.request else {
            let held = self.take_session(&entry, &ask.waiting).await?;
            let loan = Loan::new(&entry, held, &self.clock);
            return Ok(stream(loan.info(), |sink| loan.run(ask.call, sink)));
        };
        let repeat = Ask {
            fingerprint: request.fingerprint,
            field: "request_id",
        };
        let key = (Arc::clone(entry.pool.name()), request.id);
        let noted = self
            .note_stream(key, &repeat)
            .map_err(|denied| repeat_one_shot(&entry, denied))?;
        let held = self.take_session(&entry, &ask.waiting).await?;
        let loan = Loan::new(&entry, held, &self.clock);
        Ok(stream(loan.info(), |sink| noted.run(loan, ask.call, sink)))
    }

    /// Starts a call on a lease with a stream of events.
    ///
    /// # Errors
    /// Why it did not start; nothing was executed unless the failure says so.
    pub async fn stream_on_lease(self: &Arc<Self>, ask: LeaseCall) -> Result<CallStream, Failure> {
        let leased = self.find_lease(&ask.token)?;
        inspect(&leased.entry, &ask.call.operation).map_err(|failure| failure.lease(leased.id.clone()))?;
        let Some((seqno, fingerprint)) = ask.numbered else {
            leased.when_settled().await;
            let turn = self.begin(&leased)?;
            return Ok(stream(turn.info(), |sink| turn.run(ask.call, sink)));
        };
        let repeat = Ask {
            fingerprint,
            field: "seqno",
        };
        leased.when_ready(seqno).await;
        let mut ledger = leased.ledger.lock();
        ledger
            .admit_stream(seqno, &repeat)
            .map_err(|denied| repeat_failure(&leased, denied))?;
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
