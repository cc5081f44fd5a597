//! The lease table: the one authority on whether a lease is valid. Synchronous; time comes in as an argument.
//!
//! A lease is *idle* (its ttl runs), *running* (a call runs and the ttl's clock stands still), or *bound* (it lives
//! with a stream and has no ttl). Each can end at any time; an end is recorded once, and the first one counts.
//! What has to be done about an end falls to exactly one side: to whoever ended it if the lease was not running, else
//! to whoever runs the call, who learns it from [`Table::finish`].

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{Bounds, memory::Memory};
use crate::clock::Time;

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Its holder released it.
    Released,
    /// Its ttl passed.
    Expired,
    /// Its hard limit passed.
    HardLimit,
    /// It was taken away.
    Revoked,
    /// Its session broke, or the broker was restarted.
    SessionLost,
    /// Its pool was deleted.
    PoolDeleted,
    /// The broker stopped.
    BrokerStopped,
    /// Nothing is known of it.
    NotFound,
}

/// A lease's life as its holder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Time left; while a call runs or the lease is bound, what it will have afterwards.
    pub ttl: Duration,
    /// When to renew at the latest.
    pub renew_after: Duration,
    /// Time left to the hard limit.
    pub hard: Duration,
}

/// On what terms a lease is granted.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The pool's bounds.
    pub bounds: Bounds,
    /// The ttl that was asked for.
    pub ttl: Option<Duration>,
    /// Whether it lives with a stream, and has no ttl.
    pub bound: bool,
}

/// What ending a lease found.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<H> {
    /// It was idle: whoever ended it has to take care of its session.
    Idle(H),
    /// A call runs on it: the end is recorded, and whoever runs the call takes care of the session.
    Running(H),
    /// It had ended before, or was never there.
    Before(End),
}

/// One lease that a [`Table::tick`] ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Overdue<H> {
    /// How it ended.
    pub end: End,
    /// What the end found: idle or running.
    pub ended: Ended<H>,
}

/// Leases that one tick looks at, at most, so that a wave of expiries never holds the lock for long.
const LOOKS_PER_TICK: usize = 256;

#[derive(Debug)]
struct Record<H> {
    handle: H,
    bounds: Bounds,
    ttl: Duration,
    /// When it ends unless something happens: the sooner of ttl and hard limit.
    due: Time,
    /// When it is looked at: never later than it is due. Every call puts the end off, so looking anew when the old
    /// moment has come is cheaper than moving it each time.
    looked_at: Time,
    hard: Time,
    running: bool,
    bound: bool,
}

impl<H> Record<H> {
    fn next_due(&self, now: Time) -> Time {
        if self.running || self.bound {
            self.hard
        } else {
            self.hard.min(now + self.ttl)
        }
    }

    fn status(&self, now: Time) -> Status {
        let hard = self.hard.since(now);
        let ttl = if self.running || self.bound {
            self.ttl.min(hard)
        } else {
            self.due.since(now)
        };
        Status {
            ttl,
            renew_after: ttl / 3,
            hard,
        }
    }
}

/// Every lease of this broker, with `H` as the shell's handle on each.
#[derive(Debug)]
pub struct Table<H> {
    live: HashMap<u64, Record<H>>,
    /// When to look at which lease.
    looks: BTreeSet<(Time, u64)>,
    memory: Memory,
    last_id: u64,
}

impl<H: Clone> Default for Table<H> {
    fn default() -> Self {
        Self {
            live: HashMap::new(),
            looks: BTreeSet::new(),
            memory: Memory::default(),
            last_id: 0,
        }
    }
}

impl<H: Clone> Table<H> {
    /// Grants a lease.
    pub fn grant(&mut self, now: Time, terms: Terms, make: impl FnOnce(u64) -> H) -> (H, Status) {
        self.last_id += 1;
        let id = self.last_id;
        let handle = make(id);
        let mut record = Record {
            handle: handle.clone(),
            bounds: terms.bounds,
            ttl: terms.bounds.ttl(terms.ttl),
            due: Time::NEVER,
            looked_at: Time::NEVER,
            hard: now + terms.bounds.max_duration,
            running: false,
            bound: terms.bound,
        };
        record.due = record.next_due(now);
        record.looked_at = record.due;
        self.looks.insert((record.due, id));
        let status = record.status(now);
        self.live.insert(id, record);
        (handle, status)
    }

    /// The handle of a live lease.
    ///
    /// # Errors
    /// How it ended.
    pub fn find(&self, id: u64) -> Result<H, End> {
        match self.live.get(&id) {
            Some(record) => Ok(record.handle.clone()),
            None => Err(self.memory.recall(id)),
        }
    }

    /// Starts a call: the ttl's clock stops. False if a call runs already.
    ///
    /// # Errors
    /// How the lease ended.
    pub fn begin(&mut self, now: Time, id: u64) -> Result<bool, End> {
        let Some(record) = self.live.get_mut(&id) else {
            return Err(self.memory.recall(id));
        };
        if record.running {
            return Ok(false);
        }
        if record.due <= now {
            // The timer is late: the lease is over all the same, and the tick will say so.
            let end = record_end(record, now);
            return Err(end);
        }
        record.running = true;
        self.reschedule(now, id);
        Ok(true)
    }

    /// Ends a call: the ttl starts anew, in full.
    ///
    /// # Errors
    /// How the lease ended in the meantime: the caller has to take care of its session.
    pub fn finish(&mut self, now: Time, id: u64) -> Result<Status, End> {
        let Some(record) = self.live.get_mut(&id) else {
            return Err(self.memory.recall(id));
        };
        record.running = false;
        self.reschedule(now, id);
        self.status(now, id)
    }

    /// Extends a lease by its ttl, or by a new one.
    ///
    /// # Errors
    /// How it ended.
    pub fn renew(&mut self, now: Time, id: u64, ttl: Option<Duration>) -> Result<Status, End> {
        let Some(record) = self.live.get_mut(&id) else {
            return Err(self.memory.recall(id));
        };
        if record.due <= now {
            return Err(record_end(record, now));
        }
        if ttl.is_some() {
            record.ttl = record.bounds.ttl(ttl);
        }
        self.reschedule(now, id);
        self.status(now, id)
    }

    /// A lease's status, changing nothing.
    ///
    /// # Errors
    /// How it ended.
    pub fn status(&self, now: Time, id: u64) -> Result<Status, End> {
        match self.live.get(&id) {
            Some(record) => Ok(record.status(now)),
            None => Err(self.memory.recall(id)),
        }
    }

    /// Ends a lease.
    pub fn end(&mut self, now: Time, id: u64, end: End) -> Ended<H> {
        let Some(record) = self.live.remove(&id) else {
            return Ended::Before(self.memory.recall(id));
        };
        self.looks.remove(&(record.looked_at, id));
        self.memory.remember(now, id, end);
        if record.running {
            Ended::Running(record.handle)
        } else {
            Ended::Idle(record.handle)
        }
    }

    /// Ends what is overdue, a bounded number at a time, and forgets what ended long ago. Harmless at any time.
    pub fn tick(&mut self, now: Time) -> Vec<Overdue<H>> {
        self.memory.forget(now);
        let mut ended = Vec::new();
        for _ in 0..LOOKS_PER_TICK {
            let Some(id) = self.to_look_at(now) else { break };
            let Some(record) = self.live.get_mut(&id) else {
                break;
            };
            if record.due > now {
                self.looks.remove(&(record.looked_at, id));
                record.looked_at = record.due;
                self.looks.insert((record.due, id));
                continue;
            }
            let end = record_end(record, now);
            ended.push(Overdue {
                end,
                ended: self.end(now, id, end),
            });
        }
        ended
    }

    /// When [`Table::tick`] has to look at a lease again: not after the next one is due, and maybe before.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        self.looks.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    fn to_look_at(&self, now: Time) -> Option<u64> {
        let &(at, id) = self.looks.first()?;
        (at <= now).then_some(id)
    }

    /// Live leases that `wanted` wants, the oldest first.
    #[must_use]
    pub fn list(&self, now: Time, wanted: impl Fn(&H) -> bool) -> Vec<Listed<H>> {
        let mut listed: Vec<_> = self
            .live
            .iter()
            .filter(|(_, record)| wanted(&record.handle))
            .map(|(id, record)| Listed {
                id: *id,
                handle: record.handle.clone(),
                status: record.status(now),
                running: record.running,
                bound: record.bound,
            })
            .collect();
        listed.sort_unstable_by_key(|lease| lease.id);
        listed
    }

    /// Live leases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no lease lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    fn reschedule(&mut self, now: Time, id: u64) {
        if let Some(record) = self.live.get_mut(&id) {
            record.due = record.next_due(now);
            if record.due < record.looked_at {
                self.looks.remove(&(record.looked_at, id));
                record.looked_at = record.due;
                self.looks.insert((record.due, id));
            }
        }
    }
}

/// A live lease, for lists.
#[derive(Debug)]
pub struct Listed<H> {
    /// Its number.
    pub id: u64,
    /// The shell's handle.
    pub handle: H,
    /// Its life.
    pub status: Status,
    /// Whether a call runs on it.
    pub running: bool,
    /// Whether it lives with a stream.
    pub bound: bool,
}

fn record_end<H>(record: &Record<H>, now: Time) -> End {
    if record.hard <= now {
        End::HardLimit
    } else {
        End::Expired
    }
}
