//! Drives a core by hand: events in, actions out, no runtime.

use std::time::Duration;

use crate::{
    backend::DialErrorKind,
    clock::Time,
    pool::{
        Priority, Refusal, Settings,
        core::{Action, Core, Grant, Numbers, Release, Reply, SessionKey, WaiterKey, Wanted},
    },
};

/// A core, the time, and the tag of the next request.
pub(super) struct Stage {
    pub(super) core: Core,
    pub(super) now: Time,
    tags: usize,
}

impl Stage {
    pub(super) fn new(settings: Settings) -> Self {
        let now = Time::from_nanos(1_000_000_000);
        let core = Core::new(now, Numbers::of_boot(1), 5, settings);
        Self { core, now, tags: 0 }
    }

    pub(super) fn later(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Time passes, and the core hears of it.
    pub(super) fn tick(&mut self, span: Duration) -> Vec<Action> {
        self.later(span);
        self.core.tick(self.now);
        self.actions()
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        self.core.take_actions()
    }

    pub(super) fn ask_as(&mut self, priority: Priority, wait: bool) -> Reply {
        self.ask_from(0, priority, wait)
    }

    fn ask_from(&mut self, near: u32, priority: Priority, wait: bool) -> Reply {
        let wanted = Wanted {
            deadline: self.now + Duration::from_secs(60),
            priority,
            wait,
            tag: self.tags,
            near,
            place: None,
        };
        self.tags += 1;
        self.core.acquire(self.now, wanted)
    }

    /// Asks for a session of one endpoint.
    pub(super) fn ask_at(&mut self, place: usize) -> Reply {
        let wanted = Wanted {
            deadline: self.now + Duration::from_secs(60),
            priority: Priority::Normal,
            wait: true,
            tag: self.tags,
            near: 0,
            place: Some(place),
        };
        self.tags += 1;
        self.core.acquire(self.now, wanted)
    }

    pub(super) fn ask(&mut self) -> Reply {
        self.ask_as(Priority::Normal, true)
    }

    /// Asks, and has to wait.
    pub(super) fn queue(&mut self) -> WaiterKey {
        let Reply::Waiting(key) = self.ask() else {
            panic!("expected to wait")
        };
        key
    }

    /// Asks, and is served at once.
    pub(super) fn take(&mut self) -> Grant {
        let Reply::Granted(grant) = self.ask() else {
            panic!("expected a grant")
        };
        grant
    }

    /// Asks from a place, and is served at once.
    pub(super) fn take_near(&mut self, near: u32) -> Grant {
        let Reply::Granted(grant) = self.ask_from(near, Priority::Normal, true) else {
            panic!("expected a grant")
        };
        grant
    }

    /// Asks, and is refused.
    pub(super) fn refused(&mut self) -> Refusal {
        let Reply::Refused(refusal) = self.ask() else {
            panic!("expected a refusal")
        };
        refusal
    }

    /// Opens `count` sessions ahead of need, however many dials at once that takes.
    pub(super) fn open(&mut self, count: u32) {
        let live = self.core.stats().idle + self.core.stats().active;
        self.core
            .warm(self.now, live + count, self.now + Duration::from_secs(3600));
        loop {
            let dials = dials(&self.actions());
            if dials.is_empty() {
                return;
            }
            for key in dials {
                self.core.dialed(self.now, key);
            }
        }
    }

    pub(super) fn give(&mut self, grant: Grant) {
        self.release(grant, Release::Clean);
    }

    pub(super) fn release(&mut self, grant: Grant, how: Release) {
        self.core.release(self.now, grant.session, how);
    }

    pub(super) fn dial_fails(&mut self, key: SessionKey, kind: DialErrorKind) {
        self.core.dial_failed(self.now, key, kind, "scripted".to_owned());
    }
}

pub(super) fn dials(actions: &[Action]) -> Vec<SessionKey> {
    let found = actions.iter().filter_map(|action| {
        if let Action::Dial { task, .. } = action {
            Some(task.session)
        } else {
            None
        }
    });
    found.collect()
}

pub(super) fn closes(actions: &[Action]) -> Vec<SessionKey> {
    let found = actions.iter().filter_map(|action| {
        if let Action::Close(key) = action {
            Some(*key)
        } else {
            None
        }
    });
    found.collect()
}

pub(super) fn probes(actions: &[Action]) -> Vec<SessionKey> {
    let found = actions.iter().filter_map(|action| {
        if let Action::Probe(task) = action {
            Some(task.session)
        } else {
            None
        }
    });
    found.collect()
}

/// Tags of those who were granted a session, in order.
pub(super) fn grants(actions: &[Action]) -> Vec<(usize, Grant)> {
    let found = actions.iter().filter_map(|action| {
        if let Action::Grant { tag, grant } = action {
            Some((*tag, *grant))
        } else {
            None
        }
    });
    found.collect()
}

pub(super) fn refusals(actions: &[Action]) -> Vec<Refusal> {
    let found = actions.iter().filter_map(|action| {
        if let Action::Refuse { refusal, .. } = action {
            Some(refusal.clone())
        } else {
            None
        }
    });
    found.collect()
}
