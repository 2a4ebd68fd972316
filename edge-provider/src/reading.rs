//! What the pods of one node refer to: asked for at the cluster, and made into what devices get.
//!
//! A pod is translated with what was found. What is missing is no refusal: its device waits, as a kubelet does. What nobody could read yet
//! keeps the pod waiting here, without a word at first. What is secret is sealed here: in clear it goes nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{Blob, ObjectData, ObjectRef};
use edge_protocol::{Digest, PodUid};
use edge_provider_core::PodRefusal;
use edge_provider_translate::objects::{
    ApiServer, SERVICES, claim, config_map, pull_credential, secret, services, token,
};
use edge_provider_translate::references::ServiceVariables;
use edge_provider_translate::{Found, NodeKind, NotYet, ObjectKey, Objects, References, references};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use virtual_kubelet::ObservedPod;
use virtual_kubelet::objects::{NodeObjects, PodObjects, Raw, Read, TokenWanted};

use crate::sealer::PodSealer;

/// A pod whose objects, or whose Node, are being read: neither a condition nor an event says so.
pub const READING: &str = "ReadingObjects";
/// As the kubelet says of a volume that it cannot set up (`FailedMountVolume` of `pkg/kubelet/events/event.go`).
const FAILED_MOUNT: &str = "FailedMount";
/// How long reading may take until the pod says what it waits for. The first answers may be refusals: the node authorizer learns of a pod
/// after us.
const PATIENCE: Duration = Duration::from_secs(10);

/// The objects of one node's pods.
#[derive(Debug)]
pub struct Reading {
    objects: NodeObjects,
    /// Where devices find the API server, if they can.
    api_server: Option<(String, u16)>,
    sealer: PodSealer,
    pods: BTreeMap<PodUid, Pod>,
}

#[derive(Debug)]
struct Pod {
    /// When its objects were first asked for.
    since: Instant,
    /// Whether something was not read at the last look.
    waits: bool,
    /// Whether that look came after its patience ended.
    spoke: bool,
    /// Of the objects found at the last look.
    bodies: Vec<Blob>,
}

/// What was found of one pod's references, at one look.
#[derive(Debug, Default)]
pub struct Gathered {
    pub objects: Objects,
    bodies: Vec<Blob>,
    /// Not read yet, with the newest reason.
    unread: Vec<(ObjectKey, Option<String>)>,
    /// Whether a wait for what is not read is nothing to speak of yet.
    patient: bool,
}

impl Reading {
    pub fn new(objects: NodeObjects, api_server: Option<(String, u16)>, sealer: PodSealer) -> Self {
        Self {
            objects,
            api_server,
            sealer,
            pods: BTreeMap::new(),
        }
    }

    /// Asks for all that the pod refers to, and says what is there of it now.
    pub fn look(&mut self, uid: &PodUid, observed: &ObservedPod, node: NodeKind) -> Gathered {
        let spec = observed.raw.get("spec").unwrap_or(&Value::Null);
        let references = references(spec, node);
        let wanted = wanted(observed, &references);
        self.objects.refer(uid.as_str(), wanted);
        let mut gathered = Gathered::default();
        for key in references.keys() {
            let read = self.read(uid, &observed.namespace, &references, &key);
            gathered.take(key, read, |data| self.sealer.seal(uid, &observed.namespace, data));
        }
        for name in &references.claims {
            match self.objects.claim(&observed.namespace, name) {
                Read::NotRead { why } => {
                    gathered
                        .unread
                        .push((ObjectKey::new("PersistentVolumeClaim", name), why));
                }
                Read::Missing => drop(gathered.objects.claims.insert(name.clone(), claim(None, None))),
                Read::Present(found) => {
                    let found = claim(Some(&found.claim), found.volume.as_deref());
                    gathered.objects.claims.insert(name.clone(), found);
                }
            }
        }
        let pod = self.pods.entry(uid.clone()).or_insert_with(|| Pod {
            since: Instant::now(),
            waits: false,
            spoke: false,
            bodies: Vec::new(),
        });
        pod.waits = !gathered.unread.is_empty();
        gathered.patient = pod.since.elapsed() < PATIENCE;
        pod.spoke = !gathered.patient;
        pod.bodies.clone_from(&gathered.bodies);
        gathered
    }

    /// The bodies of the objects that a manifest of this pod names, as far as the last look found them.
    pub fn bodies(&self, uid: &PodUid, manifest: &str) -> Vec<Blob> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            objects: Vec<ObjectRef>,
        }
        let Some(pod) = self.pods.get(uid) else {
            return Vec::new();
        };
        let named = serde_json::from_str::<Named>(manifest)
            .map(|named| named.objects)
            .unwrap_or_default();
        let digests: BTreeSet<Digest> = named.into_iter().map(|object| object.digest).collect();
        let named = pod.bodies.iter().filter(|body| digests.contains(&body.digest));
        named.cloned().collect()
    }

    /// Whether devices find the API server where the configuration says.
    pub fn knows_api_server(&self) -> bool {
        self.api_server.is_some()
    }

    /// The API server's major and minor version, once it is known.
    pub fn kubernetes(&self) -> Option<(u32, u32)> {
        let version = self.objects.server()?;
        Some((version.major, version.minor))
    }

    pub fn forget(&mut self, uid: &PodUid) {
        self.pods.remove(uid);
        self.objects.forget(uid.as_str());
        self.sealer.forget(uid);
    }

    /// Only these are left.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for (uid, _) in self.pods.extract_if(.., |uid, _| !keep(uid.as_str())) {
            self.sealer.forget(&uid);
        }
        self.objects.retain(keep);
    }

    /// Waits until there is news of what pods refer to. Dropping the future loses nothing.
    pub async fn changed(&self) -> BTreeSet<PodUid> {
        let changed = self.objects.changed().await;
        changed
            .into_iter()
            .filter_map(|uid| PodUid::new(uid).ok())
            .collect()
    }

    /// When a pod that waits without a word should say what for.
    pub fn due(&self) -> Option<Instant> {
        self.silent().map(|(_, pod)| pod.since + PATIENCE).min()
    }

    /// Those whose patience has ended, and that have not been looked at since.
    pub fn overdue(&self) -> BTreeSet<PodUid> {
        let overdue = |(_, pod): &(&PodUid, &Pod)| pod.since.elapsed() >= PATIENCE;
        self.silent()
            .filter(overdue)
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    fn silent(&self) -> impl Iterator<Item = (&PodUid, &Pod)> {
        self.pods.iter().filter(|(_, pod)| pod.waits && !pod.spoke)
    }

    /// What devices get of one reference.
    fn read(
        &self,
        uid: &PodUid,
        namespace: &str,
        references: &References,
        key: &ObjectKey,
    ) -> Read<ObjectData> {
        let name = &key.name;
        match key.kind {
            kind::CONFIG_MAP => made(self.objects.config_map(namespace, name), |map| {
                config_map(map).map_err(|error| error.to_string())
            }),
            kind::SECRET => made(self.objects.secret(namespace, name), |found| {
                secret(found).map_err(|error| error.to_string())
            }),
            // One of another type is passed over, as by a kubelet.
            kind::PULL_CREDENTIAL => match self.objects.secret(namespace, name) {
                Read::Present(found) => pull_credential(&found).map_or(Read::Missing, Read::Present),
                Read::Missing => Read::Missing,
                Read::NotRead { why } => Read::NotRead { why },
            },
            kind::TOKEN => match self.objects.token(uid.as_str(), name) {
                Read::Present(found) => Read::Present(token(name, found.expose())),
                // A token is never missing: what it is asked of is, and may come.
                Read::Missing => Read::NotRead {
                    why: Some("no service account can have that name".to_owned()),
                },
                Read::NotRead { why } => Read::NotRead { why },
            },
            kind::SERVICES => self.services(namespace, references.services),
            other => Read::NotRead {
                why: Some(format!("nobody reads objects of kind {other}")),
            },
        }
    }

    fn services(&self, namespace: &str, wanted: ServiceVariables) -> Read<ObjectData> {
        let api_server = match &self.api_server {
            Some((host, port)) => ApiServer::External { host, port: *port },
            None => ApiServer::Unreachable,
        };
        let make = |found: &[Value]| {
            services(wanted, namespace, found, api_server).map_or(Read::Missing, Read::Present)
        };
        match wanted {
            ServiceVariables::Namespace => match self.objects.services(namespace) {
                Read::Present(found) => make(&found),
                Read::Missing => make(&[]),
                Read::NotRead { why } => Read::NotRead { why },
            },
            ServiceVariables::None | ServiceVariables::ApiServer => make(&[]),
        }
    }
}

fn wanted(observed: &ObservedPod, references: &References) -> PodObjects {
    let tokens = references.tokens.iter().map(|(name, token)| {
        let wanted = TokenWanted {
            service_account: token.service_account.clone(),
            audience: token.audience.clone(),
            expiration_s: token.expiration_s,
        };
        (name.clone(), wanted)
    });
    let secrets = references.secrets.keys().chain(&references.pull_secrets);
    PodObjects {
        namespace: observed.namespace.clone(),
        name: observed.name.clone(),
        config_maps: references.config_maps.keys().cloned().collect(),
        secrets: secrets.cloned().collect(),
        claims: references.claims.clone(),
        tokens: tokens.collect(),
        services: references.services == ServiceVariables::Namespace,
    }
}

fn made(found: Read<Raw>, make: impl FnOnce(&Value) -> Result<ObjectData, String>) -> Read<ObjectData> {
    match found {
        Read::Present(found) => {
            make(&found).map_or_else(|why| Read::NotRead { why: Some(why) }, Read::Present)
        }
        Read::Missing => Read::Missing,
        Read::NotRead { why } => Read::NotRead { why },
    }
}

fn in_clear(data: &ObjectData) -> Blob {
    let body = serde_json::to_string(data).expect("an object has text keys only, so it is always JSON");
    Blob::new(body)
}

impl Gathered {
    fn take(
        &mut self,
        key: ObjectKey,
        read: Read<ObjectData>,
        seal: impl FnOnce(&ObjectData) -> Option<Blob>,
    ) {
        match read {
            Read::NotRead { why } => self.unread.push((key, why)),
            Read::Missing => drop(self.objects.found.insert(key, Found::Missing)),
            Read::Present(data) => {
                let sealed = kind::is_secret(key.kind);
                let blob = if sealed {
                    seal(&data)
                } else {
                    Some(in_clear(&data))
                };
                let Some(blob) = blob else {
                    return self.unread.push((key, None));
                };
                let digest = blob.digest;
                self.bodies.push(blob);
                self.objects.found.insert(key, Found::Present { digest, sealed });
            }
        }
    }

    /// What the pod says while it waits.
    pub fn refusal(&self, waits: &NotYet) -> PodRefusal {
        if self.patient && !self.unread.is_empty() {
            return PodRefusal {
                reason: READING,
                message: String::new(),
            };
        }
        let named = |key: &ObjectKey| {
            let name = if key.kind == kind::SERVICES {
                SERVICES
            } else {
                &key.name
            };
            format!("{} {name}", key.kind)
        };
        let failed: Vec<String> = self
            .unread
            .iter()
            .filter_map(|(key, why)| Some(format!("{}: {}", named(key), why.as_ref()?)))
            .collect();
        let is_token = |(key, why): &(ObjectKey, Option<String>)| key.kind == kind::TOKEN && why.is_some();
        let reason = if self.unread.iter().any(is_token) {
            FAILED_MOUNT
        } else {
            waits.reason()
        };
        let message = if failed.is_empty() {
            waits.to_string()
        } else {
            failed.join("; ")
        };
        PodRefusal { reason, message }
    }
}

#[cfg(test)]
mod tests;
