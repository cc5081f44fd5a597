//! One request's stream on a shared socket: whose fence its frames pass, and how far it has come on the wire.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    flag::Flag,
    frame::{Head, Kind},
};
use crate::backend::{Fence, Line, http::pace::Pace};

/// A stream. Written by the socket's task, cut by the call's.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its own gate, beneath the slot's fence.
    line: Line,
    pace: Arc<Pace>,
    state: Mutex<State>,
    /// Nothing of it comes any more in either direction.
    over: Flag,
}

/// How far a stream has come. Nothing else is locked under it.
#[derive(Debug, Default)]
struct State {
    /// The peer knows of it: a part of its head was handed over.
    introduced: bool,
    /// All of the request was handed over.
    sent: bool,
    /// All of the answer came.
    answered: bool,
    /// It was reset, by either side, or never will be introduced.
    reset: bool,
    /// The peer proved that it did nothing of it.
    refused: bool,
    /// Bytes, and ends, that wait to be handed over.
    waiting: usize,
}

impl Lane {
    /// A stream of the slot behind `fence`, whose request's head waits to be handed over.
    pub(super) fn new(fence: &Arc<Fence>, pace: &Arc<Pace>) -> Self {
        let lane = Self {
            line: Line::new(Arc::clone(fence)),
            pace: Arc::clone(pace),
            state: Mutex::default(),
            over: Flag::default(),
        };
        lane.queued(1);
        lane
    }

    pub(super) const fn line(&self) -> &Line {
        &self.line
    }

    /// So much of it waits to be handed over from now on, an end counted as one more.
    pub(super) fn queued(&self, count: usize) {
        self.state.lock().waiting += count;
        self.pace.blocked();
    }

    /// Cuts it off: when this has returned, no frame of it begins any more, and none is being begun.
    pub(super) fn cut(&self) {
        self.line.cut();
        self.change(|state| state.reset |= !state.introduced);
    }

    /// A frame of it begins. Called under the line's guard.
    pub(super) fn begins(&self) {
        self.state.lock().introduced = true;
    }

    /// A frame of it was handed over whole.
    pub(super) fn passed(&self, head: Head) {
        let payload = if head.kind == Kind::Data { head.length } else { 0 };
        let head_itself = usize::from(head.kind == Kind::Headers);
        let end = usize::from(head.ends_stream());
        self.change(|state| {
            state.waiting = state.waiting.saturating_sub(payload + head_itself + end);
            state.sent |= head.ends_stream();
            self.pace.took();
            self.pace.wrote();
            if state.waiting > 0 {
                self.pace.blocked();
            }
            if state.sent {
                self.pace.flushed();
            }
        });
    }

    /// A frame of it came.
    pub(super) fn came(&self, head: Head) {
        self.line.fence().note_received(head.whole() as u64);
        self.change(|state| state.answered |= head.ends_stream());
    }

    /// It was reset; `refused` if the peer said that it did nothing of it.
    pub(super) fn reset(&self, refused: bool) {
        self.change(|state| {
            state.reset = true;
            state.refused |= refused;
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let over = state.reset || (state.sent && state.answered);
        drop(state);
        if over {
            self.over.raise();
        }
    }

    pub(super) fn is_introduced(&self) -> bool {
        self.state.lock().introduced
    }

    /// Whether the peer proved that it did nothing of the request.
    pub(super) fn is_refused(&self) -> bool {
        self.state.lock().refused
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_up()
    }

    /// Returns once it is over. May be dropped at any time.
    pub(super) async fn over(&self) {
        self.over.raised().await;
    }
}
