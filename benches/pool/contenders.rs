//! The three pools behind one trait, over one simulated backend.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use sublet::{
    backend::{
        Backend, CallError, Cleanliness, Completion, DialError, DialErrorKind, Fence, Needs, Operation,
        Session, SessionLost, Sink,
    },
    clock::Clock,
    error::Faults,
    pool::{GiveBack, Held, Identity, Pool, Priority, Request, Settings},
};

/// What is dialed: counts dials, and can be down.
#[derive(Debug, Default)]
pub(crate) struct World {
    dial: Duration,
    down: bool,
    pub(crate) dials: AtomicU64,
    dialing: AtomicU32,
    pub(crate) most_dialing: AtomicU32,
}

impl World {
    pub(crate) fn dialing_in(dial: Duration) -> Arc<Self> {
        Arc::new(Self {
            dial,
            ..Self::default()
        })
    }

    pub(crate) fn down() -> Arc<Self> {
        Arc::new(Self {
            down: true,
            ..Self::default()
        })
    }

    async fn dial(&self) -> Result<(), Refused> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        let dialing = self.dialing.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_dialing.fetch_max(dialing, Ordering::Relaxed);
        if self.dial.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(self.dial).await;
        }
        self.dialing.fetch_sub(1, Ordering::Relaxed);
        if self.down { Err(Refused) } else { Ok(()) }
    }
}

/// The answer of a backend that is down.
#[derive(Debug, thiserror::Error)]
#[error("refused")]
pub(crate) struct Refused;

/// A pool in the race.
pub(crate) trait Contender: Send + Sync + 'static {
    /// The right to a session, given back when dropped or by `give`.
    type Guard<'a>: Send
    where
        Self: 'a;

    /// Takes a session as this pool's users do.
    fn take(&self) -> impl Future<Output = Option<Self::Guard<'_>>> + Send;

    /// Takes a session within a limit, or gives up.
    fn take_within(&self, limit: Duration) -> impl Future<Output = Option<Self::Guard<'_>>> + Send;

    /// Gives it back.
    fn give(guard: Self::Guard<'_>);

    /// The backend's counts.
    fn world(&self) -> &World;
}

/// Sublet's pool.
pub(crate) struct Ours {
    pool: Arc<Pool>,
    clock: Clock,
    world: Arc<World>,
}

impl Ours {
    pub(crate) async fn new(size: u32, world: Arc<World>) -> Arc<Self> {
        let identity = Identity {
            name: Arc::from("bench"),
            boot: 1,
            seed: 42,
        };
        let settings = Settings {
            max_sessions: size,
            max_idle: size,
            ..Settings::default()
        };
        let clock = Clock::real();
        let backend = Arc::new(Simulated(Arc::clone(&world)));
        let pool = Pool::start(identity, backend, settings, clock.clone());
        Arc::new(Self { pool, clock, world })
    }

    fn request(&self, limit: Duration) -> Request {
        let asked = self.clock.now();
        Request {
            asked,
            deadline: asked + limit,
            wait: true,
            priority: Priority::Normal,
            client: None,
            endpoint: None,
            beside: 0,
        }
    }
}

impl Contender for Ours {
    type Guard<'a> = Held;

    async fn take(&self) -> Option<Held> {
        self.take_within(Duration::from_secs(30)).await
    }

    async fn take_within(&self, limit: Duration) -> Option<Held> {
        self.pool.acquire(self.request(limit)).await.ok()
    }

    fn give(held: Held) {
        held.give_back(GiveBack::Used);
    }

    fn world(&self) -> &World {
        &self.world
    }
}

#[derive(Debug)]
struct Simulated(Arc<World>);

impl Backend for Simulated {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn inspect(&self, _: &Operation) -> Result<Needs, Faults> {
        Ok(Needs::default())
    }

    fn dial(&self, _: Arc<Fence>, _: &str) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            match world.dial().await {
                Ok(()) => Ok(Box::new(Idle(Arc::from("simulated"))) as Box<dyn Session>),
                Err(error) => Err(DialError {
                    kind: DialErrorKind::Transient,
                    message: error.to_string(),
                }),
            }
        })
    }
}

/// A session that does nothing.
#[derive(Debug)]
struct Idle(Arc<str>);

impl Session for Idle {
    fn endpoint(&self) -> &Arc<str> {
        &self.0
    }

    fn execute<'a>(
        &'a mut self,
        _: Operation,
        _: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        Box::pin(async { Ok(Completion::default()) })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        Box::pin(async { Ok(()) })
    }

    fn cleanliness(&self) -> Cleanliness {
        Cleanliness::Clean
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.settle()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.settle()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// deadpool's managed pool.
pub(crate) struct Deadpool {
    pool: deadpool::managed::Pool<DeadpoolManager>,
    world: Arc<World>,
}

impl Deadpool {
    pub(crate) async fn new(size: u32, world: Arc<World>) -> Arc<Self> {
        let manager = DeadpoolManager(Arc::clone(&world));
        let size = usize::try_from(size).expect("it fits");
        let pool = deadpool::managed::Pool::builder(manager)
            .max_size(size)
            .build()
            .expect("a pool");
        Arc::new(Self { pool, world })
    }
}

impl Contender for Deadpool {
    type Guard<'a> = deadpool::managed::Object<DeadpoolManager>;

    async fn take(&self) -> Option<Self::Guard<'_>> {
        self.pool.get().await.ok()
    }

    async fn take_within(&self, limit: Duration) -> Option<Self::Guard<'_>> {
        tokio::time::timeout(limit, self.pool.get()).await.ok()?.ok()
    }

    fn give(guard: Self::Guard<'_>) {
        drop(guard);
    }

    fn world(&self) -> &World {
        &self.world
    }
}

pub(crate) struct DeadpoolManager(Arc<World>);

impl deadpool::managed::Manager for DeadpoolManager {
    type Type = Box<u64>;
    type Error = Refused;

    async fn create(&self) -> Result<Self::Type, Refused> {
        self.0.dial().await.map(|()| Box::new(0))
    }

    async fn recycle(
        &self,
        _: &mut Self::Type,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Refused> {
        Ok(())
    }
}

/// bb8's pool.
pub(crate) struct Bb8 {
    pool: bb8::Pool<Bb8Manager>,
    world: Arc<World>,
}

impl Bb8 {
    pub(crate) async fn new(size: u32, world: Arc<World>) -> Arc<Self> {
        let manager = Bb8Manager(Arc::clone(&world));
        let pool = bb8::Pool::builder()
            .max_size(size)
            .build(manager)
            .await
            .expect("a pool");
        Arc::new(Self { pool, world })
    }
}

impl Contender for Bb8 {
    type Guard<'a> = bb8::PooledConnection<'a, Bb8Manager>;

    async fn take(&self) -> Option<Self::Guard<'_>> {
        self.pool.get().await.ok()
    }

    async fn take_within(&self, limit: Duration) -> Option<Self::Guard<'_>> {
        tokio::time::timeout(limit, self.pool.get()).await.ok()?.ok()
    }

    fn give(guard: Self::Guard<'_>) {
        drop(guard);
    }

    fn world(&self) -> &World {
        &self.world
    }
}

pub(crate) struct Bb8Manager(Arc<World>);

impl bb8::ManageConnection for Bb8Manager {
    type Connection = Box<u64>;
    type Error = Refused;

    async fn connect(&self) -> Result<Self::Connection, Refused> {
        self.0.dial().await.map(|()| Box::new(0))
    }

    async fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Refused> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Self::Connection) -> bool {
        false
    }
}
