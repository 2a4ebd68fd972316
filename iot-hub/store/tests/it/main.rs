//! The contract of [`HubStore`](iot_hub_store::HubStore), on SQLite in a file, before and after it is opened anew.
#![allow(
    clippy::unwrap_used,
    reason = "this crate is tests; the lint sees only functions that are marked as such"
)]

mod contract;

use contract::Opener;
use iot_hub_store::{HubStore, SqliteStore};

/// A file that a test opens, closes and opens again.
struct File {
    directory: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }
}

impl Opener for File {
    type Store = SqliteStore;

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.directory.path().join("hub.db"))
            .await
            .unwrap()
    }

    async fn close(&self, store: SqliteStore) {
        store.close().await;
    }
}

#[tokio::test]
async fn what_was_committed_is_loaded_again() {
    contract::what_was_committed_is_loaded_again(&File::new()).await;
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    contract::a_batch_is_all_or_nothing(&File::new()).await;
}

#[tokio::test]
async fn the_log_rises_and_says_when_it_forgot() {
    contract::the_log_rises_and_says_when_it_forgot(&File::new()).await;
}

#[tokio::test]
async fn a_token_is_never_used_more_often_than_allowed() {
    contract::a_token_is_never_used_more_often_than_allowed(&File::new()).await;
}

#[tokio::test]
async fn the_same_key_gets_the_same_certificate_for_a_while() {
    contract::the_same_key_gets_the_same_certificate_for_a_while(&File::new()).await;
}

#[tokio::test]
async fn events_and_audit_are_kept() {
    contract::events_and_audit_are_kept(&File::new()).await;
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_left_alone() {
    let file = File::new();
    let path = file.directory.path().join("hub.db");
    file.close(file.open().await).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("INSERT INTO schema_version (version) VALUES (99)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(error.to_string().contains("version 99"), "{error}");
}

#[tokio::test]
async fn a_commit_waits_for_another_process_that_writes() {
    let file = File::new();
    let store = file.open().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file.directory.path().join("hub.db"));
    let other = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let held = async {
        // Longer than one try of the store waits.
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        lock.rollback().await.unwrap();
    };
    let (committed, ()) = tokio::join!(store.commit(Vec::new()), held);
    committed.unwrap();
}
