//! HTTP calls through a pool beside a fresh connection for each call: the gain that pooling is for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sublet::proto::{
    ExecuteRequest, Operation, broker_service_client::BrokerServiceClient, execute_request::Target, operation,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    broker::{self, Broker, channel},
    cpu::{Server, role},
    load::{process_cpu, record},
    report::{Round, Side, Table},
    trust::connector,
};

const CALLERS: usize = 8;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);

pub async fn http(table: &mut Table) {
    let peer = Server::start(&mut role("serve-http"));
    let (plain, tls) = peer.address.split_once(' ').expect("two addresses");
    let broker = Broker::start().await;
    broker.create("plain", 8, broker::http(false), Some(plain)).await;
    broker.create("tls", 8, broker::http(true), Some(tls)).await;
    for (name, pool, address, secure) in [("HTTP", "plain", plain, false), ("HTTPS", "tls", tls, true)] {
        let (mut direct, mut pooled) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            direct.push(fresh_round(address, secure).await);
            pooled.push(pooled_round(&broker, pool).await);
        }
        let (direct, pooled) = (Side::of(&direct), Side::of(&pooled));
        table.row(&format!("{name}, a fresh connection per call"), direct);
        table.row(&format!("{name}, through a pool of Sublet"), pooled);
        let gain = pooled.rate / direct.rate;
        table.goal(
            &format!("{name} through a pool above fresh connections"),
            format!("{gain:.2} x"),
            gain > 1.0,
        );
    }
}

async fn pooled_round(broker: &Broker, pool: &str) -> Round {
    let client = BrokerServiceClient::new(channel(&broker.address).await.expect("a channel"));
    let request = ExecuteRequest {
        target: Some(Target::Pool(pool.to_owned())),
        operation: Some(Operation {
            name: "request".to_owned(),
            input: Some(operation::Input::ParamsJson(r#"{"path":"/"}"#.to_owned())),
            ..Operation::default()
        }),
        ..ExecuteRequest::default()
    };
    let before = process_cpu(broker.id());
    let mut round = measure(|end| {
        let (mut client, request) = (client.clone(), request.clone());
        async move {
            let mut latency = Histogram::new(3).expect("a histogram");
            while Instant::now() < end {
                let sent = Instant::now();
                client.execute(request.clone()).await.expect("an answer");
                record(&mut latency, sent);
            }
            latency
        }
    })
    .await;
    round.cpu = process_cpu(broker.id()) - before;
    round
}

async fn fresh_round(address: &str, secure: bool) -> Round {
    let connector = secure.then(connector);
    measure(|end| {
        let (address, connector) = (address.to_owned(), connector.clone());
        async move {
            let mut latency = Histogram::new(3).expect("a histogram");
            while Instant::now() < end {
                let sent = Instant::now();
                let socket = TcpStream::connect(&address).await.expect("a connection");
                socket.set_nodelay(true).expect("nodelay");
                match &connector {
                    Some(connector) => {
                        let name = ServerName::try_from("localhost").expect("a name");
                        call(connector.connect(name, socket).await.expect("a handshake")).await;
                    }
                    None => call(socket).await,
                }
                record(&mut latency, sent);
            }
            latency
        }
    })
    .await
}

async fn measure<F>(caller: impl Fn(Instant) -> F) -> Round
where
    F: Future<Output = Histogram<u64>> + Send + 'static,
{
    let started = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..CALLERS {
        running.spawn(caller(started + ROUND));
    }
    let mut latency = Histogram::new(3).expect("a histogram");
    while let Some(seen) = running.join_next().await {
        latency.add(seen.expect("a caller")).expect("the same range");
    }
    Round {
        calls: latency.len(),
        lasted: started.elapsed(),
        latency,
        cpu: Duration::ZERO,
    }
}

async fn call(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("a handshake");
    tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    answer.into_body().collect().await.expect("a body");
}
