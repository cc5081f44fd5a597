//! The suite that every store passes.

use std::{path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::{draft, postgres::Database};
use crate::{
    clock::Clock,
    store::{Draft, LockState, MAX_BOOT, Settings, Store, StoreError, open},
};

/// A place where a store can be opened again and again.
struct Place {
    settings: Settings,
    _folder: Option<TempDir>,
    _database: Option<Database>,
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            settings: Settings {
                url: None,
                data_dir: folder.path().join("data"),
            },
            _folder: Some(folder),
            _database: None,
        }
    }

    async fn postgres() -> Self {
        let database = Database::fresh().await;
        Self {
            settings: Settings {
                url: Some(database.url()),
                data_dir: PathBuf::from("/nowhere"),
            },
            _folder: None,
            _database: Some(database),
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        open(&self.settings, &Clock::real()).await.unwrap()
    }
}

/// Makes one test for each store.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Place::sqlite()).await })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Place::postgres().await).await })*
        }
    };
}

on_both! {
    an_inserted_pool_is_read_back_after_a_restart
    a_second_pool_of_a_name_is_refused
    an_update_needs_the_revision_that_it_was_made_from
    an_update_of_a_missing_pool_is_not_found
    a_delete_needs_the_revision_and_the_pool
    pools_come_by_name
    boots_rise_with_every_start_and_no_further_than_fences_can_count
    a_second_broker_is_refused_until_the_first_is_gone
    a_caller_that_goes_away_does_not_stop_its_work
    definitions_keep_every_character
    two_writers_of_one_revision_have_one_winner
    the_store_is_migrated_once
}

async fn an_inserted_pool_is_read_back_after_a_restart(place: Place) {
    let store = place.open().await;
    let inserted = store.insert_pool(draft("orders")).await.unwrap();
    assert_eq!((inserted.name.as_str(), inserted.revision), ("orders", 1));
    assert_eq!(inserted.create_time_us, 1_700_000_000_123_456);
    assert_eq!(inserted.update_time_us, inserted.create_time_us);
    drop(store);

    let store = place.open().await;
    assert_eq!(store.pools().await.unwrap(), std::slice::from_ref(&inserted));
    assert_eq!(store.pool("orders").await.unwrap(), Some(inserted));
    assert_eq!(store.pool("other").await.unwrap(), None);
}

async fn a_second_pool_of_a_name_is_refused(place: Place) {
    let store = place.open().await;
    let first = store.insert_pool(draft("orders")).await.unwrap();
    let refused = store
        .insert_pool(Draft {
            spec: "{}".into(),
            ..draft("orders")
        })
        .await;
    assert!(matches!(refused, Err(StoreError::Exists)), "{refused:?}");
    assert_eq!(store.pools().await.unwrap(), [first]);
}

async fn an_update_needs_the_revision_that_it_was_made_from(place: Place) {
    let store = place.open().await;
    let first = store.insert_pool(draft("orders")).await.unwrap();
    let change = Draft {
        spec: r#"{"echo": {}}"#.into(),
        time_us: 1_700_000_001_000_001,
        ..draft("orders")
    };
    let second = store.update_pool(change.clone(), 1).await.unwrap();
    assert_eq!(second.revision, 2);
    assert_eq!(second.update_time_us, 1_700_000_001_000_001);
    assert_eq!(second.create_time_us, first.create_time_us);
    let late = store.update_pool(change, 1).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    assert_eq!(store.pools().await.unwrap(), [second]);
}

async fn an_update_of_a_missing_pool_is_not_found(place: Place) {
    let store = place.open().await;
    let missing = store.update_pool(draft("orders"), 1).await;
    assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
    assert_eq!(store.pools().await.unwrap(), []);
}

async fn a_delete_needs_the_revision_and_the_pool(place: Place) {
    let store = place.open().await;
    store.insert_pool(draft("orders")).await.unwrap();
    let wrong = store.delete_pool("orders", 2).await;
    assert!(matches!(wrong, Err(StoreError::Conflict)), "{wrong:?}");
    store.delete_pool("orders", 1).await.unwrap();
    let again = store.delete_pool("orders", 1).await;
    assert!(matches!(again, Err(StoreError::NotFound)), "{again:?}");
    assert_eq!(store.pools().await.unwrap(), []);
}

async fn pools_come_by_name(place: Place) {
    let store = place.open().await;
    for name in ["b", "a-b", "a1", "a"] {
        store.insert_pool(draft(name)).await.unwrap();
    }
    let names: Vec<_> = store
        .pools()
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.name)
        .collect();
    assert_eq!(names, ["a", "a-b", "a1", "b"]);
}

async fn boots_rise_with_every_start_and_no_further_than_fences_can_count(place: Place) {
    let store = place.open().await;
    assert_eq!(store.begin_boot().await.unwrap(), 1);
    drop(store);
    let store = place.open().await;
    assert_eq!(store.begin_boot().await.unwrap(), 2);
    assert_eq!(MAX_BOOT, 1 << 24);
}

async fn a_second_broker_is_refused_until_the_first_is_gone(place: Place) {
    let first = place.open().await;
    assert_eq!(*first.lock().borrow(), LockState::Held);
    let refused = open(&place.settings, &Clock::real()).await;
    let Err(StoreError::Locked { by }) = refused else {
        panic!("{refused:?}")
    };
    assert!(by.contains("stop it"), "{by}");
    drop(first);
    assert_eq!(*place.open().await.lock().borrow(), LockState::Held);
}

async fn a_caller_that_goes_away_does_not_stop_its_work(place: Place) {
    let store = place.open().await;
    for round in 0..20 {
        let name = format!("pool-{round}");
        let mut insert = Box::pin(store.insert_pool(draft(&name)));
        // One poll sends the work off; then the caller goes.
        assert!(futures_util::poll!(&mut insert).is_pending());
        drop(insert);
        // Work is done in order, so this sees what became of it.
        assert!(store.pool(&name).await.unwrap().is_some(), "{name}");
    }
}

async fn definitions_keep_every_character(place: Place) {
    let store = place.open().await;
    let spec = serde_json::json!({ "note": "\"quoted\" \\ \n\t é 你好 🦀 '; DROP TABLE pools; --" });
    let asked = Draft {
        spec: spec.to_string(),
        ..draft("orders")
    };
    let row = store.insert_pool(asked).await.unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&row.spec).unwrap(),
        spec
    );
}

async fn two_writers_of_one_revision_have_one_winner(place: Place) {
    let store = place.open().await;
    store.insert_pool(draft("orders")).await.unwrap();
    let (one, two) = tokio::join!(
        store.update_pool(draft("orders"), 1),
        store.update_pool(draft("orders"), 1)
    );
    assert_eq!(
        usize::from(one.is_ok()) + usize::from(two.is_ok()),
        1,
        "{one:?} {two:?}"
    );
    let (one, two) = tokio::join!(store.insert_pool(draft("new")), store.insert_pool(draft("new")));
    assert_eq!(
        usize::from(one.is_ok()) + usize::from(two.is_ok()),
        1,
        "{one:?} {two:?}"
    );
}

async fn the_store_is_migrated_once(place: Place) {
    for _ in 0..3 {
        let store = place.open().await;
        assert_eq!(store.pools().await.unwrap(), []);
        assert!(!store.place().contains("postgres://"));
    }
}
