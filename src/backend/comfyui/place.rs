//! One box: how to reach it, and what waits there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::{
    cancel::Asked,
    desk::Desk,
    leftovers::{Leftovers, Stay},
    looks::Looks,
    pace::Pace,
    truth,
};
use crate::{
    backend::{CallError, DialError, Fence, Load, http::Service},
    clock::{Clock, Time},
};

/// How often a box is asked whether a prompt is gone.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(250);

/// Cancels that wait at one box for their prompt to be gone, at most: a node may notice late, and some of the sessions for
/// short requests have to be left for who only asks for something to be cancelled.
pub(super) const PATIENT_CANCELS: usize = 2;

/// One box.
#[derive(Debug)]
pub(super) struct Place {
    /// The endpoint's name.
    pub(super) name: Arc<str>,
    pub(super) service: Service,
    pub(super) load: Load,
    pub(super) left: Arc<Leftovers>,
    pub(super) looks: Looks,
    /// For cancels that wait for their prompt to be gone.
    pub(super) patience: Semaphore,
    /// How long opening a socket may take.
    pub(super) connect: Duration,
    pub(super) clock: Clock,
}

impl Place {
    /// A connection for the broker's own words, such as a cancel: nothing of any holder is on it, so it has a fence of
    /// its own, which is open.
    pub(super) async fn own_desk(&self) -> Result<Desk, DialError> {
        let fence = Arc::new(Fence::default());
        fence.open(1);
        self.desk(fence).await
    }

    /// Opens an HTTP connection.
    pub(super) async fn desk(&self, fence: Arc<Fence>) -> Result<Desk, DialError> {
        let due = self.clock.now() + self.connect;
        tokio::select! {
            biased;
            dialed = self.service.dial(fence) => dialed.map(Desk::new),
            () = self.clock.sleep_until(due) => {
                Err(DialError::transient(format!("the box cannot be reached within {:?}", self.connect)))
            }
        }
    }

    /// Returns once no prompt of ours without a session is on the box; cancels again what was cancelled, and waits for
    /// that until `deadline`. What is meant to run on is not waited for.
    pub(super) async fn vacant(&self, desk: &mut Desk, deadline: Time) -> Result<(), DialError> {
        let mut asked = HashMap::new();
        let mut pace = Pace::new();
        loop {
            let staying = self.look_after(desk, &mut asked).await;
            let Some(id) = staying.map_err(DialError::transient)? else {
                return Ok(());
            };
            let left = self.left.without_session();
            let ends = left.iter().any(|(_, stay)| *stay == Stay::Cancelled);
            if !ends || self.clock.now() >= deadline {
                return Err(DialError::occupied(format!(
                    "the box still has prompt {id}, whose session has ended"
                )));
            }
            pace.pause(&self.clock).await;
        }
    }

    /// Looks which prompts of ours without a session are on the box, cancels those that are not meant to be, and gives one
    /// of all that stay.
    pub(super) async fn look_after(
        &self,
        desk: &mut Desk,
        asked: &mut HashMap<String, Asked>,
    ) -> Result<Option<String>, CallError> {
        let left = self.left.without_session();
        if left.is_empty() {
            return Ok(None);
        }
        let queue = truth::queue(desk).await?;
        self.load.set(u32::try_from(queue.len()).unwrap_or(u32::MAX));
        let mut staying = None;
        for (id, stay) in left {
            if !queue.has(&id) {
                self.left.forget(&id);
                continue;
            }
            if stay == Stay::Cancelled {
                let asked = asked.entry(id.clone()).or_default();
                match asked.if_due((self, desk), &id, &queue).await {
                    // What the box does not want to hear now is said again when it is looked after next.
                    Ok(()) | Err(CallError::Backend(..)) => {}
                    Err(error) => return Err(error),
                }
            }
            staying = Some(id);
        }
        Ok(staying)
    }
}
