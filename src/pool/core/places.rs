//! The backend's endpoints: how many sessions each may have, whether it can be reached, and how busy it is. A kind
//! without endpoints has one without a name, so that every session is somewhere.

use std::{sync::Arc, time::Duration};

use super::random::Random;
use crate::{backend::DialErrorKind, clock::Time, pool::EndpointSettings};

/// The shortest pause after a failed dial.
const BACK_OFF_MIN: u64 = 100_000_000;
/// The longest pause after a failed dial.
const BACK_OFF_MAX: u64 = 30_000_000_000;
/// The pause before a place is tried again that was not free. Nothing is wrong there, so it does not grow.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a learned limit stands before one more session is tried.
const RAISE_AFTER: Duration = Duration::from_secs(30);

/// An endpoint cannot be reached.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    /// Whether trying again will not help until somebody changes something.
    pub(crate) permanent: bool,
    /// What the last dial met.
    pub(crate) message: String,
    /// When the next dial may start.
    pub(crate) retry_at: Time,
    delay: u64,
}

/// One endpoint. Failing: entered by a failed dial, left by one that succeeds or a new backend.
#[derive(Debug)]
pub(crate) struct Place {
    /// What people call it.
    pub(crate) name: Arc<str>,
    /// What tells it from the others over changes of the definition.
    address: Arc<str>,
    /// Sessions at most, as the definition says: none once it is not in there any more.
    limit: u32,
    pub(crate) failing: Option<Failing>,
    /// When the next dial may start after one that found its place not free yet.
    pub(crate) occupied_until: Time,
    /// Dials whose sessions will close at once: they count against the cap, but nobody may wait for them.
    pub(crate) useless_dials: u32,
    /// Probes with a waiter behind them.
    pub(crate) wanted_probes: u32,
    /// What the endpoint itself last said of work that waits there, whoever sent it.
    pub(crate) load: u32,
    /// Dials at once while the endpoint has still to prove itself (1, 2, 4 …); none when it has.
    window: Option<u32>,
    learned: Option<u32>,
    raise_at: Time,
}

impl Place {
    /// An untried endpoint gets one dial first: if it is down, it is not met by four.
    fn new(settings: &EndpointSettings) -> Self {
        Self {
            name: Arc::clone(&settings.name),
            address: Arc::clone(&settings.address),
            limit: settings.max_sessions.unwrap_or(u32::MAX),
            failing: None,
            occupied_until: Time::ZERO,
            useless_dials: 0,
            wanted_probes: 0,
            load: 0,
            window: Some(1),
            learned: None,
            raise_at: Time::NEVER,
        }
    }

    /// Sessions at most, as the definition and the endpoint itself allow.
    pub(crate) fn cap(&self) -> u32 {
        self.learned.map_or(self.limit, |learned| learned.min(self.limit))
    }

    /// Dials that may run at once.
    pub(crate) fn parallel(&self, max_dialing: u32) -> u32 {
        self.window.unwrap_or(max_dialing).min(max_dialing).max(1)
    }

    /// A dial succeeded: twice as many may run next, up to the pool's own limit.
    pub(crate) fn succeeded(&mut self, max_dialing: u32) {
        self.failing = None;
        self.window = self
            .window
            .map(|window| window.saturating_mul(2))
            .filter(|window| *window < max_dialing);
    }

    /// A dial failed; says whether it is the first to fail. `open` counts sessions there are besides it.
    pub(crate) fn failed(
        &mut self,
        now: Time,
        failure: (DialErrorKind, String),
        open: u32,
        random: &mut Random,
    ) -> bool {
        let (kind, message) = failure;
        if kind == DialErrorKind::Occupied {
            self.failing = None;
            self.occupied_until = now + LOOK_AGAIN;
            return false;
        }
        if kind == DialErrorKind::TooMany && open > 0 {
            self.learned = Some(open);
            self.raise_at = now + RAISE_AFTER;
            return false;
        }
        let permanent = kind == DialErrorKind::Permanent;
        self.window = Some(1);
        match &mut self.failing {
            // A dial that was under way when another failed adds nothing to the pause.
            Some(failing) if now < failing.retry_at => {
                (failing.permanent, failing.message) = (permanent, message);
                false
            }
            Some(failing) => {
                failing.delay = pause(failing.delay, random);
                failing.retry_at = now + Duration::from_nanos(failing.delay);
                (failing.permanent, failing.message) = (permanent, message);
                false
            }
            none => {
                let delay = pause(BACK_OFF_MIN, random);
                let retry_at = now + Duration::from_nanos(delay);
                *none = Some(Failing {
                    permanent,
                    message,
                    retry_at,
                    delay,
                });
                true
            }
        }
    }

    /// Tries one session more than the endpoint took last time, once the time for that has come; forgets the limit
    /// where it reaches the pool's own.
    fn raise(&mut self, now: Time, limit: u32) {
        if self.raise_at > now {
            return;
        }
        self.learned = self
            .learned
            .map(|learned| learned + 1)
            .filter(|learned| *learned < limit.min(self.limit));
        self.raise_at = if self.learned.is_some() {
            now + RAISE_AFTER
        } else {
            Time::NEVER
        };
    }

    /// Forgets what was learned: what is behind the address is another one now.
    fn forget(&mut self) {
        (self.failing, self.window) = (None, Some(1));
        self.occupied_until = Time::ZERO;
        (self.learned, self.raise_at, self.load) = (None, Time::NEVER, 0);
    }
}

/// All endpoints. One keeps its index for as long as it is in the definition, and as long as it has sessions.
#[derive(Debug)]
pub(crate) struct Places {
    list: Vec<Place>,
}

impl Places {
    pub(crate) fn new(settings: &[EndpointSettings]) -> Self {
        let mut places = Self { list: Vec::new() };
        places.follow(settings, |_| true);
        places
    }

    /// Makes them what a definition says. Those that are in it no more are closed; `free` says of an index whether
    /// nobody is there any more, so that another endpoint may have it.
    pub(crate) fn follow(&mut self, settings: &[EndpointSettings], free: impl Fn(usize) -> bool) {
        let nameless = [EndpointSettings::default()];
        let settings = if settings.is_empty() {
            &nameless[..]
        } else {
            settings
        };
        for place in &mut self.list {
            place.limit = 0;
        }
        let mut new = Vec::new();
        for wanted in settings {
            match self.list.iter_mut().find(|place| place.address == wanted.address) {
                Some(place) => {
                    place.limit = wanted.max_sessions.unwrap_or(u32::MAX);
                    place.name = Arc::clone(&wanted.name);
                }
                None => new.push(wanted),
            }
        }
        for wanted in new {
            let unused = |(index, place): (usize, &Place)| (place.limit == 0 && free(index)).then_some(index);
            let index = self.list.iter().enumerate().find_map(unused);
            match index.and_then(|index| self.list.get_mut(index)) {
                Some(place) => *place = Place::new(wanted),
                None => self.list.push(Place::new(wanted)),
            }
        }
    }

    /// Forgets what was learned of any.
    pub(crate) fn forget(&mut self) {
        self.list.iter_mut().for_each(Place::forget);
    }

    /// How many there are, those in the definition no more included.
    pub(crate) const fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Place> {
        self.list.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Place> {
        self.list.get_mut(index)
    }

    /// The one with this name, if sessions may be opened there.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.list
            .iter()
            .position(|place| place.limit > 0 && &*place.name == name)
    }

    /// Those where sessions may be opened: all, or just the one asked for.
    pub(crate) fn eligible(&self, asked: Option<usize>) -> impl Iterator<Item = (usize, &Place)> {
        let open = move |(index, place): &(usize, &Place)| {
            place.limit > 0 && asked.is_none_or(|asked| asked == *index)
        };
        self.list.iter().enumerate().filter(open)
    }

    /// Sessions at most in all of them.
    pub(crate) fn cap(&self) -> u32 {
        self.list.iter().map(Place::cap).fold(0, u32::saturating_add)
    }

    /// Dials whose sessions will close at once.
    pub(crate) fn useless_dials(&self) -> u32 {
        self.list.iter().map(|place| place.useless_dials).sum()
    }

    /// Why nothing can be reached of what was asked for: the one that is dialed again first. None if one of them
    /// does not fail.
    pub(crate) fn failing(&self, asked: Option<usize>) -> Option<&Failing> {
        let mut first: Option<&Failing> = None;
        for (_, place) in self.eligible(asked) {
            let failing = place.failing.as_ref()?;
            if first.is_none_or(|first| failing.retry_at < first.retry_at) {
                first = Some(failing);
            }
        }
        first
    }

    /// Whether nothing that was asked for can be reached until somebody changes something.
    pub(crate) fn hopeless(&self, asked: Option<usize>) -> bool {
        self.eligible(asked)
            .all(|(_, place)| place.failing.as_ref().is_some_and(|failing| failing.permanent))
    }

    /// When a learned limit is next put to the test.
    pub(crate) fn raise_at(&self) -> Time {
        self.list
            .iter()
            .map(|place| place.raise_at)
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// Puts learned limits to the test whose time has come.
    pub(crate) fn raise(&mut self, now: Time, limit: u32) {
        for place in &mut self.list {
            place.raise(now, limit);
        }
    }
}

/// Decorrelated jitter: anywhere between the shortest pause and three times the last one, so that brokers which
/// failed together do not come back together (Brooker, "Exponential Backoff And Jitter", 2015).
fn pause(last: u64, random: &mut Random) -> u64 {
    random
        .between(BACK_OFF_MIN, last.saturating_mul(3))
        .min(BACK_OFF_MAX)
}
