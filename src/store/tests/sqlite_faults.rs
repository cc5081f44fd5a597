//! What can be wrong with a data folder.

use std::{fs, path::Path};

use super::draft;
use crate::{
    clock::Clock,
    store::{Settings, StoreError, open},
};

fn settings(folder: &Path) -> Settings {
    Settings {
        url: None,
        data_dir: folder.to_owned(),
    }
}

#[tokio::test]
async fn a_locked_folder_is_named_with_its_holder_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(&settings(folder.path()), &Clock::real()).await.unwrap();
    let refused = open(&settings(folder.path()), &Clock::real()).await.unwrap_err();
    let message = refused.to_string();
    assert!(
        message.contains(&folder.path().display().to_string()),
        "{message}"
    );
    assert!(message.contains(&std::process::id().to_string()), "{message}");
    assert!(message.contains("--data-dir"), "{message}");
}

#[tokio::test]
async fn a_data_folder_that_is_a_file_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    fs::write(&file, "").unwrap();
    let refused = open(&settings(&file), &Clock::real()).await;
    assert!(matches!(refused, Err(StoreError::Unusable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sublet.db");
    fs::write(
        &file,
        "my shopping list, which is rather long, and no database at all",
    )
    .unwrap();
    let refused = open(&settings(folder.path()), &Clock::real()).await;
    assert!(matches!(refused, Err(StoreError::Unusable { .. })), "{refused:?}");
    assert!(fs::read_to_string(&file).unwrap().starts_with("my shopping list"));
}

#[tokio::test]
async fn every_commit_is_synced_to_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = super::super::sqlite::SqliteStore::open(
        folder.path(),
        std::time::Duration::from_secs(10),
        &Clock::real(),
    )
    .await
    .unwrap();
    let (journal, synchronous) = store.durability().await.unwrap();
    assert_eq!((journal.as_str(), synchronous), ("wal", 2), "2 is FULL");
}

#[tokio::test]
async fn a_definition_that_is_no_json_is_refused_and_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&settings(folder.path()), &Clock::real()).await.unwrap();
    let mut bad = draft("orders");
    bad.spec = "{".into();
    let refused = store.insert_pool(bad).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    store.insert_pool(draft("orders")).await.unwrap();
}
