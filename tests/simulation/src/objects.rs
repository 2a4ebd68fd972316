//! What pods refer to: config maps and secrets, their edits, the sealer that brings devices the keys of secrets, and what is in a pod's volumes.

use std::collections::BTreeMap;

use edge_agent_core::StepOutcome;
use edge_protocol::sealing::{ContentKey, RootSecret, SealingScope};
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{
    Blob, KeyWrap, Manifest, ObjectData, ObjectKind, ObjectRef, ProjectedSource, Reason, VERSION,
    VolumeSource, VolumeSpec,
};
use edge_protocol::{Digest, PodUid};
use iot_hub_core::Call;

use crate::coverage::Path;
use crate::event::{At, BridgeEvent, Caller, Event, UserEvent};
use crate::pods::CLUSTER;
use crate::runtime::failed;
use crate::trace::say;
use crate::world::World;

/// Wraps that a sealer brings at once.
const WRAPS: usize = 16;

/// What is in a pod's volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volumes {
    None,
    Settings,
    /// A config map, and a secret that comes later than the pod.
    SettingsAndKey,
}

impl Volumes {
    /// In turn, so that it costs no chance.
    pub(crate) fn of(count: u32) -> Self {
        match count % 5 {
            0 | 3 => Self::Settings,
            1 => Self::SettingsAndKey,
            _ => Self::None,
        }
    }

    fn kinds(self) -> &'static [ObjectKind] {
        match self {
            Self::None => &[],
            Self::Settings => &[ObjectKind::ConfigMap],
            Self::SettingsAndKey => &[ObjectKind::ConfigMap, ObjectKind::Secret],
        }
    }

    pub(crate) fn specs(self) -> Vec<VolumeSpec> {
        let specs = self.kinds().iter().map(|kind| VolumeSpec {
            name: kind.as_str().to_lowercase(),
            source: VolumeSource::Projected {
                sources: vec![ProjectedSource::Object {
                    object: *kind,
                    name: name(*kind).to_owned(),
                    items: Vec::new(),
                    optional: false,
                }],
                default_mode: 0o644,
            },
        });
        specs.collect()
    }
}

/// Every pod has its own of that name.
fn name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "settings",
        ObjectKind::Secret => "key",
    }
}

/// Every object that there ever was, as the bridge reads and seals it.
#[derive(Debug)]
pub(crate) struct Objects {
    root: RootSecret,
    bodies: BTreeMap<Digest, String>,
    keys: BTreeMap<Digest, ContentKey>,
    contents: u64,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            root: RootSecret::from_bytes([3; 32]),
            bodies: BTreeMap::new(),
            keys: BTreeMap::new(),
            contents: 0,
        }
    }
}

impl Objects {
    /// An object of a pod with a content that never was before.
    fn make(&mut self, kind: ObjectKind) -> ObjectRef {
        self.contents += 1;
        let data = ObjectData {
            v: VERSION,
            kind: kind.as_str().to_owned(),
            name: name(kind).to_owned(),
            text: [("value".to_owned(), self.contents.to_string())].into(),
            binary: BTreeMap::new(),
        };
        let sealed = kind::is_secret(kind.as_str());
        let body = if sealed {
            let scope = SealingScope {
                cluster: CLUSTER.to_owned(),
                namespace: "default".to_owned(),
            };
            let sealed = self.root.seal(&scope, &data);
            self.keys.insert(sealed.key.digest(), sealed.key);
            sealed.body
        } else {
            serde_json::to_string(&data).expect("an object has only string keys")
        };
        let digest = Digest::of(&body);
        self.bodies.insert(digest, body);
        ObjectRef {
            kind: data.kind,
            name: data.name,
            digest,
            sealed,
        }
    }

    /// The bodies that a manifest names.
    pub(crate) fn bodies(&self, manifest: &str) -> Vec<Blob> {
        let manifest: Option<Manifest> = serde_json::from_str(manifest).ok();
        let named = manifest.into_iter().flat_map(|manifest| manifest.objects);
        named
            .filter_map(|object| self.bodies.get(&object.digest).cloned())
            .map(Blob::new)
            .collect()
    }
}

impl World {
    /// What a new pod refers to: its secret comes later.
    pub(crate) fn first_objects(&mut self, uid: &PodUid, volumes: Volumes) -> Vec<ObjectRef> {
        if volumes == Volumes::SettingsAndKey {
            self.coverage.met(Path::ObjectLate);
            let delay = self.rng.within(100, 40_000);
            let event = UserEvent::Edit(uid.clone(), ObjectKind::Secret);
            self.push(delay, Event::User(event));
        }
        match volumes {
            Volumes::None => Vec::new(),
            _ => vec![self.api.objects.make(ObjectKind::ConfigMap)],
        }
    }

    /// Someone edits one of those that some pod refers to.
    pub(crate) fn edit_some_object(&mut self) {
        let pods = self.api.pods.values();
        let uids = pods
            .filter(|pod| pod.volumes != Volumes::None)
            .map(|pod| &pod.uid);
        let uids: Vec<PodUid> = uids.cloned().collect();
        if let Some(uid) = self.rng.pick(&uids).cloned()
            && let Some(kind) = self.rng.pick(self.api.pods[&uid].volumes.kinds()).copied()
        {
            self.edit_object(&uid, kind);
        }
    }

    pub(crate) fn edit_object(&mut self, uid: &PodUid, kind: ObjectKind) {
        let Some(pod) = self.api.pods.get_mut(uid) else {
            return;
        };
        let made = self.api.objects.make(kind);
        let of_kind = |object: &&mut ObjectRef| object.kind == made.kind;
        match pod.objects.iter_mut().find(of_kind) {
            Some(object) => *object = made,
            None => pod.objects.push(made),
        }
        self.coverage.met(Path::ObjectEdited);
        say!(self, "user", "edits {} of {uid}", name(kind));
        self.pod_changed(uid);
    }

    /// The storm is over: what pods wait for is there.
    pub(crate) fn make_missing_objects(&mut self) {
        let pods = self.api.pods.values();
        let lacking = pods.filter(|pod| pod.volumes.kinds().len() > pod.objects.len());
        let lacking: Vec<PodUid> = lacking.map(|pod| pod.uid.clone()).collect();
        for uid in lacking {
            self.edit_object(&uid, ObjectKind::Secret);
        }
    }

    /// The sealer asks what devices want, and brings it. What gets lost is asked for again.
    pub(crate) fn seal(&mut self) {
        let delay = self.rng.within(1_000, 15_000);
        let life = self.bridge.life;
        self.push(delay, Event::Bridge(life, BridgeEvent::Seal));
        let Some(hub) = &self.hub.hub else { return };
        let mut wraps: BTreeMap<PodUid, Vec<KeyWrap>> = BTreeMap::new();
        for wanted in hub.wanted_keys(|_| true, WRAPS) {
            let device = self.devices[self.at(&wanted.device)].sealing.public();
            if let Some(key) = self.api.objects.keys.get(&wanted.key) {
                let wrap = self.api.objects.root.wrap(key, &device);
                wraps.entry(wanted.deployment).or_default().push(wrap);
            }
        }
        for (uid, wraps) in wraps {
            if self.strikes(Path::RequestLost, self.weather.http_fails) {
                continue;
            }
            self.coverage.met(Path::KeysBrought);
            let delay = self.rng.within(2, 250);
            let (caller, call) = (Caller::Sealer, Call::PutKeyWraps { uid, wraps });
            self.push(delay, Event::Request { caller, call });
        }
    }

    /// The files of a workload's objects, from what is on the device's disk.
    pub(crate) fn sync_volumes(&mut self, at: At, manifest: &Manifest) -> StepOutcome {
        let outcome = self.openable(at, manifest);
        match outcome {
            Ok(files) => {
                let volumes = &mut self.devices[at].runtime.volumes;
                volumes.insert(manifest.uid.clone(), files);
                StepOutcome::Done
            }
            Err(reason) => {
                self.coverage.met(Path::MountWaits);
                failed(reason, "not there")
            }
        }
    }

    fn openable(&self, at: At, manifest: &Manifest) -> Result<Vec<Digest>, Reason> {
        let disk = &self.devices[at].disk;
        let mut files = Vec::new();
        for volume in &manifest.workload.volumes {
            let VolumeSource::Projected { sources, .. } = &volume.source else {
                continue;
            };
            for source in sources {
                let ProjectedSource::Object { object: kind, .. } = source else {
                    continue;
                };
                let listed = manifest
                    .objects
                    .iter()
                    .find(|object| object.kind == kind.as_str());
                let listed = listed.ok_or(Reason::FailedMount)?;
                let (key, _) = disk.objects.get(&listed.digest).ok_or(Reason::FailedMount)?;
                if key.is_some_and(|key| !disk.keys.contains_key(&key)) {
                    return Err(Reason::SecretNotSealed);
                }
                files.push(listed.digest);
            }
        }
        Ok(files)
    }

    /// A container begins: the files that it will look for are there.
    pub(crate) fn judge_volumes(&self, at: At, uid: &PodUid) -> Option<String> {
        let manifest = self.manifest_of(at, uid)?;
        if manifest.workload.volumes.is_empty() {
            return None;
        }
        self.coverage.met(Path::VolumesJudged);
        let device = &self.devices[at];
        let lacking = !device.runtime.volumes.contains_key(uid);
        lacking.then(|| format!("{} starts {uid} without its volumes", device.id))
    }

    /// The files of a running pod hold the newest of what the device was told: now that all is told, of all there is.
    pub(crate) fn stale_files(&self, at: At, uid: &PodUid) -> Option<String> {
        let wanted: Vec<Digest> = self.api.pods[uid]
            .objects
            .iter()
            .map(|object| object.digest)
            .collect();
        if wanted.is_empty() {
            return None;
        }
        self.coverage.met(Path::FilesJudged);
        let device = &self.devices[at];
        let held = device.runtime.volumes.get(uid);
        (held != Some(&wanted))
            .then(|| format!("{} has old files of {uid}: {held:?}, not {wanted:?}", device.id))
    }
}
