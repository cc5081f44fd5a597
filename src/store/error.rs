//! What a store can fail with, named for what the caller can do about it.

use std::{sync::Arc, time::Duration};

use thiserror::Error;

use crate::error::Source;

/// Why something was not stored or read.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// There is a pool of this name already.
    #[error("the store has a pool of this name already")]
    Exists,
    /// There is no pool of this name.
    #[error("the store has no pool of this name")]
    NotFound,
    /// The pool's revision is another one by now.
    #[error("the stored pool has another revision by now")]
    Conflict,
    /// Another broker uses the store; the message says which, and what to do.
    #[error("another broker uses this store: {by}")]
    Locked {
        /// Who it is, where, and what to do.
        by: String,
    },
    /// Nothing was changed; trying again later may help.
    #[error("the store does not answer: {source}")]
    Unavailable {
        /// What it said.
        #[source]
        source: Source,
    },
    /// It was sent to be committed, and no answer came: [`super::Store::pool`] tells when the store answers again.
    #[error("it is not known whether the store carried it out: {source}")]
    OutcomeUnknown {
        /// What came instead of an answer.
        #[source]
        source: Source,
    },
    /// The store cannot be used until somebody changes something: its address, its rights, its contents.
    #[error("the store cannot be used: {reason}")]
    Unusable {
        /// What is wrong and what would help; no secret in it.
        reason: String,
        /// What it said, if it said anything.
        #[source]
        source: Option<Source>,
    },
}

impl StoreError {
    pub(super) fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable {
            source: Arc::new(source),
        }
    }

    pub(super) fn outcome_unknown(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::OutcomeUnknown {
            source: Arc::new(source),
        }
    }

    pub(super) fn unusable(
        reason: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unusable {
            reason: reason.into(),
            source: Some(Arc::new(source)),
        }
    }

    /// For work that changes nothing which matters if it is done again.
    pub(super) fn repeatable(self) -> Self {
        if let Self::OutcomeUnknown { source } = self {
            return Self::Unavailable { source };
        }
        self
    }
}

/// Any fault before the commit: nothing was changed.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::unavailable(error)
    }
}

/// No answer came in time.
#[derive(Debug, Error)]
#[error("no answer within {0:?}")]
pub(super) struct NoAnswer(pub(super) Duration);

/// The task that did the work is gone.
#[derive(Debug, Error)]
#[error("the task that did the work ended without an answer")]
pub(super) struct TaskGone;

/// The store was started more often than fences can count.
#[derive(Debug, Error)]
#[error(
    "the boot numbers are used up: fences have room for {} of them",
    super::MAX_BOOT
)]
pub(super) struct BootsUsedUp;
