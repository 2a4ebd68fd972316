//! Starts and ends what follows objects, as the memory says what is wanted.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::identity::{Identity, ServerVersion};
use super::memory::{Key, Memory};
use super::stretch::Run;
use super::tokens::Bearer;
use super::{ObjectsHandle, Shared, claims, follow, services, tokens};
use crate::cluster::Cluster;

/// Lists, looks and token requests at the same time.
const CALLS: usize = 32;
/// Between tries to learn what the API server is.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How objects are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectsOptions {
    /// As whom; `None` is for the API server's version to say.
    pub identity: Option<Identity>,
    /// Objects that are followed at the same time, each by one connection; what is beyond waits, and says so.
    pub most: usize,
}

impl Default for ObjectsOptions {
    fn default() -> Self {
        Self {
            identity: None,
            most: 4096,
        }
    }
}

/// Sole owner of what follows objects. Dropping its run ends them all.
#[derive(Debug)]
pub struct ObjectsTask {
    cluster: Cluster,
    options: ObjectsOptions,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    following: BTreeMap<Key, Following>,
    runs: JoinSet<()>,
}

#[derive(Debug)]
struct Following {
    /// The node that is asked as.
    node: String,
    id: u64,
    run: AbortHandle,
}

impl ObjectsTask {
    pub fn new(cluster: Cluster, options: ObjectsOptions) -> (ObjectsHandle, Self) {
        let shared = Arc::new(Shared::default());
        let handle = ObjectsHandle {
            shared: Arc::clone(&shared),
        };
        let task = Self {
            cluster,
            options,
            shared,
            permits: Arc::new(Semaphore::new(CALLS)),
            following: BTreeMap::new(),
            runs: JoinSet::new(),
        };
        (handle, task)
    }

    /// Runs until a follower ends in a way that none should.
    pub async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut version = pin!(learn_version(self.cluster.clone(), Arc::clone(&self.shared)));
        let mut is_known = false;
        let identity = if let Some(identity) = self.options.identity {
            identity
        } else {
            is_known = true;
            Identity::at(version.as_mut().await)
        };
        tracing::info!(?identity, "objects that pods refer to are read");
        loop {
            let wanted = shared.wanted.notified();
            self.reconcile(identity);
            tokio::select! {
                () = wanted => {}
                _ = version.as_mut(), if !is_known => is_known = true,
                Some(ended) = self.runs.join_next() => match ended {
                    // Another may begin in its place.
                    Ok(()) => {}
                    Err(error) if error.is_cancelled() => {}
                    Err(_) => return,
                },
            }
        }
    }

    /// What is not wanted ends, what is wanted and not followed begins; so does what was followed as a node that has no part in it any more.
    fn reconcile(&mut self, identity: Identity) {
        let shared = Arc::clone(&self.shared);
        let mut memory = shared.memory();
        let wanted: BTreeMap<Key, Option<String>> = memory
            .wanted()
            .map(|(key, nodes)| {
                let held = self.following.get(key);
                let same =
                    held.is_some_and(|held| memory.hears(key, held.id) && nodes.contains(held.node.as_str()));
                let first = || nodes.first().map(|node| (*node).to_owned());
                (key.clone(), if same { None } else { first() })
            })
            .collect();
        self.following.retain(|key, following| {
            let stays = matches!(wanted.get(key), Some(None));
            if !stays {
                following.run.abort();
            }
            stays
        });
        let running = |held: &&Following| !held.run.is_finished();
        let mut room = self
            .options
            .most
            .saturating_sub(self.following.values().filter(running).count());
        for (key, node) in wanted {
            let Some(node) = node else { continue };
            let id = memory.begin(&key);
            if room == 0 {
                let why = format!(
                    "{} objects are read already, and no more can be",
                    self.options.most
                );
                memory.trouble(&key, id, &why);
                continue;
            }
            room -= 1;
            let run = Run {
                cluster: identity.cluster(&self.cluster, &node),
                key: key.clone(),
                id,
                shared: Arc::clone(&self.shared),
                permits: Arc::clone(&self.permits),
                failures: 0,
            };
            let run = self.begin(&memory, run);
            self.following.insert(key, Following { node, id, run });
        }
    }

    fn begin(&mut self, memory: &Memory, mut run: Run) -> AbortHandle {
        match run.key.clone() {
            Key::ConfigMap(namespace, name) => {
                self.runs
                    .spawn(follow::follow(run, "configmaps", namespace, name))
            }
            Key::Secret(namespace, name) => self.runs.spawn(follow::follow(run, "secrets", namespace, name)),
            Key::Claim(namespace, name) => self.runs.spawn(claims::follow(run, namespace, name)),
            Key::Token(pod, _, wanted) => {
                let known = memory.pod(&pod);
                let bearer = Bearer {
                    namespace: known.map(|pod| pod.namespace.clone()).unwrap_or_default(),
                    name: known.map(|pod| pod.name.clone()).unwrap_or_default(),
                    pod,
                };
                self.runs.spawn(tokens::keep(run, bearer, wanted))
            }
            // Services are no pod's own: they are read as who we are, once for all nodes.
            Key::Services => {
                run.cluster = self.cluster.clone();
                self.runs.spawn(services::follow(run))
            }
        }
    }
}

/// Asks until the API server says its version, and keeps it for all.
async fn learn_version(cluster: Cluster, shared: Arc<Shared>) -> ServerVersion {
    loop {
        match ServerVersion::of(&cluster).await {
            Ok(version) => {
                // Only here, and once.
                let _ = shared.server.set(version);
                return version;
            }
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "the API server does not say what it can do"
                );
                sleep(ASK_AGAIN).await;
            }
        }
    }
}
