//! Through the broker beside the same without it: bytes of a tunnel, Redis commands, requests of HTTP/2.

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sublet::proto::{HttpBackend, RedisBackend, TcpBackend, http_backend::Protocol, pool_spec::Backend};
use tokio::net::TcpStream;

use crate::{
    Effort,
    broker::Broker,
    cpu::{Server, role},
    load::Caller,
    session::Session,
    support::{
        calls::{Broker as Client, broker, one_shot, operation},
        redis,
    },
    table::{self, Row, Took},
    transfer::{self, Pipe, Way},
    tunnel,
};

/// Callers in each comparison of Redis commands, the most of whom have a session each.
const COMMAND_CALLERS: [usize; 2] = [1, 16];
/// Callers in each comparison of requests of HTTP/2.
const REQUEST_CALLERS: [usize; 2] = [1, 100];
/// Connections to the broker, where there are many callers.
const CONNECTIONS: usize = 4;
const GET: &str = r#"{"args":["GET","k"]}"#;

pub async fn measure(effort: &Effort) {
    tunnels(effort).await;
    commands(effort).await;
    requests(effort).await;
}

async fn tunnels(effort: &Effort) {
    let peer = Server::start(&mut role("serve-tcp"));
    let broker = Broker::start().await;
    let backend = Backend::Tcp(TcpBackend::default());
    broker.create("bytes", 4, backend, Some(&peer.address)).await;
    let program = tunnel::program(&broker.address, "bytes");
    let ways = [
        ("direct", Way::Address(&peer.address), vec![]),
        (
            "OpenSession's tunnel",
            Way::Pool(&broker.address, "bytes"),
            vec![broker.id()],
        ),
        (
            "`sublet tunnel`",
            Way::Address(&program.address),
            vec![broker.id(), program.id()],
        ),
    ];
    let mut rows: Vec<Took> = ways
        .iter()
        .map(|(name, ..)| (*name, Vec::new(), Vec::new()))
        .collect();
    for _ in 0..effort.rounds {
        for ((_, way, _), (_, down, up)) in ways.iter().zip(&mut rows) {
            down.push(transfer::down(*way, effort.bytes).await);
            up.push(transfer::up(*way, effort.bytes).await);
        }
    }
    let title = format!("A tunnel's transfer of {} MiB", effort.bytes >> 20);
    table::transfers(&title, &rows, effort.bytes);
    let mut rows = Vec::new();
    for (name, way, between) in ways {
        let callers = vec![Caller::Pipe(Pipe::echo(way).await)];
        rows.push(Row::new(name, callers, &between));
    }
    table::calls("A tunnel's round trip of 64 bytes", rows, effort).await;
}

/// A broker's clients for so many callers.
fn brokers(address: &str, callers: usize) -> Vec<Client> {
    let connections: Vec<_> = (0..CONNECTIONS.min(callers)).map(|_| broker(address)).collect();
    connections.iter().cycle().take(callers).cloned().collect()
}

async fn commands(effort: &Effort) {
    let server = redis::Server::start_with("", |_| {});
    let value = "x".repeat(100);
    server.connect().await.run(&format!("SET k {value}")).await;
    let broker = Broker::start().await;
    let address = server.address().to_string();
    let backend = || Backend::Redis(RedisBackend::default());
    // Both ways have their own sessions: an open one would be missing for the one-shots.
    for pool in ["leased", "one-shots"] {
        broker.create(pool, 16, backend(), Some(&address)).await;
    }
    for callers in COMMAND_CALLERS {
        let (mut direct, mut leased, mut one_shots) = (vec![], vec![], vec![]);
        for client in brokers(&broker.address, callers) {
            direct.push(Caller::Redis(server.connect().await, "GET k"));
            let session = Session::open(client.clone(), "leased").await;
            leased.push(Caller::Session(session, operation("command", GET)));
            one_shots.push(Caller::OneShot(client, one_shot("one-shots", "command", GET)));
        }
        let rows = vec![
            Row::new("direct, a connection for each caller", direct, &[]),
            Row::new("Sublet, OpenSession", leased, &[broker.id()]),
            Row::new("Sublet, one-shot", one_shots, &[broker.id()]),
        ];
        let title = format!("Redis, GET of 100 bytes, {callers} caller(s)");
        table::calls(&title, rows, effort).await;
    }
}

async fn requests(effort: &Effort) {
    let peer = Server::start(&mut role("serve-h2"));
    let broker = Broker::start().await;
    let backend = Backend::Http(HttpBackend {
        protocol: Protocol::Http2.into(),
        ..HttpBackend::default()
    });
    broker.create("web", 100, backend, Some(&peer.address)).await;
    let request = one_shot("web", "request", r#"{"path":"/"}"#);
    for callers in REQUEST_CALLERS {
        let socket = TcpStream::connect(&peer.address).await.expect("a connection");
        socket.set_nodelay(true).expect("nodelay");
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (sender, connection) = handshake.await.expect("a handshake");
        tokio::spawn(connection);
        let direct = (0..callers).map(|_| Caller::Http2(sender.clone())).collect();
        let pooled = brokers(&broker.address, callers).into_iter();
        let pooled = pooled
            .map(|client| Caller::OneShot(client, request.clone()))
            .collect();
        let rows = vec![
            Row::new("direct, one connection", direct, &[]),
            Row::new("Sublet, one-shot", pooled, &[broker.id()]),
        ];
        let title = format!("HTTP/2, an answer of 100 bytes, {callers} caller(s)");
        table::calls(&title, rows, effort).await;
    }
}
