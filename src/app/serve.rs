//! `sublet serve`: a broker until SIGTERM or SIGINT.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::info;

use super::{application::Application, exit::Exit};
use crate::{clock::Clock, config::Config, telemetry};

/// Runs a broker to its end.
pub(super) fn run(config: Config) -> Result<(), Exit> {
    telemetry::start(&config.telemetry).map_err(|error| Exit::internal("cannot start logging", error))?;
    let runtime = super::runtime()?;
    let ended = runtime.block_on(serve(config));
    // What is left is the store's last work, which has limits of its own.
    runtime.shutdown_timeout(super::LAST_WORK);
    ended
}

async fn serve(config: Config) -> Result<(), Exit> {
    let signals = signals()?;
    let insecure = !config.grpc.listen.ip().is_loopback();
    let application = Application::build(config, Clock::real()).await?;
    info!(address = %application.address(), "listening");
    if insecure {
        tracing::warn!(
            "anyone who reaches this address can use every pool: there is no TLS and no authentication"
        );
    }
    application
        .run_until_stopped(came(signals.clone(), 1), came(signals, 2))
        .await
}

/// Counts the signals that ask the program to stop.
pub(super) fn signals() -> Result<watch::Receiver<u32>, Exit> {
    let listen = |kind| signal(kind).map_err(|error| Exit::internal("cannot listen for signals", error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}

/// Returns when `number` signals have come.
pub(super) async fn came(mut signals: watch::Receiver<u32>, number: u32) {
    signals.wait_for(|count| *count >= number).await.ok();
}
