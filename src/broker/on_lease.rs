//! Execute on a lease: one call at a time, numbered if it is to be repeatable.

use std::sync::Arc;

use super::{
    Broker, CallResult, Info,
    call::{self, After, CallRequest, Limits, Meter, UNARY_LIMIT, Watched, unpanicked},
    execute::{inspect, shared},
    leased::{LeasedSession, end_error},
    replay::{self, Ask, Denied, Fingerprint, Repeat, SharedCall},
};
use crate::{
    backend::Sink,
    clock::Time,
    error::{Error, Executed, Failure},
    lease::{Claim, End, Ended},
    pool::{GiveBack, Held},
};

/// A call on a lease.
#[derive(Debug)]
pub struct LeaseCall {
    /// The lease's token.
    pub token: String,
    /// What to run.
    pub call: CallRequest,
    /// Its number, if it is to be repeatable, and what it asks for.
    pub numbered: Option<(u64, Fingerprint)>,
}

impl Broker {
    /// Runs one operation on a lease. Dropped, it is cancelled; with a number it runs on to its timeout, so that a
    /// repeat can join it.
    ///
    /// # Errors
    /// Why there is no answer, and whether the call was executed.
    pub async fn execute_on_lease(self: &Arc<Self>, ask: LeaseCall) -> CallResult {
        let leased = self.find_lease(&ask.token)?;
        inspect(&leased.entry, &ask.call.operation).map_err(|failure| failure.lease(leased.id.clone()))?;
        match ask.numbered {
            None => {
                leased.when_settled().await;
                let turn = self.begin(&leased)?;
                turn.run(ask.call, Sink::collect(UNARY_LIMIT)).await
            }
            Some((seqno, fingerprint)) => {
                let call = self.numbered(leased, ask.call, seqno, fingerprint).await?;
                call.answer().await
            }
        }
    }

    async fn numbered(
        self: &Arc<Self>,
        leased: Arc<LeasedSession>,
        request: CallRequest,
        seqno: u64,
        fingerprint: Fingerprint,
    ) -> Result<SharedCall, Failure> {
        let ask = Ask {
            fingerprint,
            field: "seqno",
        };
        leased.when_ready(seqno).await;
        let mut ledger = leased.ledger.lock();
        let repeat = ledger
            .admit(seqno, &ask, &mut self.replays.lock().answers)
            .map_err(|denied| repeat_failure(&leased, denied))?;
        match repeat {
            Some(Repeat::Join(call)) => return Ok(call),
            Some(Repeat::Replay(answer)) => return Ok(SharedCall::answered(answer)),
            None => {}
        }
        let turn = self.begin(&leased)?.numbered(false);
        let (task, call) = shared(turn.run(request, Sink::collect(UNARY_LIMIT)));
        ledger.start(fingerprint, Some(call.clone()));
        drop(ledger);
        // Not under the ledger's lock: a runtime that has stopped drops the call at once, which notes its fate there.
        self.runtime.spawn(task);
        Ok(call)
    }

    /// Notes what became of a numbered call.
    pub(super) fn note_end(&self, leased: &LeasedSession, result: &CallResult, streamed: bool) {
        let mut ledger = leased.ledger.lock();
        let mut replays = self.replays.lock();
        let fate = replay::fate(result, streamed, &mut replays.answers);
        ledger.end(fate, &mut replays.answers);
    }

    /// The live lease of a token.
    pub(super) fn find_lease(&self, token: &str) -> Result<Arc<LeasedSession>, Failure> {
        let number = match self.tokens.check(token) {
            Claim::Ours(number) => number,
            Claim::OtherBoot => return Err(gone(end_error(End::SessionLost))),
            Claim::Foreign => return Err(gone(Error::LeaseNotFound)),
        };
        self.leases
            .find(number)
            .map_err(|end| gone(end_error(end)).lease(self.tokens.public_id(number)))
    }

    /// Starts a call on a lease.
    pub(super) fn begin(self: &Arc<Self>, leased: &Arc<LeasedSession>) -> Result<Turn, Failure> {
        let fail = |error| leased.failure(error).executed(Executed::No);
        match self.leases.begin(leased.number) {
            Ok(true) => Ok(Turn {
                broker: Arc::clone(self),
                leased: Arc::clone(leased),
                held: leased.take(),
                started: self.clock.now(),
                meter: Meter::start(leased.fence()),
                numbering: Numbering::None,
            }),
            Ok(false) => Err(fail(Error::LeaseBusy)),
            Err(end) => Err(fail(end_error(end))),
        }
    }
}

/// The failure of a repeat that gets no answer.
pub(super) fn repeat_failure(leased: &LeasedSession, (error, executed): Denied) -> Failure {
    leased.failure(error).executed(executed)
}

fn gone(error: Error) -> Failure {
    Failure::from(error).executed(Executed::No)
}

/// The right to run one call on a lease. Dropped in the middle, the session is settled in the background and goes
/// back to the lease.
pub(super) struct Turn {
    broker: Arc<Broker>,
    leased: Arc<LeasedSession>,
    held: Option<Held>,
    started: Time,
    meter: Meter,
    numbering: Numbering,
}

/// Whether a call has a number whose fate must be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbering {
    None,
    Unary,
    Streamed,
}

impl Turn {
    /// With a number: the call's fate is noted before the lease is free for the next one.
    pub(super) const fn numbered(mut self, streamed: bool) -> Self {
        self.numbering = if streamed {
            Numbering::Streamed
        } else {
            Numbering::Unary
        };
        self
    }

    pub(super) fn info(&self) -> Info {
        self.held.as_ref().map(call::info).unwrap_or_default()
    }

    /// Runs the call and returns the session to the lease.
    pub(super) async fn run(mut self, request: CallRequest, mut sink: Sink) -> CallResult {
        let mut info = self.info();
        let want_text = request.operation.params.want_text();
        let limits = Limits::new(&self.leased.entry.policy(), &request, self.started);
        let clock = self.broker.clock.clone();
        let watched = Watched {
            clock: &clock,
            cancel: None,
        };
        let Some(held) = self.held.as_mut() else {
            return Err(replay::vanished());
        };
        let outcome = call::run(held, request.operation, &mut sink, limits, watched).await;
        info.elapsed = clock.now().since(self.started);
        self.leased
            .pool()
            .record_call(outcome.result.is_ok(), info.elapsed);
        let result = match outcome.result {
            Ok(completion) => Ok(Arc::new(call::answer(completion, sink, info, want_text))),
            Err(failure) if outcome.shut => Err(self.cut(failure)),
            Err(failure) => Err(self.place(failure)),
        };
        self.note(&result);
        self.put_back(outcome.after, outcome.shut);
        result
    }

    /// Returns the session to the lease; one that must be settled first follows later, so that the answer need not
    /// wait for it.
    fn put_back(mut self, after: After, shut: bool) {
        let Some(held) = self.held.take() else {
            return;
        };
        let broker = Arc::clone(&self.broker);
        match after {
            After::Lost => broker.lose(&self.leased, Some(held)),
            // If the lease has ended meanwhile, the session goes back to its pool.
            After::Nothing => {
                broker.return_to_lease(&self.leased, held, GiveBack::Used).ok();
            }
            After::Settle if shut => {
                // If only the session was closed, its lease ends with it.
                broker.end_lease(self.leased.number, End::Revoked, false);
                broker
                    .return_to_lease(&self.leased, held, GiveBack::Interrupted)
                    .ok();
            }
            After::Settle => broker.settle_later(&self.leased, held),
        }
    }

    fn note(&self, result: &CallResult) {
        match self.numbering {
            Numbering::None => {}
            Numbering::Unary => self.broker.note_end(&self.leased, result, false),
            Numbering::Streamed => self.broker.note_end(&self.leased, result, true),
        }
    }

    fn place(&self, failure: Failure) -> Failure {
        failure
            .pool(self.leased.pool().name())
            .lease(self.leased.id.clone())
            .endpoint(&self.leased.endpoint)
    }

    /// The failure of a call that was cut because its lease ended.
    fn cut(&self, failure: Failure) -> Failure {
        let executed = failure.executed.unwrap_or(Executed::Unknown);
        let end = self.broker.leases.find(self.leased.number).err();
        let error = end.map_or(failure.error, end_error);
        self.place(cut_failure(error, executed))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let elapsed = self.broker.clock.now().since(self.started);
            self.leased.pool().record_call(false, elapsed);
            let cancelled = Failure::from(Error::Cancelled).executed(self.meter.executed());
            self.note(&Err(cancelled));
            self.broker.settle_later(&self.leased, held);
        }
    }
}

/// A call that was cut after something had been handed over must not come back as UNAVAILABLE, which promises that
/// nothing was executed.
pub(super) fn cut_failure(error: Error, executed: Executed) -> Failure {
    let error = match (error, executed) {
        (Error::BrokerDraining, Executed::Unknown | Executed::Yes) => Error::OutcomeUnknown {
            message: "the broker stopped in the middle of the call".to_owned(),
        },
        (error, _) => error,
    };
    Failure::from(error).executed(executed)
}

impl Broker {
    /// Settles a session in a task of its own; the lease's next call waits for it.
    fn settle_later(self: &Arc<Self>, leased: &Arc<LeasedSession>, held: Held) {
        // Before anybody is answered, so that the next call finds it.
        let settling = leased.settling();
        let settled = Arc::clone(self).settle(Arc::clone(leased), held);
        self.runtime.spawn(async move {
            settled.await;
            drop(settling);
        });
    }

    /// Settles a session after a call that was stopped in the middle, and returns it to its lease, or ends the lease.
    async fn settle(self: Arc<Self>, leased: Arc<LeasedSession>, mut held: Held) {
        if self.leases.find(leased.number).is_err() {
            // The lease has ended: the pool settles the session in its own time.
            self.return_to_lease(&leased, held, GiveBack::Interrupted).ok();
            return;
        }
        let limit = leased.entry.reset_timeout();
        let deadline = self.clock.now() + limit;
        let settled = tokio::select! {
            biased;
            settled = unpanicked(held.session().settle()) => settled.is_ok(),
            () = self.clock.sleep_until(deadline) => false,
        };
        if settled {
            self.return_to_lease(&leased, held, GiveBack::Used).ok();
        } else {
            self.lose(&leased, Some(held));
        }
    }

    /// Ends a lease whose session is gone.
    pub(super) fn lose(&self, leased: &Arc<LeasedSession>, held: Option<Held>) {
        if let Some(held) = held {
            held.give_back(GiveBack::Discard);
        }
        let ended = self.leases.end(leased.number, End::SessionLost);
        if !matches!(ended, Ended::Before(_)) {
            self.forget_later(leased);
        }
    }
}
