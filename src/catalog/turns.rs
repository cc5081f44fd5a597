//! Changes of one pool wait for each other; changes of different pools do not.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Whose turn it is, by name. Names nobody waits for are forgotten.
#[derive(Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

/// The right to change one pool; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    name: String,
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    _guard: OwnedMutexGuard<()>,
}

impl Turns {
    /// Waits for the turn, first come first served. Each change ends within the store's time limit.
    pub(super) async fn wait(&self, name: &str) -> Turn {
        let place = Arc::clone(self.0.lock().entry(name.to_owned()).or_default());
        Turn {
            name: name.to_owned(),
            turns: Arc::clone(&self.0),
            _guard: place.lock_owned().await,
        }
    }
}

impl Turns {
    /// Whether nobody has a turn or waits for one.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Turn {
    /// The pool's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        // The map and this guard hold one each; whoever waits holds another.
        if turns
            .get(&self.name)
            .is_some_and(|place| Arc::strong_count(place) <= 2)
        {
            turns.remove(&self.name);
        }
    }
}
