//! Reading what the store held. What cannot be read is named and left out: it is kept in the runtime and asked for again.

use std::collections::BTreeMap;

use edge_protocol::{Digest, PodUid};

use crate::record::Record;
use crate::transition::Doc;
use crate::workload::{Durability, Workload};

pub(crate) fn read_meta<T: serde::de::DeserializeOwned>(
    meta: &BTreeMap<String, String>,
    key: &str,
    damage: &mut Vec<String>,
) -> Option<T> {
    match serde_json::from_str(meta.get(key)?) {
        Ok(value) => Some(value),
        Err(error) => {
            damage.push(format!("{key}: {error}"));
            None
        }
    }
}

pub(crate) fn read_blobs(blobs: Vec<(Digest, String)>, damage: &mut Vec<String>) -> BTreeMap<Digest, Doc> {
    let sound = |(digest, body): &(Digest, String)| {
        let sound = Digest::of(body) == *digest;
        if !sound {
            damage.push(format!("blob {digest} is not what its name says"));
        }
        sound
    };
    blobs
        .into_iter()
        .filter(sound)
        .map(|(digest, body)| (digest, Doc::parse(&body)))
        .collect()
}

pub(crate) fn read_records(
    records: Vec<(PodUid, String)>,
    damage: &mut Vec<String>,
) -> BTreeMap<PodUid, Workload> {
    let mut workloads = BTreeMap::new();
    for (uid, text) in records {
        let record: Record = match serde_json::from_str(&text) {
            Ok(record) => record,
            Err(error) => {
                damage.push(format!("record of {uid}: {error}"));
                continue;
            }
        };
        workloads.insert(
            uid,
            Workload {
                record,
                disk: Durability {
                    stored: true,
                    ..Durability::default()
                },
                ..Workload::default()
            },
        );
    }
    workloads
}
