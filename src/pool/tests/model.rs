//! Random events against a model that is too simple to be wrong: a list of sessions, and a list of waiters in the
//! order in which they came. After every step the core's rules are checked from outside.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use crate::{
    backend::DialErrorKind,
    clock::Time,
    pool::{
        Ending, HealthSettings, Priority, Refusal, Settings,
        core::{Action, Core, Grant, Numbers, Release, Reply, SessionKey, SessionState, WaiterKey, Wanted},
    },
};

/// Something that happens to a pool. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Acquire {
        priority: Priority,
        wait: bool,
        millis: u64,
    },
    Cancel(usize),
    Release(usize, Release),
    DialEnds(usize, Option<DialErrorKind>),
    ProbeEnds(usize, bool),
    RestoreEnds(usize, bool),
    Closed(usize),
    Advance(u64),
    Operate(Order),
}

/// What an operator does, and what nobody should.
#[derive(Clone, Debug)]
enum Order {
    Pause(bool),
    Recycle,
    Resize { min: u32, max: u32 },
    Ceiling(Option<u32>),
    Warm(u32),
    Check,
    Doom(usize),
    Stale(usize, u8),
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)]
}

fn dial_end() -> impl Strategy<Value = Option<DialErrorKind>> {
    prop_oneof![
        6 => Just(None),
        1 => Just(Some(DialErrorKind::Permanent)),
        2 => Just(Some(DialErrorKind::Transient)),
        1 => Just(Some(DialErrorKind::TooMany)),
        1 => Just(Some(DialErrorKind::Occupied)),
    ]
}

fn release() -> impl Strategy<Value = Release> {
    prop_oneof![
        6 => Just(Release::Clean),
        1 => Just(Release::Dirty),
        1 => Just(Release::Interrupted),
        1 => Just(Release::Broken),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..64_usize;
    prop_oneof![
        20 => (priority(), prop::bool::weighted(0.9), 0..20_000_u64)
            .prop_map(|(priority, wait, millis)| Step::Acquire { priority, wait, millis }),
        4 => which.clone().prop_map(Step::Cancel),
        14 => (which.clone(), release()).prop_map(|(index, how)| Step::Release(index, how)),
        10 => (which.clone(), dial_end()).prop_map(|(index, end)| Step::DialEnds(index, end)),
        8 => (which.clone(), prop::bool::weighted(0.8)).prop_map(|(index, alive)| Step::ProbeEnds(index, alive)),
        5 => (which.clone(), prop::bool::weighted(0.8)).prop_map(|(index, clean)| Step::RestoreEnds(index, clean)),
        8 => which.clone().prop_map(Step::Closed),
        12 => prop_oneof![0..50_u64, 0..3_000_u64, 0..120_000_u64].prop_map(Step::Advance),
        10 => order().prop_map(Step::Operate),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let which = 0..64_usize;
    prop_oneof![
        2 => any::<bool>().prop_map(Order::Pause),
        1 => Just(Order::Recycle),
        2 => (0..4_u32, 1..8_u32).prop_map(|(min, max)| Order::Resize { min: min.min(max), max }),
        1 => prop::option::of(0..6_u32).prop_map(Order::Ceiling),
        1 => (0..6_u32).prop_map(Order::Warm),
        1 => Just(Order::Check),
        1 => which.clone().prop_map(Order::Doom),
        3 => (which, 0..5_u8).prop_map(|(index, kind)| Order::Stale(index, kind)),
    ]
}

struct Waiting {
    tag: usize,
    key: WaiterKey,
    priority: Priority,
    arrived: Time,
    deadline: Time,
}

/// The core under test, and what the model believes.
struct Model {
    core: Core,
    settings: Settings,
    now: Time,
    tags: usize,
    waiting: Vec<Waiting>,
    sessions: HashMap<SessionKey, SessionState>,
    /// In the order they came, so that a run can be repeated.
    order: Vec<SessionKey>,
    gone: Vec<SessionKey>,
    last_number: u64,
    ended: bool,
    paused: bool,
}

fn settings(min: u32, max: u32, max_waiters: u32) -> Settings {
    Settings {
        min_sessions: min,
        max_sessions: max,
        max_idle: max.max(1),
        max_lifetime: Duration::from_secs(40),
        idle: Duration::from_secs(20),
        max_waiters,
        health: Some(HealthSettings {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            probe_after_idle: Duration::from_secs(1),
        }),
        ..Settings::default()
    }
}

impl Model {
    fn new(min: u32, max: u32, max_waiters: u32) -> Self {
        let settings = settings(min, max, max_waiters);
        let mut model = Self {
            core: Core::new(Time::ZERO, Numbers::of_boot(3), 99, settings.clone()),
            settings,
            now: Time::ZERO,
            tags: 0,
            waiting: Vec::new(),
            sessions: HashMap::new(),
            order: Vec::new(),
            gone: Vec::new(),
            last_number: 3 << 40,
            ended: false,
            paused: false,
        };
        model.absorb(None);
        model.check();
        model
    }

    fn in_state(&self, state: SessionState, index: usize) -> Option<SessionKey> {
        let found: Vec<_> = self
            .order
            .iter()
            .filter(|key| self.sessions.get(key) == Some(&state))
            .collect();
        (!found.is_empty()).then(|| *found[index % found.len()])
    }

    fn take_number(&mut self, number: u64) {
        assert!(number > self.last_number, "fence numbers rise");
        self.last_number = number;
    }

    fn note_grant(&mut self, grant: Grant) {
        self.take_number(grant.number);
        self.sessions.insert(grant.session, SessionState::Leased);
    }

    /// Carries out the actions. `freed` is a session that left its holder or its work in this step.
    fn absorb(&mut self, freed: Option<SessionKey>) {
        for action in self.core.take_actions() {
            match action {
                Action::Grant { tag, grant } => {
                    let state = self.sessions.get(&grant.session);
                    let free = state == Some(&SessionState::Idle) || freed == Some(grant.session);
                    assert!(free && !self.paused, "granted only what is free");
                    let best = self.best();
                    assert_eq!(self.waiting[best].tag, tag, "the best waiter is served");
                    let waiter = self.waiting.remove(best);
                    assert!(waiter.deadline > self.now, "nobody is served after its deadline");
                    self.note_grant(grant);
                }
                Action::Refuse { tag, .. } => self.waiting.retain(|waiter| waiter.tag != tag),
                Action::Dial { task, .. } => {
                    self.take_number(task.number);
                    self.add(task.session);
                }
                Action::Probe(task) => {
                    self.take_number(task.number);
                    self.sessions.insert(task.session, SessionState::Probing);
                }
                Action::Restore { task, .. } => {
                    self.take_number(task.number);
                    self.sessions.insert(task.session, SessionState::Resetting);
                }
                Action::Close(key) => {
                    self.sessions.insert(key, SessionState::Closing);
                }
            }
        }
        for (key, record) in self.core.sessions() {
            if record.state() == SessionState::Idle {
                self.sessions.insert(key, SessionState::Idle);
            }
        }
    }

    fn add(&mut self, key: SessionKey) {
        assert!(
            self.sessions.insert(key, SessionState::Dialing).is_none(),
            "a key is used once"
        );
        self.order.push(key);
        assert!(
            self.sessions.len() <= self.core.cap() as usize,
            "nothing is dialed above the cap"
        );
        assert!(!self.ended, "nothing is dialed at the end");
    }

    fn remove(&mut self, key: SessionKey) {
        self.sessions.remove(&key);
        self.order.retain(|other| *other != key);
        self.gone.push(key);
    }

    /// By the words of the contract: strict classes, each `ageing` waited lifts one, first come first served.
    fn best(&self) -> usize {
        let class = |waiter: &Waiting| {
            let lifts = self.now.since(waiter.arrived).as_nanos() / self.settings.ageing.as_nanos();
            (waiter.priority as u128 + lifts).min(2)
        };
        let mut best = 0;
        for (index, waiter) in self.waiting.iter().enumerate() {
            if class(waiter) > class(&self.waiting[best]) {
                best = index;
            }
        }
        best
    }

    fn acquire(&mut self, priority: Priority, wait: bool, millis: u64) {
        let tag = self.tags;
        self.tags += 1;
        let deadline = self.now + Duration::from_millis(millis);
        let wanted = Wanted {
            deadline,
            priority,
            wait,
            tag,
            near: 0,
            place: None,
        };
        let queued = self.waiting.iter().any(|waiter| waiter.deadline > self.now);
        let ahead = self.waiting.iter().filter(|waiter| waiter.deadline > self.now);
        let (ahead, limit) = (ahead.count(), self.settings.max_waiters as usize);
        let places = (self.core.cap() as usize).saturating_sub(self.sessions.len());
        let (dialing, failing) = (self.count(SessionState::Dialing), self.core.is_failing());
        let idle = self.count(SessionState::Idle);
        match self.core.acquire(self.now, wanted) {
            Reply::Granted(grant) => {
                assert!(!queued && !self.paused, "no newcomer passes the queue");
                assert_eq!(self.sessions.get(&grant.session), Some(&SessionState::Idle));
                self.note_grant(grant);
            }
            Reply::Refused(Refusal::QueueFull { .. }) => {
                let welcome = if wait && !self.paused && !failing {
                    places
                } else {
                    0
                };
                assert!(ahead >= limit.max(welcome), "there was room for one more");
            }
            Reply::Refused(_) => {}
            Reply::Waiting(key) => {
                let probed = usize::from(ahead == 0 && idle > 0);
                let places = if failing { places.min(1) } else { places };
                let most = limit.max(places + dialing).max(probed);
                assert!(ahead < most, "no more wait than may");
                let arrived = self.now;
                self.waiting.push(Waiting {
                    tag,
                    key,
                    priority,
                    arrived,
                    deadline,
                });
            }
        }
        self.absorb(None);
    }

    /// An event of a session that has gone must not change anything.
    fn stale(&mut self, index: usize, kind: u8) {
        if self.gone.is_empty() {
            return;
        }
        let key = self.gone[index % self.gone.len()];
        let before = (self.core.stats().total, self.core.next_deadline());
        match kind {
            0 => self.core.release(self.now, key, Release::Clean),
            1 => self.core.dialed(self.now, key),
            2 => self.core.probed(self.now, key, true),
            3 => self.core.restored(self.now, key, true),
            _ => self.core.closed(self.now, key),
        }
        assert_eq!((self.core.stats().total, self.core.next_deadline()), before);
        assert!(self.core.take_actions().is_empty(), "a stale event does nothing");
    }

    fn advance(&mut self, millis: u64) {
        let target = self.now + Duration::from_millis(millis);
        // As the driver does it: at every deadline on the way, and once at the end.
        while self.core.next_deadline() <= target {
            self.now = self.now.max(self.core.next_deadline());
            self.core.tick(self.now);
            self.absorb(None);
            assert!(self.core.next_deadline() > self.now, "a tick leaves nothing due");
            self.check();
        }
        self.now = target;
        self.core.tick(self.now);
        self.absorb(None);
        assert!(self.core.next_deadline() > self.now, "a tick leaves nothing due");
    }

    fn resize(&mut self, min: u32, max: u32) {
        self.settings = settings(min, max, self.settings.max_waiters);
        self.core.reconfigure(self.now, self.settings.clone(), false);
        self.absorb(None);
    }

    fn dial_ends(&mut self, index: usize, end: Option<DialErrorKind>) {
        let Some(key) = self.in_state(SessionState::Dialing, index) else {
            return;
        };
        match end {
            None => {
                self.core.dialed(self.now, key);
                self.absorb(Some(key));
            }
            Some(kind) => {
                self.remove(key);
                self.core.dial_failed(self.now, key, kind, "no".to_owned());
                self.absorb(None);
            }
        }
    }

    fn run(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Acquire {
                priority,
                wait,
                millis,
            } => self.acquire(priority, wait, millis),
            Step::Cancel(index) => {
                if !self.waiting.is_empty() {
                    let waiter = self.waiting.remove(index % self.waiting.len());
                    self.core.cancel(waiter.key);
                    self.core.cancel(waiter.key);
                }
                self.absorb(None);
            }
            Step::Release(index, how) => {
                if let Some(key) = self.in_state(SessionState::Leased, index) {
                    self.core.release(now, key, how);
                    self.absorb(Some(key));
                }
            }
            Step::DialEnds(index, end) => self.dial_ends(index, end),
            Step::ProbeEnds(index, alive) => {
                if let Some(key) = self.in_state(SessionState::Probing, index) {
                    self.core.probed(now, key, alive);
                    self.absorb(Some(key));
                }
            }
            Step::RestoreEnds(index, clean) => {
                if let Some(key) = self.in_state(SessionState::Resetting, index) {
                    self.core.restored(now, key, clean);
                    self.absorb(Some(key));
                }
            }
            Step::Closed(index) => {
                if let Some(key) = self.in_state(SessionState::Closing, index) {
                    self.remove(key);
                    self.core.closed(now, key);
                    self.absorb(None);
                }
            }
            Step::Advance(millis) => self.advance(millis),
            Step::Operate(ref order) => self.operate(order),
        }
    }

    fn operate(&mut self, order: &Order) {
        let now = self.now;
        match *order {
            Order::Pause(true) => {
                self.core.pause(now);
                self.paused = true;
            }
            Order::Pause(false) => {
                self.core.resume(now);
                self.paused = false;
            }
            Order::Recycle => drop(self.core.recycle(now)),
            Order::Resize { min, max } => self.resize(min, max),
            Order::Ceiling(ceiling) => self.core.set_ceiling(now, ceiling),
            Order::Warm(target) => self.core.warm(now, target, now + Duration::from_secs(3)),
            Order::Check => self.check_backend(),
            Order::Doom(index) if !self.order.is_empty() => {
                let key = self.order[index % self.order.len()];
                assert!(self.core.doom(now, key));
            }
            Order::Doom(_) => {}
            Order::Stale(index, kind) => self.stale(index, kind),
        }
        self.absorb(None);
    }

    fn check_backend(&mut self) {
        if let Some(task) = self.core.begin_check(self.now, 0) {
            self.take_number(task.number);
            self.add(task.session);
        }
    }

    fn count(&self, state: SessionState) -> usize {
        self.sessions.values().filter(|found| **found == state).count()
    }

    /// The rules that hold after every step.
    fn check(&self) {
        let stats = self.core.stats();
        let parts =
            stats.active + stats.idle + stats.dialing + stats.probing + stats.resetting + stats.closing;
        assert_eq!(stats.total, parts, "gauges add up");
        assert_eq!(stats.total as usize, self.sessions.len(), "nothing leaks");
        for (state, gauge) in [
            (SessionState::Leased, stats.active),
            (SessionState::Idle, stats.idle),
            (SessionState::Dialing, stats.dialing),
            (SessionState::Probing, stats.probing),
            (SessionState::Resetting, stats.resetting),
            (SessionState::Closing, stats.closing),
        ] {
            assert_eq!(self.count(state), gauge as usize, "{state:?}");
        }
        assert_eq!(stats.waiters as usize, self.waiting.len(), "waiters add up");
        let fates = stats.granted + stats.refused + stats.cancelled + u64::from(stats.waiters);
        assert_eq!(stats.acquires, fates, "requests add up");
        assert!(stats.idle <= self.settings.max_idle);
        self.check_service();
    }

    /// Nobody waits for what is there or could be on its way.
    fn check_service(&self) {
        let stats = self.core.stats();
        if stats.waiters == 0 || self.paused || self.ended {
            return;
        }
        let fresh = self.core.sessions().any(|(_, record)| {
            record.state() == SessionState::Idle && self.now.since(record.fresh_at()) < Duration::from_secs(1)
        });
        assert!(!fresh, "no fresh idle session stands beside a waiter");
        assert!(
            stats.idle == 0 || stats.probing > 0,
            "an idle one is being probed at least"
        );
        let patient = self.core.waiters(self.now).any(|waiter| waiter.patient);
        let on_its_way = stats.total > stats.closing;
        let occupied = self.core.is_occupied(self.now);
        let allowed = stats.total < self.core.cap() && self.core.is_serving() && !occupied;
        assert!(
            !(patient && allowed) || on_its_way,
            "somebody dials when all are gone"
        );
    }

    /// Ends the pool: when everything has come back, nothing is left.
    fn wind_up(&mut self) {
        self.core.refuse_new(self.now, Ending::Deleted);
        self.ended = true;
        self.absorb(None);
        assert!(self.waiting.is_empty(), "everybody was refused");
        for state in [
            SessionState::Leased,
            SessionState::Dialing,
            SessionState::Probing,
            SessionState::Resetting,
            SessionState::Closing,
        ] {
            while self.in_state(state, 0).is_some() {
                let step = match state {
                    SessionState::Leased => Step::Release(0, Release::Clean),
                    SessionState::Dialing => Step::DialEnds(0, None),
                    SessionState::Probing => Step::ProbeEnds(0, true),
                    SessionState::Resetting => Step::RestoreEnds(0, true),
                    SessionState::Idle | SessionState::Closing => Step::Closed(0),
                };
                self.run(&step);
                self.check();
            }
        }
        let stats = self.core.stats();
        assert_eq!((stats.total, stats.waiters), (0, 0), "gauges are zero at rest");
        assert!(self.core.is_over());
        assert_eq!(
            self.core.next_deadline(),
            Time::NEVER,
            "nothing is left to be done"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_holds_after_every_event(
        min in 0..3_u32,
        max in 1..6_u32,
        max_waiters in prop_oneof![Just(0), 1..4_u32, Just(12)],
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut model = Model::new(min.min(max), max, max_waiters);
        for step in &steps {
            model.run(step);
            model.check();
        }
        model.wind_up();
    }
}
