//! A hub that signs what it says.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use edge_protocol::frame;
use edge_protocol::sealing::{RootSecret, SealingScope};
use edge_protocol::sign::{Signer, TrustedKeys};
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{
    Blob, ContainerSpec, Down, DownFrame, KeyWrap, LinkClass, Manifest, ObjectData, ObjectRef, Operator,
    ReportAck, Statement, StatementBody, StatsAsk, StreamOrder, StreamRequest, Ticket, Tombstone,
    TombstoneReason, Up, UpFrame, WorkloadSpec, WorkloadStatus,
};
use edge_protocol::{
    DeploymentRevision, DesiredSet, DeviceId, Digest, EnrolmentSerial, HubId, Incarnation, ItemState, Lane,
    Nonce, PodUid, SealingSecret, SessionEpoch, SetGeneration, SetItem,
};

pub fn uid(name: &str) -> PodUid {
    PodUid::new(name).unwrap()
}

pub fn container(name: &str, image: &str) -> ContainerSpec {
    ContainerSpec {
        restart_digest: Digest::of(format!("{name} {image}")),
        ..ContainerSpec::new(name, image)
    }
}

pub fn manifest(name: &str, images: &[&str]) -> Manifest {
    Manifest {
        v: 1,
        uid: uid(name),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        workload: WorkloadSpec::new(
            name,
            images
                .iter()
                .enumerate()
                .map(|(n, image)| container(&format!("c{n}"), image))
                .collect(),
        ),
        objects: vec![],
        requires: vec![],
        replaces: vec![],
    }
}

pub struct Hub {
    signer: Signer,
    pub id: HubId,
    pub incarnation: u64,
    pub n: u64,
    pub set: DesiredSet,
    pub blobs: BTreeMap<Digest, String>,
    pub session: u64,
    pub nonce: Option<Nonce>,
    pub seq: u64,
    pub link: LinkClass,
    /// Blobs travel with the statement; otherwise the device must fetch them.
    pub inline: bool,
    pub status_upto: u64,
    pub event_seq: u64,
    /// Whether it is of the time before facts had frames of their own.
    pub is_old: bool,
    pub facts_seq: Option<u64>,
    pub statuses: BTreeMap<PodUid, WorkloadStatus>,
    pub events: Vec<edge_protocol::v1::DeviceEvent>,
    pub heard: Vec<UpFrame>,
    /// By key, for the one device.
    pub wraps: BTreeMap<Digest, KeyWrap>,
}

pub fn keys_frame(wraps: Vec<KeyWrap>) -> Vec<u8> {
    frame::encode(&DownFrame {
        v: 1,
        body: Down::Keys { wraps },
    })
    .unwrap()
}

impl Hub {
    pub fn keys(&self) -> TrustedKeys {
        TrustedKeys::from_iter([self.signer.verifying_key()])
    }

    pub fn new() -> Self {
        Self {
            signer: Signer::new(SigningKey::from_bytes(&[7; 32])),
            id: HubId(uuid::Uuid::from_u128(1)),
            incarnation: 1,
            n: 0,
            set: DesiredSet::default(),
            blobs: BTreeMap::new(),
            session: 0,
            nonce: None,
            seq: 0,
            link: LinkClass::Lan,
            inline: true,
            status_upto: 0,
            event_seq: 0,
            is_old: false,
            facts_seq: None,
            statuses: BTreeMap::new(),
            events: vec![],
            heard: vec![],
            wraps: BTreeMap::new(),
        }
    }

    fn blob(&mut self, body: String) -> Digest {
        let digest = Digest::of(&body);
        self.blobs.insert(digest, body);
        digest
    }

    /// As the hub does: every edit of an item, tombstones included, is a version above the item it replaces.
    fn put(&mut self, uid: &PodUid, state: ItemState, digest: Digest) {
        let revision = DeploymentRevision(self.set.get(uid).map_or(1, |item| item.revision.0 + 1));
        self.put_at(uid, state, revision, digest);
    }

    fn put_at(&mut self, uid: &PodUid, state: ItemState, revision: DeploymentRevision, digest: Digest) {
        self.set.put(SetItem {
            uid: uid.clone(),
            state,
            revision,
            digest,
        });
        self.n += 1;
    }

    /// A tombstone in a version of one's choice, such as one that an older hub gives.
    pub fn stop_at(&mut self, uid: &PodUid, revision: u64) {
        let digest = self.tombstone(uid, None);
        self.put_at(uid, ItemState::Stop, DeploymentRevision(revision), digest);
    }

    pub fn run(&mut self, manifest: &Manifest) {
        let digest = self.blob(serde_json::to_string(manifest).unwrap());
        self.put(&manifest.uid.clone(), ItemState::Run, digest);
    }

    pub fn release(&mut self, uid: &PodUid) {
        let digest = self.set.get(uid).unwrap().digest;
        self.put(uid, ItemState::Orphan, digest);
    }

    pub fn stop(&mut self, uid: &PodUid, grace_period_s: Option<u32>) {
        let digest = self.tombstone(uid, grace_period_s);
        self.put(uid, ItemState::Stop, digest);
    }

    fn tombstone(&mut self, uid: &PodUid, grace_period_s: Option<u32>) -> Digest {
        let tombstone = Tombstone {
            v: 1,
            uid: uid.clone(),
            grace_period_s,
            reason: TombstoneReason::Deleted,
        };
        self.blob(serde_json::to_string(&tombstone).unwrap())
    }

    pub fn forget(&mut self, uid: &PodUid) {
        self.set.forget(uid);
        self.n += 1;
    }

    pub fn generation(&self) -> SetGeneration {
        SetGeneration {
            incarnation: Incarnation(self.incarnation),
            n: self.n,
        }
    }

    /// The next statement of the present session, as this hub would sign it.
    pub fn statement(&mut self, body: StatementBody) -> Statement {
        self.seq += 1;
        Statement {
            v: 1,
            hub: self.id,
            incarnation: Incarnation(self.incarnation),
            device: DeviceId::new("press-7").unwrap(),
            enrolment: EnrolmentSerial::new("ab12").unwrap(),
            nonce: self.nonce.clone().unwrap_or_else(|| Nonce::from_bytes([0; 16])),
            session: SessionEpoch(self.session),
            seq: self.seq,
            request: None,
            issued_ms: 1_700_000_000_000,
            link: self.link,
            generation: self.generation(),
            set_digest: self.set.digest(),
            status_upto: self.status_upto,
            event_seq: self.event_seq,
            body,
        }
    }

    pub fn seal(&self, statement: &Statement, blobs: Vec<Blob>) -> Vec<u8> {
        let envelope = self.signer.seal_statement(statement);
        frame::encode(&DownFrame {
            v: 1,
            body: Down::Statement { envelope, blobs },
        })
        .unwrap()
    }

    /// An order of the present session, as this hub would sign it.
    pub fn order(&self, ticket: u8, request: StreamRequest) -> StreamOrder {
        StreamOrder {
            v: 1,
            hub: self.id,
            device: DeviceId::new("press-7").unwrap(),
            enrolment: EnrolmentSerial::new("ab12").unwrap(),
            nonce: self.nonce.clone().unwrap_or_else(|| Nonce::from_bytes([0; 16])),
            session: SessionEpoch(self.session),
            ticket: Ticket::from_bytes([ticket; 32]),
            operator: Operator {
                principal: "kubelet".to_owned(),
                user: Some("ada".to_owned()),
            },
            request,
        }
    }

    pub fn seal_order(&self, order: &StreamOrder) -> Vec<u8> {
        let envelope = self.signer.seal_stream_order(order);
        frame::encode(&DownFrame {
            v: 1,
            body: Down::Stream { envelope },
        })
        .unwrap()
    }

    /// Asks for figures in the present session.
    pub fn ask_stats(&self, interval_ms: u64, for_ms: u64) -> StatsAsk {
        StatsAsk {
            nonce: self.nonce.clone().unwrap_or_else(|| Nonce::from_bytes([0; 16])),
            session: SessionEpoch(self.session),
            interval_ms,
            for_ms,
        }
    }

    /// The whole set, in parts.
    pub fn snapshot(&mut self, parts: usize) -> Vec<Vec<u8>> {
        let items: Vec<SetItem> = self.set.iter().cloned().collect();
        let size = items.len().div_ceil(parts).max(1);
        let chunks: Vec<Vec<SetItem>> = if items.is_empty() {
            vec![vec![]]
        } else {
            items.chunks(size).map(<[_]>::to_vec).collect()
        };
        let of = u32::try_from(chunks.len()).unwrap();
        let mut frames = vec![];
        for (part, items) in (0..).zip(chunks) {
            let blobs = if self.inline {
                self.blobs_of(&items)
            } else {
                vec![]
            };
            let statement = self.statement(StatementBody::Snapshot { part, of, items });
            frames.push(self.seal(&statement, blobs));
        }
        frames
    }

    pub fn blobs_of(&self, items: &[SetItem]) -> Vec<Blob> {
        let blob = |digest: Digest| Blob {
            digest,
            body: self.blobs[&digest].clone(),
        };
        let with_objects = |item: &SetItem| {
            let objects = objects(&self.blobs[&item.digest]);
            objects
                .into_iter()
                .chain([item.digest])
                .map(blob)
                .collect::<Vec<_>>()
        };
        items.iter().flat_map(with_objects).collect()
    }

    /// A secret of one value, sealed; and its key for the device of this secret.
    pub fn secret(&mut self, name: &str, value: &str, device: &SealingSecret) -> (ObjectRef, KeyWrap) {
        let root = RootSecret::from_bytes([9; 32]);
        let scope = SealingScope {
            cluster: "cluster".to_owned(),
            namespace: "default".to_owned(),
        };
        let data = ObjectData {
            v: 1,
            kind: kind::SECRET.to_owned(),
            name: name.to_owned(),
            text: BTreeMap::from([("key".to_owned(), value.to_owned())]),
            binary: BTreeMap::new(),
        };
        let sealed = root.seal(&scope, &data);
        let reference = ObjectRef {
            digest: self.blob(sealed.body),
            kind: data.kind,
            name: data.name,
            sealed: true,
        };
        (reference, root.wrap(&sealed.key, &device.public()))
    }

    /// A config map of one value, here to be given out.
    pub fn config_map(&mut self, name: &str, value: &str) -> ObjectRef {
        let data = ObjectData {
            v: 1,
            kind: kind::CONFIG_MAP.to_owned(),
            name: name.to_owned(),
            text: BTreeMap::from([("key".to_owned(), value.to_owned())]),
            binary: BTreeMap::new(),
        };
        ObjectRef {
            digest: self.blob(serde_json::to_string(&data).unwrap()),
            kind: data.kind,
            name: data.name,
            sealed: false,
        }
    }

    pub fn hear(&mut self, frame: &UpFrame) -> Vec<(Lane, Vec<u8>)> {
        self.heard.push(frame.clone());
        match &frame.body {
            Up::Hello(hello) => {
                self.session += 1;
                self.seq = 0;
                self.nonce = Some(hello.nonce.clone());
                return self
                    .snapshot(2)
                    .into_iter()
                    .map(|bytes| (Lane::Desired, bytes))
                    .collect();
            }
            _ if frame.session != Some(SessionEpoch(self.session)) => return vec![],
            Up::Status(report) => {
                if report.complete {
                    self.statuses.clear();
                }
                for status in &report.workloads {
                    self.statuses.insert(status.uid.clone(), status.clone());
                }
                self.status_upto = self.status_upto.max(report.upto);
            }
            Up::Events(report) => {
                for event in &report.events {
                    if event.seq > self.event_seq {
                        self.event_seq = event.seq;
                        self.events.push(event.clone());
                    }
                }
            }
            Up::Heartbeat => {}
            Up::Facts { .. } if self.is_old => return vec![],
            Up::Facts { .. } => self.facts_seq = Some(frame.seq),
            Up::WantKeys { keys } => {
                let wraps = keys.iter().filter_map(|key| self.wraps.get(key).cloned());
                return vec![(Lane::Command, keys_frame(wraps.collect()))];
            }
            _ => return vec![],
        }
        let ack = ReportAck {
            nonce: self.nonce.clone().unwrap_or_else(|| Nonce::from_bytes([0; 16])),
            session: SessionEpoch(self.session),
            status_upto: self.status_upto,
            event_seq: self.event_seq,
            facts_seq: self.facts_seq,
        };
        vec![(
            Lane::Command,
            frame::encode(&DownFrame {
                v: 1,
                body: Down::Ack(ack),
            })
            .unwrap(),
        )]
    }
}

/// The objects that a blob names, if it is a manifest.
pub fn objects(body: &str) -> Vec<Digest> {
    let manifest = serde_json::from_str::<Manifest>(body).ok();
    let objects = manifest.map_or(Vec::new(), |manifest| manifest.objects);
    objects.into_iter().map(|object| object.digest).collect()
}
