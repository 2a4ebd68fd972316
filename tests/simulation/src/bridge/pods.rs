//! What the bridge's shell has with the API server: lists that may be lies, a watch that breaks, patches and the last delete.

use edge_protocol::PodUid;
use edge_provider_core::{Input, OpId, Outcome, PodList, PodView};

use crate::coverage::Path;
use crate::event::{BridgeEvent, Event};
use crate::pods::Pod;
use crate::trace::say;
use crate::world::World;

impl World {
    pub(crate) fn break_watch(&mut self) {
        self.bridge.watch.number += 1;
        self.bridge.watch.live = false;
        self.later(100, 5_000, BridgeEvent::ReadPods);
    }

    pub(super) fn read_pods(&mut self) {
        if self.bridge.watch.live {
            return;
        }
        if self.strikes(Path::ListFails, self.weather.http_fails) {
            say!(self, "bridge", "a list fails");
            return self.later(500, 5_000, BridgeEvent::ReadPods);
        }
        let lies = self.weather.list_lies;
        let lie = self.rng.chance(lies) && !self.bridge.lied;
        self.bridge.lies = lie;
        let list = if lie { self.lie() } else { self.api.list() };
        let delay = self.rng.within(5, 1_500);
        let now = self.now;
        let watch = &mut self.bridge.watch;
        watch.number += 1;
        watch.live = !lie;
        watch.since = now;
        watch.tail = now + delay;
        let stream = watch.number;
        say!(
            self,
            "bridge",
            "reads {}{} pods at {}",
            if lie { "a LIE of " } else { "" },
            list.pods.len(),
            list.resource_version
        );
        let input = Box::new(Input::PodsListed(list));
        self.later(delay, delay, BridgeEvent::Watch { stream, input });
        if lie {
            // The watch that follows a lie breaks soon.
            self.later(5_000, 70_000, BridgeEvent::ReadPods);
        }
    }

    /// What a proxy answers that is broken, or points elsewhere.
    fn lie(&mut self) -> PodList {
        let truth = self.api.list();
        let empty = PodList {
            pods: Vec::new(),
            ..truth.clone()
        };
        // What the very first list tells of is the cluster, for one that is told none.
        let knows = self.bridge.pinned || self.bridge.memory.cluster_uid.is_some();
        let first = usize::from(!knows);
        match first + self.rng.below(4 - first) {
            0 => {
                self.coverage.met(Path::ListOfOtherCluster);
                PodList {
                    cluster_uid: "cluster-2".to_owned(),
                    ..empty
                }
            }
            1 => {
                self.coverage.met(Path::ListOlder);
                PodList {
                    resource_version: truth.resource_version / 2,
                    ..empty
                }
            }
            2 => {
                self.coverage.met(Path::ListEmpty);
                empty
            }
            _ => {
                self.coverage.met(Path::ListOfThePast);
                let past: Vec<PodList> = self.api.past.iter().cloned().collect();
                self.rng.pick(&past).cloned().unwrap_or(empty)
            }
        }
    }

    fn watch(&mut self, input: Input) {
        if !self.bridge.watch.live || self.bridge.bridge.is_none() {
            return;
        }
        if self.strikes(Path::WatchBreaks, self.weather.watch_breaks) {
            say!(self, "bridge", "the watch breaks");
            return self.break_watch();
        }
        let due = (self.now + self.rng.within(2, 400)).max(self.bridge.watch.tail);
        self.bridge.watch.tail = due;
        let (life, stream) = (self.bridge.life, self.bridge.watch.number);
        let resource_version = self.api.resource_version;
        for input in [Input::WatchedTo { resource_version }, input] {
            let input = Box::new(input);
            let event = BridgeEvent::Watch { stream, input };
            self.queue.push(due, Event::Bridge(life, event));
        }
    }

    pub(crate) fn pod_changed(&mut self, uid: &PodUid) {
        self.api.bump();
        if let Some(pod) = self.api.pods.get(uid) {
            let input = Input::PodSeen(Box::new(pod.wanted()));
            self.watch(input);
        }
    }

    pub(crate) fn pod_gone(&mut self, pod: &Pod) {
        say!(self, "api", "{} is gone", pod.uid);
        let input = Input::PodVanished {
            uid: pod.uid.clone(),
            cause: pod.cause(),
        };
        self.watch(input);
    }

    pub(crate) fn node_changed(&mut self) {
        let uid = self.api.node.clone();
        say!(self, "api", "node is {uid:?}");
        if uid.is_none() {
            self.later(500, 12_000, BridgeEvent::EnsureNode);
        }
        self.later(2, 500, BridgeEvent::Input(Box::new(Input::NodeSeen { uid })));
    }

    pub(super) fn ensure_node(&mut self) {
        if self.api.create_node() {
            self.node_changed();
        }
    }

    pub(super) fn show(&mut self, uid: &PodUid, view: PodView) {
        let Some(pod) = self.api.pods.get_mut(uid) else {
            return;
        };
        if pod.shown.as_ref() == Some(&view) {
            return;
        }
        let was = pod.is_terminal();
        pod.shown = Some(view);
        let now_terminal = pod.is_terminal();
        if let Some(PodView::Deployed(status)) = &pod.shown {
            say!(
                self,
                "api",
                "{uid} shows {:?} ready={} {:?} {:?}",
                status.phase,
                status.ready,
                status.counts,
                status.state
            );
        }
        if was {
            self.coverage.met(Path::TerminalJudged);
        } else if now_terminal {
            self.coverage.met(Path::PodEnded);
        }
        if was && !now_terminal && !self.ledger.restored {
            return self.fail(format!("law of the API: {uid} left a terminal phase"));
        }
        self.pod_changed(uid);
    }

    pub(super) fn finish(&mut self, op: OpId, uid: &PodUid, view: PodView) {
        let fails = self.weather.http_fails;
        let fate = self.strikes(Path::FinishFails, fails).then(|| self.rng.flip());
        let arrives = fate != Some(false);
        if let Some(pod) = self
            .api
            .pods
            .get_mut(uid)
            .filter(|pod| arrives && pod.deletion.is_some())
        {
            pod.shown = Some(view);
            pod.finished = true;
            if pod.finalizer {
                self.pod_changed(uid);
            } else if let Some(pod) = self.api.remove(uid) {
                self.pod_gone(&pod);
            }
        }
        let outcome = match fate {
            None => Outcome::Done,
            Some(_) => Outcome::Unavailable {
                message: "no answer".to_owned(),
            },
        };
        self.later(2, 200, BridgeEvent::Input(Box::new(Input::Ended { op, outcome })));
    }
}
