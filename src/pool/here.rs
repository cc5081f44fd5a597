//! Which thread this is, as a number that a core can keep.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, Ordering},
};

static NEXT: AtomicU32 = AtomicU32::new(1);

thread_local! {
    static HERE: Cell<u32> = const { Cell::new(0) };
}

/// The present thread's number, never 0.
pub(super) fn here() -> u32 {
    HERE.with(|here| {
        if here.get() == 0 {
            here.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        here.get()
    })
}
