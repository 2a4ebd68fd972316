//! Documents for tests, small and valid.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use edge_protocol::sign::Signer;
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{
    Blob, Bytes, ContainerSpec, DeploymentSpec, LinkClass, Manifest, ObjectData, ObjectRef, ReadyPolicy,
    RestartPolicy, SealedObject, Source, TargetSpec, TombstoneReason, WorkloadSpec,
};
use edge_protocol::{DeviceId, Digest, EnrolmentSerial, HubId, PodUid, SealingKey};
use iot_hub_core::{Call, Enrolment, HubConfig};

pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub fn pod(name: &str) -> PodUid {
    PodUid::new(name).unwrap()
}

pub fn hub_id() -> HubId {
    HubId(uuid::Uuid::from_u128(1))
}

pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub fn config() -> HubConfig {
    HubConfig::new(hub_id(), Signer::new(key()))
}

pub fn serial(number: u8) -> EnrolmentSerial {
    EnrolmentSerial::new(format!("{number:02x}")).unwrap()
}

pub fn tag_map(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    tags.iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A sealing key for each number.
pub fn sealing_key(number: u8) -> SealingKey {
    SealingKey::new([number; 32]).unwrap()
}

/// The device's enrolment of this number, which follows the one before.
pub fn enrolment(number: u8, tags: &[(&str, &str)]) -> Enrolment {
    Enrolment {
        serial: serial(number),
        expected_previous: (number > 1).then(|| serial(number - 1)),
        sealing_key: sealing_key(number),
        group: "plant".to_owned(),
        tags: tag_map(tags),
        link: LinkClass::default(),
    }
}

pub fn enrol_call(name: &str, tags: &[(&str, &str)]) -> Call {
    enrol_again(name, enrolment(1, tags))
}

pub fn enrol_again(name: &str, enrolment: Enrolment) -> Call {
    Call::EnrolDevice {
        device: device(name),
        enrolment: Box::new(enrolment),
    }
}

/// A deployment as tests vary it.
#[derive(Clone)]
pub struct Wanted {
    pub spec: DeploymentSpec,
    pub manifest: Manifest,
    /// Those that come along with a put.
    pub objects: Vec<Blob>,
}

/// One container, restart policy Always, for all devices in scope of `condition`.
pub fn wanted(uid: &str, condition: &str) -> Wanted {
    let container = ContainerSpec::new("main", "app:1");
    Wanted {
        manifest: Manifest {
            v: 1,
            uid: pod(uid),
            namespace: "default".to_owned(),
            name: uid.to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            workload: WorkloadSpec::new(uid, vec![container]),
            objects: Vec::new(),
            requires: Vec::new(),
            replaces: Vec::new(),
        },
        spec: DeploymentSpec {
            uid: pod(uid),
            source: Source {
                cluster_uid: "cluster".to_owned(),
                node: "outrigger".to_owned(),
            },
            node_uid: None,
            namespace: "default".to_owned(),
            name: uid.to_owned(),
            owner: None,
            target: TargetSpec {
                condition: condition.to_owned(),
                scope: "*".to_owned(),
            },
            ready_policy: ReadyPolicy::All,
            manifest: String::new(),
        },
        objects: Vec::new(),
    }
}

/// An object of one text, in clear or (only in form) sealed.
pub fn object(kind: &str, name: &str, text: &str) -> (ObjectRef, Blob) {
    let sealed = kind::is_secret(kind);
    let (kind, name) = (kind.to_owned(), name.to_owned());
    let blob = Blob::new(if sealed {
        let sealed = SealedObject {
            v: 1,
            kind: kind.clone(),
            name: name.clone(),
            key: Digest::of(text),
            nonce: Bytes(vec![0; 12]),
            ciphertext: Bytes(text.into()),
        };
        serde_json::to_string(&sealed).unwrap()
    } else {
        let data = ObjectData {
            v: 1,
            kind: kind.clone(),
            name: name.clone(),
            text: BTreeMap::from([("key".to_owned(), text.to_owned())]),
            binary: BTreeMap::new(),
        };
        serde_json::to_string(&data).unwrap()
    });
    let digest = blob.digest;
    let reference = ObjectRef {
        kind,
        name,
        digest,
        sealed,
    };
    (reference, blob)
}

impl Wanted {
    pub fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.manifest.workload.containers[0].image);
        self
    }

    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.manifest.workload.restart_policy = policy;
        self
    }

    pub fn replaces(mut self, uid: &str) -> Self {
        self.manifest.replaces.push(pod(uid));
        self
    }

    pub fn label(mut self, key: &str, value: String) -> Self {
        self.manifest.labels.insert(key.to_owned(), value);
        self
    }

    pub fn object(self, kind: &str, name: &str, text: &str) -> Self {
        self.with(object(kind, name, text))
    }

    pub fn with(mut self, (reference, blob): (ObjectRef, Blob)) -> Self {
        self.manifest.objects.push(reference);
        self.objects.push(blob);
        self
    }

    pub fn spec(mut self) -> DeploymentSpec {
        self.spec.manifest = serde_json::to_string(&self.manifest).unwrap();
        self.spec
    }

    pub fn put(self) -> Call {
        Call::PutDeployment {
            objects: self.objects.clone(),
            spec: Box::new(self.spec()),
        }
    }
}

pub fn delete(uid: &PodUid, grace_period_s: Option<u32>) -> Call {
    Call::DeleteDeployment {
        uid: uid.clone(),
        source_node: Some("outrigger".to_owned()),
        grace_period_s,
        reason: TombstoneReason::Deleted,
    }
}

pub fn release(uid: &PodUid) -> Call {
    Call::ReleaseDeployment { uid: uid.clone() }
}
