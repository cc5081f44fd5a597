//! The streams of one socket, by their numbers, as the frames that pass in either direction need them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{frame::Head, lane::Lane};

/// A socket's streams.
///
/// Lock discipline: h2 writes and reads frames under a lock of its own, and this one is taken under that; so nothing of
/// h2 is called under this one. A lane's state is locked under it, a fence never.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    inner: Mutex<Inner>,
    /// Rises with whatever comes.
    heard: AtomicU64,
    /// Told of that, if somebody waits for it.
    listener: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    lanes: BTreeMap<u32, Arc<Lane>>,
    /// The writer, while it waits to hear whose stream begins.
    writer: Option<Waker>,
    /// After the peer's goodbye, the last stream that it still does something of.
    last: Option<u32>,
    closed: bool,
}

impl Lanes {
    /// Says whose a stream is. It has its number since a moment ago, and the writer waits for this if it was quicker;
    /// the peer's goodbye, or the socket's end, may have come in that moment.
    pub(super) fn add(&self, number: u32, lane: &Arc<Lane>) {
        let mut inner = self.inner.lock();
        let refused = inner.last.is_some_and(|last| number > last);
        if inner.closed {
            drop(inner);
            lane.reset(refused);
            return;
        }
        inner.lanes.insert(number, Arc::clone(lane));
        let writer = inner.writer.take();
        drop(inner);
        if refused {
            lane.reset(true);
        }
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Whose the stream is that begins.
    pub(super) fn beginning(&self, number: u32, cx: &Context<'_>) -> Poll<Arc<Lane>> {
        let mut inner = self.inner.lock();
        if let Some(lane) = inner.lanes.get(&number) {
            return Poll::Ready(Arc::clone(lane));
        }
        inner.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn find(&self, number: u32) -> Option<Arc<Lane>> {
        self.inner.lock().lanes.get(&number).cloned()
    }

    /// The peer has been told of a stream. They come in the order of their numbers, so those before it that it was
    /// never told of never will be.
    pub(super) fn introduced(&self, number: u32) {
        self.inner
            .lock()
            .lanes
            .retain(|other, lane| *other > number || lane.is_introduced());
    }

    /// Whether the peer was told of the stream, and something of it is still to come or to go.
    pub(super) fn are_using(&self, number: u32) -> bool {
        self.find(number).is_some_and(|lane| lane.is_introduced())
    }

    /// Forgets a stream that is over.
    pub(super) fn tidy(&self, number: u32) {
        let mut inner = self.inner.lock();
        if inner.lanes.get(&number).is_some_and(|lane| lane.is_over()) {
            inner.lanes.remove(&number);
        }
    }

    /// A frame came; `refused` if it says that nothing was done of its stream.
    pub(super) fn came(&self, head: Head, reset: Option<bool>) {
        if let Some(lane) = self.find(head.stream) {
            lane.came(head);
            if let Some(refused) = reset {
                lane.reset(refused);
            }
            self.tidy(head.stream);
        }
    }

    /// The peer does nothing of any stream after `last`. Those that it was never told of stay, to be stopped.
    pub(super) fn go_away(&self, last: u32) {
        let mut inner = self.inner.lock();
        inner.last = Some(inner.last.map_or(last, |before| before.min(last)));
        let beyond = inner.lanes.range(last.saturating_add(1)..);
        let beyond: Vec<_> = beyond.map(|(_, lane)| Arc::clone(lane)).collect();
        inner
            .lanes
            .retain(|number, lane| *number <= last || !lane.is_introduced());
        drop(inner);
        for lane in beyond {
            lane.reset(true);
        }
    }

    /// Nothing comes or goes any more.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let lanes = std::mem::take(&mut inner.lanes);
        drop(inner);
        for lane in lanes.values() {
            lane.reset(false);
        }
    }

    /// Whether there is a stream that something is expected of.
    pub(super) fn are_busy(&self) -> bool {
        self.inner.lock().lanes.values().any(|lane| !lane.is_over())
    }

    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::SeqCst);
        self.listener.notify_waiters();
    }

    /// Changes with whatever comes.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }

    /// Returns once something has come after [`Lanes::heard`] said `before`. May be dropped at any time.
    pub(super) async fn heard_after(&self, before: u64) {
        // Made before the look, so that nothing between look and wait is missed.
        let told = self.listener.notified();
        if self.heard() == before {
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Fence, http::pace::Pace},
        clock::Clock,
    };

    fn lane() -> Arc<Lane> {
        let pace = Pace::new(Clock::tokio());
        Arc::new(Lane::new(&Arc::new(Fence::default()), &Arc::new(pace)))
    }

    #[test]
    fn a_stream_that_a_goodbye_came_before_is_refused_as_those_it_came_after() {
        let (lanes, before, after, within) = (Lanes::default(), lane(), lane(), lane());
        lanes.add(3, &before);
        lanes.go_away(1);
        lanes.add(1, &within);
        lanes.add(5, &after);
        assert!(before.is_refused() && after.is_refused() && !within.is_refused());
        lanes.close();
        let late = lane();
        lanes.add(7, &late);
        assert!(late.is_refused() && late.is_over() && within.is_over() && !within.is_refused());
    }
}
