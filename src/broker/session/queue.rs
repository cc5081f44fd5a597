//! The calls of an open session that wait behind the running one: bounded in number and in bytes.

use std::collections::VecDeque;

use super::SessionCall;
use crate::error::Error;

/// Calls that may wait behind the running one.
pub const QUEUED_CALLS: usize = 16;

/// Bytes that they may have together: as much as the largest message. A first one is always taken.
pub(super) const QUEUED_BYTES: usize = 4 << 20;

const FULL: &str = "for another call: those that wait may have 4 MiB together";

/// Calls that wait, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    calls: VecDeque<SessionCall>,
    bytes: usize,
}

impl Queue {
    /// Adds a call at the end.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub(super) fn push(&mut self, call: SessionCall) -> Result<(), Error> {
        if self.calls.len() >= QUEUED_CALLS {
            let limit = u32::try_from(QUEUED_CALLS).unwrap_or(u32::MAX);
            return Err(Error::QueueFull { limit });
        }
        if !self.calls.is_empty() && self.bytes + call.bytes > QUEUED_BYTES {
            return Err(Error::NoRoom { what: FULL });
        }
        self.bytes += call.bytes;
        self.calls.push_back(call);
        Ok(())
    }

    /// Takes the next call.
    pub(super) fn pop(&mut self) -> Option<SessionCall> {
        let call = self.calls.pop_front()?;
        self.bytes -= call.bytes;
        Some(call)
    }

    /// Takes a call out, wherever it stands; false if it does not wait.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let at = self.calls.iter().position(|call| call.id == id);
        let Some(call) = at.and_then(|at| self.calls.remove(at)) else {
            return false;
        };
        self.bytes -= call.bytes;
        true
    }

    /// The ids of all calls, which are forgotten.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        self.bytes = 0;
        self.calls.drain(..).map(|call| call.id).collect()
    }
}
