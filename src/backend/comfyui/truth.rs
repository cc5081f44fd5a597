//! What a box says of a prompt when it is asked: its history and its queue are the truth, events are hints.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::desk::Desk;
use crate::{
    backend::CallError,
    clock::{Clock, Time},
};

/// How often a box is asked for its queue on behalf of all who wait for prompts there.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A box's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) running: Vec<Item>,
    pub(super) pending: Vec<Item>,
}

/// A prompt in the queue.
#[derive(Debug)]
pub(super) struct Item {
    /// The lower, the sooner.
    number: f64,
    pub(super) id: String,
}

/// A finished prompt.
#[derive(Debug)]
pub(super) struct History {
    /// All that the box says of it.
    pub(super) entry: Box<RawValue>,
    pub(super) outputs: Box<RawValue>,
    pub(super) ended: Ended,
}

/// How a prompt ended.
#[derive(Debug)]
pub(super) enum Ended {
    Success,
    /// A node failed: what the box says of it.
    Failed(Option<Box<RawValue>>),
    Interrupted,
}

/// Where a prompt stands.
#[derive(Debug)]
pub(super) enum Standing {
    Finished(Box<History>),
    Running,
    /// So many are before it.
    Pending(usize),
    /// The box does not know it.
    Absent,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    queue_running: Vec<WireItem>,
    #[serde(default)]
    queue_pending: Vec<WireItem>,
}

/// `[number, id, workflow, extra data, outputs, …]`
struct WireItem(Item);

impl<'de> Deserialize<'de> for WireItem {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> serde::de::Visitor<'de> for Parts {
            type Value = WireItem;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list that begins with a number and an id")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut parts: A) -> Result<WireItem, A::Error> {
                let missing = || serde::de::Error::custom("an item of the queue is too short");
                let number = parts.next_element()?.ok_or_else(missing)?;
                let id = parts.next_element()?.ok_or_else(missing)?;
                while parts.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(WireItem(Item { number, id }))
            }
        }
        deserializer.deserialize_seq(Parts)
    }
}

impl Queue {
    /// Whether a prompt is in it, running or not.
    pub(super) fn has(&self, id: &str) -> bool {
        self.is_running(id) || self.is_pending(id)
    }

    pub(super) fn is_running(&self, id: &str) -> bool {
        self.running.iter().any(|item| item.id == id)
    }

    pub(super) fn is_pending(&self, id: &str) -> bool {
        self.pending.iter().any(|item| item.id == id)
    }

    /// Where a prompt stands that is in it.
    fn standing(&self, id: &str) -> Option<Standing> {
        if self.is_running(id) {
            return Some(Standing::Running);
        }
        self.before(id).map(Standing::Pending)
    }

    /// How many come before a prompt that waits.
    fn before(&self, id: &str) -> Option<usize> {
        let own = self.pending.iter().find(|item| item.id == id)?;
        let sooner = self.pending.iter().filter(|item| item.number < own.number);
        Some(self.running.len() + sooner.count())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.running.len() + self.pending.len()
    }
}

/// The box's queue. Everything waiting is in it with its whole workflow, so it is not asked for often.
pub(super) async fn queue(desk: &mut Desk) -> Result<Queue, CallError> {
    let wire: Wire = desk.read("/queue").await?;
    let items = |list: Vec<WireItem>| list.into_iter().map(|item| item.0).collect();
    Ok(Queue {
        running: items(wire.queue_running),
        pending: items(wire.queue_pending),
    })
}

/// How much waits at the box and runs: the cheap question.
pub(super) async fn remaining(desk: &mut Desk) -> Result<u32, CallError> {
    #[derive(Deserialize)]
    struct Told {
        exec_info: Exec,
    }
    #[derive(Deserialize)]
    struct Exec {
        queue_remaining: u32,
    }
    let told: Told = desk.read("/prompt").await?;
    Ok(told.exec_info.queue_remaining)
}

/// A finished prompt's history, if the box has it.
pub(super) async fn history(desk: &mut Desk, id: &str) -> Result<Option<Box<History>>, CallError> {
    #[derive(Deserialize)]
    struct Entry {
        outputs: Box<RawValue>,
        status: Option<Status>,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        status_str: String,
        #[serde(default)]
        messages: Vec<(String, Box<RawValue>)>,
    }
    let mut found: std::collections::HashMap<String, Box<RawValue>> =
        desk.read(&format!("/history/{id}")).await?;
    let Some(entry) = found.remove(id) else {
        return Ok(None);
    };
    let read: Entry = serde_json::from_str(entry.get()).map_err(|error| CallError::Broken {
        message: format!("the box's history is not what it should be: {error}"),
        executed: None,
    })?;
    let ended = match read.status {
        Some(status) if status.status_str == "error" => {
            let mut messages = status.messages.into_iter();
            match messages.rfind(|(event, data)| is_end(event, data)) {
                Some((event, _)) if event == "execution_interrupted" => Ended::Interrupted,
                found => Ended::Failed(found.map(|(_, data)| data)),
            }
        }
        _ => Ended::Success,
    };
    Ok(Some(Box::new(History {
        outputs: read.outputs,
        ended,
        entry,
    })))
}

/// Whether a message of the history says how the prompt ended. A blocked branch is no end.
fn is_end(event: &str, data: &RawValue) -> bool {
    match event {
        "execution_interrupted" => true,
        "execution_error" => !super::events::is_blocked(data.get()),
        _ => false,
    }
}

/// Where a prompt stands.
pub(super) async fn standing(desk: &mut Desk, id: &str) -> Result<Standing, CallError> {
    if let Some(history) = history(desk, id).await? {
        return Ok(Standing::Finished(history));
    }
    if let Some(standing) = queue(desk).await?.standing(id) {
        return Ok(standing);
    }
    // It may have ended between the two questions.
    Ok(match history(desk, id).await? {
        Some(history) => Standing::Finished(history),
        None => Standing::Absent,
    })
}

/// A box's queue as it was a moment ago, for all who wait for prompts there: one of them asks, and the others hear it.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Look>);

#[derive(Debug, Default)]
struct Look {
    /// When somebody asked last: if no answer comes, it is another's turn after a while.
    asked: Option<Time>,
    told: Option<(Time, Arc<Queue>)>,
}

/// What one who waits has to do.
#[derive(Debug)]
enum Turn {
    /// Nothing: the queue is known.
    Told(Arc<Queue>),
    /// To ask.
    Ask,
    /// To come back: somebody else is asking.
    Wait,
}

impl Looks {
    /// Where a prompt stands that stood as `before` a moment ago.
    pub(super) async fn standing(
        &self,
        (clock, desk): (&Clock, &mut Desk),
        id: &str,
        before: Standing,
    ) -> Result<Standing, CallError> {
        let queue = match self.turn(clock.now()) {
            Turn::Wait => return Ok(before),
            Turn::Told(queue) => queue,
            Turn::Ask => {
                let queue = Arc::new(queue(desk).await?);
                self.0.lock().told = Some((clock.now(), Arc::clone(&queue)));
                queue
            }
        };
        match queue.standing(id) {
            Some(standing) => Ok(standing),
            None => standing(desk, id).await,
        }
    }

    fn turn(&self, now: Time) -> Turn {
        let mut look = self.0.lock();
        let fresh = |at: Time| now.since(at) < LOOK_EVERY;
        if let Some((_, queue)) = look.told.as_ref().filter(|(at, _)| fresh(*at)) {
            return Turn::Told(Arc::clone(queue));
        }
        if look.asked.is_some_and(fresh) {
            return Turn::Wait;
        }
        look.asked = Some(now);
        Turn::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_those_who_wait_asks_for_all_of_them() {
        let (looks, clock) = (Looks::default(), Clock::tokio());
        assert!(matches!(looks.turn(clock.now()), Turn::Ask));
        assert!(matches!(looks.turn(clock.now()), Turn::Wait));
        looks.0.lock().told = Some((clock.now(), Arc::default()));
        assert!(matches!(looks.turn(clock.now()), Turn::Told(_)));
        tokio::time::advance(LOOK_EVERY).await;
        assert!(matches!(looks.turn(clock.now()), Turn::Ask));
        assert!(matches!(looks.turn(clock.now()), Turn::Wait), "it is old");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(
            matches!(looks.turn(clock.now()), Turn::Ask),
            "the other got no answer"
        );
    }
}
