//! Cancelling one prompt and no other: by the box's own cancel where it has one; else out of the queue, or interrupted
//! by its id. The interrupt without an id, which hits whatever runs, is never sent.

use super::{
    desk::Desk,
    place::{ASK_EVERY, Place},
    queue::Queue,
    truth,
};
use crate::backend::CallError;

/// Asks a box to cancel a prompt, which is where `queue` says. It returns when the box has heard it; the prompt may go
/// on for a while, since a node in the middle of its work notices an interrupt late.
pub(super) async fn ask(desk: &mut Desk, id: &str, queue: &Queue) -> Result<(), CallError> {
    // Only new boxes have it; it is atomic. Others answer 404 or 405.
    let asked = desk
        .post(&format!("/api/jobs/{id}/cancel"), "{}".to_owned())
        .await?;
    if asked.status.is_success() {
        return Ok(());
    }
    let named = serde_json::Value::from(id);
    if queue.is_pending(id) {
        desk.post("/queue", format!(r#"{{"delete":[{named}]}}"#)).await?;
    } else if queue.is_running(id) {
        // The box itself looks whether that prompt is the one that runs.
        desk.post("/interrupt", format!(r#"{{"prompt_id":{named}}}"#))
            .await?;
    }
    Ok(())
}

/// Cancels a prompt, and returns when the box does not have it any more. May be dropped and called again.
pub(super) async fn until_gone(place: &Place, desk: &mut Desk, id: &str) -> Result<(), CallError> {
    let mut asked = Asked::default();
    while !is_gone(desk, id, &mut asked).await? {
        place.clock.sleep_until(place.clock.now() + ASK_EVERY).await;
    }
    Ok(())
}

/// Whether the box does not have a prompt any more; asks it to cancel it if it has. An interrupt that comes late could meet
/// the prompt that runs next, so it is sent once.
pub(super) async fn is_gone(desk: &mut Desk, id: &str, asked: &mut Asked) -> Result<bool, CallError> {
    let queue = truth::queue(desk).await?;
    if !queue.has(id) {
        return Ok(true);
    }
    if asked.is_news(queue.is_running(id)) {
        ask(desk, id, &queue).await?;
    }
    Ok(false)
}

/// What was asked already: it may have begun to run just before it would have been taken out of the queue.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pending: bool,
    running: bool,
}

impl Asked {
    /// Whether a prompt that runs, or does not yet, has not been cancelled in that state; notes that it is now.
    pub(super) fn is_news(&mut self, runs: bool) -> bool {
        let asked = if runs {
            &mut self.running
        } else {
            &mut self.pending
        };
        !std::mem::replace(asked, true)
    }
}
