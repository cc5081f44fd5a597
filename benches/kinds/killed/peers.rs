//! Peers in this program, which see the end of a connection, a stream, or a call.

use bytes::Bytes;
use sublet::proto::{HttpBackend, PluginBackend, TcpBackend, http_backend::Protocol, pool_spec::Backend};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::Work;
use crate::{
    broker::Broker,
    client::Call,
    support::{
        driver::{Fault, Running},
        h2_peer::{DATA, H2Peer, Manners, Wire},
        http_peer::{Peer, Step},
    },
    tunnel::PART,
};

/// A tcp pool whose peer is this program.
async fn tcp(broker: &Broker, pool: &str) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let backend = Backend::Tcp(TcpBackend::default());
    broker.create(pool, 1, backend, Some(&address)).await;
    listener
}

/// A request whose answer has begun.
pub struct Request {
    listener: TcpListener,
    peer: Option<TcpStream>,
}

impl Request {
    pub async fn start(broker: &Broker) -> Self {
        Self {
            listener: tcp(broker, "line").await,
            peer: None,
        }
    }
}

impl Work for Request {
    const NAME: &'static str = "tcp, in a request's answer";
    // A message is given when it is whole.
    const ANSWERS: bool = false;

    fn call(&self) -> Call {
        Call {
            pool: "line",
            operation: "request",
            params: r#"{"text":"GET\r\n","length":1000}"#.to_owned(),
        }
    }

    async fn begun(&mut self) {
        let (mut peer, _) = self.listener.accept().await.expect("a connection");
        let mut asked = [0; 5];
        peer.read_exact(&mut asked).await.expect("a request");
        peer.write_all(b"half an answer").await.expect("it is taken");
        self.peer = Some(peer);
    }

    async fn stopped(&mut self) {
        let mut peer = self.peer.take().expect("a connection");
        // An end or a reset.
        peer.read_to_end(&mut Vec::new()).await.ok();
    }
}

/// A tunnel through which bytes come and come.
pub struct Carried {
    listener: TcpListener,
    sending: Option<JoinHandle<()>>,
}

impl Carried {
    pub async fn start(broker: &Broker) -> Self {
        Self {
            listener: tcp(broker, "tunnelled").await,
            sending: None,
        }
    }
}

impl Work for Carried {
    const NAME: &'static str = "tunnel, in a transfer";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        Call {
            pool: "tunnelled",
            operation: "tunnel",
            params: "{}".to_owned(),
        }
    }

    async fn begun(&mut self) {
        let (mut peer, _) = self.listener.accept().await.expect("a connection");
        self.sending = Some(tokio::spawn(async move {
            let part = Bytes::from(vec![b'x'; PART]);
            while peer.write_all(&part).await.is_ok() {}
        }));
    }

    async fn stopped(&mut self) {
        let sending = self.sending.take().expect("a connection");
        sending.await.expect("an end");
    }
}

/// An answer of HTTP/1.1 that comes and comes.
pub struct Http1 {
    peer: Peer,
    calls: usize,
}

impl Http1 {
    pub async fn start(broker: &Broker) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n";
        let peer = Peer::start(vec![vec![Step::Request, Step::Send(head.into()), Step::Flood]]);
        let backend = Backend::Http(HttpBackend::default());
        broker.create("web", 1, backend, Some(&peer.address())).await;
        Self { peer, calls: 0 }
    }
}

impl Work for Http1 {
    const NAME: &'static str = "HTTP/1.1, in an answer's body";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        Call {
            pool: "web",
            operation: "request",
            params: "{}".to_owned(),
        }
    }

    async fn begun(&mut self) {
        self.calls += 1;
        let calls = self.calls;
        self.peer
            .until(|lines| lines.iter().filter(|line| !line.requests.is_empty()).count() == calls)
            .await;
    }

    async fn stopped(&mut self) {
        let calls = self.calls;
        self.peer
            .until(|lines| lines.iter().filter(|line| line.end.is_some()).count() == calls)
            .await;
    }
}

/// An answer of HTTP/2 that has begun.
pub struct Http2(H2Peer);

impl Http2 {
    pub async fn start(broker: &Broker) -> Self {
        let peer = H2Peer::start(vec![Manners {
            answers: false,
            ..Manners::default()
        }]);
        let backend = Backend::Http(HttpBackend {
            protocol: Protocol::Http2.into(),
            ..HttpBackend::default()
        });
        broker.create("web2", 1, backend, Some(&peer.address())).await;
        Self(peer)
    }
}

impl Work for Http2 {
    const NAME: &'static str = "HTTP/2, in an answer's body";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        Call {
            pool: "web2",
            operation: "request",
            params: "{}".to_owned(),
        }
    }

    async fn begun(&mut self) {
        self.0
            .until(|wires| wires.iter().any(|wire| !wire.open.is_empty()))
            .await;
        let wires = self.0.wires();
        let open = |wire: &Wire| wire.open.first().copied();
        let (socket, stream) = wires
            .iter()
            .enumerate()
            .find_map(|(socket, wire)| Some((socket, open(wire)?)))
            .expect("an open stream");
        self.0.head(socket, stream);
        self.0.say(socket, (DATA, 0), stream, b"part");
    }

    async fn stopped(&mut self) {
        self.0
            .until(|wires| wires.iter().all(|wire| wire.ended || wire.open.is_empty()))
            .await;
    }
}

/// A driver's call that has said something.
pub struct Plugin {
    driver: Running,
    calls: usize,
}

impl Plugin {
    pub async fn start(broker: &Broker) -> Self {
        let driver = Running::start(Fault::None).await;
        let backend = Backend::Plugin(PluginBackend {
            address: driver.address.clone(),
            ..PluginBackend::default()
        });
        broker.create("dev", 1, backend, None).await;
        Self { driver, calls: 0 }
    }
}

impl Work for Plugin {
    const NAME: &'static str = "plugin, in a streamed call";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        Call {
            pool: "dev",
            operation: "hang",
            params: "{}".to_owned(),
        }
    }

    async fn begun(&mut self) {
        self.calls += 1;
        self.driver.record.wait_for("hang began", self.calls).await;
    }

    async fn stopped(&mut self) {
        self.driver.record.wait_for("hang cancelled", self.calls).await;
    }
}
