//! A backend that does what a test says, and counts what was done to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::{
    backend::{
        Backend, Beside, Body, CallError, Cleanliness, Completion, DialError, DialErrorKind, Fence, Load,
        Needs, Operation, Params, Session, SessionLost, Sink,
    },
    clock::Clock,
    error::Faults,
    pool::{Held, Identity, Pool, Priority, Request, Settings},
};

/// The script and the record, shared by the backend and its sessions.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) dial_takes: Mutex<Duration>,
    pub(super) close_takes: Mutex<Duration>,
    pub(super) probe_takes: Mutex<Duration>,
    pub(super) withdraw_takes: Mutex<Duration>,
    /// Dials fail like this while it is set.
    pub(super) refuses: Mutex<Option<DialErrorKind>>,
    /// Sessions the backend bears; one more is refused as too many.
    pub(super) bears: AtomicU32,
    pub(super) probes_fail: AtomicBool,
    pub(super) resets_fail: AtomicBool,
    /// What was done, in order.
    pub(super) log: Mutex<Vec<&'static str>>,
    pub(super) endpoint: Mutex<Arc<str>>,
    pub(super) dials: AtomicU32,
    dialing: AtomicU32,
    pub(super) most_dialing: AtomicU32,
    /// Sockets open at the backend, closing ones included.
    pub(super) open: AtomicU32,
    pub(super) most_open: AtomicU32,
}

impl Script {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            dial_takes: Mutex::new(Duration::ZERO),
            close_takes: Mutex::new(Duration::ZERO),
            probe_takes: Mutex::new(Duration::ZERO),
            withdraw_takes: Mutex::new(Duration::ZERO),
            refuses: Mutex::new(None),
            bears: AtomicU32::new(u32::MAX),
            probes_fail: AtomicBool::new(false),
            resets_fail: AtomicBool::new(false),
            log: Mutex::new(Vec::new()),
            endpoint: Mutex::new(Arc::from("scripted:1")),
            dials: AtomicU32::new(0),
            dialing: AtomicU32::new(0),
            most_dialing: AtomicU32::new(0),
            open: AtomicU32::new(0),
            most_open: AtomicU32::new(0),
        })
    }

    pub(super) fn dialing_in(takes: Duration) -> Arc<Self> {
        let script = Self::new();
        *script.dial_takes.lock() = takes;
        script
    }

    pub(super) fn dials(&self) -> u32 {
        self.dials.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }

    pub(super) fn refuse(&self, kind: Option<DialErrorKind>) {
        *self.refuses.lock() = kind;
    }

    pub(super) fn did(&self, what: &str) -> usize {
        self.log.lock().iter().filter(|done| **done == what).count()
    }

    fn note(&self, what: &'static str) {
        self.log.lock().push(what);
    }
}

/// Lowers a count when dropped, as the kernel closes a socket whatever its owner does.
#[derive(Debug)]
struct Counted(Arc<Script>, fn(&Script) -> &AtomicU32);

impl Counted {
    fn up(script: &Arc<Script>, which: fn(&Script) -> &AtomicU32, most: fn(&Script) -> &AtomicU32) -> Self {
        let now = which(script).fetch_add(1, Ordering::SeqCst) + 1;
        most(script).fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(script), which)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(super) struct Scripted {
    pub(super) script: Arc<Script>,
    /// What is dialed beside, and beside that.
    pub(super) beside: Vec<Arc<Script>>,
    /// What endpoints say of the work that waits there, by their names.
    pub(super) loads: Vec<(&'static str, Load)>,
}

impl Scripted {
    pub(super) fn of(script: &Arc<Script>) -> Self {
        Self {
            script: Arc::clone(script),
            beside: Vec::new(),
            loads: Vec::new(),
        }
    }
}

impl Backend for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn inspect(&self, _: &Operation) -> Result<Needs, Faults> {
        Ok(Needs::default())
    }

    fn withdraw(&self, fence: Arc<Fence>) -> BoxFuture<'static, ()> {
        let script = Arc::clone(&self.script);
        Box::pin(async move {
            assert!(fence.is_open(), "it may have to say something");
            script.note("withdraw");
            let takes = *script.withdraw_takes.lock();
            tokio::time::sleep(takes).await;
        })
    }

    fn beside(&self) -> Option<Beside> {
        let (next, further) = self.beside.split_first()?;
        let backend = Arc::new(Self {
            script: Arc::clone(next),
            beside: further.to_vec(),
            loads: Vec::new(),
        });
        Some(Beside { backend, at_each: 4 })
    }

    fn load(&self, endpoint: &str) -> Option<Load> {
        let said = self.loads.iter().find(|(name, _)| *name == endpoint);
        said.map(|(_, load)| load.clone())
    }

    fn dial(
        &self,
        fence: Arc<Fence>,
        endpoint: &str,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let script = Arc::clone(&self.script);
        let asked = (!endpoint.is_empty()).then(|| Arc::from(endpoint));
        Box::pin(async move {
            script.dials.fetch_add(1, Ordering::SeqCst);
            let dialing = Counted::up(&script, |script| &script.dialing, |script| &script.most_dialing);
            let takes = *script.dial_takes.lock();
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            drop(dialing);
            let full = script.open() >= script.bears.load(Ordering::SeqCst);
            let refusal = if full {
                Some(DialErrorKind::TooMany)
            } else {
                *script.refuses.lock()
            };
            if let Some(kind) = refusal {
                let message = "scripted".to_owned();
                return Err(DialError { kind, message });
            }
            let endpoint = asked.unwrap_or_else(|| Arc::clone(&script.endpoint.lock()));
            let session = Scene {
                socket: Counted::up(&script, |script| &script.open, |script| &script.most_open),
                endpoint,
                script,
                fence,
                dirty: false,
            };
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }
}

/// A session: its operations `dirty` and `wait` leave state behind and never end.
#[derive(Debug)]
pub(super) struct Scene {
    socket: Counted,
    endpoint: Arc<str>,
    script: Arc<Script>,
    fence: Arc<Fence>,
    dirty: bool,
}

impl Session for Scene {
    fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        _: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        Box::pin(async move {
            let handed = self.fence.hand_over(1);
            let lost = |message: String| CallError::Lost {
                message,
                executed: None,
            };
            handed.map_err(|error| lost(error.to_string()))?;
            self.script.note("execute");
            self.dirty |= operation.name == "dirty";
            if operation.name == "wait" {
                std::future::pending::<()>().await;
            }
            Ok(Completion::default())
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        Box::pin(async move {
            self.script.note("settle");
            self.fence
                .hand_over(1)
                .map_err(|error| SessionLost::because(error.to_string()))
        })
    }

    fn cleanliness(&self) -> Cleanliness {
        if self.dirty {
            Cleanliness::Dirty
        } else {
            Cleanliness::Clean
        }
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        Box::pin(async move {
            self.script.note("reset");
            if self.script.resets_fail.load(Ordering::SeqCst) {
                return Err(SessionLost::because("scripted"));
            }
            self.dirty = false;
            self.fence
                .hand_over(1)
                .map_err(|error| SessionLost::because(error.to_string()))
        })
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        Box::pin(async move {
            self.script.note("probe");
            let takes = *self.script.probe_takes.lock();
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            if self.script.probes_fail.load(Ordering::SeqCst) {
                return Err(SessionLost::because("scripted"));
            }
            self.fence
                .hand_over(1)
                .map_err(|error| SessionLost::because(error.to_string()))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.script.note("close");
            let takes = *self.script.close_takes.lock();
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            drop(self.socket);
        })
    }
}

/// A pool over a script, with its clock.
pub(super) fn pool(script: &Arc<Script>, settings: Settings) -> (Arc<Pool>, Clock) {
    pool_of(Scripted::of(script), settings)
}

/// A pool over a backend, with its clock.
pub(super) fn pool_of(backend: Scripted, settings: Settings) -> (Arc<Pool>, Clock) {
    let clock = Clock::tokio();
    let identity = Identity {
        name: Arc::from("p"),
        boot: 7,
        seed: 1,
    };
    let pool = Pool::start(identity, Arc::new(backend), settings, clock.clone());
    (pool, clock)
}

pub(super) fn sized(max_sessions: u32) -> Settings {
    Settings {
        max_sessions,
        max_idle: max_sessions,
        health: None,
        ..Settings::default()
    }
}

/// A patient request of the usual class.
pub(super) fn within(clock: &Clock, span: Duration) -> Request {
    let asked = clock.now();
    Request {
        asked,
        deadline: asked + span,
        wait: true,
        priority: Priority::Normal,
        client: None,
        endpoint: None,
        beside: 0,
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets every task that can run do so, without any time passing.
pub(super) async fn settle_down() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Runs one of [`Scene`]'s operations.
pub(super) async fn run(held: &mut Held, name: &str) {
    let operation = Operation {
        name: name.to_owned(),
        params: Params::Empty,
        args: Vec::new(),
        body: Body::Whole(Bytes::new()),
        alone: false,
        inspected: crate::backend::Inspected::default(),
    };
    let done = held.session().execute(operation, &mut Sink::collect(1024)).await;
    done.expect("scripted operations succeed");
}
