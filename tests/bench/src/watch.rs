//! When the API server says what of the measured pods, by this process's monotonic clock.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Instant;

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::BenchError;

/// Far more than the conditions of all pods of one round, so that the watch never waits for its reader, which would falsify later times.
const CAPACITY: usize = 65_536;

/// Something that became true of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub pod: String,
    pub what: Change,
    /// When the watch event was read, before anything else was done with it.
    pub at: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A condition of this type is `True` for the first time.
    Condition(String),
    /// The object does not exist any more.
    Gone,
}

/// A watch of all pods of a namespace; it ends when it is dropped.
#[derive(Debug)]
pub struct PodWatch {
    seen: mpsc::Receiver<Seen>,
    _task: JoinSet<()>,
}

impl PodWatch {
    /// Starts the watch. Pods that exist already are reported as if they were new.
    pub fn start(pods: Api<Pod>) -> Self {
        let (sender, seen) = mpsc::channel(CAPACITY);
        let mut task = JoinSet::new();
        task.spawn(follow(pods, sender));
        Self { seen, _task: task }
    }

    /// The next change. Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`BenchError::WatchEnded`].
    pub async fn next(&mut self) -> Result<Seen, BenchError> {
        self.seen.recv().await.ok_or(BenchError::WatchEnded)
    }
}

/// A watch that is cut is taken up again by the stream itself, with backoff; the ledger closes the gap.
async fn follow(pods: Api<Pod>, sender: mpsc::Sender<Seen>) {
    let mut events = pin!(watcher(pods, watcher::Config::default()).default_backoff());
    let mut ledger = Ledger::default();
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                eprintln!("watch: {error}");
                continue;
            }
        };
        let at = Instant::now();
        for (pod, what) in ledger.enter(event) {
            if sender.send(Seen { pod, what, at }).await.is_err() {
                return;
            }
        }
    }
}

/// What was reported already.
#[derive(Debug, Default)]
struct Ledger {
    /// Conditions that were seen true, by pod.
    known: BTreeMap<String, BTreeSet<String>>,
    /// Those of a list that is being read.
    listed: BTreeSet<String>,
}

impl Ledger {
    /// The changes that an event tells for the first time.
    fn enter(&mut self, event: watcher::Event<Pod>) -> Vec<(String, Change)> {
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            watcher::Event::InitApply(pod) => {
                self.listed.insert(pod.name_any());
                self.see(&pod)
            }
            watcher::Event::InitDone => {
                let gone: Vec<String> = self
                    .known
                    .keys()
                    .filter(|name| !self.listed.contains(*name))
                    .cloned()
                    .collect();
                gone.into_iter().filter_map(|name| self.forget(name)).collect()
            }
            watcher::Event::Apply(pod) => self.see(&pod),
            watcher::Event::Delete(pod) => self.forget(pod.name_any()).into_iter().collect(),
        }
    }

    fn see(&mut self, pod: &Pod) -> Vec<(String, Change)> {
        let name = pod.name_any();
        let known = self.known.entry(name.clone()).or_default();
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let mut changes: Vec<&String> = conditions
            .filter(|condition| condition.status == "True" && known.insert(condition.type_.clone()))
            .map(|condition| &condition.type_)
            .collect();
        // Whoever waits for Ready stops reading there, and shall know by then what came with it.
        changes.sort_by_key(|condition| *condition == "Ready");
        changes
            .into_iter()
            .map(|condition| (name.clone(), Change::Condition(condition.clone())))
            .collect()
    }

    fn forget(&mut self, name: String) -> Option<(String, Change)> {
        self.known.remove(&name).map(|_| (name, Change::Gone))
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, conditions: &[(&str, &str)]) -> Pod {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status)| json!({ "type": kind, "status": status }))
            .collect();
        serde_json::from_value(
            json!({ "metadata": { "name": name }, "status": { "conditions": conditions } }),
        )
        .unwrap()
    }

    fn became(name: &str, condition: &str) -> (String, Change) {
        (name.to_owned(), Change::Condition(condition.to_owned()))
    }

    #[test]
    fn each_change_is_told_once_and_a_pod_missing_from_a_list_is_gone() {
        let mut ledger = Ledger::default();
        let mut check = |given: Event<Pod>, expect: &[(String, Change)]| {
            assert_eq!(ledger.enter(given), expect);
        };
        check(Event::Apply(pod("a", &[("Ready", "False")])), &[]);
        let both = [("Ready", "True"), ("ContainersReady", "True")];
        check(
            Event::Apply(pod("a", &both)),
            &[became("a", "ContainersReady"), became("a", "Ready")],
        );
        check(Event::Apply(pod("a", &both)), &[]);
        check(Event::Apply(pod("b", &[])), &[]);
        check(Event::Init, &[]);
        check(
            Event::InitApply(pod("b", &[("Ready", "True")])),
            &[became("b", "Ready")],
        );
        check(Event::InitDone, &[("a".to_owned(), Change::Gone)]);
        check(Event::Delete(pod("b", &[])), &[("b".to_owned(), Change::Gone)]);
        check(Event::Delete(pod("b", &[])), &[]);
        check(
            Event::Apply(pod("a", &[("Ready", "True")])),
            &[became("a", "Ready")],
        );
    }
}
