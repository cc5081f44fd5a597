//! An HTTP/2 service, frame by frame: it records every frame that reached it, answers or keeps silent as it is told,
//! and says what no library would.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    sync::{Notify, mpsc, watch},
    task::{AbortHandle, JoinHandle},
};
use tokio_rustls::TlsAcceptor;

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const RESET: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
const END: u8 = 0x1;
/// A frame's payload, at most, unless settings say otherwise.
const LARGEST: usize = 16 * 1024;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// `:status: 200` and `content-type: application/json`.
const HEAD: &[u8] = b"\x88\x0f\x10\x10application/json";

/// How a service behaves on one socket.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    /// Streams that it allows.
    pub(crate) streams: Option<u32>,
    /// Answers requests that came whole with their own body, or `{}`.
    pub(crate) answers: bool,
    /// Gives the window of what came back.
    pub(crate) credits: bool,
    /// After so many requests it says goodbye, and does nothing of those that follow.
    pub(crate) leaves_after: Option<usize>,
    /// Refuses so many requests first, one by one.
    pub(crate) refuses: usize,
    /// Answers pings.
    pub(crate) pongs: bool,
    /// Stops to read once so many bytes have come, until it is told to read on.
    pub(crate) reads: usize,
    /// The window of each stream, as its settings say.
    pub(crate) window: Option<u32>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            streams: Some(100),
            answers: true,
            credits: true,
            leaves_after: None,
            refuses: 0,
            pongs: true,
            reads: usize::MAX,
            window: None,
        }
    }
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What happened on one socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire {
    /// Every frame, in order.
    pub(crate) frames: Vec<Frame>,
    /// Requests that were carried out, by their bodies.
    pub(crate) done: Vec<Vec<u8>>,
    /// Streams that are open, and the most that ever were.
    pub(crate) open: BTreeSet<u32>,
    pub(crate) most_open: usize,
    /// Bytes of bodies sent.
    pub(crate) sent: usize,
    pub(crate) ended: bool,
    bodies: BTreeMap<u32, Vec<u8>>,
    last: Option<u32>,
}

impl Wire {
    pub(crate) fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.kind == kind).count()
    }

    /// How often it acknowledged settings.
    pub(crate) fn acknowledged(&self) -> usize {
        let settings = self.frames.iter().filter(|frame| frame.kind == SETTINGS);
        settings.filter(|frame| frame.flags & ACK != 0).count()
    }

    /// The streams that requests came on.
    pub(crate) fn streams(&self) -> Vec<u32> {
        let heads = self.frames.iter().filter(|frame| frame.kind == HEADERS);
        heads.map(|frame| frame.stream).collect()
    }

    /// Bytes of a request's body that came.
    pub(crate) fn data(&self, stream: u32) -> usize {
        self.of(stream, DATA).map(|frame| frame.payload.len()).sum()
    }

    pub(crate) fn resets(&self, stream: u32) -> usize {
        self.of(stream, RESET).count()
    }

    fn of(&self, stream: u32, kind: u8) -> impl Iterator<Item = &Frame> {
        self.frames
            .iter()
            .filter(move |frame| frame.stream == stream && frame.kind == kind)
    }
}

/// A service that is running. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct H2Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    wires: Mutex<Vec<Wire>>,
    out: Mutex<Vec<mpsc::UnboundedSender<Vec<u8>>>>,
    serving: Mutex<Vec<AbortHandle>>,
    changes: watch::Sender<()>,
    reads_on: Notify,
}

impl H2Peer {
    /// Serves with `manners`, one for each socket in the order they come; the last goes for all that follow.
    pub(crate) fn start(manners: Vec<Manners>) -> Self {
        Self::listen(manners, None)
    }

    /// As [`H2Peer::start`], with TLS.
    pub(crate) fn start_tls(manners: Vec<Manners>, acceptor: TlsAcceptor) -> Self {
        Self::listen(manners, Some(acceptor))
    }

    fn listen(manners: Vec<Manners>, tls: Option<TlsAcceptor>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        // So small that whoever is not read from notices soon.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            wires: Mutex::default(),
            out: Mutex::default(),
            serving: Mutex::default(),
            changes: watch::Sender::new(()),
            reads_on: Notify::new(),
        });
        let accepting = tokio::spawn(accept(listener, manners, tls, Arc::clone(&shared)));
        Self {
            address,
            shared,
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

    /// What happened so far, for each socket.
    pub(crate) fn wires(&self) -> Vec<Wire> {
        self.shared.wires.lock().unwrap().clone()
    }

    /// Sends a frame, of a kind and with flags, on a socket.
    pub(crate) fn say(&self, socket: usize, (kind, flags): (u8, u8), stream: u32, payload: &[u8]) {
        let bytes = frame(kind, flags, stream, payload);
        self.shared.out.lock().unwrap()[socket].send(bytes).ok();
    }

    /// Answers a request whole.
    pub(crate) fn answer(&self, socket: usize, stream: u32, body: &[u8]) {
        self.say(socket, (HEADERS, END_HEADERS), stream, HEAD);
        self.say(socket, (DATA, END), stream, body);
    }

    /// Begins an answer.
    pub(crate) fn head(&self, socket: usize, stream: u32) {
        self.say(socket, (HEADERS, END_HEADERS), stream, HEAD);
    }

    /// Reads on where it had stopped.
    pub(crate) fn read_on(&self) {
        self.shared.reads_on.notify_one();
    }

    /// Allows another number of streams.
    pub(crate) fn allow(&self, socket: usize, streams: u32) {
        self.say(socket, (SETTINGS, 0), 0, &setting(3, streams));
    }

    /// Says goodbye: nothing is done of streams after `last`.
    pub(crate) fn go_away(&self, socket: usize, last: u32) {
        self.say(socket, (GOAWAY, 0), 0, &goodbye(last));
    }

    /// Returns once `what` holds; panics if it does not for long.
    pub(crate) async fn until(&self, what: impl Fn(&[Wire]) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        let waiting = async {
            while !what(&self.shared.wires.lock().unwrap()) {
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "it did not happen: {:?}", self.wires());
    }
}

impl Drop for H2Peer {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.out.lock().unwrap().clear();
        for serving in self.shared.serving.lock().unwrap().iter() {
            serving.abort();
        }
    }
}

/// One accept loop, and a task for each socket.
async fn accept(listener: TcpListener, manners: Vec<Manners>, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    for number in 0.. {
        let Ok((socket, _)) = listener.accept().await else {
            return;
        };
        socket.set_nodelay(true).unwrap();
        let (out, outgoing) = mpsc::unbounded_channel();
        let host = Host {
            number,
            manners: manners
                .get(number)
                .or(manners.last())
                .cloned()
                .unwrap_or_default(),
            shared: Arc::clone(&shared),
            out: out.clone(),
            requests: 0,
        };
        shared.wires.lock().unwrap().push(Wire::default());
        shared.out.lock().unwrap().push(out);
        shared.changes.send_replace(());
        let tls = tls.clone();
        let serving = tokio::spawn(async move {
            match tls {
                None => host.serve(socket, outgoing).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        host.serve(stream, outgoing).await;
                    }
                }
            }
        });
        shared.serving.lock().unwrap().push(serving.abort_handle());
    }
}

/// One socket.
struct Host {
    number: usize,
    manners: Manners,
    shared: Arc<Shared>,
    out: mpsc::UnboundedSender<Vec<u8>>,
    requests: usize,
}

impl Host {
    async fn serve(
        mut self,
        io: impl AsyncRead + AsyncWrite + Send + 'static,
        mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>,
    ) {
        let (mut reader, mut writer) = tokio::io::split(io);
        let shared = Arc::clone(&self.shared);
        let number = self.number;
        let writing = tokio::spawn(async move {
            while let Some(bytes) = outgoing.recv().await {
                if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
                let body = if bytes[3] == DATA { bytes.len() - 9 } else { 0 };
                shared.wires.lock().unwrap()[number].sent += body;
                shared.changes.send_replace(());
            }
            writer.shutdown().await.ok();
        });
        let mut settings = Vec::new();
        if let Some(streams) = self.manners.streams {
            settings.extend(setting(3, streams));
        }
        if let Some(window) = self.manners.window {
            settings.extend(setting(4, window));
        }
        self.say(SETTINGS, 0, 0, &settings);
        self.read(&mut reader).await;
        self.change(|wire| wire.ended = true);
        writing.abort();
    }

    async fn read(&mut self, reader: &mut (impl AsyncRead + Unpin)) {
        let mut preface = [0; 24];
        if reader.read_exact(&mut preface).await.is_err() {
            return;
        }
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut seen = 0;
        loop {
            if seen > self.manners.reads {
                self.shared.reads_on.notified().await;
                self.manners.reads = usize::MAX;
            }
            let mut head = [0; 9];
            if reader.read_exact(&mut head).await.is_err() {
                return;
            }
            let [a, b, c, kind, flags, s, t, u, v] = head;
            let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
            if reader.read_exact(&mut payload).await.is_err() {
                return;
            }
            seen += 9 + payload.len();
            self.take(Frame {
                kind,
                flags,
                stream: u32::from_be_bytes([s, t, u, v]),
                payload,
            });
        }
    }

    fn take(&mut self, frame: Frame) {
        self.change(|wire| wire.frames.push(frame.clone()));
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.say(SETTINGS, ACK, 0, &[]),
            PING if frame.flags & ACK == 0 && self.manners.pongs => self.say(PING, ACK, 0, &frame.payload),
            HEADERS => self.begin(&frame),
            DATA => self.data(&frame),
            RESET => self.change(|wire| {
                wire.open.remove(&frame.stream);
            }),
            _ => {}
        }
        if matches!(frame.kind, HEADERS | DATA) && frame.flags & END != 0 {
            self.complete(frame.stream);
        }
    }

    fn begin(&mut self, frame: &Frame) {
        assert!(frame.flags & END_HEADERS != 0, "nothing here is that long");
        self.requests += 1;
        let leaves = self.manners.leaves_after == Some(self.requests);
        self.change(|wire| {
            wire.open.insert(frame.stream);
            wire.most_open = wire.most_open.max(wire.open.len());
            if leaves {
                wire.last = Some(frame.stream);
            }
        });
        if leaves {
            self.say(GOAWAY, 0, 0, &goodbye(frame.stream));
        }
        if self.requests <= self.manners.refuses {
            self.change(|wire| {
                wire.open.remove(&frame.stream);
            });
            self.say(RESET, 0, frame.stream, &7_u32.to_be_bytes());
        }
    }

    fn data(&self, frame: &Frame) {
        self.change(|wire| {
            let body = wire.bodies.entry(frame.stream).or_default();
            body.extend_from_slice(&frame.payload);
        });
        let size = u32::try_from(frame.payload.len()).unwrap();
        if self.manners.credits && size > 0 {
            self.say(WINDOW_UPDATE, 0, 0, &size.to_be_bytes());
            self.say(WINDOW_UPDATE, 0, frame.stream, &size.to_be_bytes());
        }
    }

    fn complete(&self, stream: u32) {
        let (mut body, mut ignored) = (Vec::new(), false);
        self.change(|wire| {
            body = wire.bodies.get(&stream).cloned().unwrap_or_default();
            ignored = wire.last.is_some_and(|last| stream > last) || !wire.open.contains(&stream);
            if self.manners.answers && !ignored {
                wire.done.push(body.clone());
                wire.open.remove(&stream);
            }
        });
        if self.manners.answers && !ignored {
            self.say(HEADERS, END_HEADERS, stream, HEAD);
            let body = if body.is_empty() { b"{}" } else { &body[..] };
            for part in body.chunks(LARGEST) {
                self.say(DATA, 0, stream, part);
            }
            self.say(DATA, END, stream, &[]);
        }
    }

    fn say(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.out.send(frame(kind, flags, stream, payload)).ok();
    }

    fn change(&self, change: impl FnOnce(&mut Wire)) {
        change(&mut self.shared.wires.lock().unwrap()[self.number]);
        self.shared.changes.send_replace(());
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    let mut bytes = name.to_be_bytes().to_vec();
    bytes.extend_from_slice(&value.to_be_bytes());
    bytes
}

fn goodbye(last: u32) -> Vec<u8> {
    let mut bytes = last.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes
}
