//! Input for a running call, within the credit that it was given.

use bytes::Bytes;

use super::{OpenSession, Over, SessionOutput, invalid};
use crate::backend::BodyChunk;

/// Credit that a call has when it starts.
pub(super) const WINDOW: u32 = 256 << 10;

/// What the smallest part counts, so that a flood of tiny ones cannot fill memory with their overhead.
pub(super) const LEAST: u32 = 256;

/// Parts that can be in flight within the window, and the last one.
pub(super) const PARTS: usize = (WINDOW / LEAST) as usize + 1;

/// Credit is given back in portions, so that it costs few messages. Less than the window, so nothing can wait for ever.
const PORTION: u32 = WINDOW / 4;

/// What a part of a body counts.
pub(super) fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).max(LEAST)
}

impl OpenSession {
    /// Hands a part of a body to its call. What comes for a call that has ended is dropped.
    pub(super) async fn input(&mut self, id: u64, data: Bytes, last: bool) -> Result<(), Over> {
        if id == 0 || id > self.last_id {
            let message = "no such call was sent yet";
            return Err(Over::Broken(invalid("input.call_id", message)));
        }
        if let Some(at) = self.queue.iter().position(|call| call.id == id) {
            self.queue.remove(at);
            let message = "input came before its call was given credit: wait for input_credit";
            let failure = invalid("input", message);
            return self.emit(id, SessionOutput::Error(failure)).await;
        }
        let Some(running) = self.running.as_mut().filter(|running| running.id == id) else {
            return Ok(());
        };
        if !data.is_empty() {
            let cost = cost(data.len());
            if cost > running.credit {
                running.fault("more input than there was credit for");
                return Ok(());
            }
            running.credit -= cost;
            running.feed(BodyChunk::Data(data));
        }
        if last {
            running.feed(BodyChunk::Last);
        }
        Ok(())
    }

    /// Gives credit for a part that the backend took.
    pub(super) async fn credit(&mut self, bytes: usize) -> Result<(), Over> {
        let Some(running) = self.running.as_mut() else {
            return Ok(());
        };
        running.owed += cost(bytes);
        if running.owed < PORTION {
            return Ok(());
        }
        let owed = std::mem::take(&mut running.owed);
        running.credit += owed;
        let id = running.id;
        self.emit(id, SessionOutput::InputCredit(owed)).await
    }
}
