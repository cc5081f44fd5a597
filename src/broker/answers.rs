//! Kept answers, so that a repeated call need not run twice: bounded in size, the least recently used go first.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;

use super::{Answer, CallResult};
use crate::{
    backend::Output,
    error::{Error, Failure},
};

/// The largest answer that is kept, as the contract promises.
const LARGEST: usize = 64 << 10;

/// All kept answers together.
const CAPACITY: usize = 64 << 20;

/// What a kept answer costs beside its payload: the maps' entries and the answer itself.
const OVERHEAD: usize = 512;

/// What an entry of an error's metadata costs beside its value.
const ENTRY: usize = 128;

/// Where a kept answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerKey(u64);

/// The answers of calls that may be repeated.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: HashMap<u64, Kept>,
    /// Keys by the turn of their last use.
    uses: BTreeMap<u64, u64>,
    size: usize,
    turn: u64,
}

#[derive(Debug)]
struct Kept {
    answer: CallResult,
    size: usize,
    used: u64,
}

impl Answers {
    /// Keeps an answer, unless it is too large.
    pub(super) fn keep(&mut self, answer: CallResult) -> Option<AnswerKey> {
        let size = OVERHEAD + answer.as_ref().map_or_else(told, |answer| payload(answer));
        if size > LARGEST + OVERHEAD {
            return None;
        }
        self.turn += 1;
        let key = self.turn;
        self.uses.insert(key, key);
        self.kept.insert(
            key,
            Kept {
                answer,
                size,
                used: key,
            },
        );
        self.size += size;
        while self.size > CAPACITY
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.remove(AnswerKey(oldest));
        }
        Some(AnswerKey(key))
    }

    /// A kept answer, if it is still here.
    pub(super) fn recall(&mut self, key: AnswerKey) -> Option<CallResult> {
        let kept = self.kept.get_mut(&key.0)?;
        self.turn += 1;
        self.uses.remove(&kept.used);
        self.uses.insert(self.turn, key.0);
        kept.used = self.turn;
        Some(kept.answer.clone())
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Forgets an answer that nobody can ask for any more.
    pub(super) fn remove(&mut self, key: AnswerKey) {
        if let Some(kept) = self.kept.remove(&key.0) {
            self.uses.remove(&kept.used);
            self.size -= kept.size;
        }
    }
}

/// What an error costs: its message, which a backend may have written, and its metadata.
fn told(failure: &Failure) -> usize {
    let mut metadata = 0;
    if let Error::Backend(error) = &failure.error {
        let values = error.metadata.values();
        metadata = values.map(|value| ENTRY + value.len()).sum();
    }
    failure.to_string().len() + metadata
}

/// What an answer has to carry, in bytes.
pub(super) fn payload(answer: &Answer) -> usize {
    let output = match &answer.output {
        Output::None => 0,
        Output::Json(text) => text.len(),
        Output::Rows(rows) => rows.encoded_len(),
        Output::Body(bytes) => bytes.len(),
    };
    let attributes = answer.attributes.iter();
    output
        + attributes
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{broker::Info, error::BackendError};

    fn answer(bytes: usize) -> CallResult {
        Ok(Arc::new(Answer {
            output: Output::Body(vec![0; bytes].into()),
            attributes: Vec::new(),
            info: Info::default(),
            want_text: false,
        }))
    }

    #[test]
    fn answer_that_is_too_large_is_not_kept() {
        let mut answers = Answers::default();
        assert!(answers.keep(answer(LARGEST)).is_some());
        assert!(answers.keep(answer(LARGEST + 1)).is_none());
    }

    #[test]
    fn error_that_is_too_large_is_not_kept() {
        let error = |message: usize, metadata: usize| {
            let error = BackendError {
                code: tonic::Code::Unknown,
                message: "x".repeat(message),
                metadata: [("sqlstate", "x".repeat(metadata))].into(),
                retry_after: None,
            };
            Err(Error::Backend(Box::new(error)).into())
        };
        let mut answers = Answers::default();
        assert!(answers.keep(error(1000, 1000)).is_some());
        assert!(answers.keep(error(LARGEST, 0)).is_none());
        assert!(answers.keep(error(0, LARGEST)).is_none());
    }

    #[test]
    fn least_recently_used_answer_goes_first() {
        let mut answers = Answers::default();
        let first = answers.keep(answer(LARGEST)).unwrap();
        let second = answers.keep(answer(LARGEST)).unwrap();
        assert!(answers.recall(first).is_some(), "used, so it is younger now");
        for _ in 0..CAPACITY / (LARGEST + OVERHEAD) - 1 {
            answers.keep(answer(LARGEST)).unwrap();
        }
        assert!(answers.recall(second).is_none());
        assert!(answers.recall(first).is_some());
        assert!(answers.size <= CAPACITY);
    }

    #[test]
    fn forgotten_answers_leave_nothing_behind() {
        let mut answers = Answers::default();
        let key = answers.keep(Err(Error::LeaseBusy.into())).unwrap();
        answers.remove(key);
        assert_eq!((answers.size, answers.kept.len(), answers.uses.len()), (0, 0, 0));
    }
}
