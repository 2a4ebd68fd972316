//! The manifests that the hub has: each is read once, however often the status of its deployment changes.

use std::collections::BTreeMap;

use edge_protocol::PodUid;
use edge_protocol::v1::Manifest;

/// What was read, by pod, beside the text that it was read from.
#[derive(Debug, Default)]
pub(super) struct Manifests(BTreeMap<PodUid, (String, Manifest)>);

impl Manifests {
    pub(super) fn get(&self, uid: &PodUid) -> Option<&Manifest> {
        self.0.get(uid).map(|(_, manifest)| manifest)
    }

    /// Reads a text that is not the known one. What cannot be read is logged, and what was known before stays.
    pub(super) fn learn(&mut self, uid: &PodUid, text: &str) {
        if self.0.get(uid).is_some_and(|(known, _)| known == text) {
            return;
        }
        match serde_json::from_str(text) {
            Ok(manifest) => {
                self.0.insert(uid.clone(), (text.to_owned(), manifest));
            }
            Err(error) => {
                tracing::warn!(%uid, %error, "the hub holds a manifest that cannot be read");
            }
        }
    }

    pub(super) fn forget(&mut self, uid: &PodUid) {
        self.0.remove(uid);
    }

    /// Only these are left.
    pub(super) fn retain(&mut self, keep: impl Fn(&PodUid) -> bool) {
        self.0.retain(|uid, _| keep(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        serde_json::json!({
            "v": 1, "uid": "u", "namespace": "shop", "name": name,
            "workload": {
                "hostname": name, "restart_policy": "Always", "termination_grace_period_s": 5, "qos": "BestEffort",
                "containers": [],
            },
        })
        .to_string()
    }

    #[test]
    fn a_manifest_that_changed_is_read_again_and_one_that_is_none_changes_nothing() {
        let uid = PodUid::new("u").unwrap();
        let mut manifests = Manifests::default();
        for (told, known) in [("a", "a"), ("a", "a"), ("b", "b")] {
            manifests.learn(&uid, &text(told));
            assert_eq!(manifests.get(&uid).unwrap().name, known);
        }
        manifests.learn(&uid, "{");
        assert_eq!(manifests.get(&uid).unwrap().name, "b");
        manifests.retain(|_| false);
        assert_eq!(manifests.get(&uid), None);
    }
}
