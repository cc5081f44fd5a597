//! Calls that may be repeated: by sequence number on a lease, by request id on a pool. One state machine serves both.

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use ring::digest;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    CallResult,
    acquire::other_contents,
    answers::{AnswerKey, Answers},
};
use crate::error::{Error, Executed, Failure};

/// What a request asks for, so that the same id with other contents is noticed. A SHA-256 of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of an encoded request.
    #[must_use]
    pub fn of(request: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, request);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

/// A running call that repeats can join.
#[derive(Clone, Debug)]
pub(super) struct SharedCall {
    answer: Shared<BoxFuture<'static, CallResult>>,
    seated: CancellationToken,
}

impl SharedCall {
    /// A call; `seated` is cancelled once it does not wait for a session any more.
    pub(super) fn new(
        answer: impl Future<Output = CallResult> + Send + 'static,
        seated: CancellationToken,
    ) -> Self {
        let answer = answer.boxed().shared();
        Self { answer, seated }
    }

    /// A call that came to its end before.
    pub(super) fn answered(answer: CallResult) -> Self {
        let seated = CancellationToken::new();
        seated.cancel();
        Self::new(std::future::ready(answer), seated)
    }

    /// Returns once the call has a session, or has ended without.
    pub(super) async fn seated(&self) {
        self.seated.cancelled().await;
    }

    /// The answer.
    pub(super) async fn answer(self) -> CallResult {
        self.answer.await
    }
}

/// What became of a call that may be repeated.
///
/// Running → Answered | Gone | Unknown; or, if it was not executed, the call is forgotten.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// It runs. Streams cannot be joined.
    Running(Option<SharedCall>),
    /// Its answer is kept, unless it had to make room.
    Answered(AnswerKey),
    /// It was executed; its answer was streamed or is too large to keep.
    Gone,
    /// It was cancelled after something was handed over.
    Unknown,
}

/// What a repeat is told.
#[derive(Debug)]
pub(super) enum Repeat {
    /// Wait for the running call.
    Join(SharedCall),
    /// Here is the answer.
    Replay(CallResult),
}

/// A call that may be repeated.
#[derive(Clone, Debug)]
pub(super) struct Repeatable {
    pub(super) fingerprint: Fingerprint,
    pub(super) fate: Fate,
}

impl Repeatable {
    /// What to tell a repeat that wants one answer.
    pub(super) fn repeat(&self, repeat: &Ask, answers: &mut Answers) -> Result<Repeat, Denied> {
        if self.fingerprint == repeat.fingerprint {
            match &self.fate {
                Fate::Running(Some(call)) => return Ok(Repeat::Join(call.clone())),
                Fate::Answered(key) => {
                    if let Some(answer) = answers.recall(*key) {
                        return Ok(Repeat::Replay(answer));
                    }
                }
                Fate::Running(None) | Fate::Gone | Fate::Unknown => {}
            }
        }
        Err(self.deny(repeat))
    }

    /// What to tell a repeat that gets no answer: any whose answer would be a stream is one.
    pub(super) fn deny(&self, repeat: &Ask) -> Denied {
        if self.fingerprint != repeat.fingerprint {
            return (other_contents(repeat.field), Executed::No);
        }
        match self.fate {
            // It may still be waiting for its session.
            Fate::Running(_) => (Error::AlreadyExecuted, Executed::Unknown),
            Fate::Answered(_) | Fate::Gone => (Error::AlreadyExecuted, Executed::Yes),
            Fate::Unknown => {
                let message = "this call was cancelled after it had been handed to the backend".to_owned();
                (Error::OutcomeUnknown { message }, Executed::Unknown)
            }
        }
    }
}

/// A call that asks to be repeatable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) fingerprint: Fingerprint,
    /// `seqno` or `request_id`, for messages.
    pub(super) field: &'static str,
}

/// Why a repeat gets no answer, and what is known of the call that it repeats.
pub(super) type Denied = (Error, Executed);

/// What an ended call leaves for its repeats; `None` if it was not executed, so that a repeat runs.
pub(super) fn fate(result: &CallResult, streamed: bool, answers: &mut Answers) -> Option<Fate> {
    if let Err(failure) = result {
        match failure.executed {
            Some(Executed::No) => return None,
            Some(Executed::Unknown) => return Some(Fate::Unknown),
            Some(Executed::Yes) | None => {}
        }
    }
    if streamed {
        return Some(Fate::Gone);
    }
    Some(match answers.keep(result.clone()) {
        Some(key) => Fate::Answered(key),
        None => Fate::Gone,
    })
}

/// A lease's numbered calls.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    last: u64,
    /// The last number whose outcome is not known: of it and those before no more can be said.
    doubtful: u64,
    call: Option<Repeatable>,
    /// The call before the running one, to go back to if that is not executed.
    before: Option<Repeatable>,
    /// The request id that the lease was acquired with.
    pub(super) request_id: Option<Uuid>,
}

impl Ledger {
    /// Looks up a numbered call that wants one answer: `None` if it is new and may run.
    pub(super) fn admit(
        &self,
        seqno: u64,
        ask: &Ask,
        answers: &mut Answers,
    ) -> Result<Option<Repeat>, Denied> {
        let known = self.known(seqno)?;
        known.map(|call| call.repeat(ask, answers)).transpose()
    }

    /// Lets a numbered call run whose answer is a stream, if it is new.
    pub(super) fn admit_stream(&self, seqno: u64, ask: &Ask) -> Result<(), Denied> {
        match self.known(seqno)? {
            Some(call) => Err(call.deny(ask)),
            None => Ok(()),
        }
    }

    /// Whether this is the number of a new call.
    pub(super) const fn is_next(&self, seqno: u64) -> bool {
        seqno == self.last + 1
    }

    /// The call with this number: `None` if it is new.
    fn known(&self, seqno: u64) -> Result<Option<&Repeatable>, Denied> {
        let next = self.last + 1;
        if seqno == next {
            return Ok(None);
        }
        if seqno > next {
            return Err((Error::SeqnoGap { got: seqno, next }, Executed::No));
        }
        match &self.call {
            Some(call) if seqno == self.last => Ok(Some(call)),
            _ if seqno <= self.doubtful => Err((Error::AlreadyExecuted, Executed::Unknown)),
            _ => Err((Error::AlreadyExecuted, Executed::Yes)),
        }
    }

    /// Notes that the next call runs.
    pub(super) fn start(&mut self, fingerprint: Fingerprint, call: Option<SharedCall>) {
        self.last += 1;
        self.before = self.call.replace(Repeatable {
            fingerprint,
            fate: Fate::Running(call),
        });
    }

    /// Notes what became of the running call. If it was not executed, it used no number.
    pub(super) fn end(&mut self, fate: Option<Fate>, answers: &mut Answers) {
        let before = self.before.take();
        match (fate, self.call.as_mut()) {
            (Some(fate), Some(call)) => {
                if matches!(fate, Fate::Unknown) {
                    self.doubtful = self.last;
                }
                call.fate = fate;
                // Only the last answer is kept.
                if let Some(Fate::Answered(key)) = before.map(|call| call.fate) {
                    answers.remove(key);
                }
            }
            // The lease has ended meanwhile: nobody can ask again.
            (Some(Fate::Answered(key)), None) => answers.remove(key),
            (Some(_), None) => {}
            (None, _) => {
                self.last = self.last.saturating_sub(1);
                self.call = before;
            }
        }
    }

    /// Forgets the kept answers, that before a running call too: the lease has ended, and nobody can ask again.
    pub(super) fn close(&mut self, answers: &mut Answers) {
        for call in [self.before.take(), self.call.take()].into_iter().flatten() {
            if let Fate::Answered(key) = call.fate {
                answers.remove(key);
            }
        }
    }
}

/// The failure of a call whose task has gone without an answer.
pub(super) fn vanished() -> Failure {
    let source = std::io::Error::other("the call's task ended without an answer");
    Failure::from(Error::Internal {
        source: std::sync::Arc::new(source),
    })
    .executed(Executed::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn answered(answers: &mut Answers) -> Option<Fate> {
        answers.keep(Err(Error::LeaseBusy.into())).map(Fate::Answered)
    }

    #[test]
    fn lease_that_ends_in_a_call_leaves_no_answer_behind() {
        let (mut ledger, mut answers) = (Ledger::default(), Answers::default());
        let fingerprint = Fingerprint::of(b"");
        ledger.start(fingerprint, None);
        let first = answered(&mut answers);
        let Some(Fate::Answered(kept)) = first else {
            panic!("it is small enough to be kept");
        };
        ledger.end(first, &mut answers);
        ledger.start(fingerprint, None);
        ledger.close(&mut answers);
        assert!(answers.recall(kept).is_none());
        ledger.end(answered(&mut answers), &mut answers);
        assert!(answers.is_empty(), "the call's own answer goes too");
    }
}
