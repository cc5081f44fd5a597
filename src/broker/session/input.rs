//! Input for a running call, within the credit that it was given.

use bytes::Bytes;

use super::{OpenSession, Over, SessionOutput, invalid};
use crate::backend::BodyChunk;

/// Credit that a call has when it starts.
pub(super) const WINDOW: u32 = 256 << 10;

/// Parts of a body in flight to the backend; while they are, further ones are joined.
pub(super) const PARTS: usize = 64;

/// Credit is given back in portions, so that it costs few messages. Less than the window, so nothing can wait for ever.
const PORTION: u32 = WINDOW / 4;

/// A call that reads its body can never get the rest.
pub(super) const CUT_SHORT: &str =
    "the stream of requests ended before Input with `last`: send it, and half-close after it";

impl OpenSession {
    /// No more messages come, so a body without its last part stays without it. Waiting for it would hold the session
    /// until the call is taken to stall.
    pub(super) fn half_close(&mut self) {
        self.half_closed = true;
        if let Some(running) = self.running.as_mut().filter(|running| running.wants_input()) {
            running.fault(CUT_SHORT);
        }
    }

    /// Hands a part of a body to its call. What comes for a call that has ended is dropped.
    pub(super) async fn input(&mut self, id: u64, data: Bytes, last: bool) -> Result<(), Over> {
        if id == 0 || id > self.last_id {
            let message = "no such call was sent yet";
            return Err(Over::Broken(invalid("input.call_id", message)));
        }
        if self.queue.remove(id) {
            let message = "input came before its call was given credit: wait for input_credit";
            let failure = invalid("input", message);
            return self.emit(id, SessionOutput::Error(failure)).await;
        }
        let Some(running) = self.running.as_mut().filter(|running| running.id == id) else {
            return Ok(());
        };
        if !data.is_empty() {
            let cost = u32::try_from(data.len()).unwrap_or(u32::MAX);
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

    /// The backend took a part of the running call's body: there is room for more, and credit to give.
    pub(super) async fn credit(&mut self, bytes: usize) -> Result<(), Over> {
        let Some(running) = self.running.as_mut() else {
            return Ok(());
        };
        running.flush();
        let free = running.free.min(bytes);
        running.free -= free;
        running.owed += u32::try_from(bytes - free).unwrap_or(u32::MAX);
        if running.owed < PORTION {
            return Ok(());
        }
        let owed = std::mem::take(&mut running.owed);
        running.credit += owed;
        let id = running.id;
        self.emit(id, SessionOutput::InputCredit(owed)).await
    }
}
