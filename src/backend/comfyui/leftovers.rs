//! Which prompts of ours may be on a box, for sessions that look after them and for those that have ended.
//!
//! Loops: `until_done`, a task for each box on which something was left that has to be cancelled; it ends when that is
//! gone.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::{Arc, LazyLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::place::{ASK_EVERY, Place};

/// How often a box is asked, at last, that cannot be reached or has a node that does not notice.
const SELDOM: Duration = Duration::from_secs(30);
/// How long a box is seen to; after that whoever opens a session there does.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Prompts of ours that a box may still have, by its address: what is on a box belongs to the box and not to the
/// definition that was in force. A session's slot is not taken again while one without a session is there.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    prompts: BTreeMap<String, Stay>,
    /// A task sees to those that were cancelled.
    seen_to: bool,
}

/// Why a prompt may be on a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// A session looks after it.
    Held,
    /// Its session has ended; it was cancelled.
    Cancelled,
    /// Its session has ended; its caller wanted it to run on.
    Detached,
}

/// A prompt that may be on a box, looked after by a session. Dropped without [`Work::gone`], it is left over.
#[derive(Debug)]
pub(super) struct Work {
    place: Arc<Place>,
    id: String,
    pub(super) detached: bool,
}

/// What is on each box that a pool of this process has, or has left something on. Its lock is taken before a box's own.
static ALL: LazyLock<Mutex<HashMap<String, Arc<Leftovers>>>> = LazyLock::new(Mutex::default);
/// Boxes that no pool has, at most, whose prompts are remembered: there are fewer boxes than that.
const MOST_BOXES: usize = 4096;

impl Leftovers {
    /// What is left on the box at an address, which is the same however many pools have it, one after another too.
    pub(super) fn at(address: &str) -> Arc<Self> {
        let mut all = ALL.lock();
        let full = all.len() >= MOST_BOXES;
        all.retain(|_, left| Arc::strong_count(left) > 1 || !full && !left.0.lock().prompts.is_empty());
        Arc::clone(all.entry(address.to_owned()).or_default())
    }

    /// Those whose session has ended.
    pub(super) fn without_session(&self) -> Vec<(String, Stay)> {
        let all = self.0.lock();
        let left = all.prompts.iter().filter(|(_, stay)| **stay != Stay::Held);
        left.map(|(id, stay)| (id.clone(), *stay)).collect()
    }

    /// The box does not have it any more.
    pub(super) fn forget(&self, id: &str) {
        self.0.lock().prompts.remove(id);
    }

    /// Whether nothing is left that was cancelled; if so, nobody sees to it from now on.
    fn is_done(&self) -> bool {
        let mut left = self.0.lock();
        left.seen_to = left.prompts.values().any(|stay| *stay == Stay::Cancelled);
        !left.seen_to
    }
}

impl Work {
    /// Notes a prompt before it is sent.
    pub(super) fn begin(place: &Arc<Place>, id: &str) -> Self {
        place.left.0.lock().prompts.insert(id.to_owned(), Stay::Held);
        Self {
            place: Arc::clone(place),
            id: id.to_owned(),
            detached: false,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The box does not have it any more.
    pub(super) fn gone(self) {
        self.place.left.forget(&self.id);
    }
}

/// A prompt's id that no other prompt of ours at its box has, before it is sent. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Claim(Option<Work>);

impl Claim {
    /// Claims an id, unless it is taken.
    pub(super) fn on(place: &Arc<Place>, id: &str) -> Option<Self> {
        let mut left = place.left.0.lock();
        let Entry::Vacant(free) = left.prompts.entry(id.to_owned()) else {
            return None;
        };
        free.insert(Stay::Held);
        drop(left);
        Some(Self(Some(Work {
            place: Arc::clone(place),
            id: id.to_owned(),
            detached: false,
        })))
    }

    /// It is about to be sent.
    pub(super) fn begin(mut self) -> Option<Work> {
        self.0.take()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work.gone();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut left = self.place.left.0.lock();
        let Some(noted) = left.prompts.get_mut(&self.id) else {
            return;
        };
        if self.detached {
            *noted = Stay::Detached;
            return;
        }
        *noted = Stay::Cancelled;
        let begun = std::mem::replace(&mut left.seen_to, true);
        drop(left);
        if !begun {
            see_to(SeenTo(Arc::clone(&self.place)));
        }
    }
}

/// Whoever sees to what is left. However that ends, another may begin.
struct SeenTo(Arc<Place>);

impl Drop for SeenTo {
    fn drop(&mut self) {
        self.0.left.0.lock().seen_to = false;
    }
}

/// Has everything cancelled that was left on a box, even if nobody ever opens a session there again.
fn see_to(place: SeenTo) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(until_done(place));
    }
}

async fn until_done(seen_to: SeenTo) {
    let place = &*seen_to.0;
    let (mut pause, mut asked, mut desk) = (ASK_EVERY, HashMap::new(), None);
    let due = place.clock.now() + LONGEST;
    while !place.left.is_done() && place.clock.now() < due {
        if desk.is_none() {
            desk = place.own_desk().await.ok();
        }
        let looked = match &mut desk {
            Some(desk) => tokio::select! {
                biased;
                looked = place.look_after(desk, &mut asked) => looked.is_ok(),
                // A box that does not answer at all.
                () = place.clock.sleep_until(place.clock.now() + SELDOM) => false,
            },
            None => false,
        };
        if !looked {
            desk = None;
        }
        place.clock.sleep_until(place.clock.now() + pause).await;
        pause = (pause * 2).min(SELDOM);
    }
}
