//! Execute on a pool: acquire, execute and release in one call.

use std::{collections::HashMap, collections::VecDeque, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Broker, CallResult, PoolEntry,
    acquire::{RequestId, Waiting},
    answers::Answers,
    call::{self, After, CallRequest, Limits, UNARY_LIMIT, Watched},
    on_lease::repeat_executed,
    replay::{self, Ask, Fate, Repeat, Repeatable, SharedCall},
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
}

/// The time a one-shot's request id and answer are kept.
const KEPT: Duration = Duration::from_secs(60);

/// Request ids kept at most: a thousand calls a second. Beyond it new ones are refused.
const CAPACITY: usize = 60_000;

type Key = (Arc<str>, Uuid);

/// One-shots that have a request id.
#[derive(Debug, Default)]
pub(super) struct OneShots {
    calls: HashMap<Key, Repeatable>,
    ended: VecDeque<(Time, Key)>,
}

impl OneShots {
    fn forget(&mut self, now: Time, answers: &mut Answers) {
        while let Some((at, key)) = self.ended.front()
            && now.since(*at) > KEPT
        {
            if let Some(Fate::Answered(kept)) = self.calls.remove(key).map(|call| call.fate) {
                answers.remove(kept);
            }
            self.ended.pop_front();
        }
    }

    /// Looks up a call: `None` if it is new and may run.
    pub(super) fn admit(
        &mut self,
        key: &Key,
        ask: &Ask,
        answers: &mut Answers,
        now: Time,
    ) -> Result<Option<Repeat>, Error> {
        self.forget(now, answers);
        match self.calls.get(key) {
            Some(call) => call.repeat(ask, answers).map(Some),
            None if self.calls.len() >= CAPACITY => Err(Error::QueueFull {
                limit: u32::try_from(CAPACITY).unwrap_or(u32::MAX),
            }),
            None => Ok(None),
        }
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
    pub async fn execute_on_pool(self: &Arc<Self>, ask: PoolCall) -> CallResult {
        let entry = self.pools.get(&ask.pool)?;
        inspect_one_shot(&entry, &ask.call.operation)?;
        match ask.request {
            None => self.one_shot(&entry, &ask.waiting, ask.call).await,
            Some(request) => self.repeatable_one_shot(entry, ask, request)?.await,
        }
    }

    async fn one_shot(&self, entry: &Arc<PoolEntry>, waiting: &Waiting, call: CallRequest) -> CallResult {
        let held = self.take_session(entry, waiting).await?;
        let loan = Loan::new(entry, held, &self.clock);
        loan.run(call, Sink::collect(UNARY_LIMIT)).await
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
            streamed: false,
        };
        let mut replays = self.replays.lock();
        let replays = &mut *replays;
        let now = self.clock.now();
        let admitted = replays.one_shots.admit(&key, &repeat, &mut replays.answers, now);
        match admitted.map_err(|error| repeat_one_shot(&entry, error))? {
            Some(Repeat::Join(call)) => return Ok(call),
            Some(Repeat::Replay(answer)) => return Ok(std::future::ready(answer).boxed().shared()),
            None => {}
        }
        let broker = Arc::clone(self);
        let noted = key.clone();
        let call = self.share(async move {
            let result = broker.one_shot(&entry, &ask.waiting, ask.call).await;
            let mut replays = broker.replays.lock();
            let fate = replay::fate(&result, false, &mut replays.answers);
            replays.one_shots.end(noted, fate, broker.clock.now());
            result
        });
        replays.one_shots.start(key, &repeat, Some(call.clone()));
        Ok(call)
    }

    /// Runs a call in a task of its own, which goes on when its callers go, and lets many wait for it.
    pub(super) fn share(&self, call: impl Future<Output = CallResult> + Send + 'static) -> SharedCall {
        let (task, call) = shared(call);
        self.runtime.spawn(task);
        call
    }
}

/// A call as a task to be spawned, and what many can wait for.
pub(super) fn shared(
    call: impl Future<Output = CallResult> + Send + 'static,
) -> (impl Future<Output = ()> + Send + 'static, SharedCall) {
    let (done, answer) = oneshot::channel();
    let task = async move {
        // Nobody may be left to take the answer; it is kept for a repeat.
        done.send(call.await).ok();
    };
    let answer = async move { answer.await.unwrap_or_else(|_| Err(replay::vanished())) };
    (task, answer.boxed().shared())
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
    pub(super) async fn run(mut self, request: CallRequest, mut sink: Sink) -> CallResult {
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
            Err(failure) => Err(failure.pool(self.entry.pool.name()).endpoint(&info.endpoint)),
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
pub(super) fn repeat_one_shot(entry: &PoolEntry, error: Error) -> Failure {
    let executed = repeat_executed(&error);
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
pub(super) fn inspect_one_shot(entry: &PoolEntry, operation: &Operation) -> Result<(), Failure> {
    if !inspect(entry, operation)?.lease {
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
