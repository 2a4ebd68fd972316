//! The sealer: encrypts secrets so that only the devices that run them can read them, and brings each device its keys.
//!
//! * [`RootFile`]: where the one secret is that every key is derived from.
//! * [`SealerHandle`]: seals objects, and remembers their keys while pods refer to them; they are derived again when the objects are.
//! * [`PodSealer`]: the same for the pods of the one cluster, once it is known which that is.
//! * [`SealerTask`]: answers what the hub says devices want. `trust` decides whose sealing key it is; the hub's word counts for nothing there.

mod root;
mod trust;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edge_protocol::sealing::{ContentKey, RootSecret, SealingScope};
use edge_protocol::v1::{Blob, KeyWrap, ObjectData};
use edge_protocol::{Digest, PodUid};
use iot_hub_client::api::WantedKeys;
use iot_hub_client::{ClientError, HubClient};
use rustls::pki_types::UnixTime;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use root::{RootFile, RootFileError};
pub use trust::{Anchors, Distrust, InvalidAnchors};

/// The hub is asked at least this often, whatever it tells by itself.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Contents of one object of a pod whose keys are remembered: that of now, and of revisions that devices are still on their way to.
const CONTENTS: usize = 4;

/// The keys of what one pod refers to, by kind and name; the newest last.
type PodKeys = BTreeMap<(String, String), VecDeque<(Digest, ContentKey)>>;

/// Seals, from anywhere in the process. Clones share what is remembered.
#[derive(Debug, Clone)]
pub struct SealerHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: RootSecret,
    keys: Mutex<BTreeMap<PodUid, PodKeys>>,
    wake: Notify,
}

impl SealerHandle {
    pub fn new(root: RootSecret) -> Self {
        Self(Arc::new(Shared {
            root,
            keys: Mutex::default(),
            wake: Notify::new(),
        }))
    }

    /// The object as manifests of the pod name it. The same object is the same bytes, for any pod and in every life of the process.
    pub fn seal(&self, pod: &PodUid, scope: &SealingScope, object: &ObjectData) -> Blob {
        let sealed = self.0.root.seal(scope, object);
        let digest = sealed.key.digest();
        let mut known = self.known();
        let place = (object.kind.clone(), object.name.clone());
        let contents = known.entry(pod.clone()).or_default().entry(place).or_default();
        let former = contents.iter().position(|(known, _)| *known == digest);
        // It may be an earlier content come back, which is the newest then.
        drop(former.and_then(|former| contents.remove(former)));
        contents.push_back((digest, sealed.key));
        if contents.len() > CONTENTS {
            contents.pop_front();
        }
        drop(known);
        if former.is_none() {
            self.0.wake.notify_one();
        }
        Blob::new(sealed.body)
    }

    /// The pod refers to nothing any more.
    pub fn forget(&self, pod: &PodUid) {
        self.known().remove(pod);
    }

    /// The hub said that devices wait for keys.
    pub fn wanted(&self) {
        self.0.wake.notify_one();
    }

    /// Waits until there is a reason to ask the hub what devices want.
    pub(crate) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Whether there is any key that a device could be brought.
    fn has_keys(&self) -> bool {
        !self.known().is_empty()
    }

    fn key(&self, pod: &PodUid, digest: &Digest) -> Option<ContentKey> {
        let known = self.known();
        let mut keys = known.get(pod)?.values().flatten();
        keys.find(|(known, _)| known == digest)
            .map(|(_, key)| key.clone())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<PodUid, PodKeys>> {
        // A panic in between leaves at most a key that is never forgotten.
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wraps for what one device wants, by deployment: of the keys that are known here, if its sealing key is its own.
    fn answer(
        &self,
        anchors: &Anchors,
        wanted: &WantedKeys,
        now: UnixTime,
    ) -> Result<Vec<(PodUid, KeyWrap)>, Distrust> {
        let device = anchors.sealing_key(wanted, now)?;
        let known = wanted.keys.iter().filter_map(|wanted| {
            let key = self.key(&wanted.deployment, &wanted.key)?;
            Some((wanted.deployment.clone(), self.0.root.wrap(&key, &device)))
        });
        Ok(known.collect())
    }
}

/// Seals what pods of one cluster refer to.
#[derive(Debug, Clone)]
pub struct PodSealer {
    sealer: SealerHandle,
    /// The UID of the cluster, once it is known.
    cluster: watch::Receiver<Option<String>>,
}

impl PodSealer {
    pub fn new(sealer: SealerHandle, cluster: watch::Receiver<Option<String>>) -> Self {
        Self { sealer, cluster }
    }

    /// The sealed object of the pod's namespace. `None` before the cluster is known.
    pub fn seal(&self, pod: &PodUid, namespace: &str, object: &ObjectData) -> Option<Blob> {
        let scope = SealingScope {
            cluster: self.cluster.borrow().clone()?,
            namespace: namespace.to_owned(),
        };
        Some(self.sealer.seal(pod, &scope, object))
    }

    pub fn forget(&self, pod: &PodUid) {
        self.sealer.forget(pod);
    }
}

/// Brings devices the keys that they wait for.
#[derive(Debug)]
pub struct SealerTask {
    client: HubClient,
    anchors: Anchors,
    sealer: SealerHandle,
}

impl SealerTask {
    /// `anchors` are the roots that devices' certificates must chain to: the hub's, as the client pins them.
    pub fn new(client: HubClient, anchors: Anchors, sealer: SealerHandle) -> Self {
        Self {
            client,
            anchors,
            sealer,
        }
    }

    /// Runs until the token is cancelled. What failed is tried again: at the latest when the hub is asked the next time.
    pub async fn run(self, token: CancellationToken) {
        loop {
            let again = tokio::select! {
                () = token.cancelled() => return,
                done = self.round() => done.unwrap_or_else(|error| {
                    warn!(%error, "devices wait for keys, and the hub could not be asked or told");
                    false
                }),
            };
            if again {
                continue;
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = self.sealer.woken() => {}
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
        }
    }

    /// Asks once and brings what it can; whether anything was brought, for then there may be more.
    async fn round(&self) -> Result<bool, ClientError> {
        if !self.sealer.has_keys() {
            return Ok(false);
        }
        let wanted = self.client.wanted_keys().await?;
        let now = UnixTime::now();
        let mut wraps: BTreeMap<PodUid, Vec<KeyWrap>> = BTreeMap::new();
        for wanted in &wanted.items {
            match self.sealer.answer(&self.anchors, wanted, now) {
                Ok(answers) => {
                    debug!(device = %wanted.device, count = answers.len(), "keys are wrapped for a device");
                    for (deployment, wrap) in answers {
                        wraps.entry(deployment).or_default().push(wrap);
                    }
                }
                Err(error) => {
                    warn!(device = %wanted.device, %error, "nothing is sealed to a device that cannot prove its key");
                }
            }
        }
        let brought = !wraps.is_empty();
        for (deployment, wraps) in wraps {
            let count = wraps.len();
            match self.client.put_keys(&deployment, wraps).await {
                Ok(()) => info!(%deployment, count, "keys were brought to the hub"),
                // It ended meanwhile.
                Err(error) if error.is_not_found() => debug!(%deployment, "keys came too late"),
                Err(error) => return Err(error),
            }
        }
        Ok(brought)
    }
}

#[cfg(test)]
mod tests;
