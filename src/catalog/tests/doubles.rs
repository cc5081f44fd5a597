//! A store in memory that can fail as the tests say, and pools that only write down what they are told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::{
    backend::Backend,
    broker::{Plan, Policy},
    catalog::Pools,
    pool::Settings,
    store::{Draft, LockState, PoolRow, Store, StoreError},
};

/// How the store behaves from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// As it should.
    Well,
    /// It does not answer, and does nothing.
    Down,
    /// It does the next write, does not say so, and is down then.
    LosesAnswer,
    /// It does not get the next write, whose writer cannot know that, and is down then.
    LosesWrite,
    /// Another broker has it.
    Taken,
}

#[derive(Clone, Debug)]
pub(super) struct FakeStore(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    rows: Mutex<BTreeMap<String, PoolRow>>,
    mood: Mutex<Mood>,
    /// Writes need a permit, so that a test can hold them.
    writes: Semaphore,
    /// Writes that have begun.
    begun: watch::Sender<u32>,
    lock: watch::Sender<LockState>,
}

impl Default for FakeStore {
    fn default() -> Self {
        Self(Arc::new(Memory {
            rows: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            writes: Semaphore::new(1000),
            begun: watch::Sender::new(0),
            lock: watch::Sender::new(LockState::Held),
        }))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the test says so")]
struct TestSaysSo;

impl FakeStore {
    pub(super) fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0) as Arc<dyn Store>
    }

    pub(super) fn mood(&self, mood: Mood) {
        *self.0.mood.lock() = mood;
    }

    /// The stored rows' names and revisions.
    pub(super) fn rows(&self) -> Vec<(String, i64)> {
        let rows = self.0.rows.lock();
        rows.values()
            .map(|row| (row.name.clone(), row.revision))
            .collect()
    }

    pub(super) fn spec(&self, name: &str) -> String {
        self.0.rows.lock()[name].spec.clone()
    }

    /// Writes a row behind the catalog's back.
    pub(super) fn plant(&self, name: &str, revision: i64, spec: &str) {
        let row = PoolRow {
            name: name.into(),
            spec: spec.into(),
            revision,
            create_time_us: 5_000_000,
            update_time_us: 6_000_000,
        };
        self.0.rows.lock().insert(name.into(), row);
    }

    pub(super) fn hold_writes(&self) {
        self.0.writes.forget_permits(1000);
    }

    pub(super) fn let_writes_go(&self) {
        self.0.writes.add_permits(1000);
    }

    pub(super) fn begun(&self) -> watch::Receiver<u32> {
        self.0.begun.subscribe()
    }
}

impl Memory {
    async fn write<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, PoolRow>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.begun.send_modify(|begun| *begun += 1);
        let _permit = self.writes.acquire().await.unwrap();
        let mut mood = self.mood.lock();
        let unknown = Err(StoreError::OutcomeUnknown {
            source: Arc::new(TestSaysSo),
        });
        match *mood {
            Mood::Well => change(&mut self.rows.lock()),
            Mood::Down => Err(self.down()),
            Mood::Taken => Err(self.taken()),
            Mood::LosesAnswer => {
                *mood = Mood::Down;
                change(&mut self.rows.lock())?;
                unknown
            }
            Mood::LosesWrite => {
                *mood = Mood::Down;
                unknown
            }
        }
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<String, PoolRow>) -> T) -> Result<T, StoreError> {
        match *self.mood.lock() {
            Mood::Down => Err(self.down()),
            Mood::Taken => Err(self.taken()),
            Mood::Well | Mood::LosesAnswer | Mood::LosesWrite => Ok(read(&self.rows.lock())),
        }
    }

    fn down(&self) -> StoreError {
        StoreError::Unavailable {
            source: Arc::new(TestSaysSo),
        }
    }

    fn taken(&self) -> StoreError {
        StoreError::Locked { by: "another".into() }
    }
}

impl Store for Memory {
    fn place(&self) -> &str {
        "the test's memory"
    }

    fn begin_boot(&self) -> BoxFuture<'_, Result<u32, StoreError>> {
        async { Ok(1) }.boxed()
    }

    fn pools(&self) -> BoxFuture<'_, Result<Vec<PoolRow>, StoreError>> {
        async { self.read(|rows| rows.values().cloned().collect()) }.boxed()
    }

    fn pool(&self, name: &str) -> BoxFuture<'_, Result<Option<PoolRow>, StoreError>> {
        let name = name.to_owned();
        async move { self.read(|rows| rows.get(&name).cloned()) }.boxed()
    }

    fn insert_pool(&self, draft: Draft) -> BoxFuture<'_, Result<PoolRow, StoreError>> {
        self.write(move |rows| {
            if rows.contains_key(&draft.name) {
                return Err(StoreError::Exists);
            }
            let row = PoolRow {
                name: draft.name.clone(),
                spec: draft.spec,
                revision: 1,
                create_time_us: draft.time_us,
                update_time_us: draft.time_us,
            };
            rows.insert(draft.name, row.clone());
            Ok(row)
        })
        .boxed()
    }

    fn update_pool(&self, draft: Draft, expected: i64) -> BoxFuture<'_, Result<PoolRow, StoreError>> {
        self.write(move |rows| {
            let row = rows.get_mut(&draft.name).ok_or(StoreError::NotFound)?;
            if row.revision != expected {
                return Err(StoreError::Conflict);
            }
            row.spec = draft.spec;
            row.revision += 1;
            row.update_time_us = draft.time_us;
            Ok(row.clone())
        })
        .boxed()
    }

    fn delete_pool(&self, name: &str, expected: i64) -> BoxFuture<'_, Result<(), StoreError>> {
        let name = name.to_owned();
        self.write(move |rows| {
            let row = rows.get(&name).ok_or(StoreError::NotFound)?;
            if row.revision != expected {
                return Err(StoreError::Conflict);
            }
            rows.remove(&name);
            Ok(())
        })
        .boxed()
    }

    fn lock(&self) -> watch::Receiver<LockState> {
        self.lock.subscribe()
    }
}

/// What the pools were told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// With so many sessions at most.
    Add(String, u32),
    /// With so many sessions at most, and whether sessions are replaced.
    Change(String, u32, bool),
    Remove(String, Duration, bool),
}

#[derive(Clone, Debug)]
pub(super) struct Recorder(Arc<Record>);

#[derive(Debug)]
struct Record {
    calls: watch::Sender<Vec<Call>>,
    paused: Mutex<Option<String>>,
    /// Removals end at a permit, or at once if forced.
    removals: Semaphore,
}

impl Default for Recorder {
    fn default() -> Self {
        Self(Arc::new(Record {
            calls: watch::Sender::default(),
            paused: Mutex::default(),
            removals: Semaphore::new(0),
        }))
    }
}

impl Recorder {
    /// What was told since the last time.
    pub(super) fn take(&self) -> Vec<Call> {
        let mut taken = Vec::new();
        self.0.calls.send_modify(|calls| taken = std::mem::take(calls));
        taken
    }

    /// Waits until something is told, and takes it.
    pub(super) async fn next(&self) -> Vec<Call> {
        let mut calls = self.0.calls.subscribe();
        calls.wait_for(|calls| !calls.is_empty()).await.unwrap();
        self.take()
    }

    pub(super) fn pause(&self, name: &str) {
        *self.0.paused.lock() = Some(name.into());
    }

    /// The next removal ends.
    pub(super) fn empty_one(&self) {
        self.0.removals.add_permits(1);
    }

    fn told(&self, call: Call) {
        self.0.calls.send_modify(|calls| calls.push(call));
    }
}

impl Pools for Recorder {
    fn add(&self, name: &str, plan: Plan) {
        self.told(Call::Add(name.into(), plan.settings.max_sessions));
    }

    fn change(&self, name: &str, settings: Settings, _: Policy, backend: Option<Arc<dyn Backend>>) {
        self.told(Call::Change(
            name.into(),
            settings.max_sessions,
            backend.is_some(),
        ));
    }

    fn remove(&self, name: &str, drain: Duration, force: bool) -> BoxFuture<'static, ()> {
        self.told(Call::Remove(name.into(), drain, force));
        let record = Arc::clone(&self.0);
        async move {
            if force {
                // Whoever waits for the pool to be empty goes first.
                return record.removals.add_permits(1);
            }
            record.removals.acquire().await.unwrap().forget();
        }
        .boxed()
    }

    fn is_paused(&self, name: &str) -> bool {
        self.0.paused.lock().as_deref() == Some(name)
    }
}
