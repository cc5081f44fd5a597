//! Execute on a pool: acquire, execute and release in one call.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Broker, CallResult, PoolEntry,
    acquire::{RequestId, Waiting},
    answers::Answers,
    call::{self, After, CallRequest, Limits, UNARY_LIMIT, Watched},
    replay::{self, Ask, Denied, Fate, Repeatable, SharedCall},
};
use crate::{
    backend::{Operation, Sink},
    clock::{Clock, Time},
    error::{Error, Executed, Failure, Faults},
    pool::{GiveBack, Held},
};

/// A one-shot.
#[derive(Debug)]
pub struct PoolCall {
    /// The pool's name.
    pub pool: String,
    /// How to wait for a session.
    pub waiting: Waiting,
    /// What to run.
    pub call: CallRequest,
    /// Makes the call safe to repeat.
    pub request: Option<RequestId>,
    /// What the caller may keep only while it waits.
    pub place: Option<Place>,
}

/// Something that is dropped as soon as a call has its session, or is refused one: a place among those who wait.
pub type Place = Box<dyn fmt::Debug + Send + Sync>;

/// The time a one-shot's request id and answer are kept.
const KEPT: Duration = Duration::from_secs(60);

/// Request ids kept at most, about 20 MiB beside the answers: of 1,600 calls a second for [`KEPT`]. Beyond it new ones
/// are refused, for a call whose id was forgotten early could run twice.
const CAPACITY: usize = 100_000;

const FULL: &str = "for another request_id: 100,000 are kept already, each for 60 s after its call";

pub(super) type Key = (Arc<str>, Uuid);

/// One-shots that have a request id.
#[derive(Debug, Default)]
pub(super) struct OneShots {
    calls: HashMap<Key, Repeatable>,
    ended: VecDeque<(Time, Key)>,
}

impl OneShots {
    fn forget(&mut self, now: Time, answers: &mut Answers) {
        while let Some((_, key)) = self.ended.pop_front_if(|(at, _)| now.since(*at) > KEPT) {
            let call = self.calls.remove(&key);
            if let Some(Fate::Answered(kept)) = call.map(|call| call.fate) {
                answers.remove(kept);
            }
        }
    }

    /// What is known of a call; if nothing, there is room for it.
    pub(super) fn known(
        &mut self,
        key: &Key,
        answers: &mut Answers,
        now: Time,
    ) -> Result<Option<&Repeatable>, Denied> {
        self.forget(now, answers);
        let known = self.calls.get(key);
        if known.is_none() && self.calls.len() >= CAPACITY {
            return Err((Error::NoRoom { what: FULL }, Executed::No));
        }
        Ok(known)
    }

    pub(super) fn start(&mut self, key: Key, ask: &Ask, call: Option<SharedCall>) {
        let fate = Fate::Running(call);
        let fingerprint = ask.fingerprint;
        self.calls.insert(key, Repeatable { fingerprint, fate });
    }

    pub(super) fn end(&mut self, key: Key, fate: Option<Fate>, now: Time) {
        match (fate, self.calls.get_mut(&key)) {
            (Some(fate), Some(call)) => {
                call.fate = fate;
                self.ended.push_back((now, key));
            }
            _ => {
                self.calls.remove(&key);
            }
        }
    }
}

impl Broker {
    /// Runs one operation on any session of a pool. Dropped, it is cancelled; with a request id it runs on to its
    /// timeout, so that a repeat can join it.
    ///
    /// # Errors
    /// Why there is no answer, and whether the call was executed.
    pub async fn execute_on_pool(self: &Arc<Self>, mut ask: PoolCall) -> CallResult {
        let entry = self.pools.get_to_execute(&ask.pool)?;
        inspect_one_shot(&entry, &mut ask)?;
        let Some(request) = ask.request else {
            return self.one_shot(&entry, ask).await;
        };
        // Not with the task: if this caller goes, the call waits on, but the caller does not.
        let place = ask.place.take();
        let call = self.repeatable_one_shot(entry, ask, request)?;
        call.seated().await;
        drop(place);
        call.answer().await
    }

    async fn one_shot(&self, entry: &Arc<PoolEntry>, ask: PoolCall) -> CallResult {
        let held = self.take_session(entry, &ask.waiting).await?;
        drop(ask.place);
        let loan = Loan::new(entry, held, &self.clock);
        loan.run(ask.call, Sink::collect(UNARY_LIMIT)).await
    }

    fn repeatable_one_shot(
        self: &Arc<Self>,
        entry: Arc<PoolEntry>,
        ask: PoolCall,
        request: RequestId,
    ) -> Result<SharedCall, Failure> {
        let key = (Arc::clone(entry.pool.name()), request.id);
        let repeat = Ask {
            fingerprint: request.fingerprint,
            field: "request_id",
        };
        let seated = CancellationToken::new();
        let (done, call) = shared_answer(seated.clone());
        // However the task ends, or if it never begins, nobody goes on waiting for its session.
        let seated = seated.drop_guard();
        let noted = match self.note_one_shot(key, &repeat, &call) {
            Ok(noted) => noted,
            Err(repeat) => return repeat.map_err(|denied| repeat_one_shot(&entry, denied)),
        };
        let broker = Arc::clone(self);
        // Only now that no lock is held: a runtime that stops drops the task at once, which is noted.
        self.runtime.spawn(async move {
            let held = match broker.take_session(&entry, &ask.waiting).await {
                Ok(held) => held,
                Err(refused) => {
                    // Before anyone is told, so that a repeat starts afresh.
                    drop(noted);
                    done.send(Err(refused)).ok();
                    return;
                }
            };
            drop(seated);
            let loan = Loan::new(&entry, held, &broker.clock);
            let result = noted.run(loan, ask.call, Sink::collect(UNARY_LIMIT)).await;
            // Nobody may be left to take the answer; it is kept for a repeat.
            done.send(result).ok();
        });
        Ok(call)
    }
}

/// A call that has its session, as a task to be spawned, and what many can wait for.
pub(super) fn shared(
    call: impl Future<Output = CallResult> + Send + 'static,
) -> (impl Future<Output = ()> + Send + 'static, SharedCall) {
    let seated = CancellationToken::new();
    seated.cancel();
    let (done, answer) = shared_answer(seated);
    let task = async move {
        // Nobody may be left to take the answer; it is kept for a repeat.
        done.send(call.await).ok();
    };
    (task, answer)
}

/// An answer that many can wait for, and where it is given.
fn shared_answer(seated: CancellationToken) -> (oneshot::Sender<CallResult>, SharedCall) {
    let (done, answer) = oneshot::channel();
    let answer = async move { answer.await.unwrap_or_else(|_| Err(replay::vanished())) };
    (done, SharedCall::new(answer, seated))
}

/// A session on loan to a one-shot. Dropped in the middle, the session goes back to be settled.
pub(super) struct Loan {
    entry: Arc<PoolEntry>,
    held: Option<Held>,
    clock: Clock,
    started: Time,
}

impl Loan {
    pub(super) fn new(entry: &Arc<PoolEntry>, held: Held, clock: &Clock) -> Self {
        Self {
            entry: Arc::clone(entry),
            held: Some(held),
            clock: clock.clone(),
            started: clock.now(),
        }
    }

    pub(super) fn info(&self) -> super::Info {
        self.held.as_ref().map(call::info).unwrap_or_default()
    }

    /// Runs the call and gives the session back.
    pub(super) async fn run(mut self, mut request: CallRequest, mut sink: Sink) -> CallResult {
        request.operation.alone = true;
        let mut info = self.info();
        let want_text = request.operation.params.want_text();
        let limits = Limits::new(&self.entry.policy(), &request, self.started);
        let watched = Watched {
            clock: &self.clock,
            cancel: None,
        };
        let Some(held) = self.held.as_mut() else {
            return Err(replay::vanished());
        };
        let outcome = call::run(held, request.operation, &mut sink, limits, watched).await;
        info.elapsed = self.give_back(outcome.after, outcome.result.is_ok());
        match outcome.result {
            Ok(completion) => Ok(Arc::new(call::answer(completion, sink, info, want_text))),
            Err(mut failure) => {
                if outcome.shut {
                    failure.error = self.entry.closed();
                }
                Err(failure.pool(self.entry.pool.name()).endpoint(&info.endpoint))
            }
        }
    }

    fn give_back(&mut self, after: After, ok: bool) -> Duration {
        let elapsed = self.clock.now().since(self.started);
        if let Some(held) = self.held.take() {
            self.entry.pool.record_call(ok, elapsed);
            held.give_back(match after {
                After::Nothing => GiveBack::Used,
                After::Settle => GiveBack::Interrupted,
                After::Lost => GiveBack::Discard,
            });
        }
        elapsed
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.give_back(After::Settle, false);
    }
}

/// The failure of a one-shot's repeat.
pub(super) fn repeat_one_shot(entry: &PoolEntry, (error, executed): Denied) -> Failure {
    Failure::from(error).pool(entry.pool.name()).executed(executed)
}

/// Looks at an operation before any session is taken.
pub(super) fn inspect(entry: &PoolEntry, operation: &Operation) -> Result<crate::backend::Needs, Failure> {
    entry.pool.backend().inspect(operation).map_err(|found| {
        let mut faults = Faults::below("operation");
        for fault in found.list() {
            faults.add(&fault.field, fault.message.clone());
        }
        Failure::from(Error::Invalid { faults })
            .pool(entry.pool.name())
            .executed(Executed::No)
    })
}

/// Looks at a one-shot's operation: one that leaves state behind makes no sense there.
pub(super) fn inspect_one_shot(entry: &PoolEntry, ask: &mut PoolCall) -> Result<(), Failure> {
    let operation = &ask.call.operation;
    let needs = inspect(entry, operation)?;
    ask.waiting.beside = needs.beside;
    if !needs.lease {
        return Ok(());
    }
    let message = format!(
        "`{}` needs a lease: its effect ends with the session's holder. Acquire one, or use OpenSession",
        operation.name
    );
    let faults = Faults::one("operation.name", message);
    Err(Failure::from(Error::Invalid { faults })
        .pool(entry.pool.name())
        .executed(Executed::No))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Fingerprint;

    fn key(number: usize) -> Key {
        (Arc::from("p"), Uuid::from_u128(number as u128))
    }

    #[tokio::test(start_paused = true)]
    async fn request_id_is_kept_for_its_60_seconds_however_many_come() {
        let (mut calls, mut answers) = (OneShots::default(), Answers::default());
        let now = Clock::tokio().now();
        let ask = Ask {
            fingerprint: Fingerprint::of(b""),
            field: "request_id",
        };
        for number in 0..CAPACITY {
            assert!(calls.known(&key(number), &mut answers, now).unwrap().is_none());
            calls.start(key(number), &ask, None);
        }
        calls.end(key(7), Some(Fate::Gone), now);
        for later in [Duration::ZERO, KEPT] {
            let full = calls
                .known(&key(CAPACITY), &mut answers, now + later)
                .unwrap_err();
            assert!(matches!(full, (Error::NoRoom { .. }, Executed::No)));
            let known = calls.known(&key(7), &mut answers, now + later).unwrap();
            assert!(known.is_some(), "a repeat is still recognised");
        }
        let now = now + KEPT + Duration::from_nanos(1);
        assert!(calls.known(&key(CAPACITY), &mut answers, now).unwrap().is_none());
        assert!(!calls.calls.contains_key(&key(7)));
    }
}
