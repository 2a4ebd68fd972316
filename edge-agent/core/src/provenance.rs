//! Whose credentials brought which image: a workload without them does not get what it could not have pulled.
//!
//! The rules are those of pkg/kubelet/images/pullmanager of Kubernetes 1.37 under its default policy, `NeverVerifyPreloadedImages`: an image
//! that was not pulled by this agent is everybody's; one that was pulled as by anybody is too; one that took a credential is for those who
//! have that pull secret. Who has not asks the registry. A kubelet also knows a credential again in another secret; here it is asked for
//! once more.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::Manifest;
use edge_protocol::v1::object::kind;
use serde::{Deserialize, Serialize};

use crate::images::ObservedImage;
use crate::io::Write;

/// Where it is kept.
pub(crate) const PULLED_KEY: &str = "images-pulled";

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Provenance {
    /// By image id, and then by name without tag and digest.
    pulled: BTreeMap<String, BTreeMap<String, Access>>,
    /// Images whose pull with credentials began: where its end was never seen, nobody knows whose they are.
    begun: BTreeSet<String>,
    /// Ids that came since images were last listed: that list may be older.
    #[serde(skip)]
    fresh: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Access {
    Anyone,
    /// As `namespace/name`.
    Secrets(BTreeSet<String>),
}

/// The pull secrets of a manifest that are there.
pub(crate) fn credentials(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let objects = manifest.objects.iter();
    objects
        .filter(|object| object.kind == kind::PULL_CREDENTIAL)
        .map(|object| object.name.as_str())
}

impl Provenance {
    pub(crate) fn begin(&mut self, image: &str, manifest: &Manifest) -> Option<Write> {
        let news = credentials(manifest).next().is_some() && self.begun.insert(image.to_owned());
        news.then(|| self.write())
    }

    pub(crate) fn failed(&mut self, image: &str) -> Option<Write> {
        self.begun.remove(image).then(|| self.write())
    }

    /// The pull secret as `namespace/name`, if it took one.
    pub(crate) fn pulled(&mut self, image: &str, id: String, secret: Option<String>) -> Option<Write> {
        let begun = self.begun.remove(image);
        self.fresh.insert(id.clone());
        let names = self.pulled.entry(id).or_default();
        let known = names.get_mut(repository(image));
        let news = match (known, secret) {
            (Some(Access::Anyone), _) => false,
            (Some(Access::Secrets(secrets)), Some(secret)) => secrets.insert(secret),
            (_, secret) => {
                let access = secret.map_or(Access::Anyone, |secret| Access::Secrets([secret].into()));
                names.insert(repository(image).to_owned(), access);
                true
            }
        };
        (begun || news).then(|| self.write())
    }

    /// Whether a workload may use an image that is here under this name.
    pub(crate) fn may_use(&self, image: &str, id: &str, manifest: &Manifest) -> bool {
        let Some(names) = self.pulled.get(id) else {
            return !self.begun.contains(image);
        };
        match names.get(repository(image)) {
            None => false,
            Some(Access::Anyone) => true,
            Some(Access::Secrets(secrets)) => {
                credentials(manifest).any(|name| secrets.contains(&format!("{}/{name}", manifest.namespace)))
            }
        }
    }

    /// All images that are here: of others nothing need be known.
    pub(crate) fn keep(&mut self, images: &[ObservedImage]) -> Option<Write> {
        let before = self.pulled.len();
        let fresh = std::mem::take(&mut self.fresh);
        self.pulled
            .retain(|id, _| fresh.contains(id) || images.iter().any(|image| image.id == *id));
        (self.pulled.len() != before).then(|| self.write())
    }

    fn write(&self) -> Write {
        Write::PutMeta {
            key: PULLED_KEY.to_owned(),
            value: serde_json::to_string(self).expect("maps of texts are JSON"),
        }
    }
}

/// The name without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::v1::{ObjectRef, VERSION, WorkloadSpec};
    use edge_protocol::{Digest, PodUid};

    use super::*;

    fn manifest(namespace: &str, secrets: &[&str]) -> Manifest {
        let object = |name: &&str| ObjectRef {
            kind: kind::PULL_CREDENTIAL.to_owned(),
            name: (*name).to_owned(),
            digest: Digest::of(name),
            sealed: true,
        };
        Manifest {
            v: VERSION,
            uid: PodUid::new("w").unwrap(),
            namespace: namespace.to_owned(),
            name: "w".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            workload: WorkloadSpec::new("w", vec![]),
            objects: secrets.iter().map(object).collect(),
            requires: vec![],
            replaces: vec![],
        }
    }

    fn stored(provenance: &Provenance) -> Provenance {
        let Write::PutMeta { value, .. } = provenance.write() else {
            panic!("it is a small fact")
        };
        serde_json::from_str(&value).unwrap()
    }

    #[test]
    fn an_image_is_for_those_who_could_have_pulled_it() {
        let mut known = Provenance::default();
        let image = "r.example:5000/app:1";
        let (none, ours) = (manifest("a", &[]), manifest("a", &["s", "t"]));
        assert!(known.may_use(image, "preloaded", &none));
        assert!(known.begin(image, &none).is_none(), "nothing to remember");
        assert!(known.begin(image, &ours).is_some());
        assert!(
            known
                .pulled(image, "id".to_owned(), Some("a/s".to_owned()))
                .is_some()
        );
        let known = stored(&known);
        let check = |image, who: &Manifest, expect| assert_eq!(known.may_use(image, "id", who), expect);
        check(image, &none, false);
        check(image, &ours, true);
        check("r.example:5000/app:2", &ours, true);
        check("r.example:5000/other:1", &ours, false);
        check(image, &manifest("a", &["t"]), false);
        check(image, &manifest("b", &["s"]), false);
    }

    #[test]
    fn what_anybody_can_pull_is_for_all_and_stays_so() {
        let mut known = Provenance::default();
        let (image, id) = ("r.example/app", || "id".to_owned());
        known.pulled(image, id(), Some("a/s".to_owned()));
        assert!(
            known.pulled(image, id(), Some("a/s".to_owned())).is_none(),
            "no news"
        );
        assert!(known.pulled(image, id(), None).is_some());
        assert!(known.pulled(image, id(), Some("b/s".to_owned())).is_none());
        assert!(known.may_use("r.example/app@sha256:00", "id", &manifest("a", &[])));
    }

    #[test]
    fn after_a_crash_nobody_knows_whose_it_is() {
        let mut known = Provenance::default();
        let ours = manifest("a", &["s"]);
        known.begin("app", &ours);
        let mut known = stored(&known);
        assert!(!known.may_use("app", "id", &manifest("a", &[])));
        assert!(known.failed("app").is_some());
        assert!(known.may_use("app", "id", &manifest("a", &[])));
    }

    #[test]
    fn what_is_gone_is_forgotten_unless_the_list_may_be_older() {
        let mut known = Provenance::default();
        known.pulled("app", "id".to_owned(), Some("a/s".to_owned()));
        assert!(known.keep(&[]).is_none(), "it came after the list, perhaps");
        assert!(!known.may_use("app", "id", &manifest("a", &[])));
        assert!(known.keep(&[]).is_some());
        assert!(known.may_use("app", "id", &manifest("a", &[])));
    }
}
