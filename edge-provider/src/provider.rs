//! The pump of the bridge: executes its effects and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edge_protocol::{BootId, Now, PodUid};
use edge_provider_core::{Bridge, Input, OpId, Outcome, PodView};
use iot_hub_client::HubClient;
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use virtual_kubelet::{EventText, FinishOutcome, ObservedPod, PodEffect, PodInput, Provider};

use crate::hub::HubEvent;
use crate::kubelet_api::EndpointSight;
use crate::metrics::{Metrics, NodeShare};
use crate::notices::Notices;
use crate::reading::Reading;
use crate::streams::NodePods;
use crate::wanted;

use self::admissions::Admissions;
use self::face::Face;
use self::manifests::Manifests;

mod admissions;
mod effects;
pub mod face;
mod facts;
mod manifests;

/// Calls of the hub at the same time.
const CALLS: usize = 32;
/// A hub that is silent for less is not shown as unreachable: a restart is no outage.
const AWAY_AFTER: Duration = Duration::from_secs(10);

/// The channels to the tasks around it.
#[derive(Debug)]
pub struct Channels {
    pub hub_events: mpsc::Receiver<HubEvent>,
    /// Tells the hub's task which cluster this is.
    pub cluster: watch::Sender<Option<String>>,
    /// Counts how often an operator let held-back removals pass.
    pub brake_released: watch::Receiver<u64>,
    /// Tells that a node of this name has nothing left to do.
    pub over: mpsc::Sender<String>,
    /// The node's kubelet API.
    pub endpoint: EndpointSight,
}

/// The pump. Sole owner of the bridge.
pub struct EdgeProvider {
    face: Face,
    bridge: Bridge,
    started: Instant,
    boot_id: BootId,
    hub: HubClient,
    channels: Channels,
    calls: JoinSet<(OpId, Outcome)>,
    permits: Arc<Semaphore>,
    /// The objects as last seen: what a status is made on top of.
    pods: BTreeMap<PodUid, Arc<ObservedPod>>,
    /// The same, for those who ask the kubelet API.
    seat: NodePods,
    /// What each pod was last to show, for when only the surroundings of its status change.
    views: BTreeMap<PodUid, PodView>,
    /// Pods that were new here, and whether their author was told what is to be known.
    noted: BTreeMap<PodUid, bool>,
    /// The manifests that the hub has, to know an in-place resize.
    manifests: Manifests,
    /// Which pods may be on the Node.
    admissions: Admissions,
    /// What pods refer to.
    reading: Reading,
    /// Whether it was told that devices do not know where the API server is.
    told_api_server: bool,
    /// Since when the hub is silent, and what was last tried; `None` while it answers.
    silent: Option<(Instant, String)>,
    /// When that is shown in the Node.
    silent_due: Option<Instant>,
    /// Whether the API server has a Node of ours, as far as was told.
    has_node: bool,
    /// Whether it was told that nothing is left to do.
    told_over: bool,
    wake_at: Option<u64>,
    notices: Notices,
    /// What this node adds to the figures of the process.
    share: NodeShare,
    metrics: Metrics,
}

/// Which of its own sources has something to say.
enum Woken {
    Hub(HubEvent),
    Called(OpId, Outcome),
    Time,
    Gathered,
    Silent,
    /// Its kubelet API is elsewhere, or has another certificate.
    Endpoint,
    Released,
    /// There is news of what these pods refer to, or they have waited for it long enough to say so.
    Read(BTreeSet<PodUid>),
}

impl EdgeProvider {
    pub fn new(
        face: Face,
        bridge: Bridge,
        reading: Reading,
        hub: HubClient,
        seat: NodePods,
        channels: Channels,
        metrics: Metrics,
    ) -> Self {
        let now = Instant::now();
        Self {
            face,
            bridge,
            started: now,
            boot_id: BootId(uuid::Uuid::new_v4()),
            hub,
            channels,
            calls: JoinSet::new(),
            permits: Arc::new(Semaphore::new(CALLS)),
            pods: BTreeMap::new(),
            seat,
            views: BTreeMap::new(),
            noted: BTreeMap::new(),
            manifests: Manifests::default(),
            admissions: Admissions::default(),
            reading,
            told_api_server: false,
            silent: Some((now, "it was not yet asked".to_owned())),
            silent_due: Some(now + AWAY_AFTER),
            has_node: true,
            told_over: false,
            wake_at: None,
            notices: Notices::default(),
            share: NodeShare::of(&metrics),
            metrics,
        }
    }

    fn now(&self) -> Now {
        Now {
            mono_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall_ms: Timestamp::now().as_millisecond(),
            boot_id: self.boot_id,
        }
    }

    /// One step of the machine, and its effects.
    fn feed(&mut self, input: Input, out: &mut Vec<PodEffect>) {
        for effect in self.bridge.step(self.now(), input) {
            self.carry_out(effect, out);
        }
        self.share.show(self.bridge.is_ready(), self.bridge.held_back());
    }

    /// A device that is a node no longer, whose Node and pods are gone and of which the hub holds nothing, needs nobody here.
    fn tell_over(&mut self) {
        let is_over = self.face.is_over() && !self.has_node && self.bridge.is_spent();
        if is_over && !self.told_over {
            // When nobody could listen now, the next fact tells it again.
            self.told_over = self.channels.over.try_send(self.face.name().to_owned()).is_ok();
        } else if !is_over {
            self.told_over = false;
        }
    }

    async fn woken(&mut self) -> Woken {
        let far = Instant::now() + Duration::from_hours(1);
        let wake = self
            .wake_at
            .map_or(far, |at| self.started + Duration::from_millis(at));
        let gathered = self.notices.due().unwrap_or(far);
        let silent = self.silent_due.unwrap_or(far);
        let unread = self.reading.due().unwrap_or(far);
        tokio::select! {
            Some(event) = self.channels.hub_events.recv() => Woken::Hub(event),
            Some(ended) = self.calls.join_next() => {
                // A call is neither aborted nor does it panic; were the answer lost, the bridge would wait for ever.
                let (op, outcome) = ended.expect("a call of the hub ends with its outcome");
                Woken::Called(op, outcome)
            }
            () = sleep_until(wake) => Woken::Time,
            () = sleep_until(gathered) => Woken::Gathered,
            () = sleep_until(silent) => Woken::Silent,
            () = self.channels.endpoint.changed() => Woken::Endpoint,
            changed = self.reading.changed() => Woken::Read(changed),
            () = sleep_until(unread) => Woken::Read(self.reading.overdue()),
            Ok(()) = self.channels.brake_released.changed() => Woken::Released,
        }
    }
}

impl Provider for EdgeProvider {
    fn observe(&mut self, input: PodInput) -> Vec<PodEffect> {
        let mut out = Vec::new();
        match input {
            PodInput::Listed(snapshot) => self.list(snapshot, &mut out),
            PodInput::WatchedTo { resource_version } => {
                self.feed(Input::WatchedTo { resource_version }, &mut out);
            }
            PodInput::Elsewhere(found) => {
                let found = facts::elsewhere(found);
                self.feed(Input::Elsewhere(found), &mut out);
            }
            PodInput::Remembered { seq } => self.feed(Input::Remembered { seq }, &mut out),
            PodInput::Seen(pod) => {
                if let Some(wanted) = self.want(&pod, &mut out) {
                    self.feed(Input::PodSeen(Box::new(wanted)), &mut out);
                }
            }
            PodInput::Vanished(pod) => {
                if let Ok(uid) = PodUid::new(pod.uid.clone()) {
                    let cause = wanted::cause(pod.deletion_cause());
                    self.feed(
                        Input::PodVanished {
                            uid: uid.clone(),
                            cause,
                        },
                        &mut out,
                    );
                    self.pods.remove(&uid);
                    self.seat.gone(&pod);
                    self.views.remove(&uid);
                    self.noted.remove(&uid);
                    self.admissions.forget(&uid);
                    self.reading.forget(&uid);
                }
            }
            PodInput::Node { uid, facts } => {
                self.has_node = uid.is_some();
                self.feed(Input::NodeSeen { uid }, &mut out);
                let waited = self.admissions.learn(facts);
                self.look_again(waited, &mut out);
            }
            PodInput::NameTaken { provider_id } => {
                self.metrics.count("name-taken");
                tracing::error!(
                    node = self.face.name(),
                    provider_id,
                    "a node of this name is another's"
                );
                out.push(name_taken(self.face.name(), &provider_id));
            }
            PodInput::Finished { op, outcome } => {
                let outcome = match outcome {
                    FinishOutcome::Done => Outcome::Done,
                    FinishOutcome::Failed { message } => Outcome::Unavailable { message },
                };
                self.feed(
                    Input::Ended {
                        op: OpId(op),
                        outcome,
                    },
                    &mut out,
                );
            }
        }
        self.tell_over();
        out
    }

    async fn next(&mut self) -> Vec<PodEffect> {
        let mut out = Vec::new();
        match self.woken().await {
            Woken::Hub(event) => self.hub_says(event, &mut out),
            Woken::Called(op, outcome) => self.feed(Input::Ended { op, outcome }, &mut out),
            Woken::Time => {
                self.wake_at = None;
                self.feed(Input::Wake, &mut out);
            }
            Woken::Gathered => out.extend(
                self.notices
                    .gathered()
                    .map(|event| PodEffect::NodeEvent { event }),
            ),
            Woken::Silent => {
                self.silent_due = None;
                out.extend(self.node());
            }
            Woken::Endpoint => out.extend(self.node()),
            Woken::Released => self.feed(Input::BrakeReleased, &mut out),
            Woken::Read(uids) => self.look_again(uids, &mut out),
        }
        self.tell_over();
        out
    }
}

fn name_taken(name: &str, provider_id: &str) -> PodEffect {
    let whose = if provider_id.is_empty() {
        "none"
    } else {
        provider_id
    };
    PodEffect::NodeEvent {
        event: EventText {
            warning: true,
            reason: "NodeNameTaken".to_owned(),
            message: format!(
                "device {name} should be a Node of this name, but this one is another's (providerID {whose}): it is left alone, and the \
                 device has no Node"
            ),
            teller: None,
            field_path: None,
            at: None,
        },
    }
}

#[cfg(test)]
mod tests;
