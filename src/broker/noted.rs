//! One-shots that have a request id: what became of each is noted at its end, however it comes.

use std::sync::Arc;

use super::{
    Broker, CallResult,
    call::CallRequest,
    execute::{Key, Loan},
    replay::{self, Ask, Denied, Repeat, SharedCall},
};
use crate::{
    backend::Sink,
    error::{Error, Executed, Failure},
};

/// A one-shot's request id. Dropped before its call began, it is forgotten; dropped in the middle, by a panic or the
/// end of its runtime, nobody knows what became of the call.
pub(super) struct Noted {
    broker: Arc<Broker>,
    key: Option<Key>,
    streamed: bool,
    began: bool,
}

impl Broker {
    /// Notes that a one-shot runs, whose answer `call` will be.
    ///
    /// # Errors
    /// The answer of a repeat, or why it gets none.
    pub(super) fn note_one_shot(
        self: &Arc<Self>,
        key: Key,
        ask: &Ask,
        call: &SharedCall,
    ) -> Result<Noted, Result<SharedCall, Denied>> {
        let mut replays = self.replays.lock();
        let replays = &mut *replays;
        let known = replays
            .one_shots
            .known(&key, &mut replays.answers, self.clock.now());
        match known.map_err(Err)? {
            None => {}
            Some(known) => {
                let repeat = known.repeat(ask, &mut replays.answers);
                return Err(repeat.map(|repeat| match repeat {
                    Repeat::Join(call) => call,
                    Repeat::Replay(answer) => SharedCall::answered(answer),
                }));
            }
        }
        replays.one_shots.start(key.clone(), ask, Some(call.clone()));
        Ok(self.noted(key, false))
    }

    /// Notes that a one-shot runs whose answer is a stream.
    ///
    /// # Errors
    /// Why it must not run: it is a repeat.
    pub(super) fn note_stream(self: &Arc<Self>, key: Key, ask: &Ask) -> Result<Noted, Denied> {
        let mut replays = self.replays.lock();
        let replays = &mut *replays;
        let now = self.clock.now();
        if let Some(known) = replays.one_shots.known(&key, &mut replays.answers, now)? {
            return Err(known.deny(ask));
        }
        replays.one_shots.start(key.clone(), ask, None);
        Ok(self.noted(key, true))
    }

    fn noted(self: &Arc<Self>, key: Key, streamed: bool) -> Noted {
        Noted {
            broker: Arc::clone(self),
            key: Some(key),
            streamed,
            began: false,
        }
    }
}

impl Noted {
    /// Runs the call and notes what became of it.
    pub(super) async fn run(mut self, loan: Loan, call: CallRequest, sink: Sink) -> CallResult {
        self.began = true;
        let result = loan.run(call, sink).await;
        self.end(&result);
        result
    }

    fn end(&mut self, result: &CallResult) {
        if let Some(key) = self.key.take() {
            let mut replays = self.broker.replays.lock();
            let fate = replay::fate(result, self.streamed, &mut replays.answers);
            replays.one_shots.end(key, fate, self.broker.clock.now());
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let executed = if self.began {
            Executed::Unknown
        } else {
            Executed::No
        };
        self.end(&Err(Failure::from(Error::Cancelled).executed(executed)));
    }
}
