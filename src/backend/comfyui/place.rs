//! One box: how to reach it, what waits there, and which prompts of ours may still be on it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    cancel::{self, Asked},
    desk::Desk,
    truth::{self, Looks},
};
use crate::{
    backend::{DialError, Fence, Load, http::Service},
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

/// Prompts of ours that a box may still have, by its address: what is on a box belongs to the box and not to the
/// definition that was in force. A session's slot is not taken again while one without a session is there.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<BTreeMap<String, Stay>>);

/// Why a prompt may be on a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
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
    left: Arc<Leftovers>,
    id: String,
    pub(super) detached: bool,
}

/// What is on each box that any pool of this process has ever left something on.
static ALL: LazyLock<Mutex<HashMap<String, Weak<Leftovers>>>> = LazyLock::new(Mutex::default);

impl Leftovers {
    /// What is left on the box at an address.
    pub(super) fn at(address: &str) -> Arc<Self> {
        let mut all = ALL.lock();
        all.retain(|_, left| left.strong_count() > 0);
        let known = all.get(address).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let left = Arc::new(Self::default());
            all.insert(address.to_owned(), Arc::downgrade(&left));
            left
        })
    }

    /// Notes a prompt before it is sent.
    pub(super) fn begin(self: &Arc<Self>, id: &str) -> Work {
        self.0.lock().insert(id.to_owned(), Stay::Held);
        Work {
            left: Arc::clone(self),
            id: id.to_owned(),
            detached: false,
        }
    }

    /// Whether a prompt is noted here.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.lock().contains_key(id)
    }

    fn without_session(&self) -> Vec<(String, Stay)> {
        let all = self.0.lock();
        let left = all.iter().filter(|(_, stay)| **stay != Stay::Held);
        left.map(|(id, stay)| (id.clone(), *stay)).collect()
    }

    fn forget(&self, id: &str) {
        self.0.lock().remove(id);
    }
}

impl Work {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The box does not have it any more.
    pub(super) fn gone(self) {
        self.left.forget(&self.id);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let stay = if self.detached {
            Stay::Detached
        } else {
            Stay::Cancelled
        };
        if let Some(noted) = self.left.0.lock().get_mut(&self.id) {
            *noted = stay;
        }
    }
}

impl Place {
    /// A connection for the broker's own words, such as a cancel: nothing of any holder is on it, so it has a fence of
    /// its own, which is open.
    pub(super) async fn own_desk(&self) -> Result<Desk, DialError> {
        let fence = Arc::new(Fence::default());
        fence.open(1);
        Ok(Desk::new(self.service.dial(fence).await?))
    }

    /// Returns once no prompt of ours without a session is on the box; cancels again what was cancelled.
    pub(super) async fn vacant(&self, desk: &mut Desk, deadline: Time) -> Result<(), DialError> {
        let mut asked: HashMap<String, Asked> = HashMap::new();
        loop {
            let left = self.left.without_session();
            if left.is_empty() {
                return Ok(());
            }
            let queue = truth::queue(desk).await.map_err(DialError::transient)?;
            let mut staying = None;
            for (id, stay) in left {
                if !queue.has(&id) {
                    self.left.forget(&id);
                    continue;
                }
                let runs = queue.is_running(&id);
                if stay == Stay::Cancelled && asked.entry(id.clone()).or_default().is_news(runs) {
                    cancel::ask(desk, &id, &queue)
                        .await
                        .map_err(DialError::transient)?;
                }
                staying = Some(id);
            }
            let Some(id) = staying else { continue };
            if self.clock.now() >= deadline {
                return Err(DialError::transient(format!(
                    "the box still has prompt {id}, whose session has ended"
                )));
            }
            self.clock.sleep_until(self.clock.now() + ASK_EVERY).await;
        }
    }
}
