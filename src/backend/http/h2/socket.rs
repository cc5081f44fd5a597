//! One socket that several slots share, and the task that drives it.
//!
//! Loops: `drive`, one task for each socket, which ends when h2 is done with it, its peer has fallen silent, or it is
//! cut; `silence` within it, which looks at what came.

use std::{
    convert::Infallible,
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{Ping, PingPong, client};
use http::HeaderMap;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{net::TcpStream, task::AbortHandle};

use super::{
    desk::{Desk, Standing},
    gate::Gate,
    lanes::Lanes,
    rooms::MOST_STREAMS,
};
use crate::{
    backend::{
        DialError, Fence, Line,
        carrier::Carrier,
        http::{definition::Target, dial::Dialed, wire::Wire},
        socket::{Pending, pending},
    },
    clock::{Clock, Time},
};

/// What a service may send of one answer before its caller reads: as much as HTTP/1.1 reads ahead.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What it may send on the socket in all: every stream's window at once, so that callers who do not read never hold up
/// those who do.
const SOCKET_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS;
/// What h2 keeps of a request's body until the service takes it: four frames, so that one is always at hand.
const SEND_BUFFER: usize = 64 * 1024;
/// An answer's headers, at most.
const MAX_HEADERS: u32 = 256 * 1024;
/// What small frames that nobody has read yet may cost in h2's books, which count each as 256 bytes and end the socket
/// beyond: every stream's window full of frames of 32 bytes, a word each.
const MAX_OVERHEAD: usize = 8 * SOCKET_WINDOW as usize;
/// How often it is seen whether a peer that owes an answer has said anything; one that has not is asked whether it
/// lives. If it has vanished, that is a byte which nobody acknowledges, and the socket's own limit of 12 s ends it: 15 s
/// after the peer's last word, for this is waited twice at most. Where it was asked just before, the socket's keepalive
/// finds out as soon.
const ASK_AFTER: Duration = Duration::from_millis(1500);
/// How long after one such question the next one comes, at the least: as long as gRPC's clients have to wait, for there
/// are services that hang up on who asks too often.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A peer that is there has so long to say so, at least; and as long as the kind allows, for it may do its work on the
/// thread that would answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(9);
/// Streams that were reset whose late frames h2 knows and leaves alone for a second. As many as a second of cancels on a
/// busy socket makes.
const REMEMBERED_RESETS: usize = 4 * MOST_STREAMS as usize;
/// What a peer may still send after our goodbye before it is cut.
const MAX_FAREWELL: usize = 1024 * 1024;

/// None once nobody needs the socket any more: then h2 says goodbye. It is let go of by the driver, outside of h2.
type Sender = Arc<Mutex<Option<client::SendRequest<Bytes>>>>;
type Connection = client::Connection<Gate<Carrier<Wire>>, Bytes>;

/// A shared socket. Dropped, it is cut.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) standing: Arc<Standing>,
    pub(super) lanes: Arc<Lanes>,
    /// The secret headers as they were when it was dialed.
    pub(super) secret_headers: HeaderMap,
    sender: Sender,
    line: Line,
    /// To look at. It is the driver's, so that it closes when that ends, whoever still has a place here.
    socket: Weak<TcpStream>,
    driver: AbortHandle,
}

impl Socket {
    /// Speaks HTTP/2 on a socket that was dialed behind a session's fence. From here on that guards the session's own
    /// requests only.
    pub(super) async fn start(
        dialed: Dialed,
        standing: &Arc<Standing>,
        desk: &Desk,
        target: &Target,
    ) -> Result<Self, DialError> {
        let Dialed {
            mut carrier,
            socket,
            secret_headers,
            ..
        } = dialed;
        let own = Arc::new(Fence::default());
        own.open(1);
        carrier.entrust(own);
        let line = carrier.line();
        let lanes = Arc::new(Lanes::default());
        let gate = Gate::new(carrier, Arc::clone(&lanes), desk.clone());
        let (sender, connection) = builder().handshake(gate).await.map_err(DialError::transient)?;
        let sender = Arc::new(Mutex::new(Some(sender)));
        let peeked = Arc::downgrade(&socket);
        let driver = Driver {
            standing: Arc::clone(standing),
            sender: Arc::clone(&sender),
            desk: desk.clone(),
            lanes: Arc::clone(&lanes),
            socket,
            clock: target.clock.clone(),
            answer_within: ANSWER_WITHIN.max(target.limits.pong),
        };
        Ok(Self {
            standing: Arc::clone(standing),
            lanes,
            secret_headers,
            sender,
            line,
            socket: peeked,
            driver: tokio::spawn(driver.drive(connection)).abort_handle(),
        })
    }

    /// What sends requests; none when the socket is being closed.
    pub(super) fn sender(&self) -> Option<client::SendRequest<Bytes>> {
        self.sender.lock().clone()
    }

    /// Whether it ended. It sees what the network has delivered by now, even if the driver has not been told yet.
    pub(super) async fn is_dead(&self) -> bool {
        if self.pending() == Pending::Bytes {
            tokio::task::yield_now().await;
        }
        self.standing.is_gone() || self.pending() == Pending::End
    }

    fn pending(&self) -> Pending {
        let socket = self.socket.upgrade();
        socket.map_or(Pending::End, |socket| pending(&socket))
    }

    /// Cuts it off at once: when this has returned, not one byte more reaches the socket.
    pub(super) fn cut(&self) {
        self.line.cut();
        self.driver.abort();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.cut();
    }
}

fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(SOCKET_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(MAX_OVERHEAD)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        // A late frame of a stream that h2 has forgotten counts as an error of ours, and so many would end the socket for
        // all. The frames that h2 answers them with are left out at the gate.
        .max_local_error_reset_streams(None)
        .max_header_list_size(MAX_HEADERS);
    builder
}

/// What drives a socket. However it ends, all who wait for the socket hear of it.
struct Driver {
    standing: Arc<Standing>,
    sender: Sender,
    desk: Desk,
    lanes: Arc<Lanes>,
    socket: Arc<TcpStream>,
    clock: Clock,
    /// For the answer to a ping.
    answer_within: Duration,
}

impl Driver {
    /// Runs a connection until h2 is done with it. If both sides then have what they wanted, it waits for the peer's
    /// end; else the socket is dropped, which resets the connection.
    async fn drive(self, mut connection: Connection) {
        let pings = connection.ping_pong();
        let whole = tokio::select! {
            ended = &mut connection => ended.is_ok(),
            () = self.silence(pings) => false,
            never = self.let_go() => match never {},
        };
        self.lanes.close();
        self.desk.gone();
        if whole {
            // What was sent last is still to arrive.
            SockRef::from(&*self.socket).set_linger(None).ok();
            drop(connection);
            farewell(&self.socket).await;
        }
    }

    /// Lets h2 say goodbye when nobody needs the socket any more.
    async fn let_go(&self) -> Infallible {
        self.standing.unneeded.raised().await;
        let sender = self.sender.lock().take();
        drop(sender);
        std::future::pending().await
    }

    /// Returns when the peer owes an answer and has said nothing for too long, not even to a ping.
    async fn silence(&self, mut pings: Option<PingPong>) {
        let mut next = Time::ZERO;
        loop {
            let heard = self.lanes.heard();
            let now = self.clock.now();
            self.clock.sleep_until(next.max(now + ASK_AFTER)).await;
            if self.lanes.heard() != heard || !self.lanes.are_busy() {
                continue;
            }
            next = self.clock.now() + ASK_AGAIN;
            if let Some(pings) = &mut pings {
                // The answer to the last one makes room for this one; one that is under way serves as well.
                poll_fn(|cx| Poll::Ready(pings.poll_pong(cx).is_ready())).await;
                pings.send_ping(Ping::opaque()).ok();
            }
            let due = self.clock.now() + self.answer_within;
            tokio::select! {
                biased;
                () = self.lanes.heard_after(heard) => {}
                () = self.clock.sleep_until(due) => return,
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.lanes.close();
        self.desk.ended();
    }
}

/// Waits for the peer's end.
async fn farewell(socket: &TcpStream) {
    let mut seen = 0;
    let mut bytes = [0; 4096];
    while seen < MAX_FAREWELL && socket.readable().await.is_ok() {
        match socket.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(read) => seen += read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
