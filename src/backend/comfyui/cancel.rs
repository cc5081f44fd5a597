//! Cancelling one prompt and no other: by the box's own cancel where it has one; else out of the queue, or interrupted
//! by its id. The interrupt without an id, which hits whatever runs, is never sent.

use std::time::Duration;

use super::{desk::Desk, fault, pace::Pace, place::Place, queue::Queue, truth};
use crate::{backend::CallError, clock::Time};

/// When a box that still has the prompt is asked again: it forgets an interrupt that comes just before the prompt
/// begins.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// The longest time between two requests, which double it: a node that notices late is not asked hundreds of times.
const ASK_AGAIN_AT_LEAST: Duration = Duration::from_secs(60);

/// Asks a box to cancel a prompt, which is where `queue` says. It returns when the box has heard it; the prompt may go
/// on for a while, since a node in the middle of its work notices an interrupt late.
///
/// # Errors
/// What the box, or a proxy before it, says if it does not do so.
async fn ask(desk: &mut Desk, id: &str, queue: &Queue) -> Result<(), CallError> {
    // Only new boxes have it; it is atomic. Others answer 404 or 405.
    let asked = desk
        .post(&format!("/api/jobs/{id}/cancel"), "{}".to_owned())
        .await?;
    if asked.status.is_success() {
        return Ok(());
    }
    let named = serde_json::Value::from(id);
    let heard = if queue.is_pending(id) {
        desk.post("/queue", format!(r#"{{"delete":[{named}]}}"#)).await?
    } else {
        // The box itself looks whether that prompt is the one that runs.
        desk.post("/interrupt", format!(r#"{{"prompt_id":{named}}}"#))
            .await?
    };
    if heard.status.is_success() {
        Ok(())
    } else {
        Err(fault::of_answer(&heard))
    }
}

/// Cancels a prompt, and returns when the box does not have it any more. May be dropped and called again.
pub(super) async fn until_gone(place: &Place, desk: &mut Desk, id: &str) -> Result<(), CallError> {
    let (mut asked, mut pace) = (Asked::default(), Pace::new());
    while !is_gone((place, desk), id, &mut asked).await? {
        pace.pause(&place.clock).await;
    }
    Ok(())
}

/// Whether the box does not have a prompt any more; asks it to cancel it if it has.
pub(super) async fn is_gone(
    (place, desk): (&Place, &mut Desk),
    id: &str,
    asked: &mut Asked,
) -> Result<bool, CallError> {
    let queue = truth::queue(desk).await?;
    if !queue.has(id) {
        return Ok(true);
    }
    asked.if_due((place, desk), id, &queue).await?;
    Ok(false)
}

/// What was asked already.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// What was heard last: whether it ran then, when it may be asked again, and how long after that.
    last: Option<(bool, Time, Duration)>,
}

impl Asked {
    /// Asks the box to cancel a prompt that is in its queue, unless it has just been asked. It is asked again if the
    /// prompt has begun to run just before it would have been taken out of the queue; and after a while, since an
    /// interrupt may be lost. The box looks whether that prompt runs, so a late one harms no other.
    ///
    /// # Errors
    /// When the box does not hear it for the first time; that it did not hear it again is no news.
    pub(super) async fn if_due(
        &mut self,
        (place, desk): (&Place, &mut Desk),
        id: &str,
        queue: &Queue,
    ) -> Result<(), CallError> {
        let (runs, now) = (queue.is_running(id), place.clock.now());
        let pause = match self.last {
            Some((ran, next, _)) if ran == runs && now < next => return Ok(()),
            Some((ran, _, pause)) if ran == runs => pause,
            Some(_) | None => ASK_AGAIN,
        };
        let heard = ask(desk, id, queue).await;
        if self.last.is_none_or(|(ran, ..)| ran != runs) {
            heard?;
        }
        self.last = Some((runs, now + pause, (pause * 2).min(ASK_AGAIN_AT_LEAST)));
        Ok(())
    }
}
