//! Sublet's side: closed-loop clients over gRPC.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sublet::proto::{
    self, AcquireLeaseRequest, Call, ExecuteRequest, Open, OpenSessionRequest, Operation, PostgresBackend,
    broker_service_client::BrokerServiceClient, execute_request::Target, open_session_request::Message,
    open_session_response, operation::Input, pool_spec::Backend, postgres_backend::Reset, value::Kind,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{FEW, MANY, ROUND, SCALE, Work, broker::channel, cpu, table::Found};

type Client = BrokerServiceClient<Channel>;

/// How a client uses the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A stream with a session of its own.
    OpenSession,
    /// A lease of its own.
    Leased,
    /// Any session, washed after each call.
    OneShotFull,
    /// Any session, whose transaction alone is looked after.
    OneShotTransaction,
}

impl Way {
    pub const ALL: [Self; 4] = [
        Self::OpenSession,
        Self::Leased,
        Self::OneShotFull,
        Self::OneShotTransaction,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenSession => "Sublet, OpenSession",
            Self::Leased => "Sublet, leased unary",
            Self::OneShotFull => "Sublet, one-shot FULL",
            Self::OneShotTransaction => "Sublet, one-shot TRANSACTION",
        }
    }

    /// One with a session for each client, or few for all.
    const fn pool(self) -> &'static str {
        match self {
            Self::OpenSession | Self::Leased => "many",
            Self::OneShotFull => "full",
            Self::OneShotTransaction => "transaction",
        }
    }
}

/// The pools: name, sessions, backend.
pub fn pools() -> [(&'static str, u32, Backend); 3] {
    let own = |reset: Reset| {
        Backend::Postgres(PostgresBackend {
            user: "sublet".to_owned(),
            database: "bench".to_owned(),
            reset: reset.into(),
            ..PostgresBackend::default()
        })
    };
    [
        ("many", MANY, own(Reset::Full)),
        ("full", FEW, own(Reset::Full)),
        ("transaction", FEW, own(Reset::Transaction)),
    ]
}

/// User and system time of a process.
pub fn process_cpu(id: u32) -> Duration {
    cpu::ticks(&std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default())
}

/// One round.
pub async fn run(address: &str, way: Way, work: Work, clients: u32, cpu: &dyn Fn() -> Duration) -> Found {
    let mut connections = Vec::new();
    for _ in 0..clients.min(4) {
        connections.push(Client::new(channel(address).await.expect("a channel")));
    }
    let mut callers = Vec::new();
    for index in 0..clients {
        let client = connections[index as usize % connections.len()].clone();
        callers.push(Caller::ready(client, way, index).await);
    }
    let (before, started) = (cpu(), Instant::now());
    let mut running = JoinSet::new();
    for caller in callers {
        running.spawn(caller.run(work, started + ROUND));
    }
    let mut latency = Histogram::<u64>::new(3).expect("a histogram");
    while let Some(seen) = running.join_next().await {
        latency.add(seen.expect("a caller")).expect("the same range");
    }
    Found {
        done: latency.len(),
        lasted: started.elapsed(),
        p50: latency.value_at_quantile(0.5) as f64 / 1e3,
        p99: latency.value_at_quantile(0.99) as f64 / 1e3,
        cpu: cpu() - before,
    }
}

struct Caller {
    link: Link,
    random: u64,
}

enum Link {
    Session(Session),
    Unary(Client, Target),
}

struct Session {
    out: mpsc::Sender<OpenSessionRequest>,
    answers: Streaming<proto::OpenSessionResponse>,
    next_id: u64,
}

impl Caller {
    async fn ready(mut client: Client, way: Way, index: u32) -> Self {
        let random = u64::from(index) * 0x9E37_79B9_7F4A_7C15 + 1;
        let pool = way.pool().to_owned();
        let link = match way {
            Way::OpenSession => Link::Session(Session::open(client, pool).await),
            Way::Leased => {
                let request = AcquireLeaseRequest {
                    pool,
                    ..AcquireLeaseRequest::default()
                };
                let granted = client.acquire_lease(request).await.expect("a lease").into_inner();
                Link::Unary(client, Target::LeaseToken(granted.lease_token))
            }
            Way::OneShotFull | Way::OneShotTransaction => Link::Unary(client, Target::Pool(pool)),
        };
        Self { link, random }
    }

    async fn run(mut self, work: Work, end: Instant) -> Histogram<u64> {
        let mut latency = Histogram::new(3).expect("a histogram");
        while Instant::now() < end {
            let sent = Instant::now();
            match work {
                Work::Select => self.select().await,
                Work::TpcB => self.tpc_b().await,
            }
            let took = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
            latency.record(took).expect("in range");
        }
        self.finish().await;
        latency
    }

    /// splitmix64.
    fn draw(&mut self, below: u64) -> i64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        i64::try_from((mixed ^ (mixed >> 31)) % below).unwrap_or_default() + 1
    }

    async fn select(&mut self) {
        let account = self.draw(u64::from(SCALE) * 100_000);
        let sql = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";
        self.call(statement("query", sql, &[account])).await;
    }

    async fn tpc_b(&mut self) {
        let scale = u64::from(SCALE);
        let account = self.draw(scale * 100_000);
        let (teller, branch) = (self.draw(scale * 10), self.draw(scale));
        let delta = self.draw(10_001) - 5_001;
        let statements: [(&str, &str, &[i64]); 5] = [
            (
                "execute",
                "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
                &[delta, account],
            ),
            (
                "query",
                "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
                &[account],
            ),
            (
                "execute",
                "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2",
                &[delta, teller],
            ),
            (
                "execute",
                "UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2",
                &[delta, branch],
            ),
            (
                "execute",
                "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
                &[teller, branch, account, delta],
            ),
        ];
        if matches!(&self.link, Link::Unary(_, Target::Pool(_))) {
            // A one-shot cannot begin a transaction: it sends all of it at once.
            self.call(batch(&statements)).await;
            return;
        }
        self.call(plain("begin", "{}")).await;
        for (name, sql, args) in statements {
            self.call(statement(name, sql, args)).await;
        }
        self.call(plain("commit", "{}")).await;
    }

    async fn call(&mut self, operation: Operation) {
        match &mut self.link {
            Link::Session(session) => session.call(operation).await,
            Link::Unary(client, target) => {
                let request = ExecuteRequest {
                    target: Some(target.clone()),
                    operation: Some(operation),
                    ..ExecuteRequest::default()
                };
                client.execute(request).await.expect("an answer");
            }
        }
    }

    async fn finish(self) {
        match self.link {
            Link::Session(Session { out, mut answers, .. }) => {
                drop(out);
                while answers.message().await.expect("a farewell").is_some() {}
            }
            Link::Unary(mut client, Target::LeaseToken(lease_token)) => {
                let request = proto::ReleaseLeaseRequest {
                    lease_token,
                    discard: false,
                };
                client.release_lease(request).await.expect("released");
            }
            Link::Unary(_, Target::Pool(_)) => {}
        }
    }
}

impl Session {
    async fn open(mut client: Client, pool: String) -> Self {
        let (out, messages) = mpsc::channel(4);
        let open = Message::Open(Open { pool, options: None });
        out.send(message(open)).await.expect("room");
        let answers = client.open_session(ReceiverStream::new(messages)).await;
        let mut answers = answers.expect("a session").into_inner();
        answers.message().await.expect("opened").expect("opened");
        Self {
            out,
            answers,
            next_id: 1,
        }
    }

    async fn call(&mut self, operation: Operation) {
        let call = Call {
            id: self.next_id,
            operation: Some(operation),
            ..Call::default()
        };
        self.next_id += 1;
        self.out.send(message(Message::Call(call))).await.expect("room");
        let answer = self
            .answers
            .message()
            .await
            .expect("an answer")
            .expect("an answer");
        let result = matches!(answer.message, Some(open_session_response::Message::Result(_)));
        assert!(result, "{answer:?}");
    }
}

fn message(message: Message) -> OpenSessionRequest {
    OpenSessionRequest {
        message: Some(message),
    }
}

fn plain(name: &str, params: &str) -> Operation {
    Operation {
        name: name.to_owned(),
        input: Some(Input::ParamsJson(params.to_owned())),
        ..Operation::default()
    }
}

fn statement(name: &str, sql: &str, args: &[i64]) -> Operation {
    let value = |arg: &i64| proto::Value {
        kind: Some(Kind::Int(*arg)),
        ..proto::Value::default()
    };
    Operation {
        args: args.iter().map(value).collect(),
        ..plain(name, &format!(r#"{{"sql":"{sql}"}}"#))
    }
}

fn batch(statements: &[(&str, &str, &[i64])]) -> Operation {
    let each = statements
        .iter()
        .map(|(_, sql, args)| format!(r#"{{"sql":"{sql}","args":{args:?}}}"#));
    let each: Vec<String> = each.collect();
    plain(
        "batch",
        &format!(r#"{{"atomic":true,"statements":[{}]}}"#, each.join(",")),
    )
}
