//! `sublet tunnel`: local TCP connections, each carried over a session of a tcp pool, so that programs that know
//! nothing of Sublet use its sessions.
//!
//! Loop: `accept`, until a signal comes; each connection is a task of its own (`carry`).

mod carry;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tonic::{Code, transport::Endpoint};
use tracing::{info, warn};

use self::carry::{Broken, carry};
use super::{
    cli::TunnelFlags,
    exit::{Exit, chain},
    reach::endpoint,
    say,
    serve::{came, signals},
};
use crate::{
    proto::{GetPoolRequest, pool_service_client::PoolServiceClient, pool_spec::Backend},
    telemetry,
};

/// Pause after an accept that failed for want of something, such as open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Where connections lead.
#[derive(Clone, Debug)]
struct Way {
    broker: Endpoint,
    pool: Arc<str>,
}

/// Carries connections until a signal comes, and then those that are open to their end.
pub(super) fn run(flags: &TunnelFlags) -> Result<(), Exit> {
    telemetry::start(&telemetry::Settings::default())
        .map_err(|error| Exit::internal("cannot start logging", error))?;
    let runtime = super::runtime()?;
    let ended = runtime.block_on(tunnel(flags));
    runtime.shutdown_timeout(super::LAST_WORK);
    ended
}

async fn tunnel(flags: &TunnelFlags) -> Result<(), Exit> {
    let signals = signals()?;
    let listen = allowed(flags)?;
    let way = Way {
        broker: endpoint(&flags.broker)?,
        pool: flags.pool.as_str().into(),
    };
    check_pool(&way, &flags.broker).await?;
    let listener = TcpListener::bind(listen)
        .await
        .and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) =
        listener.map_err(|error| Exit::unavailable(format!("cannot listen on {listen}"), error))?;
    say(&format!("tunnel to pool {} at {address}\n", way.pool))?;
    let mut open = JoinSet::new();
    tokio::select! {
        () = accept(&listener, &way, &mut open) => {}
        () = came(signals.clone(), 1) => {}
    }
    drop(listener);
    drain(open, signals).await;
    Ok(())
}

fn allowed(flags: &TunnelFlags) -> Result<SocketAddr, Exit> {
    if flags.listen.ip().is_loopback() || flags.insecure {
        return Ok(flags.listen);
    }
    Err(Exit::usage(format!(
        "{} can be reached by other machines, and whoever reaches it uses the pool's sessions: say --insecure if that is \
         meant",
        flags.listen
    )))
}

/// Says now what every connection would meet.
async fn check_pool(way: &Way, broker: &str) -> Result<(), Exit> {
    let channel = way.broker.connect().await;
    let channel =
        channel.map_err(|error| Exit::unavailable(format!("no broker answers at {broker}"), error))?;
    let request = GetPoolRequest {
        name: way.pool.to_string(),
    };
    let pool = match PoolServiceClient::new(channel).get_pool(request).await {
        Ok(found) => found.into_inner().pool.unwrap_or_default(),
        Err(status) if status.code() == Code::NotFound => return Err(Exit::unwell(status.message())),
        Err(status) => return Err(Exit::unavailable("cannot ask for the pool", status)),
    };
    match pool.spec.and_then(|spec| spec.backend) {
        Some(Backend::Tcp(_)) => Ok(()),
        _ => Err(Exit::usage(format!(
            "the pool `{}` is no `tcp` pool: only its sessions carry a tunnel",
            way.pool
        ))),
    }
}

/// Accepts for ever: no error ends the loop.
async fn accept(listener: &TcpListener, way: &Way, open: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((local, from)) => {
                    open.spawn(connection(way.clone(), local, from));
                }
                Err(error) => {
                    warn!(%error, "cannot accept connections just now");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
}

async fn connection(way: Way, local: TcpStream, from: SocketAddr) {
    match carry(&way, local, from).await {
        Ok(()) | Err(Broken::Gone) => {}
        Err(Broken::Local(error)) => info!(%from, %error, "a connection broke"),
        Err(Broken::Broker(why)) => warn!(%from, pool = %way.pool, %why, "closed a connection"),
    }
}

async fn drain(mut open: JoinSet<()>, signals: watch::Receiver<u32>) {
    // Those that ended unnoticed are none to wait for.
    while open.try_join_next().is_some() {}
    if open.is_empty() {
        return;
    }
    info!(
        open = open.len(),
        "accepting no more; a second signal cuts what is open"
    );
    let ended = async { while open.join_next().await.is_some() {} };
    tokio::select! {
        () = ended => {}
        () = came(signals, 2) => {}
    }
}

impl From<tonic::Status> for Broken {
    fn from(status: tonic::Status) -> Self {
        let reason = status.metadata().get("sublet-reason");
        let reason = reason.and_then(|reason| reason.to_str().ok());
        Self::Broker(match reason {
            Some(reason) => format!("{reason}: {}", status.message()),
            None => format!("the broker is gone: {}", chain(&status)),
        })
    }
}
