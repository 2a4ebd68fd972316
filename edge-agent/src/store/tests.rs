//! The store against real SQLite files.

use edge_protocol::v1::{Bytes, DeviceEvent, EventLevel, KeyWrap, Reason};
use edge_protocol::{BootId, DesiredSet, DeviceTime, Digest, Incarnation, PodUid, SetGeneration};

use super::*;

fn event(seq: u64) -> DeviceEvent {
    let boot_id = BootId("00000000-0000-4000-8000-000000000001".parse().unwrap());
    DeviceEvent {
        seq,
        at: DeviceTime {
            boot_id,
            mono_ms: seq,
            wall_ms: 0,
            wall_trusted: false,
        },
        uid: PodUid::new("p1").unwrap(),
        container: None,
        level: EventLevel::Normal,
        reason: Reason::Started,
        cause: None,
        message: String::new(),
    }
}

fn wrap(name: &str) -> KeyWrap {
    KeyWrap {
        key: Digest::of(name),
        sealing_key: Digest::of("device"),
        enc: Bytes(vec![1; 32]),
        ciphertext: Bytes(vec![2; 48]),
    }
}

fn write(path: &Path, writes: Vec<Write>) -> Result<TxId, StoreError> {
    let (committed, mut answers) = mpsc::channel(1);
    let (handle, writer) = Store::open(path)?.start(committed);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(async {
        handle.commit(Tx { id: TxId(7), writes }).await?;
        answers
            .recv()
            .await
            .expect("the writer answers every transaction")
    });
    drop(handle);
    writer.join().unwrap();
    answer
}

#[test]
fn what_was_committed_is_restored_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    let items = DesiredSet::default();
    let generation = SetGeneration {
        incarnation: Incarnation(3),
        n: 9,
    };
    let set = TrustedSet {
        generation,
        digest: items.digest(),
        items,
    };
    let (uid, digest) = (PodUid::new("p1").unwrap(), Digest::of("body"));
    write(
        &path,
        vec![
            Write::Set(set.clone()),
            Write::PutBlob {
                digest,
                body: "body".into(),
            },
            Write::PutObject {
                digest,
                key: Some(Digest::of("key")),
                body: "body".into(),
            },
            Write::PutObject {
                digest: Digest::of("another body"),
                key: None,
                body: "rotten".into(),
            },
            Write::PutObject {
                digest: Digest::of("gone"),
                key: None,
                body: "gone".into(),
            },
            Write::PutKey(wrap("kept")),
            Write::PutKey(wrap("dropped")),
            Write::DropKey(wrap("dropped").key),
            Write::DropObject(Digest::of("gone")),
            Write::PutWorkload {
                uid: uid.clone(),
                record: "{}".into(),
            },
            Write::PutEvent(event(1)),
            Write::PutEvent(event(2)),
            Write::PutEvent(event(11)),
            Write::DropEventsUpTo(1),
            Write::PutMeta {
                key: "k".into(),
                value: "v".into(),
            },
        ],
    )
    .unwrap();
    let restored = Store::open(&path).unwrap().restore().unwrap();
    assert_eq!(restored.set, Some(set));
    assert_eq!(restored.blobs, [(digest, "body".to_owned())]);
    assert_eq!(restored.objects, [(digest, Some(Digest::of("key")))]);
    assert_eq!(restored.keys, [wrap("kept")]);
    assert_eq!(restored.workloads, [(uid, "{}".to_owned())]);
    assert_eq!(restored.events, [event(2), event(11)]);
    assert_eq!(restored.meta, [("k".to_owned(), "v".to_owned())]);
}

#[test]
fn a_damaged_file_is_refused_not_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    std::fs::write(
        &path,
        "this is not a database, but it is long enough to be taken for one".repeat(20),
    )
    .unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Open { .. })));
}

#[test]
fn a_file_of_a_newer_agent_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    drop(Store::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Newer { found: 99, .. })
    ));
}

#[test]
fn what_waits_together_is_answered_in_order_and_all_of_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    let (committed, mut answers) = mpsc::channel(QUEUE);
    let (handle, writer) = Store::open(&path).unwrap().start(committed);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ids: Vec<u64> = runtime.block_on(async {
        for id in 1..=40 {
            let writes = vec![Write::PutEvent(event(id))];
            handle.commit(Tx { id: TxId(id), writes }).await.unwrap();
        }
        drop(handle);
        let mut ids = vec![];
        while let Some(answer) = answers.recv().await {
            ids.push(answer.unwrap().0);
        }
        ids
    });
    writer.join().unwrap();
    assert!(ids.iter().copied().eq(1..=40));
    let restored = Store::open(&path).unwrap().restore().unwrap();
    assert_eq!(restored.events.len(), 40);
}

#[test]
fn a_checkpoint_carries_what_is_in_the_log_into_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("agent.db"), dir.path().join("copy.db"));
    let mut store = Store::open(&path).unwrap();
    let writes = vec![Write::PutEvent(event(1))];
    commit(&mut store.connection, &[Tx { id: TxId(1), writes }]).unwrap();
    let events_in_the_file_alone = || {
        std::fs::copy(&path, &copy).unwrap();
        Store::open(&copy).unwrap().restore().unwrap().events.len()
    };
    assert_eq!(events_in_the_file_alone(), 0);
    checkpoint::now(&store.beside);
    assert_eq!(events_in_the_file_alone(), 1);
}
