//! Where a socket's reader and writer say what concerns the whole of it.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::{flag::Flag, table::Table};

/// What is known of a socket without asking the table.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The peer's settings are known, and h2 goes by them.
    pub(super) greeted: Flag,
    /// It is closed, and the peer's end has been seen as far as there is one.
    pub(super) ended: Flag,
    /// Streams that the peer allows; none is any number.
    streams: Mutex<Option<u32>>,
    /// The peer said goodbye.
    leaving: AtomicBool,
    /// Nothing comes or goes any more.
    gone: AtomicBool,
    /// The peer speaks something else than HTTP/2.
    foreign: AtomicBool,
    /// Nobody needs it any more.
    pub(super) unneeded: Flag,
}

impl Standing {
    pub(super) fn is_foreign(&self) -> bool {
        self.foreign.load(Ordering::SeqCst)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    pub(super) fn streams(&self) -> Option<u32> {
        *self.streams.lock()
    }
}

/// One socket's way to the table.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    table: Weak<Table>,
    number: u64,
    standing: Arc<Standing>,
}

impl Desk {
    pub(super) const fn new(table: Weak<Table>, number: u64, standing: Arc<Standing>) -> Self {
        Self {
            table,
            number,
            standing,
        }
    }

    /// The peer's settings hold from now on: so many streams, or any number.
    pub(super) fn limit(&self, streams: Option<u32>) {
        // Before the table, which reads it when it opens the socket's room.
        *self.standing.streams.lock() = streams;
        if let Some(table) = self.table.upgrade() {
            table.allow(self.number, streams);
        }
        self.standing.greeted.raise();
    }

    /// The peer takes no more streams.
    pub(super) fn leaving(&self) {
        self.standing.leaving.store(true, Ordering::SeqCst);
        if let Some(table) = self.table.upgrade() {
            table.say_goodbye(self.number);
        }
    }

    /// The peer speaks something else than HTTP/2.
    pub(super) fn foreign(&self) {
        self.standing.foreign.store(true, Ordering::SeqCst);
    }

    /// The socket takes and gives nothing more.
    pub(super) fn gone(&self) {
        self.standing.gone.store(true, Ordering::SeqCst);
        if let Some(table) = self.table.upgrade() {
            table.gone(self.number);
        }
    }

    /// The socket is closed.
    pub(super) fn ended(&self) {
        self.gone();
        self.standing.ended.raise();
    }
}
