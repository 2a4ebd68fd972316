//! Which objects are wanted by whom, what is known of each, and whose pods a change concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;

use super::services::{ServiceName, is_master};
use super::wanted::{BoundClaim, PodObjects, Raw, Read, Token, TokenWanted};

/// One node's part; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

/// A pod of one node's part.
pub(super) type PodId = (NodeId, String);

/// Something that is read by itself. Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    ConfigMap(String, String),
    Secret(String, String),
    Claim(String, String),
    Token(PodId, String, TokenWanted),
    Services,
}

/// What a key stands for, once it is read. Services are held apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    Object(Raw),
    Claim(BoundClaim),
    Token(Token),
}

#[derive(Debug)]
struct Node {
    name: String,
    changed: BTreeSet<String>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Source {
    pods: BTreeSet<PodId>,
    read: Read<Held>,
    /// The run that may tell of it; what an earlier one still says is not heard.
    run: u64,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// For ids and runs.
    last: u64,
    nodes: BTreeMap<NodeId, Node>,
    pods: BTreeMap<PodId, PodObjects>,
    sources: BTreeMap<Key, Source>,
    /// All of the cluster, while some pod wants them.
    services: Option<BTreeMap<ServiceName, Value>>,
}

impl Memory {
    pub(super) fn join(&mut self, node: &str) -> (NodeId, Arc<Notify>) {
        let id = NodeId(self.next());
        let wake = Arc::new(Notify::new());
        let node = Node {
            name: node.to_owned(),
            changed: BTreeSet::new(),
            wake: Arc::clone(&wake),
        };
        self.nodes.insert(id, node);
        (id, wake)
    }

    pub(super) fn leave(&mut self, node: NodeId) {
        let pods: Vec<String> = self.pods_of(node).map(str::to_owned).collect();
        for uid in pods {
            self.forget(node, &uid);
        }
        self.nodes.remove(&node);
    }

    /// Whether that changed anything.
    pub(super) fn refer(&mut self, node: NodeId, uid: &str, pod: PodObjects) -> bool {
        let id = (node, uid.to_owned());
        if self.pods.get(&id) == Some(&pod) {
            return false;
        }
        let new = keys(&id, &pod);
        if let Some(before) = self.pods.insert(id.clone(), pod) {
            let gone: Vec<Key> = keys(&id, &before).difference(&new).cloned().collect();
            self.release(&id, &gone);
        }
        for key in new {
            let source = self.sources.entry(key).or_insert(Source {
                pods: BTreeSet::new(),
                read: Read::UNREAD,
                run: 0,
            });
            source.pods.insert(id.clone());
        }
        true
    }

    /// Whether that changed anything.
    pub(super) fn forget(&mut self, node: NodeId, uid: &str) -> bool {
        let id = (node, uid.to_owned());
        let Some(pod) = self.pods.remove(&id) else {
            return false;
        };
        let gone: Vec<Key> = keys(&id, &pod).into_iter().collect();
        self.release(&id, &gone);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.changed.remove(uid);
        }
        true
    }

    fn release(&mut self, pod: &PodId, keys: &[Key]) {
        for key in keys {
            let Some(source) = self.sources.get_mut(key) else {
                continue;
            };
            source.pods.remove(pod);
            if source.pods.is_empty() {
                self.sources.remove(key);
                if *key == Key::Services {
                    self.services = None;
                }
            }
        }
    }

    pub(super) fn pods_of(&self, node: NodeId) -> impl Iterator<Item = &str> {
        let from = (node, String::new());
        self.pods
            .range(from..)
            .take_while(move |((of, _), _)| *of == node)
            .map(|((_, uid), _)| uid.as_str())
    }

    /// What is wanted, each with the nodes of the pods that want it.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&Key, BTreeSet<&str>)> {
        self.sources.iter().map(|(key, source)| {
            let nodes = source.pods.iter().filter_map(|(node, _)| self.nodes.get(node));
            (key, nodes.map(|node| node.name.as_str()).collect())
        })
    }

    /// Whether what this run finds is heard: what was wanted no more and is wanted again needs another.
    pub(super) fn hears(&self, key: &Key, run: u64) -> bool {
        self.sources.get(key).is_some_and(|source| source.run == run)
    }

    /// A new run for a key: from now on only it may tell.
    pub(super) fn begin(&mut self, key: &Key) -> u64 {
        let run = self.next();
        if let Some(source) = self.sources.get_mut(key) {
            source.run = run;
        }
        run
    }

    /// The pod as it was referred to.
    pub(super) fn pod(&self, id: &PodId) -> Option<&PodObjects> {
        self.pods.get(id)
    }

    pub(super) fn read(&self, key: &Key) -> &Read<Held> {
        self.sources.get(key).map_or(&Read::UNREAD, |source| &source.read)
    }

    pub(super) fn token(&self, node: NodeId, uid: &str, name: &str) -> &Read<Held> {
        let id = (node, uid.to_owned());
        let wanted = self.pods.get(&id).and_then(|pod| pod.tokens.get(name));
        wanted.map_or(&Read::UNREAD, |wanted| {
            self.read(&Key::Token(id, name.to_owned(), wanted.clone()))
        })
    }

    pub(super) fn services(&self, namespace: &str) -> Read<Vec<Value>> {
        let Some(services) = &self.services else {
            return self.read(&Key::Services).and_then(|_| None);
        };
        let mine = services
            .iter()
            .filter(|(name, _)| name.namespace == namespace || is_master(name));
        Read::Present(mine.map(|(_, service)| service.clone()).collect())
    }

    /// Takes what a run found, and wakes the nodes of the pods that it concerns if it is news.
    pub(super) fn tell(&mut self, key: &Key, run: u64, read: Read<Held>) {
        let Some(source) = self.current(key, run) else {
            return;
        };
        if source.read == read {
            return;
        }
        source.read = read;
        let pods: Vec<PodId> = source.pods.iter().cloned().collect();
        self.wake(&pods);
    }

    /// A try failed. What is known stays known.
    pub(super) fn trouble(&mut self, key: &Key, run: u64, why: &str) {
        if *key == Key::Services && self.services.is_some() {
            return;
        }
        let unread = |source: &mut Source| matches!(source.read, Read::NotRead { .. });
        if self.current(key, run).is_some_and(unread) {
            let why = Some(why.to_owned());
            self.tell(key, run, Read::NotRead { why });
        }
    }

    /// All Services, as the watch has them now.
    pub(super) fn tell_services(&mut self, run: u64, services: &BTreeMap<ServiceName, Value>) {
        if self.current(&Key::Services, run).is_none() || self.services.as_ref() == Some(services) {
            return;
        }
        let before = self.services.replace(services.clone());
        let Some(source) = self.sources.get(&Key::Services) else {
            return;
        };
        let differs = |name: &ServiceName| match &before {
            None => true,
            Some(before) => before.get(name) != services.get(name),
        };
        let names = before.iter().flatten().chain(services).map(|(name, _)| name);
        let changed: Vec<&ServiceName> = names.filter(|name| differs(name)).collect();
        let everyone = before.is_none() || changed.iter().any(|name| is_master(name));
        let namespaces: BTreeSet<&str> = changed.iter().map(|name| name.namespace.as_str()).collect();
        let concerned = |id: &&PodId| {
            let pod = self.pods.get(*id);
            everyone || pod.is_some_and(|pod| namespaces.contains(pod.namespace.as_str()))
        };
        let pods: Vec<PodId> = source.pods.iter().filter(concerned).cloned().collect();
        self.wake(&pods);
    }

    pub(super) fn take_changed(&mut self, node: NodeId) -> BTreeSet<String> {
        let node = self.nodes.get_mut(&node);
        node.map(|node| std::mem::take(&mut node.changed))
            .unwrap_or_default()
    }

    fn current(&mut self, key: &Key, run: u64) -> Option<&mut Source> {
        self.sources.get_mut(key).filter(|source| source.run == run)
    }

    fn wake(&mut self, pods: &[PodId]) {
        for (node, uid) in pods {
            if let Some(node) = self.nodes.get_mut(node) {
                node.changed.insert(uid.clone());
                node.wake.notify_one();
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// Everything that a pod refers to, as keys.
fn keys(id: &PodId, pod: &PodObjects) -> BTreeSet<Key> {
    let named = |name: &String| (pod.namespace.clone(), name.clone());
    let mut keys = BTreeSet::new();
    for (namespace, name) in pod.config_maps.iter().map(named) {
        keys.insert(Key::ConfigMap(namespace, name));
    }
    for (namespace, name) in pod.secrets.iter().map(named) {
        keys.insert(Key::Secret(namespace, name));
    }
    for (namespace, name) in pod.claims.iter().map(named) {
        keys.insert(Key::Claim(namespace, name));
    }
    for (name, wanted) in &pod.tokens {
        keys.insert(Key::Token(id.clone(), name.clone(), wanted.clone()));
    }
    if pod.services {
        keys.insert(Key::Services);
    }
    keys
}

#[cfg(test)]
mod tests;
