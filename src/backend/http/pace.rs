//! How far the exchange on a connection has come, noted by its I/O and its body, so that the caller's side can tell
//! which limit has passed: no timer is touched per write.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use super::definition::Limits;
use crate::clock::{Clock, Time};

/// One connection's pace. Written by the connection's task, read by the call's.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Clock,
    /// Since when a write waits for the peer; [`NOT`] if none does.
    blocked_since: AtomicU64,
    last_write: AtomicU64,
    upload: AtomicU8,
    /// hyper has written something of the request.
    begun: AtomicBool,
    /// Nothing of the request is left anywhere above the socket.
    written: AtomicBool,
    answered: AtomicBool,
}

const NOT: u64 = u64::MAX;

/// How a request's body has fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Upload {
    /// It is on its way.
    Going,
    /// All of it was taken over for writing.
    Complete,
    /// The caller went away in the middle.
    Cut,
    /// It had another length than its header promised.
    WrongLength,
}

/// A limit that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overdue {
    pub(super) what: &'static str,
    pub(super) limit: Duration,
}

impl Pace {
    pub(super) fn new(clock: Clock) -> Self {
        let now = AtomicU64::new(clock.now().as_nanos());
        Self {
            clock,
            blocked_since: AtomicU64::new(NOT),
            last_write: now,
            upload: AtomicU8::new(Upload::Complete as u8),
            begun: AtomicBool::new(false),
            written: AtomicBool::new(true),
            answered: AtomicBool::new(true),
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.upload.store(Upload::Going as u8, Ordering::Release);
        self.begun.store(false, Ordering::Release);
        self.written.store(false, Ordering::Release);
        self.answered.store(false, Ordering::Release);
        self.last_write
            .store(self.clock.now().as_nanos(), Ordering::Release);
    }

    /// A write waits for the peer; true if this is news.
    pub(super) fn blocked(&self) -> bool {
        let now = self.clock.now().as_nanos();
        self.blocked_since
            .compare_exchange(NOT, now, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The peer took something; true if it had not for a while.
    pub(super) fn wrote(&self) -> bool {
        self.last_write
            .store(self.clock.now().as_nanos(), Ordering::Release);
        self.blocked_since.swap(NOT, Ordering::AcqRel) != NOT
    }

    pub(super) fn set_upload(&self, fate: Upload) {
        self.upload.store(fate as u8, Ordering::Release);
    }

    pub(super) fn upload(&self) -> Upload {
        const ALL: [Upload; 4] = [Upload::Going, Upload::Complete, Upload::Cut, Upload::WrongLength];
        let stored = usize::from(self.upload.load(Ordering::Acquire));
        ALL.get(stored).copied().unwrap_or(Upload::Going)
    }

    /// hyper has given bytes to the stream.
    pub(super) fn took(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// The stream holds nothing back, and neither does hyper, which flushes the stream only when it has given it
    /// everything. So once the body has ended, the whole request is out. An empty body counts as ended before hyper
    /// has seen the request, hence the look at whether that has begun.
    pub(super) fn flushed(&self) {
        if self.upload() == Upload::Complete && self.begun.load(Ordering::Acquire) {
            self.written.store(true, Ordering::Release);
        }
    }

    /// Whether all of the last request has been written to the socket. An upload that is complete may not be: hyper
    /// takes a whole body at once and writes it at the peer's pace, answer or not.
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    /// The answer's head is here.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    /// Whether no request is being written, and none waits for its answer.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.is_written() && self.answered.load(Ordering::Acquire)
    }

    /// Returns when a limit has passed; never if none does.
    pub(super) async fn overdue(&self, limits: &Limits) -> Overdue {
        let shortest = limits.write.min(limits.first_byte);
        loop {
            let now = self.clock.now();
            // Whatever begins to wait later is due later than this, so no wake-up is needed for it.
            let mut next = now + shortest;
            if let Some((due, overdue)) = self.due(limits) {
                if due <= now {
                    return overdue;
                }
                next = next.min(due);
            }
            self.clock.sleep_until(next).await;
        }
    }

    /// What is waited for now, and until when. A caller who is slow to send is no peer that is slow.
    fn due(&self, limits: &Limits) -> Option<(Time, Overdue)> {
        let blocked = self.blocked_since.load(Ordering::Acquire);
        let (since, what, limit) = if blocked != NOT {
            (blocked, "write", limits.write)
        } else if self.upload() == Upload::Complete && !self.answered.load(Ordering::Acquire) {
            (
                self.last_write.load(Ordering::Acquire),
                "first byte",
                limits.first_byte,
            )
        } else {
            return None;
        };
        Some((Time::from_nanos(since) + limit, Overdue { what, limit }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connect: Duration::from_secs(5),
        write: Duration::from_secs(3),
        first_byte: Duration::from_secs(10),
        pong: Duration::from_secs(10),
    };

    async fn sleep(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_is_due_after_the_last_write() {
        let clock = Clock::tokio();
        let pace = Pace::new(clock.clone());
        pace.begin();
        let writing = async {
            sleep(8).await;
            pace.set_upload(Upload::Complete);
            pace.wrote();
        };
        let (overdue, ()) = tokio::join!(pace.overdue(&LIMITS), writing);
        assert_eq!(overdue.what, "first byte");
        assert_eq!(clock.now().since(Time::ZERO), Duration::from_secs(18));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_waits_is_due_and_one_that_goes_on_is_not() {
        let clock = Clock::tokio();
        let pace = Pace::new(clock.clone());
        pace.begin();
        let writing = async {
            assert!(pace.blocked());
            sleep(2).await;
            assert!(!pace.blocked(), "it is no news");
            assert!(pace.wrote());
            sleep(5).await;
            assert!(pace.blocked());
        };
        let (overdue, ()) = tokio::join!(pace.overdue(&LIMITS), writing);
        assert_eq!(overdue.what, "write");
        assert_eq!(clock.now().since(Time::ZERO), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_request_is_written_when_a_flush_follows_its_end() {
        let pace = Pace::new(Clock::tokio());
        assert!(pace.is_written(), "there is none");
        pace.begin();
        pace.set_upload(Upload::Complete);
        pace.flushed();
        assert!(!pace.is_written(), "the flush was for what came before");
        pace.begin();
        pace.took();
        pace.flushed();
        assert!(!pace.is_written(), "the body goes on");
        pace.set_upload(Upload::Complete);
        assert!(!pace.is_written(), "it may be held back");
        pace.flushed();
        assert!(pace.is_written());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_due_while_the_caller_is_slow_or_the_answer_comes() {
        let pace = Pace::new(Clock::tokio());
        pace.begin();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, pace.overdue(&LIMITS)).await.is_err());
        pace.set_upload(Upload::Complete);
        pace.answered();
        assert!(tokio::time::timeout(hour, pace.overdue(&LIMITS)).await.is_err());
    }
}
