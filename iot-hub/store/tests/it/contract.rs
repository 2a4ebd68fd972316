//! What every store must do, told once.

use std::collections::BTreeMap;

use edge_protocol::sign::Envelope;
use edge_protocol::v1::{
    Bytes, DeploymentSpec, DeploymentState, DeviceEvent, EventLevel, Facts, KeyWrap, LinkClass, ReadyPolicy,
    Reason, Source, TargetSpec,
};
use edge_protocol::{
    BootId, DeploymentRevision, DesiredSet, DeviceId, DeviceTime, Digest, EnrolmentSerial, Incarnation,
    PodUid, SealingKey, SessionEpoch, SetGeneration, TxId,
};
use iot_hub_core::{
    AssignmentRecord, Change, DeploymentRecord, DeviceRecord, DeviceState, SetRecord, Tx, Write,
};
use iot_hub_store::secret::SecretHash;
use iot_hub_store::{
    AuditRecord, Claim, Claimed, EnrolmentRecord, EnrolmentTokenRecord, EventQuery, HubStore, Job, LogPage,
};

/// A store's durable memory, which outlives any opening of it.
pub trait Opener {
    type Store: HubStore;
    async fn open(&self) -> Self::Store;
    async fn close(&self, store: Self::Store);
}

fn device(id: &str) -> DeviceId {
    DeviceId::new(id).unwrap()
}

fn uid(text: &str) -> PodUid {
    PodUid::new(text).unwrap()
}

fn device_record(id: &str) -> DeviceRecord {
    DeviceRecord {
        id: device(id),
        enrolment: EnrolmentSerial::new("0a1b").unwrap(),
        sealing_key: SealingKey::new([1; 32]).unwrap(),
        group: "line-1".into(),
        tags: BTreeMap::from([("site".into(), "graz".into())]),
        link: LinkClass::Cellular,
        state: DeviceState::Active,
        facts: Facts {
            hostname: "h".into(),
            cpu_milli: 4000,
            ..Facts::default()
        },
        agent_version: "0.1.0".into(),
        features: vec!["a".into()],
        last_seen_ms: Some(12),
        last_session: SessionEpoch(3),
        status_upto: 4,
        event_seq: 5,
        offline: true,
    }
}

fn deployment_record(text: &str) -> DeploymentRecord {
    DeploymentRecord {
        spec: DeploymentSpec {
            uid: uid(text),
            source: Source {
                cluster_uid: "c".into(),
                node: "outrigger".into(),
            },
            node_uid: None,
            namespace: "default".into(),
            name: "web".into(),
            owner: None,
            target: TargetSpec {
                condition: "*".into(),
                scope: "*".into(),
            },
            ready_policy: ReadyPolicy::Percent(50),
            manifest: "{}".into(),
        },
        manifest: Digest::of("{}"),
        revision: DeploymentRevision(2),
        state: DeploymentState::Deleting {
            since_ms: 9,
            grace_period_s: Some(0),
        },
        asked: Incarnation(1),
        created_ms: 1,
        ended: None,
    }
}

fn key_wrap(device: &str, key: &str) -> KeyWrap {
    KeyWrap {
        key: Digest::of(key),
        sealing_key: Digest::of(device),
        enc: Bytes(vec![1; 32]),
        ciphertext: Bytes(vec![2; 48]),
    }
}

fn job(n: u64, writes: Vec<Write>, changes: Vec<Change>) -> Job {
    Job {
        tx: Tx {
            id: TxId(n),
            writes,
            changes,
        },
        at_ms: 1000,
        cause: None,
    }
}

fn changed(id: &str) -> Change {
    Change::Device { device: device(id) }
}

pub async fn what_was_committed_is_loaded_again(opener: &impl Opener) {
    let store = opener.open().await;
    let generation = SetGeneration {
        incarnation: Incarnation(7),
        n: 1,
    };
    let set = SetRecord {
        generation,
        items: DesiredSet::default(),
        acknowledged: Some((generation, DesiredSet::default())),
    };
    let assignment = AssignmentRecord {
        uid: uid("u1"),
        device: device("d1"),
        since_ms: 1,
        status: None,
        counted: true,
        superseded: false,
        waiting: false,
    };
    let writes = vec![
        Write::Incarnation(Incarnation(7)),
        Write::PutDevice(Box::new(device_record("d1"))),
        Write::PutDevice(Box::new(device_record("d2"))),
        Write::PutDeployment(Box::new(deployment_record("u1"))),
        Write::PutDeployment(Box::new(deployment_record("u2"))),
        Write::PutDeviceSet {
            device: device("d1"),
            set: Box::new(set.clone()),
        },
        Write::PutAssignment(Box::new(assignment.clone())),
        Write::PutAssignment(Box::new(AssignmentRecord {
            device: device("d2"),
            ..assignment.clone()
        })),
        Write::PutBlob {
            digest: Digest::of("{}"),
            body: "{}".into(),
        },
        Write::PutBlob {
            digest: Digest::of("x"),
            body: "x".into(),
        },
        Write::PutKeyWrap(Box::new(key_wrap("one", "k1"))),
        Write::PutKeyWrap(Box::new(key_wrap("two", "k1"))),
        Write::PutKeyWrap(Box::new(key_wrap("one", "k2"))),
    ];
    let drops = vec![
        Write::DropDeployment(uid("u2")),
        Write::DropAssignment {
            uid: uid("u1"),
            device: device("d2"),
        },
        Write::DropBlob(Digest::of("x")),
        Write::DropKeyWrap {
            key: Digest::of("k1"),
            sealing_key: Digest::of("two"),
        },
        Write::PutDevice(Box::new(DeviceRecord {
            status_upto: 9,
            ..device_record("d1")
        })),
    ];
    store
        .commit(vec![job(1, writes, vec![]), job(2, drops, vec![])])
        .await
        .unwrap();
    opener.close(store).await;

    let store = opener.open().await;
    let restored = store.load().await.unwrap();
    assert_eq!(restored.incarnation, Some(Incarnation(7)));
    assert_eq!(
        restored.devices,
        [
            DeviceRecord {
                status_upto: 9,
                ..device_record("d1")
            },
            device_record("d2")
        ]
    );
    assert_eq!(restored.deployments, [deployment_record("u1")]);
    assert_eq!(restored.sets, [(device("d1"), set)]);
    assert_eq!(restored.assignments, [assignment]);
    let mut kept = restored.key_wraps;
    kept.sort_by_key(|wrap| wrap.key != Digest::of("k1"));
    assert_eq!(kept, [key_wrap("one", "k1"), key_wrap("one", "k2")]);
    assert_eq!(restored.blobs, [(Digest::of("{}"), "{}".to_owned())]);
}

pub async fn a_batch_is_all_or_nothing(opener: &impl Opener) {
    let store = opener.open().await;
    let good = job(
        1,
        vec![Write::PutDevice(Box::new(device_record("d1")))],
        vec![changed("d1")],
    );
    let bad = job(2, vec![Write::Incarnation(Incarnation(u64::MAX))], vec![]);
    store.commit(vec![good.clone(), bad]).await.unwrap_err();
    assert!(store.load().await.unwrap().devices.is_empty());
    assert_eq!(store.head().await.unwrap(), 0);
    // The writer is not left inside the failed transaction.
    store.commit(vec![good]).await.unwrap();
    assert_eq!(store.head().await.unwrap(), 1);
}

pub async fn the_log_rises_and_says_when_it_forgot(opener: &impl Opener) {
    let store = opener.open().await;
    assert_eq!(store.log_after(0, 10).await.unwrap(), LogPage::Entries(vec![]));
    let entries = store
        .commit(vec![
            job(1, vec![], vec![changed("a"), changed("b")]),
            job(2, vec![], vec![changed("c")]),
        ])
        .await
        .unwrap();
    let revisions: Vec<Vec<u64>> = entries
        .iter()
        .map(|job| job.iter().map(|entry| entry.revision).collect())
        .collect();
    assert_eq!(revisions, [vec![1, 2], vec![3]]);
    let LogPage::Entries(page) = store.log_after(1, 1).await.unwrap() else {
        panic!("revision 1 is known")
    };
    assert_eq!(page, entries[0][1..]);
    assert_eq!(store.log_after(4, 10).await.unwrap(), LogPage::Unknown);

    store.compact(1, 10).await.unwrap();
    assert_eq!(store.log_after(1, 10).await.unwrap(), LogPage::Unknown);
    assert_eq!(
        store.log_after(2, 10).await.unwrap(),
        LogPage::Entries(entries[1].clone())
    );
    store.compact(0, 10).await.unwrap();
    opener.close(store).await;

    let store = opener.open().await;
    assert_eq!(store.head().await.unwrap(), 3);
    assert_eq!(store.log_after(2, 10).await.unwrap(), LogPage::Unknown);
    let entries = store
        .commit(vec![job(3, vec![], vec![changed("d")])])
        .await
        .unwrap();
    assert_eq!(entries[0][0].revision, 4);
}

fn token(uses: u32) -> EnrolmentTokenRecord {
    EnrolmentTokenRecord {
        id: "t".into(),
        hash: SecretHash::of("secret"),
        group: "g".into(),
        tags: BTreeMap::from([("a".into(), "b".into())]),
        link: LinkClass::Satellite,
        uses,
        used: 0,
        expires_ms: 1000,
        device: Some(device("fixed")),
    }
}

fn claim(key: &str, now_ms: i64) -> Claim {
    let enrolment = EnrolmentRecord {
        token: "t".into(),
        key_fingerprint: key.into(),
        device: device("d"),
        serial: EnrolmentSerial::new("0a").unwrap(),
        certificate_chain: format!("chain of {key} at {now_ms}"),
        sealing_key: SealingKey::new([1; 32]).unwrap(),
        sealing_proof: Envelope {
            payload_type: "proof".into(),
            payload: key.into(),
            signatures: Vec::new(),
        },
        previous: (key == "k").then(|| EnrolmentSerial::new("09").unwrap()),
        at_ms: now_ms,
    };
    Claim {
        enrolment,
        now_ms,
        repeat_within_ms: 100,
    }
}

pub async fn a_token_is_never_used_more_often_than_allowed(opener: &impl Opener) {
    let store = opener.open().await;
    store.put_enrolment_token(&token(2)).await.unwrap();
    assert_eq!(store.enrolment_token("t").await.unwrap(), Some(token(2)));
    let claims = ["a", "b", "c", "d"].map(|key| {
        let store = store.clone();
        tokio::spawn(async move { store.claim(&claim(key, 1)).await.unwrap() })
    });
    let mut taken = 0;
    for task in claims {
        match task.await.unwrap() {
            Claimed::New => taken += 1,
            Claimed::Refused => {}
            Claimed::Again(record) => panic!("no key was used twice: {record:?}"),
        }
    }
    assert_eq!(taken, 2);
    assert_eq!(store.enrolment_tokens().await.unwrap()[0].used, 2);
    let late = Claim {
        now_ms: 1001,
        ..claim("late", 1001)
    };
    assert_eq!(store.claim(&late).await.unwrap(), Claimed::Refused);
    assert!(store.drop_enrolment_token("t").await.unwrap());
    assert!(!store.drop_enrolment_token("t").await.unwrap());
}

pub async fn the_same_key_gets_the_same_certificate_for_a_while(opener: &impl Opener) {
    let store = opener.open().await;
    store.put_enrolment_token(&token(1)).await.unwrap();
    let first = claim("k", 10);
    assert_eq!(store.claim(&first).await.unwrap(), Claimed::New);
    opener.close(store).await;

    let store = opener.open().await;
    assert_eq!(
        store.claim(&claim("k", 109)).await.unwrap(),
        Claimed::Again(Box::new(first.enrolment.clone()))
    );
    assert_eq!(store.claim(&claim("k", 110)).await.unwrap(), Claimed::Refused);
    assert_eq!(store.claim(&claim("other", 11)).await.unwrap(), Claimed::Refused);
    assert_eq!(store.enrolment("t", "k").await.unwrap(), Some(first.enrolment));
    store.unclaim("t", "k").await.unwrap();
    store.unclaim("t", "k").await.unwrap();
    assert_eq!(store.claim(&claim("other", 11)).await.unwrap(), Claimed::New);
}

fn event(seq: u64, of: &str) -> DeviceEvent {
    let boot_id = BootId(serde_json::from_str("\"00000000-0000-0000-0000-000000000001\"").unwrap());
    DeviceEvent {
        seq,
        at: DeviceTime {
            boot_id,
            mono_ms: seq,
            wall_ms: i64::try_from(seq).unwrap(),
            wall_trusted: true,
        },
        uid: uid(of),
        container: None,
        level: EventLevel::Normal,
        reason: Reason::Pulled,
        cause: None,
        message: String::new(),
    }
}

pub async fn events_and_audit_are_kept(opener: &impl Opener) {
    let store = opener.open().await;
    let put = |id: &str, event: DeviceEvent| Write::PutEvent {
        device: device(id),
        event,
    };
    let cause = AuditRecord {
        id: 0,
        at_ms: 5,
        principal: "p".into(),
        action: "set-tags".into(),
        subject: "d1".into(),
    };
    let mut first = job(
        1,
        vec![
            put("d1", event(1, "u")),
            put("d1", event(2, "v")),
            put("d2", event(1, "u")),
            put("d1", event(2, "v")),
        ],
        vec![],
    );
    first.cause = Some(cause.clone());
    store.commit(vec![first]).await.unwrap();
    store
        .put_audit(&AuditRecord {
            action: "set-link".into(),
            ..cause.clone()
        })
        .await
        .unwrap();

    let all = EventQuery {
        limit: 10,
        ..EventQuery::default()
    };
    assert_eq!(store.events(&all).await.unwrap().len(), 3);
    let of_u = store
        .events(&EventQuery {
            uid: Some(uid("u")),
            ..all.clone()
        })
        .await
        .unwrap();
    assert_eq!(
        of_u,
        [(device("d1"), event(1, "u")), (device("d2"), event(1, "u"))]
    );
    let newest_of = |ids: &[&str]| EventQuery {
        devices: Some(ids.iter().copied().map(device).collect()),
        limit: 1,
        uid: None,
    };
    let d1 = store.events(&newest_of(&["d1"])).await.unwrap();
    assert_eq!(d1, [(device("d1"), event(2, "v"))]);
    // Those of others do not use up the limit.
    let d2 = store.events(&newest_of(&["d0", "d2"])).await.unwrap();
    assert_eq!(d2, [(device("d2"), event(1, "u"))]);
    assert!(store.events(&newest_of(&[])).await.unwrap().is_empty());
    assert_eq!(store.event(&device("d1"), 2).await.unwrap(), Some(event(2, "v")));
    store.compact(10, 1).await.unwrap();
    assert_eq!(store.event(&device("d1"), 1).await.unwrap(), None);
    assert_eq!(store.events(&all).await.unwrap().len(), 2);

    let audit = store.audit(10).await.unwrap();
    assert_eq!(
        audit[1],
        AuditRecord {
            id: 1,
            ..cause.clone()
        }
    );
    assert_eq!(audit[0].action, "set-link");
}
