//! The pool's rules as a state machine: events and the time in, actions out. No async, no I/O, no clock, no
//! randomness but what follows from a seed. A file for each kind of event: asking (granting), opening, probing,
//! closing, upkeep, control; one for the choice between endpoints (balancing); and one for each thing it keeps: sessions,
//! waiters, places, dialing, numbers, counters.
//!
//! Invariants after every event: the counts of the states add up to the sessions there are; nothing is dialed above
//! the cap, the pool's and each endpoint's; no fresh idle session stands beside a waiter who would take it unless the
//! pool is paused, or one of an endpoint with less to do is being checked for the waiter; gauges are zero when nothing
//! is there.

mod balancing;
mod closing;
mod control;
mod counters;
mod deadlines;
mod dialing;
mod granting;
mod histogram;
mod numbers;
mod opening;
mod places;
mod probing;
mod random;
mod sessions;
mod upkeep;
mod waiters;

use std::collections::VecDeque;

use self::{
    counters::Counters, dialing::Dialing, places::Places, random::Random, sessions::Sessions, upkeep::Upkeep,
    waiters::Waiters,
};
pub use self::{counters::Stats, histogram::Histogram, sessions::SessionState};
pub(crate) use self::{
    granting::{Release, Wanted},
    numbers::Numbers,
    sessions::SessionKey,
    waiters::{Waiter, WaiterKey},
};
use crate::{
    clock::Time,
    pool::{Ending, Refusal, Settings},
};

/// What the shell has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Hand a session to the waiter with this tag.
    Grant { tag: usize, grant: Grant },
    /// Tell the waiter with this tag no.
    Refuse { tag: usize, refusal: Refusal },
    /// Open the session at the endpoint with this index.
    Dial { task: Task, place: usize },
    /// Check the session.
    Probe(Task),
    /// Bring the session to a clean state, after settling it if it was interrupted.
    Restore { task: Task, settle: bool },
    /// Close the session.
    Close(SessionKey),
}

/// Work of the pool's own on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// The session.
    pub(crate) session: SessionKey,
    /// The fence number under which the pool works.
    pub(crate) number: u64,
}

/// A session's new holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The session.
    pub(crate) session: SessionKey,
    /// The holder's fence number.
    pub(crate) number: u64,
    /// How many had it before.
    pub(crate) earlier: u64,
    /// How long the request waited, in nanoseconds.
    pub(crate) waited: u64,
}

impl Grant {
    /// Of a session that nobody was granted yet.
    pub(crate) const fn none(session: SessionKey) -> Self {
        Self {
            session,
            number: 0,
            earlier: 0,
            waited: 0,
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A session, at once.
    Granted(Grant),
    /// An action will follow.
    Waiting(WaiterKey),
    /// No.
    Refused(Refusal),
}

/// A pool's state.
#[derive(Debug)]
pub(crate) struct Core {
    settings: Settings,
    /// A further limit from outside, such as the cluster's share.
    ceiling: Option<u32>,
    sessions: Sessions,
    waiters: Waiters,
    places: Places,
    dialing: Dialing,
    upkeep: Upkeep,
    counters: Counters,
    random: Random,
    paused: bool,
    ending: Option<Ending>,
    /// Sessions to have open for a while, and until when.
    warm: Option<(u32, Time)>,
    /// Rises when sessions are to be replaced.
    epoch: u32,
    numbers: Numbers,
    /// Probes with a waiter behind them.
    wanted_probes: u32,
    /// Idle sessions that a probe found alive, the last one at the end: they may be fresh although others came free
    /// after them.
    proven: VecDeque<SessionKey>,
    actions: VecDeque<Action>,
}

impl Core {
    pub(crate) fn new(now: Time, numbers: Numbers, seed: u64, settings: Settings) -> Self {
        let upkeep = Upkeep::new(&settings);
        let places = Places::new(&settings.endpoints);
        let mut core = Self {
            settings,
            ceiling: None,
            sessions: Sessions::new(),
            waiters: Waiters::new(),
            places,
            dialing: Dialing::new(),
            upkeep,
            counters: Counters::default(),
            random: Random::new(seed),
            paused: false,
            ending: None,
            warm: None,
            epoch: 0,
            numbers,
            wanted_probes: 0,
            proven: VecDeque::new(),
            actions: VecDeque::new(),
        };
        core.open_more(now);
        core
    }

    /// The next action to carry out, in their order.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// All that are left.
    #[cfg(test)]
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        self.actions.drain(..).collect()
    }

    pub(crate) fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// When [`Core::tick`] has something to do, at the latest: [`Time::NEVER`] if time alone changes nothing.
    pub(crate) fn next_deadline(&self) -> Time {
        if self.is_over() {
            return Time::NEVER;
        }
        let warm = self.warm.map_or(Time::NEVER, |(_, until)| until);
        self.waiters
            .earliest_deadline()
            .min(self.dialing.wake_at)
            .min(self.places.raise_at())
            .min(self.upkeep.at)
            .min(warm)
    }

    /// Time has passed. Harmless at any time and any number of times.
    pub(crate) fn tick(&mut self, now: Time) {
        self.expire(now);
        self.cool_down(now);
        if self.places.raise_at() <= now {
            let limit = self.limit();
            self.places.raise(now, limit);
        }
        if self.upkeep.at <= now {
            self.sweep(now);
        }
        self.open_more(now);
    }

    /// Sessions at most, as the definition and the outside say.
    fn limit(&self) -> u32 {
        let max = self.settings.max_sessions;
        self.ceiling.map_or(max, |ceiling| ceiling.min(max))
    }

    /// Sessions at most, as the endpoints allow too.
    pub(crate) fn cap(&self) -> u32 {
        self.limit().min(self.places.cap())
    }

    /// Sessions to keep open whether they are needed or not. A paused pool opens only what was asked for by name.
    fn floor(&self) -> u32 {
        if self.ending.is_some() {
            return 0;
        }
        let min = if self.paused {
            0
        } else {
            self.settings.min_sessions
        };
        let warm = self.warm.map_or(0, |(target, _)| target);
        min.max(warm).min(self.cap())
    }

    fn task(&mut self, session: SessionKey) -> Task {
        let number = self.numbers.next();
        Task { session, number }
    }
}
