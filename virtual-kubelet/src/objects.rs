//! Reads exactly those objects of the cluster that pods of our nodes refer to, follows their changes, and answers from memory.
//!
//! * [`wanted`]: what a pod refers to, and what was found of it, as values.
//! * [`memory`]: which objects are wanted by whom, what is known of each, and whose pods a change concerns. Pure.
//! * [`identity`]: as whom objects are read: as the node of a pod that refers to them, wherever the API server can confine us to that.
//! * [`follow`]: one ConfigMap or Secret, by a watch of its name. [`claims`]: a claim and its volume. [`tokens`]: a token of a pod's service
//!   account. [`services`]: all Services, by one watch. [`stretch`]: what the watches among them share.
//! * [`task`]: starts and ends those as the memory says.
//!
//! It is level-triggered: what pods refer to is a value that is compared with what runs. It must not know what a pod does with an object,
//! nor of devices. A refusal or a silence of the API server makes nothing missing (law 2): an object is missing only when a list says so.

mod claims;
mod follow;
pub mod identity;
mod memory;
mod services;
mod stretch;
mod task;
mod tokens;
mod wanted;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use self::memory::{Held, Key, Memory, NodeId};

pub use identity::{Identity, ServerVersion};
pub use task::{ObjectsOptions, ObjectsTask};
pub use wanted::{BoundClaim, PodObjects, Raw, Read, Token, TokenWanted};

/// What the task and its handles share. The lock is held for as long as a map is looked up, never across a wait.
#[derive(Debug, Default)]
struct Shared {
    memory: Mutex<Memory>,
    /// Something else is wanted than before.
    wanted: Notify,
    /// What the API server said of itself.
    server: OnceLock<ServerVersion>,
}

impl Shared {
    /// A panic elsewhere leaves the memory whole: each change of it is one call.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each node its part. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ObjectsHandle {
    shared: Arc<Shared>,
}

impl ObjectsHandle {
    /// The part of one node. Of the same name there may be two for a while: they do not meet.
    pub fn of_node(&self, node: &str) -> NodeObjects {
        let (id, wake) = self.shared.memory().join(node);
        NodeObjects {
            shared: Arc::clone(&self.shared),
            id,
            wake,
        }
    }
}

/// The objects of one node's pods. Dropping it forgets them all.
#[derive(Debug)]
pub struct NodeObjects {
    shared: Arc<Shared>,
    id: NodeId,
    wake: Arc<Notify>,
}

impl NodeObjects {
    /// The API server's version; absent until it said it, and where nobody asked because the identity was configured.
    pub fn server(&self) -> Option<ServerVersion> {
        self.shared.server.get().copied()
    }

    /// Says what a pod refers to from now on. Idempotent; never waits.
    pub fn refer(&self, uid: &str, pod: PodObjects) {
        if self.shared.memory().refer(self.id, uid, pod) {
            self.shared.wanted.notify_one();
        }
    }

    /// The pod is gone, and with it what nobody else refers to. Idempotent.
    pub fn forget(&self, uid: &str) {
        if self.shared.memory().forget(self.id, uid) {
            self.shared.wanted.notify_one();
        }
    }

    /// Forgets all pods but these.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<String> = {
            let memory = self.shared.memory();
            memory
                .pods_of(self.id)
                .filter(|uid| !keep(uid))
                .map(str::to_owned)
                .collect()
        };
        for uid in gone {
            self.forget(&uid);
        }
    }

    /// Waits until something was told of what pods refer to, and says which pods: however many changes there were, each pod once.
    /// Dropping the future loses nothing.
    pub async fn changed(&self) -> BTreeSet<String> {
        loop {
            let told = self.wake.notified();
            let changed = self.shared.memory().take_changed(self.id);
            if !changed.is_empty() {
                return changed;
            }
            told.await;
        }
    }

    pub fn config_map(&self, namespace: &str, name: &str) -> Read<Raw> {
        self.object(&Key::ConfigMap(namespace.to_owned(), name.to_owned()))
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Read<Raw> {
        self.object(&Key::Secret(namespace.to_owned(), name.to_owned()))
    }

    /// A claim with the volume that it is bound to. Which volumes are of use is not judged here.
    pub fn claim(&self, namespace: &str, name: &str) -> Read<BoundClaim> {
        let key = Key::Claim(namespace.to_owned(), name.to_owned());
        self.shared.memory().read(&key).and_then(|held| match held {
            Held::Claim(claim) => Some(claim.clone()),
            Held::Object(_) | Held::Token(_) => None,
        })
    }

    /// The token that the pod's source of this name refers to. One that could not be renewed stays, as its file does on a node.
    pub fn token(&self, uid: &str, name: &str) -> Read<Token> {
        self.shared
            .memory()
            .token(self.id, uid, name)
            .and_then(|held| match held {
                Held::Token(token) => Some(token.clone()),
                Held::Object(_) | Held::Claim(_) => None,
            })
    }

    /// The Services of a namespace, and the API server's own of `default`: name, namespace, address and ports of each.
    pub fn services(&self, namespace: &str) -> Read<Vec<Value>> {
        self.shared.memory().services(namespace)
    }

    fn object(&self, key: &Key) -> Read<Raw> {
        self.shared.memory().read(key).and_then(|held| match held {
            Held::Object(object) => Some(object.clone()),
            Held::Claim(_) | Held::Token(_) => None,
        })
    }
}

impl Drop for NodeObjects {
    fn drop(&mut self) {
        self.shared.memory().leave(self.id);
        self.shared.wanted.notify_one();
    }
}
