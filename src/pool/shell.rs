//! The pool as others see it: asks the core under the exchange's lock, and acts after unlocking.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::Waker,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::{
    calls::Calls,
    core::{Core, Numbers},
    driver,
    exchange::{Answer, Exchange, Job, Todo},
    held::Acquire,
    request::{Ending, Request},
    settings::{EndpointSettings, Settings},
};
use crate::{
    backend::{Backend, Load, Session},
    clock::{Clock, Time},
};

/// Who a pool is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub name: Arc<str>,
    /// Rises with every start of the broker, up to 2^24; in the high bits of every fence number.
    pub boot: u32,
    /// Where its pseudo-random numbers (life spans, pauses) start. Nothing secret depends on it.
    pub seed: u64,
}

/// The sessions of one backend, and those who wait for them.
///
/// Locks: the exchange's, and small ones for the backend, the call statistics and the last reset. None is ever held
/// together with another, or across an await. (`serving` is a watch whose own lock is taken around the exchange's,
/// never inside it.)
pub struct Pool {
    pub(super) name: Arc<str>,
    pub(super) exchange: Exchange<Box<dyn Session>>,
    pub(super) clock: Clock,
    pub(super) runtime: Handle,
    pub(super) calls: Calls,
    pub(super) started: Time,
    pub(super) last_reset: Mutex<Option<Time>>,
    /// For operations that must not wait for a session, if the backend has such.
    pub(super) beside: Option<Arc<Self>>,
    backend: Mutex<Arc<dyn Backend>>,
    /// The pool itself, for the tasks it spawns.
    this: Weak<Self>,
    alarm: Arc<Notify>,
    /// Rung whenever a session opened, failed to, or closed.
    changed: Notify,
    serving: watch::Sender<bool>,
}

impl Pool {
    /// Starts a pool; it dials its minimum at once. Must be called within a tokio runtime, where its tasks will run.
    #[must_use]
    pub fn start(
        identity: Identity,
        backend: Arc<dyn Backend>,
        settings: Settings,
        clock: Clock,
    ) -> Arc<Self> {
        let numbers = Numbers::of_boot(identity.boot);
        Self::start_numbered(identity, backend, settings, numbers, clock)
    }

    /// As [`Pool::start`], with fence numbers that may be those of an elder too.
    pub(super) fn start_numbered(
        identity: Identity,
        backend: Arc<dyn Backend>,
        settings: Settings,
        mut numbers: Numbers,
        clock: Clock,
    ) -> Arc<Self> {
        let beside = backend.beside();
        let beside =
            beside.map(|beside| Self::start_beside(&identity, beside, &settings, numbers.share(), &clock));
        let core = Core::new(clock.now(), numbers, identity.seed, settings);
        Self::start_core(identity, backend, core, clock, beside)
    }

    /// As [`Pool::start`], with what decides, and the pool beside.
    fn start_core(
        identity: Identity,
        backend: Arc<dyn Backend>,
        core: Core,
        clock: Clock,
        beside: Option<Arc<Self>>,
    ) -> Arc<Self> {
        let Identity { name, boot, .. } = identity;
        let started = clock.now();
        let loads = loads(&*backend, core.settings());
        let (exchange, todo) = Exchange::new(core, format!("{name}-{boot}-"));
        exchange.watch_loads(loads);
        let alarm = Arc::new(Notify::new());
        let runtime = Handle::current();
        let pool = Arc::new_cyclic(|this| {
            runtime.spawn(driver::drive(
                Weak::clone(this),
                Arc::clone(&alarm),
                clock.clone(),
            ));
            Self {
                name,
                exchange,
                clock,
                runtime: runtime.clone(),
                calls: Calls::default(),
                started,
                last_reset: Mutex::new(None),
                beside,
                backend: Mutex::new(backend),
                this: Weak::clone(this),
                alarm,
                changed: Notify::new(),
                serving: watch::Sender::new(true),
            }
        });
        pool.finish(todo);
        pool
    }

    /// The pool's name.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The backend that new sessions are dialed at.
    #[must_use]
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend.lock())
    }

    /// Asks for a session. See [`Acquire`] for what happens when it is dropped.
    pub fn acquire(self: &Arc<Self>, request: Request) -> Acquire {
        // As far as there is one.
        let pool = (0..request.beside).fold(self, |pool, _| pool.beside.as_ref().unwrap_or(pool));
        Acquire::new(Arc::clone(pool), request)
    }

    pub(super) fn ask(&self, request: &Request, waker: &Waker) -> Answer<Box<dyn Session>> {
        let mut todo = None;
        let answer = self.exchange.acquire(request, waker, &mut todo);
        if let Some(todo) = todo {
            self.finish(todo);
        }
        answer
    }

    /// Applies new limits now: idle sessions above them close, others as they come free; waiters keep their places
    /// and deadlines. With a backend, sessions are replaced too, and nothing learned of the old one holds.
    pub fn reconfigure(&self, settings: Settings, backend: Option<Arc<dyn Backend>>) {
        let replace = backend.is_some();
        self.reconfigure_beside(&settings, backend.as_deref());
        if let Some(backend) = backend {
            // First, so that every dial decided on after the recycling meets the new one.
            *self.backend.lock() = backend;
        }
        let loads = loads(&*self.backend(), &settings);
        let now = self.clock.now();
        let todo = self.exchange.redefine(now, settings, replace, loads);
        self.finish(todo);
    }

    /// Stops grants: who waits goes on waiting, running calls go on, and nothing is dialed.
    pub fn pause(&self) {
        let now = self.clock.now();
        self.family().for_each(|pool| pool.order(|core| core.pause(now)));
    }

    /// Goes on after a pause, however often it was paused.
    pub fn resume(&self) {
        let now = self.clock.now();
        self.family().for_each(|pool| pool.order(|core| core.resume(now)));
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.exchange.look(Core::is_paused)
    }

    /// Replaces every session: idle ones now, others as they come free. Returns how many there were.
    pub fn recycle(&self) -> u32 {
        let now = self.clock.now();
        self.family()
            .map(|pool| pool.order(|core| core.recycle(now)))
            .sum()
    }

    /// Ends the pool: waiters and new requests are refused, idle sessions close, held ones when given back.
    pub fn refuse_new(&self, why: Ending) {
        let now = self.clock.now();
        self.family()
            .for_each(|pool| pool.order(|core| core.refuse_new(now, why)));
    }

    /// Returns when no session is left in any state. May be dropped at any time.
    pub async fn when_empty(&self) {
        for pool in self.family() {
            pool.when(Core::is_empty).await;
        }
    }

    /// Opens sessions ahead of need: `sessions` is a minimum until it is reached or `deadline` has passed. Returns how
    /// many are open then: fewer if the time was too short, the cap is lower, or the backend refuses for good. If
    /// dropped, the sessions are opened all the same.
    pub async fn warm(&self, sessions: u32, deadline: Time) -> u32 {
        let now = self.clock.now();
        self.order(|core| core.warm(now, sessions, deadline));
        tokio::select! {
            () = self.when(|core| core.warmth(sessions).1) => {}
            () = self.clock.sleep_until(deadline) => {}
        }
        self.exchange.look(|core| core.warmth(sessions).0)
    }

    /// Closes a session by its id: its fence is shut at once; if it is held, it closes when it is given back. False
    /// if there is no such session.
    pub fn close_session(&self, id: &str) -> bool {
        self.family().any(|pool| {
            let (found, todo) = pool.exchange.close_session(pool.clock.now(), id);
            pool.finish(todo);
            found
        })
    }

    /// Closes every session: all fences are shut at once; held sessions close when they are given back.
    pub fn close_sessions(&self) {
        for pool in self.family() {
            let todo = pool.exchange.close_sessions(pool.clock.now());
            pool.finish(todo);
        }
    }

    /// A further upper limit beside the definition's, or none: a cluster's share, for example.
    pub fn set_cap(&self, cap: Option<u32>) {
        let now = self.clock.now();
        self.order(|core| core.set_ceiling(now, cap));
    }

    /// Whether the pool serves: true while untried; false when it is paused, ends, or cannot reach its backend and
    /// has no live session.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<bool> {
        self.serving.subscribe()
    }

    /// Time for a probe; the usual one where the definition has none, for checks that were asked for.
    pub(super) fn probe_limit(&self) -> Duration {
        let health = self.exchange.look(|core| core.settings().health.clone());
        health.unwrap_or_default().timeout
    }

    fn order<R>(&self, order: impl FnOnce(&mut Core) -> R) -> R {
        let (answer, todo) = self.exchange.order(order);
        self.finish(todo);
        answer
    }

    async fn when(&self, holds: impl Fn(&Core) -> bool) {
        loop {
            let changed = self.changed.notified();
            if self.exchange.look(&holds) {
                return;
            }
            changed.await;
        }
    }

    /// The driver's turn.
    pub(super) fn drive(&self) -> Option<Time> {
        let (until, todo) = self.exchange.drive(self.clock.now());
        self.finish(todo);
        until
    }

    /// What is left after unlocking: wake, spawn, notify.
    pub(super) fn finish(&self, todo: Todo<Box<dyn Session>>) {
        if let Some(waker) = todo.wake {
            waker.wake();
        }
        for waker in todo.wake_too {
            waker.wake();
        }
        for job in todo.jobs {
            self.launch(job);
        }
        if todo.rearm {
            self.alarm.notify_one();
        }
        if todo.changed {
            self.changed.notify_waiters();
        }
        if todo.serving {
            self.serving.send_if_modified(|serving| {
                let now = self.exchange.look(Core::is_serving);
                std::mem::replace(serving, now) != now
            });
        }
    }
}

impl Pool {
    /// Starts a job on the thread of whoever caused it, where the session was used last and will be used next; without
    /// a runtime there, on the pool's own.
    fn launch(&self, job: Job<Box<dyn Session>>) {
        let Some(pool) = self.this.upgrade() else { return };
        match Handle::try_current() {
            Ok(here) => here.spawn(pool.carry_out(job)),
            Err(_) => self.runtime.spawn(pool.carry_out(job)),
        };
    }
}

/// What says how much work waits at each endpoint.
fn loads(backend: &dyn Backend, settings: &Settings) -> Vec<(Arc<str>, Load)> {
    let load =
        |endpoint: &EndpointSettings| Some((Arc::clone(&endpoint.name), backend.load(&endpoint.name)?));
    settings.endpoints.iter().filter_map(load).collect()
}

impl Drop for Pool {
    /// The driver wakes, and finds the pool gone.
    fn drop(&mut self) {
        self.alarm.notify_one();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
