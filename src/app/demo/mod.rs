//! `sublet demo`: a broker on a free port, and many clients that contend for few sessions over real gRPC.

mod check;
mod clients;
mod folder;
mod screen;
mod service;
mod stage;
mod tally;
mod view;

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    folder::Folder,
    screen::Screen,
    service::HttpService,
    stage::{POOLS, Stage},
    tally::Tally,
};
use super::{
    application::Application,
    exit::{Exit, chain},
};
use crate::{clock::Clock, config::Config};

/// How long the clients go on.
const SHOW: Duration = Duration::from_secs(8);

/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Shows it, in about ten seconds.
pub(super) fn run() -> Result<(), Exit> {
    let runtime = super::runtime()?;
    let folder = Folder::new().map_err(|error| Exit::unavailable("cannot make a temporary folder", error))?;
    let ended = runtime.block_on(show(&folder));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn show(folder: &Folder) -> Result<(), Exit> {
    let clock = Clock::real();
    let mut config = Config::default();
    config.grpc.listen.set_port(0);
    folder.path().clone_into(&mut config.store.data_dir);
    config.grace = Duration::from_secs(3);
    let broker = Application::build(config, clock.clone()).await?;
    let address = broker.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async move {
        stopped.await.ok();
    };
    let serving = tokio::spawn(broker.run_until_stopped(until, std::future::pending()));
    let shown = play(address, &clock).await;
    // Without a listener the broker has ended already, and says below how.
    stop.send(()).ok();
    let ended = serving
        .await
        .map_err(|error| Exit::internal("the broker stopped", error))?;
    shown?;
    ended
}

/// Sets the stage, lets the clients go, and says how it went.
async fn play(address: std::net::SocketAddr, clock: &Clock) -> Result<(), Exit> {
    let service = HttpService::start()
        .await
        .map_err(|error| Exit::unavailable("cannot start the demo's HTTP service", error))?;
    let stage = Stage::set(address, service.address()).await.map_err(failed)?;
    let tally = Arc::new(Tally::default());
    let done = CancellationToken::new();
    let mut clients = JoinSet::new();
    let count = clients::start(&mut clients, &stage, &tally, &done);
    let mut screen = Screen::new(address, count);
    let started = clock.now();
    let ended = watch(&stage, &tally, &mut screen, clock).await?;
    done.cancel();
    while clients.join_next().await.is_some() {}
    let pools = stage.pools(&mut stage.stats()).await.map_err(failed)?;
    screen.summary(clock.now().since(started), &pools, &tally);
    match ended {
        Ended::Played => check::all_is_well(&pools, &tally, service.most_connections()).map_err(Exit::unwell),
        Ended::Interrupted => Ok(()),
    }
}

/// How the show ended.
enum Ended {
    /// It came to its end, or a client failed.
    Played,
    /// Somebody pressed Ctrl-C: nothing is expected of the clients then.
    Interrupted,
}

/// Draws until the show is over.
async fn watch(stage: &Stage, tally: &Tally, screen: &mut Screen, clock: &Clock) -> Result<Ended, Exit> {
    let mut stats = stage.stats();
    let started = clock.now();
    let interrupted = tokio::signal::ctrl_c();
    let drawing = async {
        while clock.now().since(started) < SHOW && !tally.has_failed() {
            tokio::time::sleep(FRAME).await;
            let pools = stage.pools(&mut stats).await?;
            screen.draw(clock.now().since(started), &pools, tally);
        }
        Ok(Ended::Played)
    };
    tokio::select! {
        drawn = drawing => drawn.map_err(failed),
        _ = interrupted => Ok(Ended::Interrupted),
    }
}

fn failed(error: tonic::Status) -> Exit {
    Exit::unwell(format!(
        "the demo's broker answered {:?}: {}",
        error.code(),
        chain(&error)
    ))
}

/// Sessions of all pools together.
fn sessions() -> u32 {
    POOLS.iter().map(|pool| pool.sessions).sum()
}
