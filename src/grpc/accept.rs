//! The listener: our own accept loop, because tonic's sets no nodelay, no preface deadline and no stream limit.
//!
//! One loop accepts, and hands each socket to the least busy worker ([`super::workers`]), which serves it to its end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{connection::Connection, limits};

/// The longest pause after an accept that failed for want of descriptors or memory.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Where the broker listens, and for how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at the same time; one more is closed as soon as it is accepted.
    pub max_connections: usize,
    /// Threads that serve connections, each with a runtime of its own.
    pub workers: usize,
}

/// A socket that was accepted and has not been served yet.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The socket, on the accept loop's runtime.
    pub(super) stream: TcpStream,
    /// What handlers will see of it.
    pub(super) connection: Arc<Connection>,
    /// Its place among the connections, to be kept as long as it lives.
    pub(super) place: OwnedSemaphorePermit,
}

/// A bound listener.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Acceptor {
    /// Binds the address, so that clients can connect from now on; they are answered once [`super::serve`] runs.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub async fn bind(settings: &Settings) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(settings.listen).await?,
            places: Arc::new(Semaphore::new(settings.max_connections)),
        })
    }

    /// The address in use, with the port that was found for port 0.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until `closing` is cancelled; then the listener is closed.
    pub(super) async fn run(self, closing: CancellationToken, mut hand_out: impl FnMut(Accepted)) {
        let mut number = 0;
        let accepting = accept_all(&self.listener, |stream, peer| {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                // Closed at once rather than left in the queue: a client told so can go elsewhere.
                return warn!(%peer, "closed a connection: max_connections are open");
            };
            tune(&stream);
            number += 1;
            hand_out(Accepted {
                stream,
                connection: Arc::new(Connection::new(number, peer)),
                place,
            });
        });
        tokio::select! {
            () = accepting => {}
            () = closing.cancelled() => {}
        }
    }
}

/// Where sockets come from: a listener, or a test's script.
trait Source {
    type Socket;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;
}

impl Source for TcpListener {
    type Socket = TcpStream;

    fn next(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        self.accept()
    }
}

/// Accepts for ever: no error ends the loop, and one that will not pass by itself slows it down.
async fn accept_all<S: Source>(source: &S, mut take: impl FnMut(S::Socket, SocketAddr)) {
    let mut pause = Duration::ZERO;
    loop {
        match source.next().await {
            Ok((socket, peer)) => {
                pause = Duration::ZERO;
                take(socket, peer);
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                pause = (pause * 2).clamp(Duration::from_millis(10), MAX_PAUSE);
                warn!(%error, ?pause, "cannot accept connections just now");
                sleep(pause).await;
            }
        }
    }
}

/// Whether an accept failed because its peer went away meanwhile; the next one may succeed at once.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Sets what the HTTP/2 library cannot. A socket that refuses it died already, and its first read will say so.
fn tune(stream: &TcpStream) {
    stream.set_nodelay(true).ok();
    #[cfg(target_os = "linux")]
    SockRef::from(stream)
        .set_tcp_user_timeout(Some(limits::UNACKNOWLEDGED))
        .ok();
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::Clock;

    /// Accepts what it was told, then waits for ever.
    struct Script(Mutex<std::vec::IntoIter<io::Result<u32>>>);

    impl Source for Script {
        type Socket = u32;

        async fn next(&self) -> io::Result<(u32, SocketAddr)> {
            let step = self.0.lock().next();
            match step {
                Some(step) => step.map(|socket| (socket, SocketAddr::from(([127, 0, 0, 1], 4711)))),
                None => std::future::pending().await,
            }
        }
    }

    /// The sockets accepted from `script`, each with the time that had passed.
    async fn accepted(script: Vec<io::Result<u32>>) -> Vec<(u32, Duration)> {
        let clock = Clock::tokio();
        let started = clock.now();
        let count = script.iter().filter(|step| step.is_ok()).count();
        let (taken, mut takes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let take = |socket, _| taken.send((socket, clock.now().since(started))).unwrap();
            accept_all(&Script(Mutex::new(script.into_iter())), take).await;
        });
        let mut all = Vec::new();
        takes.recv_many(&mut all, count).await;
        while all.len() < count {
            all.push(takes.recv().await.unwrap());
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn running_out_of_descriptors_slows_the_loop_down_but_never_ends_it() {
        let no_descriptors = || Err(io::Error::from_raw_os_error(24));
        let all = accepted(vec![
            Ok(3),
            no_descriptors(),
            no_descriptors(),
            no_descriptors(),
            Ok(7),
        ])
        .await;
        let pauses = Duration::from_millis(10 + 20 + 40);
        assert_eq!(all, [(3, Duration::ZERO), (7, pauses)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_left_before_it_was_accepted_costs_no_pause() {
        let all = accepted(vec![Err(io::ErrorKind::ConnectionAborted.into()), Ok(1)]).await;
        assert_eq!(all, [(1, Duration::ZERO)]);
    }
}
