//! The pods of all nodes of the process, as each node's pump last saw them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use serde_json::Value;
use virtual_kubelet::ObservedPod;

/// By node, namespace and name. Of two pods of one name the younger one is there: the older has left the API server.
type Pods = BTreeMap<String, BTreeMap<(String, String), Entry>>;

#[derive(Debug)]
struct Entry {
    pod: Arc<ObservedPod>,
    /// Its containers that run, by the device's newest word: the API server may hear it later.
    running: Arc<[RunningContainer]>,
}

/// A container as its pod's status shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningContainer {
    pub name: String,
    /// By the device's clock.
    pub since: Option<Timestamp>,
}

/// Shared by the pumps, which write, and the kubelet API. Nothing waits while it is held.
#[derive(Debug, Clone, Default)]
pub struct PodTable(Arc<RwLock<Pods>>);

impl PodTable {
    /// What one node's pump writes.
    pub fn node(&self, node: &str) -> NodePods {
        NodePods {
            table: self.clone(),
            node: node.to_owned(),
        }
    }

    pub fn get(&self, node: &str, namespace: &str, name: &str) -> Option<Arc<ObservedPod>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.read(|pods| Some(Arc::clone(&pods.get(node)?.get(&key)?.pod)))
    }

    /// In the order of namespace and name.
    pub fn of_node(&self, node: &str) -> Vec<Arc<ObservedPod>> {
        self.select(node, |_| true)
    }

    /// Those of which a container runs, and which nobody is deleting.
    pub fn running(&self, node: &str) -> Vec<Arc<ObservedPod>> {
        self.select(node, |entry| {
            let is_leaving = entry.pod.raw.pointer("/metadata/deletionTimestamp").is_some();
            !entry.running.is_empty() && !is_leaving
        })
    }

    /// The containers that run, of each pod that has some, by its UID.
    pub fn running_containers(&self, node: &str) -> BTreeMap<String, Arc<[RunningContainer]>> {
        self.read(|pods| {
            let own = pods.get(node).into_iter().flat_map(BTreeMap::values);
            own.filter(|entry| !entry.running.is_empty())
                .map(|entry| (entry.pod.uid.clone(), Arc::clone(&entry.running)))
                .collect()
        })
    }

    fn select(&self, node: &str, choose: impl Fn(&Entry) -> bool) -> Vec<Arc<ObservedPod>> {
        self.read(|pods| {
            let own = pods.get(node).into_iter().flat_map(BTreeMap::values);
            let chosen = own.filter(|entry| choose(entry));
            chosen.map(|entry| Arc::clone(&entry.pod)).collect()
        })
    }

    /// The node that a pod is bound to.
    pub fn node_of(&self, namespace: &str, name: &str) -> Option<String> {
        let key = (namespace.to_owned(), name.to_owned());
        self.read(|pods| {
            let (node, _) = pods.iter().find(|(_, pods)| pods.contains_key(&key))?;
            Some(node.clone())
        })
    }

    // A pump that panicked ends the process; until then what it wrote last is as good as before.
    fn read<T>(&self, look: impl FnOnce(&Pods) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Pods)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// One node's part of the table. Dropping it takes the node out.
#[derive(Debug)]
pub struct NodePods {
    table: PodTable,
    node: String,
}

impl NodePods {
    pub fn seen(&self, pod: &Arc<ObservedPod>) {
        self.table.write(|pods| {
            let own = pods.entry(self.node.clone()).or_default();
            let key = (pod.namespace.clone(), pod.name.clone());
            let before = own.get(&key).filter(|before| before.pod.uid == pod.uid);
            let running = before.map_or_else(
                || running(pod.raw.get("status")),
                |before| Arc::clone(&before.running),
            );
            let pod = Arc::clone(pod);
            own.insert(key, Entry { pod, running });
        });
    }

    /// The status that it is to show from now on.
    pub fn shows(&self, pod: &ObservedPod, status: &Value) {
        self.table.write(|pods| {
            let key = (pod.namespace.clone(), pod.name.clone());
            let entry = pods.get_mut(&self.node).and_then(|own| own.get_mut(&key));
            if let Some(entry) = entry.filter(|entry| entry.pod.uid == pod.uid) {
                entry.running = running(Some(status));
            }
        });
    }

    pub fn gone(&self, pod: &ObservedPod) {
        self.retain(|other| other.uid != pod.uid);
    }

    /// Only these are left.
    pub fn retain(&self, keep: impl Fn(&ObservedPod) -> bool) {
        self.table.write(|pods| {
            if let Some(own) = pods.get_mut(&self.node) {
                own.retain(|_, entry| keep(&entry.pod));
            }
        });
    }
}

impl Drop for NodePods {
    fn drop(&mut self) {
        self.table.write(|pods| drop(pods.remove(&self.node)));
    }
}

fn running(status: Option<&Value>) -> Arc<[RunningContainer]> {
    let lists = [
        "initContainerStatuses",
        "containerStatuses",
        "ephemeralContainerStatuses",
    ];
    let statuses = lists
        .iter()
        .filter_map(|list| status?.get(list)?.as_array())
        .flatten();
    let running = |status: &Value| {
        let state = status.pointer("/state/running")?;
        Some(RunningContainer {
            name: status["name"].as_str().unwrap_or_default().to_owned(),
            since: state["startedAt"].as_str().and_then(|at| at.parse().ok()),
        })
    };
    statuses.filter_map(running).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str, raw: Value) -> Arc<ObservedPod> {
        Arc::new(ObservedPod {
            uid: uid.to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            raw,
            owner: None,
            namespace_labels: BTreeMap::new(),
            driven_away: false,
        })
    }

    #[test]
    fn each_node_writes_its_own_pods_and_they_go_with_it() {
        let table = PodTable::default();
        let (one, two) = (table.node("one"), table.node("two"));
        one.seen(&pod("web", "1", Value::Null));
        two.seen(&pod("db", "2", Value::Null));
        assert_eq!(table.node_of("shop", "db").as_deref(), Some("two"));
        assert!(table.get("one", "shop", "db").is_none());
        // A pod that takes the name of one before it stays when that one goes.
        one.seen(&pod("web", "3", Value::Null));
        one.gone(&pod("web", "1", Value::Null));
        assert_eq!(table.get("one", "shop", "web").unwrap().uid, "3");
        drop(one);
        assert!(table.of_node("one").is_empty());
        two.retain(|_| false);
        assert_eq!(table.node_of("shop", "db"), None);
    }

    #[test]
    fn a_pod_runs_while_a_container_does_and_nobody_deletes_it() {
        let running = json!([{"state": {"waiting": {}}}, {"state": {"running": {"startedAt": null}}}]);
        let leaving = json!({"metadata": {"deletionTimestamp": "x"}});
        for (raw, status, expected) in [
            (json!({}), json!({"containerStatuses": running}), true),
            (json!({}), json!({"initContainerStatuses": running}), true),
            (leaving, json!({"containerStatuses": running}), false),
            (
                json!({}),
                json!({"containerStatuses": [{"state": {"terminated": {}}}]}),
                false,
            ),
            (
                json!({"status": {"containerStatuses": running}}),
                json!({"phase": "Succeeded"}),
                false,
            ),
        ] {
            let table = PodTable::default();
            let (own, pod) = (table.node("one"), pod("web", "1", raw));
            own.seen(&pod);
            own.shows(&pod, &status);
            // The API server may show what was before.
            own.seen(&pod);
            assert_eq!(table.running("one").len(), usize::from(expected), "{status}");
        }
        let (table, own) = (PodTable::default(), "one");
        let own = table.node(own);
        own.seen(&pod(
            "web",
            "1",
            json!({"status": {"containerStatuses": running}}),
        ));
        assert_eq!(table.running("one").len(), 1, "as it was found");
    }
}
