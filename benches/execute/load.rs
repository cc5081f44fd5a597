//! Closed-loop gRPC load: 64 callers over 4 connections, a 100-byte body.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sublet::proto::{
    AcquireLeaseRequest, Call, ExecuteRequest, Open, OpenSessionRequest, Operation,
    broker_service_client::BrokerServiceClient, execute_request::Target, open_session_request::Message,
    open_session_response,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    broker::{self, Broker, channel},
    cpu::{Server, role},
    report::{Round, Side, Table},
};

const CALLERS: usize = 64;
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const PIPELINED: usize = 16;

type Client = BrokerServiceClient<Channel>;

pub fn operation() -> Operation {
    Operation {
        name: "echo".to_owned(),
        body: vec![b'x'; 100].into(),
        ..Operation::default()
    }
}

/// A way to call.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    OneShot,
    Leased,
    PingPong,
    Pipelined,
}

pub async fn grpc(table: &mut Table) {
    let bare = Server::start(&mut role("serve-bare"));
    let broker = Broker::start().await;
    broker.create("echo", 64, broker::echo(), None).await;
    let bare_cpu = || bare.cpu();
    let broker_cpu = || process_cpu(broker.id());
    let mut rounds: [Vec<Round>; 7] = Default::default();
    for _ in 0..ROUNDS {
        let sides: [(usize, &str, Way); 7] = [
            (0, &bare.address, Way::OneShot),
            (1, &broker.address, Way::OneShot),
            (2, &broker.address, Way::Leased),
            (3, &bare.address, Way::PingPong),
            (4, &broker.address, Way::PingPong),
            (5, &bare.address, Way::Pipelined),
            (6, &broker.address, Way::Pipelined),
        ];
        for (index, address, way) in sides {
            let cpu: &dyn Fn() -> Duration = if address == bare.address {
                &bare_cpu
            } else {
                &broker_cpu
            };
            rounds[index].push(round(address, way, cpu).await);
        }
    }
    let sides: Vec<Side> = rounds.iter().map(|rounds| Side::of(rounds)).collect();
    let names = [
        "bare tonic, unary",
        "Sublet, one-shot",
        "Sublet, leased",
        "bare tonic, stream, ping-pong",
        "Sublet, OpenSession, ping-pong",
        "bare tonic, stream, 16 in flight",
        "Sublet, OpenSession, 16 in flight",
    ];
    for (name, side) in names.iter().zip(&sides) {
        table.row(name, *side);
    }
    goals(table, &sides);
}

fn goals(table: &mut Table, sides: &[Side]) {
    let [bare, one_shot, leased, _, _, _, pipelined] = sides else {
        return;
    };
    for (name, side) in [("one-shot", one_shot), ("leased", leased)] {
        let share = side.rate / bare.rate;
        table.goal(
            &format!("{name} >= 85 % of bare unary"),
            format!("{:.0} %", share * 100.0),
            share >= 0.85,
        );
        let added = (side.p99 - bare.p99) / 1e3;
        table.goal(
            &format!("{name} adds <= 0.3 ms to p99"),
            format!("{added:.2} ms"),
            added <= 0.3,
        );
    }
    let gain = pipelined.rate / one_shot.rate;
    table.goal(
        "OpenSession, pipelined, above unary",
        format!("{gain:.1} x"),
        gain > 1.0,
    );
}

pub fn process_cpu(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    crate::cpu::ticks(&stat)
}

async fn round(address: &str, way: Way, cpu: &dyn Fn() -> Duration) -> Round {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::new(channel(address).await.expect("a channel")));
    }
    let mut callers = Vec::new();
    for index in 0..CALLERS {
        callers.push(Caller::ready(clients[index % CONNECTIONS].clone(), way).await);
    }
    let (cpu_before, started) = (cpu(), Instant::now());
    let end = started + ROUND;
    let mut running = JoinSet::new();
    for caller in callers {
        running.spawn(caller.run(end));
    }
    let mut latency = Histogram::new(3).expect("a histogram");
    while let Some(seen) = running.join_next().await {
        latency.add(seen.expect("a caller")).expect("the same range");
    }
    Round {
        calls: latency.len(),
        lasted: started.elapsed(),
        latency,
        cpu: cpu() - cpu_before,
    }
}

/// One caller, ready to go.
enum Caller {
    Unary { client: Client, request: ExecuteRequest },
    Session(Session),
}

struct Session {
    out: mpsc::Sender<OpenSessionRequest>,
    answers: Streaming<sublet::proto::OpenSessionResponse>,
    in_flight: usize,
    next_id: u64,
}

impl Caller {
    async fn ready(mut client: Client, way: Way) -> Self {
        let target = match way {
            Way::OneShot => Target::Pool("echo".to_owned()),
            Way::Leased => {
                let request = AcquireLeaseRequest {
                    pool: "echo".to_owned(),
                    ..AcquireLeaseRequest::default()
                };
                let granted = client.acquire_lease(request).await.expect("a lease").into_inner();
                Target::LeaseToken(granted.lease_token)
            }
            Way::PingPong => return Self::Session(Session::open(client, 1).await),
            Way::Pipelined => return Self::Session(Session::open(client, PIPELINED).await),
        };
        let request = ExecuteRequest {
            target: Some(target),
            operation: Some(operation()),
            ..ExecuteRequest::default()
        };
        Self::Unary { client, request }
    }

    async fn run(self, end: Instant) -> Histogram<u64> {
        match self {
            Self::Unary { mut client, request } => {
                let mut latency = Histogram::new(3).expect("a histogram");
                while Instant::now() < end {
                    let sent = Instant::now();
                    client.execute(request.clone()).await.expect("an answer");
                    record(&mut latency, sent);
                }
                if let Some(Target::LeaseToken(lease_token)) = request.target {
                    let release = sublet::proto::ReleaseLeaseRequest {
                        lease_token,
                        discard: false,
                    };
                    client.release_lease(release).await.expect("released");
                }
                latency
            }
            Self::Session(session) => session.run(end).await,
        }
    }
}

impl Session {
    async fn open(mut client: Client, in_flight: usize) -> Self {
        let (out, messages) = mpsc::channel(PIPELINED);
        out.send(message(Message::Open(Open {
            pool: "echo".to_owned(),
            options: None,
        })))
        .await
        .expect("room");
        let answers = client
            .open_session(ReceiverStream::new(messages))
            .await
            .expect("a session");
        let mut answers = answers.into_inner();
        answers.message().await.expect("opened").expect("opened");
        Self {
            out,
            answers,
            in_flight,
            next_id: 1,
        }
    }

    async fn send(&mut self) {
        let call = Call {
            id: self.next_id,
            operation: Some(operation()),
            ..Call::default()
        };
        self.next_id += 1;
        self.out.send(message(Message::Call(call))).await.expect("room");
    }

    async fn run(mut self, end: Instant) -> Histogram<u64> {
        let mut latency = Histogram::new(3).expect("a histogram");
        let mut sent = std::collections::VecDeque::new();
        for _ in 0..self.in_flight {
            sent.push_back(Instant::now());
            self.send().await;
        }
        while let Some(first) = sent.pop_front() {
            let answer = self
                .answers
                .message()
                .await
                .expect("an answer")
                .expect("an answer");
            assert!(
                matches!(answer.message, Some(open_session_response::Message::Result(_))),
                "{answer:?}"
            );
            record(&mut latency, first);
            if Instant::now() < end {
                sent.push_back(Instant::now());
                self.send().await;
            }
        }
        latency
    }
}

const fn message(message: Message) -> OpenSessionRequest {
    OpenSessionRequest {
        message: Some(message),
    }
}

pub fn record(latency: &mut Histogram<u64>, sent: Instant) {
    let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
    latency.record(nanos).expect("within the range");
}
