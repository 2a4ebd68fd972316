//! A workload with objects, for the tests of what is made from them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edge_protocol::Digest;
use edge_protocol::sealing::{RootSecret, SealingScope};
use edge_protocol::v1::object::{Bytes, kind};
use edge_protocol::v1::{ContainerSpec, Manifest, ObjectData, ObjectRef, VERSION, WorkloadSpec};

use edge_protocol::v1::Amounts;

use super::sources::Sources;
use crate::objects::Objects;

pub const HOST_IPS: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))];
/// In the runtime's order.
pub const POD_IPS: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5)),
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5)),
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 6)),
];
pub const CAPACITY: Amounts = Amounts {
    cpu_milli: 4000,
    memory_bytes: 8 << 30,
    ephemeral_storage_bytes: 100 << 30,
};

pub struct Fixture {
    pub manifest: Manifest,
    pub objects: Objects,
}

impl Fixture {
    /// A workload `web` with these containers, the config map `settings` and the secret `keys`.
    pub fn new(containers: Vec<ContainerSpec>) -> Self {
        let mut this = Self {
            manifest: Manifest {
                v: VERSION,
                uid: "uid-web".parse().unwrap(),
                namespace: "shop".into(),
                name: "web".into(),
                labels: pairs(&[("app", "web"), ("tier", "front")]),
                annotations: pairs(&[("note", "say \"hi\"\n\u{1}")]),
                workload: WorkloadSpec::new("web", containers),
                objects: Vec::new(),
                requires: Vec::new(),
                replaces: Vec::new(),
            },
            objects: Objects::default(),
        };
        let text = [("COLOUR", "blue"), ("log.level", "debug")];
        this.put(kind::CONFIG_MAP, "settings", &text, &[("logo", &[0xff, 0])]);
        this.put(
            kind::SECRET,
            "keys",
            &[("password", "hunter2")],
            &[("raw", &[0xff])],
        );
        this
    }

    pub fn put(&mut self, kind: &str, name: &str, text: &[(&str, &str)], binary: &[(&str, &[u8])]) {
        let data = ObjectData {
            v: VERSION,
            kind: kind.to_owned(),
            name: name.to_owned(),
            text: pairs(text),
            binary: binary
                .iter()
                .map(|(key, value)| (key.to_string(), Bytes(value.to_vec())))
                .collect(),
        };
        let body = serde_json::to_string(&data).unwrap();
        let digest = Digest::of(&body);
        self.objects.put(digest, body);
        self.manifest
            .objects
            .retain(|object| (object.kind.as_str(), object.name.as_str()) != (kind, name));
        self.manifest.objects.push(ObjectRef {
            kind: kind.to_owned(),
            name: name.to_owned(),
            digest,
            sealed: false,
        });
    }

    /// Seals what was put, and no key for it comes.
    pub fn seal(&mut self, kind: &str, name: &str) {
        let mut objects = self.manifest.objects.iter_mut();
        let object = objects.find(|object| (object.kind.as_str(), object.name.as_str()) == (kind, name));
        let object = object.unwrap();
        let scope = SealingScope {
            cluster: "cluster-1".to_owned(),
            namespace: self.manifest.namespace.clone(),
        };
        let data = self.objects.open(object).unwrap();
        let body = RootSecret::from_bytes([9; 32]).seal(&scope, &data).body;
        object.digest = Digest::of(&body);
        object.sealed = true;
        self.objects.put(object.digest, body);
    }

    pub fn sources(&self) -> Sources<'_> {
        Sources {
            manifest: &self.manifest,
            objects: &self.objects,
            pod_ips: &POD_IPS,
            host_ips: &HOST_IPS,
            capacity: CAPACITY,
        }
    }
}

pub fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}
