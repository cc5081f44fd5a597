//! `sublet tunnel`: programs that know nothing of Sublet, on sessions of a real Redis.

use std::{process::Stdio, time::Duration};

use sublet::proto::Queue;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use super::*;
use crate::support::redis::Server;

/// `sublet tunnel` as a process. Killed when dropped.
struct Tunnel {
    port: u16,
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

fn command(broker: &str, pool: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sublet"));
    command
        .args([
            "tunnel",
            "--pool",
            pool,
            "--listen",
            "127.0.0.1:0",
            "--broker",
            broker,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Tunnel {
    async fn start(broker: &str, pool: &str) -> Self {
        let mut child = command(broker, pool).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("it says where it listens");
        let start = format!("tunnel to pool {pool} at 127.0.0.1:");
        let port = line.strip_prefix(&start).unwrap_or_else(|| panic!("{line}"));
        Self {
            port: port.parse().unwrap(),
            child,
            said,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// What it logs, up to a line with `wanted`.
    async fn says(&mut self, wanted: &str) {
        while let Some(line) = self.said.next_line().await.unwrap() {
            if line.contains(wanted) {
                return;
            }
        }
        panic!("it ended without a word of {wanted}");
    }

    fn signal(&self) {
        let id = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-INT", &id]).status();
        assert!(sent.unwrap().success());
    }

    fn redis_cli(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs redis-cli to its end.
    async fn redis(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut child = self.redis_cli().args(arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (written, output) = tokio::join!(
            async {
                let written = stdin.write_all(input).await;
                drop(stdin);
                written
            },
            child.wait_with_output()
        );
        written.unwrap();
        let output = output.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A broker with a pool of Redis connections, and a tunnel to it.
async fn redis(sessions: u32) -> (App, Server, Tunnel) {
    let server = Server::start_with("", |_| {});
    let app = App::start().await;
    let spec = definition(server.address().to_string(), sessions);
    create(&app.address, "cache", spec).await;
    let tunnel = Tunnel::start(&app.address, "cache").await;
    (app, server, tunnel)
}

#[tokio::test]
async fn redis_cli_works_through_a_tunnel_and_each_run_has_a_session_of_its_own() {
    let (app, server, tunnel) = redis(2).await;
    let mut beside = server.connect().await;
    assert_eq!(tunnel.redis(&["PING"], b"").await, "PONG\n");
    let large = "0123456789abcdef".repeat(1 << 16);
    let set = tunnel.redis(&["-x", "SET", "large"], large.as_bytes()).await;
    assert_eq!(set, "OK\n");
    let got = tunnel.redis(&["GET", "large"], b"").await;
    assert!(got.trim_end() == large);

    let pipe: String = (0..10_000).map(|at| format!("SET key:{at} {at}\r\n")).collect();
    let piped = tunnel.redis(&["--pipe"], pipe.as_bytes()).await;
    assert!(piped.contains("errors: 0, replies: 10000"), "{piped}");
    assert_eq!(beside.run("DBSIZE").await, 10_001);

    // Its own connection is the only one left.
    while beside.sessions(&[]).await.len() > 1 {
        tokio::task::yield_now().await;
    }
    let stats = stats(&app.address, "cache").await;
    assert_eq!((stats.sessions_created, stats.sessions_reused), (4, 0));
}

#[tokio::test]
async fn what_is_published_in_one_tunnel_is_heard_in_another() {
    let (_app, _server, tunnel) = redis(2).await;
    let mut listening = tunnel.redis_cli().args(["SUBSCRIBE", "news"]).spawn().unwrap();
    let mut heard = BufReader::new(listening.stdout.take().unwrap()).lines();
    let mut next = async || heard.next_line().await.unwrap().unwrap();
    for wanted in ["subscribe", "news", "1"] {
        assert_eq!(next().await, wanted);
    }
    assert_eq!(tunnel.redis(&["PUBLISH", "news", "hello"], b"").await, "1\n");
    for wanted in ["message", "news", "hello"] {
        assert_eq!(next().await, wanted);
    }
}

async fn ping(connection: &mut TcpStream) {
    says(connection, "PING\r\n").await;
    hears(connection, "+PONG\r\n").await;
}

#[tokio::test]
async fn a_second_tunnel_waits_for_the_only_session_and_one_more_is_told_why_it_is_closed() {
    let server = Server::start_with("", |_| {});
    let app = App::start().await;
    let spec = PoolSpec {
        queue: Some(Queue {
            max_waiters: Some(1),
            ..Queue::default()
        }),
        // Who is gone must not be gone only because its time was over.
        timeouts: Some(Timeouts {
            acquire: Some(span(Duration::from_secs(3600))),
            ..Timeouts::default()
        }),
        ..definition(server.address().to_string(), 1)
    };
    create(&app.address, "cache", spec).await;
    let mut tunnel = Tunnel::start(&app.address, "cache").await;
    let mut beside = server.connect().await;
    let mut first = tunnel.connect().await;
    ping(&mut first).await;

    let mut second = tunnel.connect().await;
    says(&mut second, "PING\r\n").await;
    while stats(&app.address, "cache").await.waiters < 1 {
        tokio::task::yield_now().await;
    }
    let mut third = tunnel.connect().await;
    let (rest, _) = end_of(&mut third).await;
    assert_eq!(rest, b"");
    tunnel.says("QUEUE_FULL").await;
    assert_eq!(beside.sessions(&[]).await.len(), 2, "the first one's, and this");

    drop(first);
    hears(&mut second, "+PONG\r\n").await;
    assert_eq!(stats(&app.address, "cache").await.sessions_created, 2);

    let fourth = tunnel.connect().await;
    while stats(&app.address, "cache").await.waiters < 1 {
        tokio::task::yield_now().await;
    }
    socket2::SockRef::from(&fourth)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(fourth);
    while stats(&app.address, "cache").await.waiters > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_tunnel_that_is_told_to_stop_lets_connections_end() {
    let (_app, server, mut tunnel) = redis(2).await;
    let mut beside = server.connect().await;
    let mut open = tunnel.connect().await;
    ping(&mut open).await;
    tunnel.signal();
    tunnel.says("accepting no more").await;
    assert!(TcpStream::connect(("127.0.0.1", tunnel.port)).await.is_err());
    ping(&mut open).await;
    drop(open);
    assert_eq!(tunnel.child.wait().await.unwrap().code(), Some(0));
    while beside.sessions(&[]).await.len() > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_tunnel_that_is_killed_costs_its_sessions_at_once() {
    let mut stage = Stage::with(|address| kept(address, 1)).await;
    let mut tunnel = Tunnel::start(&stage.app.address, "device").await;
    let mut client = tunnel.connect().await;
    let mut peer = stage.accept().await;
    says(&mut client, "half a mess").await;
    hears(&mut peer, "half a mess").await;
    says(&mut peer, "half an ans").await;
    hears(&mut client, "half an ans").await;
    tunnel.child.kill().await.unwrap();
    assert_eq!(end_of(&mut peer).await, (Vec::new(), false));
    assert_eq!(end_of(&mut client).await.0, b"");
    let answering = async {
        let mut peer = stage.listener.accept().await.unwrap().0;
        hears(&mut peer, "GET\r\n").await;
        says(&mut peer, "fresh\r\n").await;
        peer
    };
    let request = one_shot("device", "request", r#"{"text":"GET\r\n","as":"text"}"#);
    let (answer, _peer) = tokio::join!(execute(&mut stage.broker, request), answering);
    assert_eq!(answer.unwrap(), r#"{"text":"fresh\r\n"}"#);
}

#[tokio::test]
async fn an_end_on_either_side_reaches_the_other_and_a_break_looks_like_one() {
    let stage = Stage::with(|address| definition(address, 2)).await;
    let tunnel = Tunnel::start(&stage.app.address, "device").await;
    let mut client = tunnel.connect().await;
    let mut peer = stage.accept().await;
    peer.shutdown().await.unwrap();
    assert_eq!(end_of(&mut client).await, (Vec::new(), true));
    says(&mut client, "still writing").await;
    hears(&mut peer, "still writing").await;
    client.shutdown().await.unwrap();
    assert_eq!(end_of(&mut peer).await, (Vec::new(), true));

    let mut client = tunnel.connect().await;
    let mut peer = stage.accept().await;
    says(&mut client, "one").await;
    hears(&mut peer, "one").await;
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
    assert_eq!(end_of(&mut client).await, (Vec::new(), false));
}

#[tokio::test]
async fn a_program_that_only_listens_is_waited_for_and_carried() {
    let stage = Stage::with(|address| definition(address, 1)).await;
    let tunnel = Tunnel::start(&stage.app.address, "device").await;
    let first = tunnel.connect().await;
    let held = stage.accept().await;
    let mut second = tunnel.connect().await;
    second.shutdown().await.unwrap();
    let waits = async {
        while stats(&stage.app.address, "device").await.waiters < 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = waits => {}
        cut = end_of(&mut second) => panic!("it was taken for gone: {cut:?}"),
    }
    drop((first, held));
    let mut peer = tokio::select! {
        peer = stage.accept() => peer,
        cut = end_of(&mut second) => panic!("it was taken for gone: {cut:?}"),
    };
    assert_eq!(end_of(&mut peer).await, (Vec::new(), true));
    says(&mut peer, "news").await;
    drop(peer);
    assert_eq!(end_of(&mut second).await, (b"news".to_vec(), true));
}

#[tokio::test]
async fn a_tunnel_that_leads_nowhere_says_so_at_once() {
    let app = App::start().await;
    create(&app.address, "demo", echo(1)).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = nobody.to_string();
    let cases = [
        (app.address.as_str(), "absent", 1, "there is no pool `absent`"),
        (app.address.as_str(), "demo", 64, "no `tcp` pool"),
        (nobody.as_str(), "demo", 69, "no broker answers"),
    ];
    for (broker, pool, code, message) in cases {
        let output = command(broker, pool).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(message), "{said}");
    }
    let exposed = Command::new(env!("CARGO_BIN_EXE_sublet"))
        .args([
            "tunnel",
            "--pool",
            "demo",
            "--listen",
            "0.0.0.0:0",
            "--broker",
            &app.address,
        ])
        .output();
    assert_eq!(exposed.await.unwrap().status.code(), Some(64));
}
