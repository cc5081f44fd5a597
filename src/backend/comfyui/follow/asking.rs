//! What a box answers when it is asked about a prompt that is followed, and what its silence means.

use std::time::Duration;

use serde_json::json;

use super::{Follow, LAST_WORDS};
use crate::{
    backend::{
        CallError,
        comfyui::{
            fault,
            truth::{self, Standing},
        },
    },
    clock::Time,
    error::Executed,
};

/// How often a history is asked for that must be there; then it has been taken away.
const ASKED_AT_END: u32 = 100;
/// How long a box may be out of reach before it is given up: one that is restarted is away for a while, and comes back
/// without the prompt.
const OUT_OF_REACH: Duration = Duration::from_secs(60);

impl Follow<'_> {
    /// Asks the box; true if the prompt has ended and there will be no history of it.
    pub(super) async fn ask(&mut self) -> Result<bool, CallError> {
        let now = self.place.clock.now();
        if self.tale.finished.is_some() {
            return Ok(false);
        }
        let standing = match truth::standing(self.desk, self.id).await {
            Ok(standing) => standing,
            Err(error) => return self.unreachable(now, &error).map(|()| false),
        };
        self.tale.out_of_reach = None;
        self.tale.pending = matches!(standing, Standing::Pending(_))
            || self.tale.pending && matches!(standing, Standing::Absent);
        let was_absent = std::mem::replace(&mut self.tale.absent, matches!(standing, Standing::Absent));
        match standing {
            Standing::Finished(history) => {
                self.tale.finished = Some((history, now + LAST_WORDS));
                Ok(false)
            }
            Standing::Running => {
                self.start().await?;
                Ok(false)
            }
            Standing::Pending(before) => {
                if self.tale.position.replace(before) != Some(before) {
                    let told = json!({
                        "event": "queued", "prompt_id": self.id, "endpoint": &*self.place.name, "position": before,
                    });
                    self.emit(&told).await?;
                }
                Ok(false)
            }
            // Asked once more: a box that restarts may take a moment to end its sockets, which tell one from the other.
            Standing::Absent if !was_absent && self.tale.ended.is_none() => Ok(false),
            Standing::Absent => self.absent(),
        }
    }

    /// The box is restarted, perhaps.
    fn unreachable(&mut self, now: Time, error: &CallError) -> Result<(), CallError> {
        let since = *self.tale.out_of_reach.get_or_insert(now);
        self.tale.was_out_of_reach = true;
        if now.since(since) < OUT_OF_REACH {
            return Ok(());
        }
        Err(CallError::Lost {
            message: format!("the box cannot be asked any more: {error}"),
            executed: Some(Executed::Unknown),
        })
    }

    /// The box has neither the prompt nor a history of it.
    fn absent(&mut self) -> Result<bool, CallError> {
        if let Some(asked) = &mut self.tale.ended {
            *asked += 1;
            return Ok(*asked > ASKED_AT_END);
        }
        if self.tale.degraded || self.tale.was_out_of_reach || self.feed.is_lost() {
            return Err(CallError::Lost {
                message: format!("the box has forgotten prompt {}: it has restarted", self.id),
                executed: Some(Executed::Unknown),
            });
        }
        let executed = if self.tale.started || !self.tale.pending {
            Executed::Unknown
        } else {
            Executed::No
        };
        let message = "the prompt was taken out of the box's queue by somebody else";
        Err(fault::stopped(self.id, message, executed))
    }

    /// What came on the socket only is lost with it.
    pub(super) async fn check_images(&mut self) -> Result<(), CallError> {
        if !self.tale.degraded {
            return Ok(());
        }
        let mut nodes: Vec<&str> = self.prompt.on_the_socket().collect();
        nodes.sort_unstable();
        let missed = nodes.iter().find(|node| !self.tale.images.contains(**node));
        match missed {
            Some(node) if self.sink.streams() => Err(fault::image_lost(self.id, node)),
            _ if nodes.is_empty() => Ok(()),
            _ => {
                let message = format!("images of node {} may be lost with the socket", nodes.join(", "));
                self.warn(message).await
            }
        }
    }
}
