//! 10,000 live leases over 100 connections, each with one KeepAlive stream for its 100 leases.
//!
//! Two ways to keep them alive. One by one: each lease in a message of its own, as often as `renew_after` asks (10 s for
//! the default ttl), spread evenly: 1,000 round trips a second. In batches: all 100 leases of a connection in one
//! message each second, ten times as often as needed: 100 round trips and 10,000 renewals a second.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sublet::proto::{
    AcquireLeaseRequest, KeepAliveRequest, KeepAliveResponse, LeaseEnd,
    broker_service_client::BrokerServiceClient,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant as Tick, MissedTickBehavior, interval_at},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    Effort,
    broker::{self, Broker, channel},
    figure, goal,
    memory::{mib, resident},
};

const LEASES: u32 = 10_000;
const CONNECTIONS: u32 = 100;
const EACH: u32 = LEASES / CONNECTIONS;
const POOL: &str = "leases";

/// One connection and its leases.
struct Holder {
    /// Which of the connections, from 0.
    number: u32,
    client: BrokerServiceClient<Channel>,
    tokens: Vec<String>,
    questions: mpsc::UnboundedSender<KeepAliveRequest>,
    answers: Streaming<KeepAliveResponse>,
    renew_after: Duration,
}

/// A way to keep leases alive.
#[derive(Clone, Copy)]
enum Way {
    OneByOne,
    Batches,
}

pub async fn measure(effort: &Effort) {
    let broker = Broker::start().await;
    let idle = resident(broker.id());
    broker.create(POOL, LEASES, broker::echo(), None).await;
    let pool = resident(broker.id());
    let mut holders = Vec::new();
    for number in 0..CONNECTIONS {
        holders.push(Holder::connect(&broker.address, number).await);
    }
    let connected = resident(broker.id());
    let mut holders = acquire_all(holders).await;
    let leased = resident(broker.id());
    let renew_after = holders[0].renew_after;
    for way in [Way::OneByOne, Way::Batches] {
        let (back, latency) = keep_all(holders, way, effort.keeping).await;
        holders = back;
        report(way, renew_after, &latency);
    }
    let kept = resident(broker.id());
    let each = leased.max(kept).saturating_sub(idle) as f64 / f64::from(LEASES) / 1024.0;
    goal(
        "RSS per lease < 8 KiB, its shares of pool and connection included",
        &format!("{each:.2} KiB"),
        each < 8.0,
    );
    let sizes = [idle, pool, connected, leased, kept].map(|bytes| format!("{:.1}", mib(bytes)));
    figure(
        "RSS in MiB idle, with the pool, 100 connections, 10,000 leases, after keeping them",
        &sizes.join(", "),
    );
}

fn report(way: Way, renew_after: Duration, latency: &Histogram<u64>) {
    let millis = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
    let name = match way {
        Way::OneByOne => format!("one by one, every {} s each", renew_after.as_secs()),
        Way::Batches => format!("in batches of {EACH}, every second"),
    };
    goal(
        &format!("keepalive p99 < 5 ms, {name}"),
        &format!(
            "{:.2} ms; p50 {:.2} ms, the longest {:.2} ms, {} round trips",
            millis(0.99),
            millis(0.50),
            millis(1.0),
            latency.len()
        ),
        millis(0.99) < 5.0,
    );
}

async fn acquire_all(holders: Vec<Holder>) -> Vec<Holder> {
    let mut acquiring: JoinSet<_> = holders.into_iter().map(Holder::acquire).collect();
    let mut holders = Vec::new();
    while let Some(holder) = acquiring.join_next().await {
        holders.push(holder.expect("leases"));
    }
    holders
}

async fn keep_all(holders: Vec<Holder>, way: Way, lasting: Duration) -> (Vec<Holder>, Histogram<u64>) {
    let begin = Tick::now() + Duration::from_millis(10);
    let mut keeping: JoinSet<_> = holders
        .into_iter()
        .map(|holder| holder.keep(way, begin, lasting))
        .collect();
    let mut latency = Histogram::new(3).expect("a histogram");
    let mut holders = Vec::new();
    while let Some(kept) = keeping.join_next().await {
        let (holder, seen) = kept.expect("a holder");
        latency.add(seen).expect("the same range");
        holders.push(holder);
    }
    (holders, latency)
}

impl Holder {
    async fn connect(address: &str, number: u32) -> Self {
        let mut client = BrokerServiceClient::new(channel(address).await.expect("a channel"));
        let (questions, asked) = mpsc::unbounded_channel();
        let answers = client
            .keep_alive(UnboundedReceiverStream::new(asked))
            .await
            .expect("a stream")
            .into_inner();
        Self {
            number,
            client,
            tokens: Vec::new(),
            questions,
            answers,
            renew_after: Duration::ZERO,
        }
    }

    async fn acquire(mut self) -> Self {
        for _ in 0..EACH {
            let request = AcquireLeaseRequest {
                pool: POOL.to_owned(),
                ..AcquireLeaseRequest::default()
            };
            let granted = self.client.acquire_lease(request).await.expect("a lease");
            let granted = granted.into_inner();
            self.tokens.push(granted.lease_token);
            let lease = granted.lease.expect("a lease");
            let renew_after = lease.renew_after.expect("a ttl");
            self.renew_after = renew_after.try_into().expect("a duration");
        }
        self
    }

    /// Renews its leases at a steady pace; connections take turns within it.
    async fn keep(mut self, way: Way, begin: Tick, lasting: Duration) -> (Self, Histogram<u64>) {
        let (pace, portion) = match way {
            Way::OneByOne => (self.renew_after / EACH, 1),
            Way::Batches => (Duration::from_secs(1), self.tokens.len()),
        };
        let mut latency = Histogram::new(3).expect("a histogram");
        let mut ticks = interval_at(begin + pace / CONNECTIONS * self.number, pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let portions: Vec<_> = self.tokens.chunks(portion).map(<[String]>::to_vec).collect();
        for lease_tokens in portions.into_iter().cycle() {
            ticks.tick().await;
            if begin.elapsed() >= lasting {
                break;
            }
            let sent = Instant::now();
            self.renew(lease_tokens).await;
            let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
            latency.record(nanos).expect("within the range");
        }
        (self, latency)
    }

    async fn renew(&mut self, lease_tokens: Vec<String>) {
        self.questions
            .send(KeepAliveRequest { lease_tokens })
            .expect("the stream is open");
        let answer = self
            .answers
            .message()
            .await
            .expect("an answer")
            .expect("an answer");
        for status in answer.statuses {
            assert_eq!(status.ended(), LeaseEnd::Unspecified, "a lease ended");
        }
    }
}
