//! `sublet exec`: one operation on a pool, or on a lease, from a terminal or a script.

mod asked;
mod bar;
mod call;
mod ended;
mod files;
mod opened;
mod out;
mod params;
mod reflected;
mod save;
mod show;
mod signals;
mod told;
mod values;

pub(super) use self::asked::ExecFlags;
use self::{call::Calling, ended::Ended, show::Show, signals::Signals};
use super::exit::Exit;
use crate::proto::ExecuteRequest;

/// Runs the operation and shows its answer.
pub(super) fn run(flags: &ExecFlags) -> Result<(), Exit> {
    // Before anything else: what is wrong with it is told although there may be no broker.
    let request = flags.request()?;
    let mut show = Show::new(flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::internal("cannot start", error))?;
    let ended = runtime.block_on(exec(flags, request, &mut show));
    // Standard input may be waited for without end.
    runtime.shutdown_background();
    ended
}

async fn exec(flags: &ExecFlags, request: ExecuteRequest, show: &mut Show) -> Result<(), Exit> {
    let mut signals = Signals::new()?;
    tokio::select! {
        ended = shown(flags, request, show) => ended,
        // The call is dropped, and with it what it has begun.
        number = signals.next() => {
            show.broken_off();
            Err(Exit::signalled(number))
        }
    }
}

/// Tells everything, the call's bad end included: its reader may take its time, and signals are heard meanwhile.
async fn shown(flags: &ExecFlags, request: ExecuteRequest, show: &mut Show) -> Result<(), Exit> {
    let ended = called(flags, request, show).await;
    if ended.is_err() {
        show.broken_off();
    }
    match ended {
        Ok(()) | Err(Ended::Unread) => Ok(()),
        Err(Ended::Here(exit)) => Err(exit),
        Err(Ended::Failed(status)) => {
            // Whatever prevents that, the broker's own word is told.
            if let Err(Ended::Here(exit)) = show.failed(&status).await {
                show.tell(&format!("sublet: {exit}"));
            }
            Err(Exit::unwell(ended::told(&status)))
        }
    }
}

async fn called(flags: &ExecFlags, request: ExecuteRequest, show: &mut Show) -> Result<(), Ended> {
    let mut calling = Calling::begin(flags, request).await?;
    while let Some(event) = calling.next().await? {
        show.event(event).await?;
    }
    show.end().await
}
