//! LISTEN: notifications as they come, until enough have come or the caller goes.

use std::time::Duration;

use serde_json::json;

use super::{
    aside::Aside,
    session::{PostgresSession, lost},
    sqlstate::Report,
};
use crate::{
    backend::{CallError, Completion, Event, Sink},
    error::Executed,
};

/// How often the server is asked whether it is still there while nothing comes. It counts as progress.
const ALIVE: Duration = Duration::from_secs(10);

impl PostgresSession {
    /// Emits a JSON object for each notification: `channel`, `payload`, `process_id`. Those that came before, because
    /// the holder had listened already, come first.
    pub(super) async fn listen(
        &mut self,
        channels: &[String],
        count: u64,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        self.for_each(channels, "LISTEN").await?;
        let mut left = if count == 0 { u64::MAX } else { count };
        while left > 0 {
            for aside in self.take_asides() {
                if let (Some(event), true) = (notification(&aside), left > 0) {
                    sink.send(event).await.map_err(CallError::Sink)?;
                    left -= 1;
                }
            }
            if left > 0 {
                self.await_asides().await?;
            }
        }
        self.for_each(channels, "UNLISTEN").await?;
        Ok(Completion::default())
    }

    async fn await_asides(&mut self) -> Result<(), CallError> {
        let again = self.clock.now() + ALIVE;
        let clock = self.clock.clone();
        tokio::select! {
            came = self.wire.aside() => came.map_err(lost),
            () = clock.sleep_until(again) => self.check("").await,
        }
    }

    async fn for_each(&mut self, channels: &[String], verb: &str) -> Result<(), CallError> {
        let quoted = channels.iter().map(|channel| channel.replace('"', "\"\""));
        let sql: Vec<_> = quoted.map(|channel| format!("{verb} \"{channel}\"")).collect();
        self.check(&sql.join("; ")).await
    }

    async fn check(&mut self, sql: &str) -> Result<(), CallError> {
        match self.command(sql).await.map_err(lost)? {
            None => Ok(()),
            Some(report) => Err(refused(report)),
        }
    }
}

fn refused(report: Report) -> CallError {
    CallError::Backend(report.into_error(), Executed::No)
}

fn notification(aside: &Aside) -> Option<Event> {
    let Aside::Notification {
        channel,
        payload,
        process_id,
    } = aside
    else {
        return None;
    };
    let shown = json!({ "channel": channel, "payload": payload, "process_id": process_id });
    Some(Event::Json(shown.to_string()))
}
