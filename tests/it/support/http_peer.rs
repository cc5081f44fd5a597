//! An HTTP service that plays a script on each connection and records every byte that reached it: the truth that the
//! broker's claims are compared with.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a scripted service does next on a connection. At a script's end the connection is closed.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Reads one request whole.
    Request,
    /// Reads one request's head.
    Head,
    /// Reads until this many bytes have come on this connection.
    Bytes(usize),
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends an answer of 200 with this JSON.
    Json(&'static str),
    /// Sends zeros until the connection ends.
    Flood,
    /// Waits until the test calls [`Peer::go_on`].
    Wait,
    /// Answers each request with 200 and `{}` until the connection ends.
    Serve,
    /// Answers each request with 200 and its own body until the connection ends.
    Echo,
    /// Reads until the connection ends.
    ToEnd,
    /// Neither reads nor closes.
    Hang,
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The request line and headers, as they came.
    pub(crate) head: String,
    /// The body, without the marks of its chunks.
    pub(crate) body: Vec<u8>,
    /// All of it came.
    pub(crate) complete: bool,
}

/// What happened on one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    /// Every byte that came; beneath TLS what it held.
    pub(crate) bytes: Vec<u8>,
    /// Requests, in order.
    pub(crate) requests: Vec<Seen>,
    /// Bytes sent.
    pub(crate) sent: usize,
    /// How it ended, from the peer's side.
    pub(crate) end: Option<End>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closed.
    Closed,
    /// The other side reset it.
    Reset,
    /// The script came to its end.
    Script,
}

/// A service that is running. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    lines: Arc<Lines>,
    going_on: Arc<Semaphore>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Lines {
    list: Mutex<Vec<Line>>,
    changes: watch::Sender<()>,
}

/// A self-signed certificate for `localhost`.
pub(crate) struct Identity {
    /// It, in PEM: what to trust.
    pub(crate) pem: String,
    pub(crate) acceptor: TlsAcceptor,
}

impl Identity {
    pub(crate) fn new() -> Self {
        Self::speaking(&[])
    }

    /// One that agrees to these protocols in ALPN.
    pub(crate) fn speaking(protocols: &[&[u8]]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Self {
            pem: made.cert.pem(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    /// What serves with it.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }
}

impl Peer {
    /// Serves `scripts`, one for each connection in the order they come; the last goes for all that follow.
    pub(crate) fn start(scripts: Vec<Vec<Step>>) -> Self {
        Self::listen(scripts, None)
    }

    /// As [`Peer::start`], with TLS.
    pub(crate) fn start_tls(scripts: Vec<Vec<Step>>, identity: &Identity) -> Self {
        Self::listen(scripts, Some(identity.acceptor.clone()))
    }

    fn listen(scripts: Vec<Vec<Step>>, tls: Option<TlsAcceptor>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        // So small that whoever is not read from notices soon.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let lines = Arc::new(Lines {
            list: Mutex::default(),
            changes: watch::Sender::new(()),
        });
        let going_on = Arc::new(Semaphore::new(0));
        let accepting = tokio::spawn(accept(
            listener,
            scripts,
            tls,
            Arc::clone(&lines),
            Arc::clone(&going_on),
        ));
        Self {
            address,
            lines,
            going_on,
            accepting,
        }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lets one [`Step::Wait`] go on.
    pub(crate) fn go_on(&self) {
        self.going_on.add_permits(1);
    }

    /// Refuses connections from now on; those that are there go on.
    pub(crate) async fn refuse(&mut self) {
        self.accepting.abort();
        (&mut self.accepting).await.ok();
    }

    /// What happened so far, for each connection.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.list.lock().unwrap().clone()
    }

    /// The requests so far that came whole, on whatever connection.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        let lines = self.lines();
        lines
            .into_iter()
            .flat_map(|line| line.requests)
            .filter(|seen| seen.complete)
            .collect()
    }

    /// Returns once `what` holds; panics if it does not for long.
    pub(crate) async fn until(&self, what: impl Fn(&[Line]) -> bool) {
        let mut changes = self.lines.changes.subscribe();
        let waiting = async {
            while !what(&self.lines.list.lock().unwrap()) {
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .is_err()
        {
            panic!("it did not happen: {:?}", self.lines());
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accepting.abort();
        self.going_on.close();
    }
}

/// One accept loop, and a task for each connection.
async fn accept(
    listener: TcpListener,
    scripts: Vec<Vec<Step>>,
    tls: Option<TlsAcceptor>,
    lines: Arc<Lines>,
    going_on: Arc<Semaphore>,
) {
    for number in 0.. {
        let Ok((socket, _)) = listener.accept().await else {
            return;
        };
        socket.set_nodelay(true).unwrap();
        let script = scripts
            .get(number)
            .or(scripts.last())
            .cloned()
            .unwrap_or_default();
        lines.list.lock().unwrap().push(Line::default());
        lines.changes.send_replace(());
        let (lines, going_on, tls) = (Arc::clone(&lines), Arc::clone(&going_on), tls.clone());
        tokio::spawn(async move {
            let io = match tls {
                None => Io::Plain(socket),
                Some(acceptor) => match acceptor.accept(socket).await {
                    Ok(stream) => Io::Tls(Box::new(stream)),
                    Err(_) => return,
                },
            };
            let mut player = Player {
                io,
                number,
                lines,
                going_on,
            };
            let end = player.play(script).await;
            player.change(|line| line.end = Some(end));
        });
    }
}

enum Io {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

struct Player {
    io: Io,
    number: usize,
    lines: Arc<Lines>,
    going_on: Arc<Semaphore>,
}

impl Player {
    async fn play(&mut self, script: Vec<Step>) -> End {
        for step in script {
            if let Err(end) = self.take(step).await {
                return end;
            }
        }
        self.finish().await;
        End::Script
    }

    async fn take(&mut self, step: Step) -> Result<(), End> {
        match step {
            Step::Request => self.request().await,
            Step::Head => self.head().await.map(drop),
            Step::Bytes(count) => self.bytes(count).await,
            Step::Send(bytes) => self.send(&bytes).await,
            Step::Json(json) => self.send(&json_answer(json.as_bytes())).await,
            Step::Flood => loop {
                self.send(&[0; 4096]).await?;
            },
            Step::Wait => {
                let waited = self.going_on.acquire().await;
                waited
                    .map(tokio::sync::SemaphorePermit::forget)
                    .map_err(|_| End::Script)
            }
            Step::Serve => loop {
                self.request().await?;
                self.send(&json_answer(b"{}")).await?;
            },
            Step::Echo => loop {
                self.request().await?;
                let body = self.look(|line| line.requests.last().unwrap().body.clone());
                self.send(&json_answer(&body)).await?;
            },
            Step::ToEnd => loop {
                self.read().await?;
            },
            Step::Hang => {
                self.going_on.acquire().await.map(drop).ok();
                std::future::pending().await
            }
            Step::Close => Err(End::Script),
            Step::Reset => {
                self.tcp().set_zero_linger().unwrap();
                Err(End::Script)
            }
        }
    }

    /// Reads a head; gives the position after it.
    async fn head(&mut self) -> Result<usize, End> {
        let start = self.look(Line::taken);
        loop {
            let found = self.look(|line| find(&line.bytes[start..], b"\r\n\r\n"));
            if let Some(end) = found {
                let after = start + end + 4;
                self.change(|line| {
                    let head = String::from_utf8_lossy(&line.bytes[start..after]).into_owned();
                    line.requests.push(Seen {
                        head,
                        ..Seen::default()
                    });
                });
                return Ok(after);
            }
            self.read().await?;
        }
    }

    async fn request(&mut self) -> Result<(), End> {
        let start = self.head().await?;
        let head = self.look(|line| line.requests.last().unwrap().head.to_ascii_lowercase());
        let length = head
            .split("content-length: ")
            .nth(1)
            .map(|rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
        let chunked = head.contains("transfer-encoding: chunked");
        loop {
            let body = self.look(|line| {
                let rest = &line.bytes[start..];
                if chunked {
                    unchunk(rest)
                } else {
                    rest.get(..length.unwrap_or(0)).map(<[u8]>::to_vec)
                }
            });
            if let Some(body) = body {
                self.change(|line| {
                    let seen = line.requests.last_mut().unwrap();
                    seen.body = body;
                    seen.complete = true;
                });
                return Ok(());
            }
            self.read().await?;
        }
    }

    async fn bytes(&mut self, count: usize) -> Result<(), End> {
        while self.look(|line| line.bytes.len()) < count {
            self.read().await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), End> {
        let mut buffer = [0; 16 * 1024];
        let read = match &mut self.io {
            Io::Plain(io) => io.read(&mut buffer).await,
            Io::Tls(io) => io.read(&mut buffer).await,
        };
        match read {
            Ok(0) => Err(End::Closed),
            Ok(count) => {
                self.change(|line| line.bytes.extend_from_slice(&buffer[..count]));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(End::Closed),
            Err(_) => Err(End::Reset),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        match &mut self.io {
            Io::Plain(io) => write(io, bytes).await,
            Io::Tls(io) => write(io, bytes).await,
        }
        .map_err(|_| End::Reset)?;
        self.change(|line| line.sent += bytes.len());
        Ok(())
    }

    async fn finish(&mut self) {
        match &mut self.io {
            Io::Plain(io) => io.shutdown().await.ok(),
            Io::Tls(io) => io.shutdown().await.ok(),
        };
    }

    fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(io) => io,
            Io::Tls(io) => io.get_ref().0,
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Line) -> T) -> T {
        look(&self.lines.list.lock().unwrap()[self.number])
    }

    fn change(&self, change: impl FnOnce(&mut Line)) {
        change(&mut self.lines.list.lock().unwrap()[self.number]);
        self.lines.changes.send_replace(());
    }
}

impl Line {
    /// The bytes that complete requests made up.
    fn taken(&self) -> usize {
        let mut at = 0;
        for seen in &self.requests {
            at += seen.head.len();
            let rest = &self.bytes[at..];
            at += if seen
                .head
                .to_ascii_lowercase()
                .contains("transfer-encoding: chunked")
            {
                find(rest, b"0\r\n\r\n").map_or(0, |end| end + 5)
            } else {
                seen.body.len()
            };
        }
        at
    }
}

async fn write(io: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

/// An answer of 200 with JSON.
pub(crate) fn json_answer(json: &[u8]) -> Vec<u8> {
    let length = json.len();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
            .into_bytes();
    answer.extend_from_slice(json);
    answer
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A chunked body without its marks, if all of it is there.
fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(bytes, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        let rest = &bytes[line + 2..];
        if size == 0 {
            return rest.starts_with(b"\r\n").then_some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        bytes = rest.get(size + 2..)?;
    }
}
