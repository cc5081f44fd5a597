//! All sockets of a pool that carry several slots: who sits where, and when another one is opened.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    desk::{Desk, Standing},
    rooms::{Left, Place, Rooms},
    slot::Slot,
    socket::Socket,
};
use crate::backend::{
    DialError, DialErrorKind, Fence, Shared,
    http::{
        connection::Connection,
        definition::{Speaks, Target},
        dial::{Dialed, dial},
        link::Link,
    },
};

/// A pool's sockets.
///
/// Lock discipline: `inner` is taken while h2 writes under a lock of its own, so nothing of h2 is called under it, nor
/// in what a socket's reader and writer call.
#[derive(Debug)]
pub(in crate::backend::http) struct Table {
    target: Arc<Target>,
    inner: Mutex<Inner>,
    /// Held while a socket is opened: those who need one too find room on it.
    opening: tokio::sync::Mutex<()>,
    /// There may be room.
    freed: Notify,
    last_number: AtomicU64,
    /// The service chose HTTP/1.1 when it was asked last, so sessions need not wait for each other's dials.
    chose_http1: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    rooms: Rooms,
    sockets: BTreeMap<u64, Arc<Socket>>,
}

/// Who needs a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::http) enum Need {
    /// A session that is being opened: it is refused if there is no room.
    Session,
    /// A call, whose session was counted before: it may take an idle one's place, or wait.
    Call,
}

impl Need {
    /// Whether a place that is taken for it is in use from the first moment.
    const fn is_busy(self) -> bool {
        matches!(self, Self::Call)
    }
}

impl Table {
    pub(in crate::backend::http) fn new(target: Arc<Target>) -> Arc<Self> {
        Arc::new(Self {
            target,
            inner: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            last_number: AtomicU64::new(0),
            chose_http1: AtomicBool::new(false),
        })
    }

    /// A connection for the slot behind `fence`: a place on a shared socket, or one of its own. If the future is
    /// dropped, so is what it was opening.
    pub(in crate::backend::http) async fn link(
        self: &Arc<Self>,
        fence: &Arc<Fence>,
        need: Need,
    ) -> Result<Link, DialError> {
        if self.target.speaks == Speaks::Http1 || self.chose_http1.load(Ordering::Relaxed) {
            let dialed = self.dial(fence).await?;
            if !dialed.http2 {
                return Connection::start(dialed).await.map(Link::Own);
            }
            // It has changed its mind. How many sockets are shared is counted below, where one is opened at a time.
        }
        loop {
            let freed = self.freed.notified();
            if let Some(slot) = self.take(need) {
                return Ok(Link::Shared(slot));
            }
            let opening = self.opening.lock().await;
            if let Some(slot) = self.take(need) {
                return Ok(Link::Shared(slot));
            }
            if self.may_open() {
                return self.open(fence, need).await;
            }
            drop(opening);
            match need {
                Need::Session => return Err(self.full()),
                Need::Call => freed.await,
            }
        }
    }

    fn take(self: &Arc<Self>, need: Need) -> Option<Slot> {
        let mut inner = self.inner.lock();
        let place = match need {
            Need::Call if !self.may_open_in(&inner) => inner.rooms.take_any(),
            Need::Call | Need::Session => inner.rooms.take(need.is_busy()),
        }?;
        let socket = inner.sockets.get(&place.socket).map(Arc::clone)?;
        drop(inner);
        Some(self.seated(socket, place))
    }

    fn seated(self: &Arc<Self>, socket: Arc<Socket>, place: Place) -> Slot {
        Slot::new(Seat {
            table: Arc::clone(self),
            socket,
            place,
        })
    }

    fn may_open(&self) -> bool {
        self.may_open_in(&self.inner.lock())
    }

    fn may_open_in(&self, inner: &Inner) -> bool {
        self.target.sockets.is_none_or(|most| inner.rooms.count() < most)
    }

    /// The sockets that take calls, and their limit.
    pub(in crate::backend::http) fn shared(&self) -> Shared {
        Shared {
            open: self.inner.lock().rooms.count(),
            most: self.target.sockets,
        }
    }

    fn full(&self) -> DialError {
        let most = self.target.sockets.unwrap_or_default();
        DialError {
            kind: DialErrorKind::TooMany,
            message: format!("{most} connections carry all the streams that the service allows"),
        }
    }

    async fn dial(&self, fence: &Arc<Fence>) -> Result<Dialed, DialError> {
        let dialed = dial(&self.target, fence).await?;
        self.chose_http1.store(!dialed.http2, Ordering::Relaxed);
        Ok(dialed)
    }

    async fn open(self: &Arc<Self>, fence: &Arc<Fence>, need: Need) -> Result<Link, DialError> {
        let dialed = self.dial(fence).await?;
        if !dialed.http2 {
            return Connection::start(dialed).await.map(Link::Own);
        }
        self.share(dialed, need).await.map(Link::Shared)
    }

    /// Opens a shared socket, and takes the first place on it.
    async fn share(self: &Arc<Self>, dialed: Dialed, need: Need) -> Result<Slot, DialError> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let standing = Arc::new(Standing::default());
        let desk = Desk::new(Arc::downgrade(self), number, Arc::clone(&standing));
        let socket = Socket::start(dialed, &standing, &desk, &self.target).await?;
        tokio::select! {
            () = standing.ended.raised() => {}
            () = standing.greeted.raised() => {}
        }
        if standing.is_foreign() {
            return Err(DialError::permanent(
                "the service speaks no HTTP/2: set http.protocol to HTTP1",
            ));
        }
        let slot = self.furnish(number, Arc::new(socket), need)?;
        self.freed.notify_waiters();
        Ok(slot)
    }

    /// Puts a socket up for use with whoever opened it on it, unless it has ended or is about to, or has no room.
    fn furnish(self: &Arc<Self>, number: u64, socket: Arc<Socket>, need: Need) -> Result<Slot, DialError> {
        let mut inner = self.inner.lock();
        let standing = &socket.standing;
        if standing.is_gone() || standing.is_leaving() {
            return Err(DialError::transient("the service closed the connection at once"));
        }
        let place = inner
            .rooms
            .open(number, standing.streams(), need.is_busy())
            .ok_or_else(|| DialError::transient("the service allows no streams now"))?;
        inner.sockets.insert(number, Arc::clone(&socket));
        drop(inner);
        Ok(self.seated(socket, place))
    }

    /// The peer's settings have changed.
    pub(super) fn allow(&self, number: u64, streams: Option<u32>) {
        self.change(|rooms| rooms.allow(number, streams));
    }

    pub(super) fn say_goodbye(&self, number: u64) {
        self.change(|rooms| rooms.say_goodbye(number));
    }

    /// A socket has ended.
    pub(super) fn gone(&self, number: u64) {
        let mut inner = self.inner.lock();
        inner.rooms.gone(number);
        let socket = inner.sockets.remove(&number);
        drop(inner);
        drop(socket);
        self.freed.notify_waiters();
    }

    fn change(&self, change: impl FnOnce(&mut Rooms) -> Option<Left>) {
        let mut inner = self.inner.lock();
        let left = change(&mut inner.rooms);
        let retired = inner.retired(left);
        drop(inner);
        self.close(retired);
    }

    /// Closes what nobody needs any more, and says that there may be room.
    fn close(&self, retired: Option<Arc<Socket>>) {
        if let Some(socket) = retired {
            socket.standing.unneeded.raise();
        }
        self.freed.notify_waiters();
    }
}

impl Inner {
    fn retired(&mut self, left: Option<Left>) -> Option<Arc<Socket>> {
        left.and_then(|Left(number)| self.sockets.remove(&number))
    }
}

/// A slot's place on a socket, given up when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    table: Arc<Table>,
    pub(super) socket: Arc<Socket>,
    place: Place,
}

impl Seat {
    /// A call begins; false if the place is gone.
    pub(super) fn begin(&self) -> bool {
        self.table.inner.lock().rooms.begin(self.place)
    }

    /// A call ended; false if its place went with it.
    pub(super) fn rest(&self) -> bool {
        let mut kept = false;
        self.table.change(|rooms| {
            let left;
            (kept, left) = rooms.rest(self.place);
            left
        });
        kept
    }

    /// Whether it can be used for another call.
    pub(super) fn is_held(&self) -> bool {
        self.table.inner.lock().rooms.has(self.place)
    }

    /// The socket takes no more requests, though its peer said nothing of it: nobody is seated there any more.
    pub(super) fn retire(&self) {
        self.table.say_goodbye(self.place.socket);
    }

    /// The socket is found dead before its driver knows.
    pub(super) fn bury(&self) {
        self.socket.cut();
        self.table.gone(self.place.socket);
    }

    pub(super) fn target(&self) -> &Target {
        &self.table.target
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let place = self.place;
        self.table.change(|rooms| rooms.leave(place));
    }
}
