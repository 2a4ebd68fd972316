//! The sealer: encrypts secrets so that only the devices that run them can read them, and brings each device its keys.
//!
//! * [`RootFile`]: where the one secret is that every key is derived from.
//! * [`SealerHandle`]: seals objects, and remembers their keys as long as the process lives; they are derived again when the objects are.
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
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use root::{RootFile, RootFileError};
pub use trust::{Anchors, Distrust, InvalidAnchors};

/// The hub is asked at least this often, whatever it tells by itself.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Contents of one object whose keys are remembered: that of now, and of revisions that devices are still on their way to.
const CONTENTS: usize = 4;

type Place = (SealingScope, String, String);

/// Seals, from anywhere in the process. Clones share what is remembered.
#[derive(Debug, Clone)]
pub struct SealerHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: RootSecret,
    keys: Mutex<Known>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Known {
    keys: BTreeMap<Digest, ContentKey>,
    /// By where the object is from, its kind and its name; the newest last.
    of: BTreeMap<Place, VecDeque<Digest>>,
}

impl SealerHandle {
    pub fn new(root: RootSecret) -> Self {
        Self(Arc::new(Shared {
            root,
            keys: Mutex::default(),
            wake: Notify::new(),
        }))
    }

    /// The object as manifests name it. The same object is the same bytes, in every life of the process.
    pub fn seal(&self, scope: &SealingScope, object: &ObjectData) -> Blob {
        let sealed = self.0.root.seal(scope, object);
        let digest = sealed.key.digest();
        let mut known = self.known();
        if known.keys.insert(digest, sealed.key).is_none() {
            let place = (scope.clone(), object.kind.clone(), object.name.clone());
            let contents = known.of.entry(place).or_default();
            contents.push_back(digest);
            let former = (contents.len() > CONTENTS)
                .then(|| contents.pop_front())
                .flatten();
            if let Some(former) = former {
                known.keys.remove(&former);
            }
            self.0.wake.notify_one();
        }
        drop(known);
        Blob::new(sealed.body)
    }

    /// No pod refers to the object any more.
    pub fn forget(&self, scope: &SealingScope, kind: &str, name: &str) {
        let mut known = self.known();
        let place = (scope.clone(), kind.to_owned(), name.to_owned());
        for key in known.of.remove(&place).into_iter().flatten() {
            known.keys.remove(&key);
        }
    }

    /// The hub said that devices wait for keys.
    pub fn wanted(&self) {
        self.0.wake.notify_one();
    }

    fn key(&self, digest: &Digest) -> Option<ContentKey> {
        self.known().keys.get(digest).cloned()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
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
            let key = self.key(&wanted.key)?;
            Some((wanted.deployment.clone(), self.0.root.wrap(&key, &device)))
        });
        Ok(known.collect())
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
                () = self.sealer.0.wake.notified() => {}
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
        }
    }

    /// Asks once and brings what it can; whether anything was brought, for then there may be more.
    async fn round(&self) -> Result<bool, ClientError> {
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
