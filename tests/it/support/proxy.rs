//! A TCP proxy that spoils connections as it is told, and counts what passes.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test support, of which no crate uses everything"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// What happens to bytes from now on, on every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// They pass.
    Pass,
    /// New connections are closed at once; those that are there go on.
    Refuse,
    /// They are taken and go nowhere, either way.
    Swallow,
    /// The first request that contains this closes its connection and does not reach the server. Then `Pass`.
    CutRequest(Vec<u8>),
    /// The first request that contains this reaches the server; when the server answers, the connection closes, and
    /// the answer does not reach the client. Then `Pass`.
    CutAnswer(Vec<u8>),
    /// Answers pass up to this many bytes more, over all connections; then the connection in hand closes. Then `Pass`.
    CutAnswersAfter(usize),
}

/// A running proxy; everything closes when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    rule: watch::Sender<Rule>,
    connections: Mutex<Vec<CancellationToken>>,
    opened: AtomicU64,
    open: watch::Sender<u64>,
    requested: AtomicU64,
    answered: AtomicU64,
    cuts: watch::Sender<u64>,
    kinds: Mutex<BTreeMap<u32, Kind>>,
}

/// Connections whose first packet has the same code.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind {
    /// Open now.
    pub open: u64,
    /// Open at once, at most.
    pub most: u64,
    /// Opened so far.
    pub seen: u64,
}

impl Proxy {
    /// Starts one before `server`, on a free port of 127.0.0.1.
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            rule: watch::Sender::new(Rule::Pass),
            connections: Mutex::default(),
            opened: AtomicU64::new(0),
            open: watch::Sender::new(0),
            requested: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
            kinds: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the rule, for connections that are there too.
    pub fn set(&self, rule: Rule) {
        self.shared.rule.send_replace(rule);
    }

    /// Closes every connection now.
    pub fn cut_all(&self) {
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            connection.cancel();
        }
    }

    /// Connections accepted so far.
    pub fn opened(&self) -> u64 {
        self.shared.opened.load(SeqCst)
    }

    /// Connections open now; to be watched for a change.
    pub fn open(&self) -> watch::Receiver<u64> {
        self.shared.open.subscribe()
    }

    /// How often a rule has closed a connection; to be watched for a change.
    pub fn cuts(&self) -> watch::Receiver<u64> {
        self.shared.cuts.subscribe()
    }

    /// Connections by what PostgreSQL's first packet says they are for: its second word, after its length.
    pub fn kind(&self, code: u32) -> Kind {
        let kinds = self.shared.kinds.lock().unwrap();
        kinds.get(&code).copied().unwrap_or_default()
    }

    /// Bytes that reached the server.
    pub fn requested(&self) -> u64 {
        self.shared.requested.load(SeqCst)
    }

    /// Bytes that reached clients.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut_all();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.opened.fetch_add(1, SeqCst);
        if *shared.rule.borrow() == Rule::Refuse {
            continue;
        }
        let closed = CancellationToken::new();
        shared.connections.lock().unwrap().push(closed.clone());
        tokio::spawn(carry(client, Arc::clone(&shared), closed));
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>, closed: CancellationToken) {
    let Ok(server) = TcpStream::connect(shared.server).await else {
        return;
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    shared.open.send_modify(|open| *open += 1);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Set when the answer to come is the one to cut.
    let doomed = watch::Sender::new(false);
    let counted = Counted::new(&shared);
    tokio::select! {
        () = closed.cancelled() => {}
        () = async {
            tokio::join!(
                requests(from_client, to_server, &counted, &doomed, &closed),
                answers(from_server, to_client, &counted, &doomed, &closed),
            );
        } => {}
    }
    shared.open.send_modify(|open| *open -= 1);
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    counted: &Counted,
    doomed: &watch::Sender<bool>,
    closed: &CancellationToken,
) {
    let shared = &counted.shared;
    let mut buffer = vec![0; 64 * 1024];
    let mut swallowed = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..count];
        counted.note(bytes);
        let rule = shared.rule.borrow().clone();
        match rule {
            Rule::Swallow => {
                swallowed = true;
                continue;
            }
            Rule::CutRequest(wanted) if contains(bytes, &wanted) => {
                shared.cut(closed);
                return;
            }
            Rule::CutAnswer(wanted) if contains(bytes, &wanted) => {
                doomed.send_replace(true);
                shared.rule.send_replace(Rule::Pass);
            }
            Rule::Pass
            | Rule::Refuse
            | Rule::CutRequest(_)
            | Rule::CutAnswer(_)
            | Rule::CutAnswersAfter(_) => {}
        }
        if to.write_all(bytes).await.is_err() {
            break;
        }
        shared.requested.fetch_add(count as u64, SeqCst);
    }
    // Where something was swallowed, the client's end is too: the server sees a half-open connection.
    if swallowed {
        closed.cancelled().await;
    }
    // The client's end of its half is the server's to see; a server that is gone ends the connection.
    if to.shutdown().await.is_err() {
        closed.cancel();
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    counted: &Counted,
    doomed: &watch::Sender<bool>,
    closed: &CancellationToken,
) {
    let shared = &counted.shared;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if *doomed.borrow() {
            counted.end();
            shared.cut(closed);
            return;
        }
        let rule = shared.rule.borrow().clone();
        let mut pass = count;
        match rule {
            Rule::Swallow => continue,
            Rule::CutAnswersAfter(left) if left < count => pass = left,
            Rule::CutAnswersAfter(left) => {
                shared.rule.send_replace(Rule::CutAnswersAfter(left - count));
            }
            Rule::Pass | Rule::Refuse | Rule::CutRequest(_) | Rule::CutAnswer(_) => {}
        }
        if to.write_all(&buffer[..pass]).await.is_err() {
            break;
        }
        shared.answered.fetch_add(pass as u64, SeqCst);
        if pass < count {
            counted.end();
            shared.cut(closed);
            return;
        }
    }
    // Before the client can learn of the end, and open another one.
    counted.end();
    closed.cancel();
}

/// A connection's place among those of its kind, from its first packet until its end.
#[derive(Debug)]
struct Counted {
    shared: Arc<Shared>,
    code: Mutex<Option<u32>>,
    ended: AtomicBool,
}

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            code: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    fn note(&self, first: &[u8]) {
        let mut code = self.code.lock().unwrap();
        let Some(word) = first.get(4..8) else { return };
        if code.is_none() && !self.ended.load(SeqCst) {
            let found = u32::from_be_bytes(word.try_into().unwrap());
            *code = Some(found);
            let mut kinds = self.shared.kinds.lock().unwrap();
            let kind = kinds.entry(found).or_default();
            kind.open += 1;
            kind.seen += 1;
            kind.most = kind.most.max(kind.open);
        }
    }

    fn end(&self) {
        if self.ended.swap(true, SeqCst) {
            return;
        }
        let code = *self.code.lock().unwrap();
        let mut kinds = self.shared.kinds.lock().unwrap();
        if let Some(kind) = code.and_then(|code| kinds.get_mut(&code)) {
            kind.open -= 1;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn cut(&self, connection: &CancellationToken) {
        self.rule.send_replace(Rule::Pass);
        connection.cancel();
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
