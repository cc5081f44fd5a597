//! From a client's SIGKILL, in the middle of its call, until its backend is seen to have stopped.
//!
//! The clock stops when the backend itself shows it: a server that is asked again and again on a connection beside the
//! broker's, or a peer that sees the end of the connection or stream. So the time includes the client's end, the
//! broker's part, the backend's own, and being looked at.

mod peers;
mod providers;
mod servers;

use std::time::{Duration, Instant};

use crate::{
    Effort,
    broker::Broker,
    client::{ACCEPTED, Call, Client, PART},
};

const GOAL: Duration = Duration::from_millis(100);
/// What has not stopped by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Work of one kind, and how it is seen to begin and to stop.
trait Work {
    /// In a table.
    const NAME: &'static str;
    /// The client has some of the answer before it is killed.
    const ANSWERS: bool;

    fn call(&self) -> Call;

    /// Returns when the backend is at work on the call; has it answer, where it is told what to do.
    async fn begun(&mut self);

    /// Returns when the backend is seen to have stopped.
    async fn stopped(&mut self);
}

pub async fn measure(effort: &Effort) {
    let broker = Broker::start().await;
    println!(
        "\n## From a client's end to its backend's, {} clients each\n",
        effort.kills
    );
    println!("| | median ms | longest ms | <= {} ms |", GOAL.as_millis());
    println!("|---|---|---|---|");
    let mut postgres = servers::Postgres::start(&broker).await;
    row(&broker, effort, &mut servers::Rows(&mut postgres)).await;
    row(&broker, effort, &mut servers::Statement(&mut postgres)).await;
    let mut redis = servers::Redis::start(&broker).await;
    row(&broker, effort, &mut servers::Subscription(&mut redis)).await;
    row(&broker, effort, &mut servers::Wait(&mut redis)).await;
    row(&broker, effort, &mut peers::Request::start(&broker).await).await;
    row(&broker, effort, &mut peers::Carried::start(&broker).await).await;
    row(&broker, effort, &mut peers::Http1::start(&broker).await).await;
    row(&broker, effort, &mut peers::Http2::start(&broker).await).await;
    row(&broker, effort, &mut peers::Plugin::start(&broker).await).await;
    row(&broker, effort, &mut providers::Llm::start(&broker).await).await;
    let mut comfyui = providers::ComfyUi::start(&broker).await;
    row(&broker, effort, &mut providers::Running(&mut comfyui)).await;
    let mut waiting = providers::Pending::behind(&mut comfyui).await;
    row(&broker, effort, &mut waiting).await;
}

async fn row<W: Work>(broker: &Broker, effort: &Effort, work: &mut W) {
    let mut took = Vec::new();
    for _ in 0..effort.kills {
        took.push(kill(broker, work).await);
    }
    took.sort_unstable();
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    let met = if longest <= GOAL { "met" } else { "missed" };
    println!(
        "| {} | {:.1} | {:.1} | {met} |",
        W::NAME,
        millis(median),
        millis(longest)
    );
}

async fn kill<W: Work>(broker: &Broker, work: &mut W) -> Duration {
    let mut client = Client::start(&broker.address, &work.call());
    client.says(ACCEPTED).await;
    work.begun().await;
    if W::ANSWERS {
        client.says(PART).await;
    }
    let killed = Instant::now();
    client.kill();
    let stopped = tokio::time::timeout(PATIENCE, work.stopped()).await;
    stopped.unwrap_or_else(|_| panic!("{} goes on", W::NAME));
    let took = killed.elapsed();
    client.ended().await;
    took
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
