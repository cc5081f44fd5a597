//! Random events on a pool with several endpoints: whatever happens, no endpoint has more than its limit, everybody
//! gets what it asked for, and nobody waits beside a session that would do.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::endpoints::endpoints;
use crate::{
    backend::DialErrorKind,
    clock::Time,
    pool::{
        Ending, HealthSettings, Priority, Settings,
        core::{Action, Core, Grant, Numbers, Release, Reply, SessionKey, SessionState, WaiterKey, Wanted},
    },
};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Acquire(Option<usize>, bool),
    Cancel(usize),
    Release(usize, Release),
    DialEnds(usize, Option<DialErrorKind>),
    ProbeEnds(usize, bool),
    Closed(usize),
    Advance(u64),
    Load(usize, u32),
    /// Which endpoints there are, their limits, and whether sessions are replaced.
    Define([Option<u32>; 3], bool),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..64_usize;
    let end = prop_oneof![
        5 => Just(None),
        1 => Just(Some(DialErrorKind::Permanent)),
        2 => Just(Some(DialErrorKind::Transient)),
        1 => Just(Some(DialErrorKind::TooMany)),
        1 => Just(Some(DialErrorKind::Occupied)),
    ];
    let how = prop_oneof![4 => Just(Release::Clean), 1 => Just(Release::Broken)];
    prop_oneof![
        12 => (prop::option::of(0..3_usize), prop::bool::weighted(0.9)).prop_map(|(place, wait)| Step::Acquire(place, wait)),
        2 => which.clone().prop_map(Step::Cancel),
        10 => (which.clone(), how).prop_map(|(index, how)| Step::Release(index, how)),
        10 => (which.clone(), end).prop_map(|(index, end)| Step::DialEnds(index, end)),
        5 => (which.clone(), prop::bool::weighted(0.8)).prop_map(|(index, alive)| Step::ProbeEnds(index, alive)),
        6 => which.prop_map(Step::Closed),
        6 => prop_oneof![0..2_000_u64, 0..60_000_u64].prop_map(Step::Advance),
        2 => (0..3_usize, 0..4_u32).prop_map(|(place, load)| Step::Load(place, load)),
        1 => (limits(), any::<bool>()).prop_map(|(limits, replace)| Step::Define(limits, replace)),
    ]
}

/// At least one is there.
fn limits() -> impl Strategy<Value = [Option<u32>; 3]> {
    prop::array::uniform3(prop::option::of(1..4_u32))
        .prop_filter("none", |limits| limits.iter().any(Option::is_some))
}

fn settings(limits: [Option<u32>; 3], (min, max, max_idle): (u32, u32, u32)) -> Settings {
    let there = NAMES.iter().zip(limits).filter(|(_, limit)| limit.is_some());
    let there: Vec<_> = there.map(|(name, limit)| (*name, limit)).collect();
    Settings {
        endpoints: endpoints(&there),
        min_sessions: min,
        max_sessions: max,
        max_idle,
        idle: Duration::from_secs(20),
        health: Some(HealthSettings::default()),
        ..Settings::default()
    }
}

struct Waiting {
    tag: usize,
    key: WaiterKey,
    place: Option<usize>,
}

struct Model {
    core: Core,
    now: Time,
    /// Sessions at least and at most, and idle ones at most.
    sizes: (u32, u32, u32),
    /// By name, what is in force.
    limits: [Option<u32>; 3],
    tags: usize,
    waiting: Vec<Waiting>,
    places: HashMap<SessionKey, usize>,
}

impl Model {
    fn new(limits: [Option<u32>; 3], sizes: (u32, u32, u32)) -> Self {
        let core = Core::new(Time::ZERO, Numbers::of_boot(1), 7, settings(limits, sizes));
        let (now, waiting, places) = (Time::ZERO, Vec::new(), HashMap::new());
        Self {
            core,
            now,
            sizes,
            limits,
            tags: 0,
            waiting,
            places,
        }
    }

    fn limit_of(&self, place: usize) -> Option<u32> {
        let name = self.core.place_name(place)?;
        let index = NAMES.iter().position(|known| **known == **name)?;
        self.limits[index].filter(|_| self.core.place_named(name) == Some(place))
    }

    fn granted(&self, grant: Grant, asked: Option<usize>) {
        let place = self.places[&grant.session];
        assert!(
            asked.is_none_or(|asked| asked == place),
            "it gets what it asked for"
        );
    }

    fn absorb(&mut self) {
        for action in self.core.take_actions() {
            match action {
                Action::Grant { tag, grant } => {
                    let place = self.places[&grant.session];
                    let eligible = |waiter: &&Waiting| waiter.place.is_none_or(|asked| asked == place);
                    let first = self.waiting.iter().find(eligible).expect("somebody waits");
                    assert_eq!(first.tag, tag, "who came first of those that it is good for");
                    self.granted(grant, first.place);
                    self.waiting.retain(|waiter| waiter.tag != tag);
                }
                Action::Refuse { tag, .. } => self.waiting.retain(|waiter| waiter.tag != tag),
                Action::Dial { task, place } => {
                    self.places.insert(task.session, place);
                    let there = self.places.values().filter(|other| **other == place).count();
                    let limit = self.limit_of(place).expect("nothing is dialed that is not there");
                    assert!(
                        there <= limit as usize,
                        "nothing is dialed above an endpoint's limit"
                    );
                    assert!(self.places.len() <= self.sizes.1 as usize, "nor above the pool's");
                }
                Action::Probe(_) | Action::Restore { .. } | Action::Close(_) => {}
            }
        }
    }

    fn pick(&self, state: SessionState, index: usize) -> Option<SessionKey> {
        let found: Vec<_> = self
            .core
            .sessions()
            .filter(|(_, record)| record.state() == state)
            .map(|(key, _)| key)
            .collect();
        (!found.is_empty()).then(|| found[index % found.len()])
    }

    fn acquire(&mut self, name: Option<usize>, wait: bool) {
        let place = match name {
            None => None,
            Some(name) => match self.core.place_named(NAMES[name]) {
                None => return,
                place => place,
            },
        };
        let tag = self.tags;
        self.tags += 1;
        let wanted = Wanted {
            deadline: self.now + Duration::from_secs(30),
            priority: Priority::Normal,
            wait,
            tag,
            near: 0,
            place,
        };
        match self.core.acquire(self.now, wanted) {
            Reply::Granted(grant) => self.granted(grant, place),
            Reply::Waiting(key) => self.waiting.push(Waiting { tag, key, place }),
            Reply::Refused(_) => {}
        }
    }

    fn run(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Acquire(name, wait) => self.acquire(name, wait),
            Step::Cancel(index) if !self.waiting.is_empty() => {
                let waiter = self.waiting.remove(index % self.waiting.len());
                self.core.cancel(waiter.key);
            }
            Step::Cancel(_) => {}
            Step::Release(index, how) => {
                if let Some(key) = self.pick(SessionState::Leased, index) {
                    self.core.release(now, key, how);
                }
            }
            Step::DialEnds(index, ref end) => {
                if let Some(key) = self.pick(SessionState::Dialing, index) {
                    match end {
                        None => self.core.dialed(now, key),
                        Some(kind) => {
                            self.places.remove(&key);
                            self.core.dial_failed(now, key, *kind, "no".to_owned());
                        }
                    }
                }
            }
            Step::ProbeEnds(index, alive) => {
                if let Some(key) = self.pick(SessionState::Probing, index) {
                    self.core.probed(now, key, alive);
                }
            }
            Step::Closed(index) => {
                if let Some(key) = self.pick(SessionState::Closing, index) {
                    self.places.remove(&key);
                    self.core.closed(now, key);
                }
            }
            Step::Advance(millis) => {
                self.now = now + Duration::from_millis(millis);
                self.core.tick(self.now);
            }
            Step::Load(place, load) => self.core.set_load(now, place, load),
            Step::Define(limits, replace) => {
                self.limits = limits;
                self.core.reconfigure(now, settings(limits, self.sizes), replace);
            }
        }
        self.absorb();
        self.check();
    }

    fn check(&self) {
        let stats = self.core.stats();
        assert_eq!(stats.total as usize, self.places.len(), "nothing leaks");
        assert_eq!(stats.waiters as usize, self.waiting.len(), "waiters add up");
        for (key, record) in self.core.sessions() {
            assert_eq!(self.places[&key], record.place(), "a session stays where it is");
            let fresh = self.now.since(record.fresh_at()) < Duration::from_secs(1);
            if record.state() == SessionState::Idle && fresh && !self.core.is_spoken_for(record.place()) {
                let eligible = |waiter: &Waiting| waiter.place.is_none_or(|asked| asked == record.place());
                assert!(
                    !self.waiting.iter().any(eligible),
                    "nobody waits beside a session that would do"
                );
            }
        }
    }

    /// Lets everything that is under way end well, at once. It comes to rest, and then nobody waits who could be served.
    fn rest(&mut self) {
        let ends = [Step::DialEnds(0, None), Step::ProbeEnds(0, true), Step::Closed(0)];
        let mut steps = 0;
        for (state, end) in [
            SessionState::Dialing,
            SessionState::Probing,
            SessionState::Closing,
        ]
        .iter()
        .zip(&ends)
        .cycle()
        {
            if self.pick(*state, 0).is_some() {
                self.run(end);
            } else if ends
                .iter()
                .zip([
                    SessionState::Dialing,
                    SessionState::Probing,
                    SessionState::Closing,
                ])
                .all(|(_, state)| self.pick(state, 0).is_none())
            {
                break;
            }
            steps += 1;
            assert!(steps < 300, "it comes to rest");
        }
        self.check_rest();
    }

    /// At rest everybody who waits for an endpoint that can be reached and has room waits for sessions that are in use,
    /// there or all over the pool.
    fn check_rest(&self) {
        let spoken_for = (0..NAMES.len()).any(|place| self.core.is_spoken_for(place));
        assert!(!spoken_for, "nothing is being checked any more");
        let total = self.places.len();
        let idle = self.pick(SessionState::Idle, 0).is_some();
        if self.core.is_occupied(self.now) {
            // It is tried again soon, though perhaps not before somebody's time is up.
            return;
        }
        for waiter in self.core.waiters(self.now).filter(|waiter| waiter.patient) {
            let Some(place) = waiter.place.filter(|place| !self.core.is_failing_at(*place)) else {
                continue;
            };
            let there = self.places.values().filter(|other| **other == place).count();
            // What is held there may come free before a dial would end.
            let room = there == 0 && self.core.cap_at(place) > 0;
            let room = room && (total < self.sizes.1 as usize || idle);
            assert!(
                !room || self.core.next_deadline() < waiter.deadline,
                "somebody waits for nothing"
            );
        }
    }

    fn wind_up(&mut self) {
        self.core.refuse_new(self.now, Ending::Deleted);
        self.absorb();
        assert!(self.waiting.is_empty(), "everybody was refused");
        for step in [
            Step::Release(0, Release::Clean),
            Step::DialEnds(0, None),
            Step::ProbeEnds(0, true),
            Step::Closed(0),
        ] {
            for _ in 0..64 {
                self.run(&step);
            }
        }
        assert!(self.core.is_over(), "gauges are zero at rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_endpoint_keeps_its_rules_after_every_event(
        first in limits(),
        sizes in (0..4_u32, 1..8_u32, 0..8_u32),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (min, max, max_idle) = sizes;
        let mut model = Model::new(first, (min.min(max), max, max_idle.clamp(min.min(max), max)));
        model.absorb();
        for step in &steps {
            model.run(step);
        }
        model.rest();
        model.wind_up();
    }
}
