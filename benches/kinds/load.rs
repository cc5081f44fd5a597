//! Closed loops: callers who ask again as soon as they are answered.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, client::conn::http2::SendRequest};
use sublet::proto::{ExecuteRequest, Operation};
use tokio::task::JoinSet;

use crate::{
    cpu,
    report::Round,
    session::Session,
    support::{calls::Broker, redis::Admin},
    transfer::Pipe,
};

/// Someone who asks one question again and again.
pub enum Caller {
    Pipe(Pipe),
    Redis(Admin, &'static str),
    Http2(SendRequest<Empty<Bytes>>),
    Session(Session, Operation),
    OneShot(Broker, ExecuteRequest),
}

impl Caller {
    async fn call(&mut self) {
        match self {
            Self::Pipe(pipe) => pipe.turn().await,
            Self::Redis(connection, command) => drop(connection.run(command).await),
            Self::Http2(connection) => {
                connection.ready().await.expect("a connection");
                let request = Request::get("http://localhost/")
                    .body(Empty::new())
                    .expect("a request");
                let answer = connection.send_request(request).await.expect("an answer");
                answer.into_body().collect().await.expect("a body");
            }
            Self::Session(session, operation) => session.call(operation.clone()).await,
            Self::OneShot(broker, request) => {
                broker.execute(request.clone()).await.expect("an answer");
            }
        }
    }

    async fn until(mut self, end: Instant) -> (Self, Histogram<u64>) {
        let mut latency = Histogram::new(3).expect("a histogram");
        while Instant::now() < end {
            let asked = Instant::now();
            self.call().await;
            let nanos = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
            latency.record(nanos).expect("within the range");
        }
        (self, latency)
    }
}

/// One round of some callers; the CPU time is that of the processes `between` them and the server.
pub async fn round(callers: &mut Vec<Caller>, lasting: Duration, between: &[u32]) -> Round {
    let (before, started) = (cpu_of(between), Instant::now());
    let end = started + lasting;
    let mut running: JoinSet<_> = callers.drain(..).map(|caller| caller.until(end)).collect();
    let mut latency = Histogram::new(3).expect("a histogram");
    while let Some(done) = running.join_next().await {
        let (caller, seen) = done.expect("a caller");
        latency.add(seen).expect("the same range");
        callers.push(caller);
    }
    Round {
        calls: latency.len(),
        lasted: started.elapsed(),
        latency,
        cpu: cpu_of(between) - before,
    }
}

/// User and system time of processes.
pub fn cpu_of(processes: &[u32]) -> Duration {
    let each = processes.iter().map(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it lives");
        cpu::ticks(&stat)
    });
    each.sum()
}
