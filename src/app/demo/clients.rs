//! The demo's clients: four ways to use a session, each in a loop.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use super::{
    stage::{DemoPool, POOLS, Stage},
    tally::{Act, Tally},
};
use crate::proto::{
    AcquireLeaseRequest, Call, ExecuteRequest, ExecuteStreamRequest, LeaseEnd, Open, OpenSessionRequest,
    Operation, ReleaseLeaseRequest, RenewLeaseRequest, broker_service_client::BrokerServiceClient, event,
    execute_request::Target, open_session_request as ask, open_session_response as told, operation::Input,
};

type Client = BrokerServiceClient<Channel>;

/// Calls on a leased session, before it is given back.
const CALLS: u64 = 3;

/// Starts every client, and says how many there are. Each ends after the act in which `done` is cancelled.
pub(super) fn start(
    clients: &mut JoinSet<()>,
    stage: &Stage,
    tally: &Arc<Tally>,
    done: &CancellationToken,
) -> usize {
    let acts = [Act::Lease, Act::OneShot, Act::Stream, Act::Session];
    for pool in &POOLS {
        for act in acts {
            for number in 0..pool.clients {
                let client = Client::new(stage.channel(number));
                clients.spawn(live(client, pool, act, Arc::clone(tally), done.clone()));
            }
        }
    }
    clients.len()
}

async fn live(
    mut client: Client,
    pool: &'static DemoPool,
    act: Act,
    tally: Arc<Tally>,
    done: CancellationToken,
) {
    while !done.is_cancelled() && !tally.has_failed() {
        let ended = match act {
            Act::Lease => lease(&mut client, pool).await,
            Act::OneShot => one_shot(&mut client, pool).await,
            Act::Stream => stream(&mut client, pool).await,
            Act::Session => session(&mut client, pool).await,
        };
        tally.note(act, ended);
    }
}

/// Leases a session, works on it, renews the lease in between, and gives it back.
async fn lease(client: &mut Client, pool: &DemoPool) -> Result<(), Status> {
    let request = AcquireLeaseRequest {
        pool: pool.name.to_owned(),
        ..AcquireLeaseRequest::default()
    };
    let lease_token = client.acquire_lease(request).await?.into_inner().lease_token;
    for seqno in 1..=CALLS {
        let request = ExecuteRequest {
            target: Some(Target::LeaseToken(lease_token.clone())),
            operation: Some(operation(pool.unary)),
            seqno,
            ..ExecuteRequest::default()
        };
        client.execute(request).await?;
    }
    let renewal = RenewLeaseRequest {
        lease_token: lease_token.clone(),
        ttl: None,
    };
    client.renew_lease(renewal).await?;
    let release = ReleaseLeaseRequest {
        lease_token,
        discard: false,
    };
    let ended = client.release_lease(release).await?.into_inner().ended();
    if ended == LeaseEnd::Released {
        Ok(())
    } else {
        Err(unexpected(&ended))
    }
}

async fn one_shot(client: &mut Client, pool: &DemoPool) -> Result<(), Status> {
    client.execute(on_pool(pool, pool.unary)).await?;
    Ok(())
}

/// Reads a stream to its end, which must come exactly once.
async fn stream(client: &mut Client, pool: &DemoPool) -> Result<(), Status> {
    let request = ExecuteStreamRequest {
        request: Some(on_pool(pool, pool.streamed)),
    };
    let mut events = client.execute_stream(request).await?.into_inner();
    let mut ends = 0;
    while let Some(message) = events.message().await? {
        ends += u32::from(matches!(
            message.event.and_then(|event| event.event),
            Some(event::Event::End(_))
        ));
    }
    if ends == 1 { Ok(()) } else { Err(unexpected(&ends)) }
}

/// Opens a session, sends every call at once, and reads the answers in order.
async fn session(client: &mut Client, pool: &'static DemoPool) -> Result<(), Status> {
    let open = ask::Message::Open(Open {
        pool: pool.name.to_owned(),
        options: None,
    });
    let calls = (1..=CALLS).map(|id| {
        ask::Message::Call(Call {
            id,
            operation: Some(operation(pool.unary)),
            ..Call::default()
        })
    });
    let messages: Vec<_> = std::iter::once(open)
        .chain(calls)
        .map(|message| OpenSessionRequest {
            message: Some(message),
        })
        .collect();
    let mut answers = client
        .open_session(tokio_stream::iter(messages))
        .await?
        .into_inner();
    let mut answered = 0;
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(told::Message::Result(_)) if answer.call_id == answered + 1 => answered += 1,
            Some(told::Message::Opened(_) | told::Message::InputCredit(_)) => {}
            other => return Err(unexpected(&other)),
        }
    }
    if answered == CALLS {
        Ok(())
    } else {
        Err(unexpected(&answered))
    }
}

fn on_pool(pool: &DemoPool, what: (&str, &str)) -> ExecuteRequest {
    ExecuteRequest {
        target: Some(Target::Pool(pool.name.to_owned())),
        operation: Some(operation(what)),
        ..ExecuteRequest::default()
    }
}

fn operation((name, params): (&str, &str)) -> Operation {
    Operation {
        name: name.to_owned(),
        input: Some(Input::ParamsJson(params.to_owned())),
        ..Operation::default()
    }
}

fn unexpected(what: &dyn std::fmt::Debug) -> Status {
    Status::internal(format!("unexpected: {what:?}"))
}
