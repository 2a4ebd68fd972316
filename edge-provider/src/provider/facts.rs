//! What the cluster and the hub say, as inputs of the bridge and as what the Node shows.

use std::collections::BTreeSet;
use std::sync::Arc;

use edge_protocol::PodUid;
use edge_protocol::v1::Owner;
use edge_provider_core::{Disconnect, Elsewhere, HeldDeployment, Input, Kin, Line, PodList, WantedPod};
use edge_provider_translate::NodeKind;
use iot_hub_client::api::DeviceEventRecord;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize as _;
use tokio::time::Instant;
use virtual_kubelet::core::HubWord;
use virtual_kubelet::core::tolerations::clear_seconds;
use virtual_kubelet::{ObservedPod, PodEffect, PodSnapshot, ReadyElsewhere};

use super::face::Face;
use super::{AWAY_AFTER, EdgeProvider};
use crate::hub::HubEvent;
use crate::notices::{api_server_unknown, events_forgotten, note_event};
use crate::wanted::{self, UNSUPPORTED_FIELD};

impl EdgeProvider {
    /// The pod as the bridge wants it, with what its author should hear.
    pub(super) fn want(
        &mut self,
        observed: &Arc<ObservedPod>,
        out: &mut Vec<PodEffect>,
    ) -> Option<WantedPod> {
        let uid = PodUid::new(observed.uid.clone())
            .inspect_err(|error| tracing::error!(%error, "the API server gave a pod that is none"))
            .ok()?;
        let held = self.manifests.get(&uid);
        let (admissions, is_held) = (&mut self.admissions, held.is_some());
        let admit = || admissions.judge(&uid, observed, is_held);
        let (reading, kind, mut looked) = (&mut self.reading, self.face.kind(), false);
        let look = || {
            looked = true;
            reading.look(&uid, observed, kind)
        };
        let wanted = wanted::wanted(observed, self.face.placing(), held, admit, look)?;
        let refused = matches!(&wanted.pod.plan, Err(refusal) if refusal.reason == UNSUPPORTED_FIELD);
        if !looked || refused {
            // Nothing is read for a pod that goes nowhere.
            self.reading.forget(&uid);
        }
        let is_new = observed
            .status()
            .is_none_or(|status| status.get("startTime").is_none());
        // Its status is written later than it is seen again, so that alone would tell it twice; and what it refers to is read later than it
        // is seen, when it is new no more.
        if is_new {
            self.noted.entry(uid.clone()).or_insert(false);
        }
        let waits = self
            .noted
            .get_mut(&uid)
            .filter(|noted| !**noted && !wanted.notes.is_empty());
        let tells = waits.map(|noted| *noted = true).is_some();
        let notes = wanted.notes.iter().filter(|_| tells);
        out.extend(notes.map(|note| PodEffect::PodEvent {
            uid: observed.uid.clone(),
            event: note_event(note),
        }));
        if self.face.kind() == NodeKind::Device && !self.reading.knows_api_server() && !self.told_api_server {
            self.told_api_server = true;
            out.push(PodEffect::NodeEvent {
                event: api_server_unknown(),
            });
        }
        let tolerations = observed
            .raw
            .get("spec")
            .and_then(|spec| spec.get("tolerations")?.as_array());
        let limited = tolerations.is_some_and(|raw| clear_seconds(raw, &observed.uid).is_some());
        let prevents = wanted.pod.disconnect != Disconnect::Replace && wanted.pod.plan.is_ok();
        if limited && prevents && wanted.pod.deletion.is_none() {
            out.push(PodEffect::ClearTolerationSeconds {
                uid: observed.uid.clone(),
            });
        }
        self.seat.seen(observed);
        self.pods.insert(uid, Arc::clone(observed));
        Some(wanted.pod)
    }

    pub(super) fn hub_says(&mut self, event: HubEvent, out: &mut Vec<PodEffect>) {
        match event {
            HubEvent::Answers => {
                self.silent = None;
                self.silent_due = None;
                self.metrics.hub_reachable.set(1);
                out.extend(self.node());
            }
            HubEvent::Silent(message) => self.note_silence(message),
            HubEvent::Devices(devices) => self.learn_devices(out, |face| face.list(devices)),
            HubEvent::Device(device) => self.learn_devices(out, |face| face.see(*device)),
            HubEvent::Deployments(held) => self.learn(held, out),
            HubEvent::Changed(held) => {
                self.manifests.learn(&held.spec.uid, &held.spec.manifest);
                self.feed(Input::DeploymentChanged(held), out);
            }
            HubEvent::Ended(uid) => {
                self.manifests.forget(&uid);
                self.feed(Input::DeploymentEnded { uid }, out);
            }
            HubEvent::Happened(record) => {
                if let Some(record) = self.notices.hold(record) {
                    self.happened(&record, out);
                }
            }
            HubEvent::Forgotten => out.push(PodEffect::NodeEvent {
                event: events_forgotten(),
            }),
        }
    }

    fn happened(&mut self, record: &DeviceEventRecord, out: &mut Vec<PodEffect>) {
        let pod = self.pods.get(&record.event.uid);
        let pod = pod.and_then(|pod| Pod::deserialize(&pod.raw).ok());
        let event = self.notices.happened(record, pod.as_ref(), self.face.kind());
        out.extend(event.map(|(uid, event)| PodEffect::PodEvent {
            uid: uid.to_string(),
            event,
        }));
    }

    /// What the hub says of devices may change the Node, and what its pods show: a device that is silent is not Ready, and its address is theirs.
    fn learn_devices(&mut self, out: &mut Vec<PodEffect>, learn: impl FnOnce(&mut Face)) {
        let shown = |face: &Face| (face.speaker(), face.host_ips());
        let before = shown(&self.face);
        learn(&mut self.face);
        out.extend(self.node());
        if shown(&self.face) != before {
            let all = self.views.keys().cloned().collect::<Vec<_>>();
            for uid in all {
                self.show(&uid, out);
            }
        }
    }

    /// There is news of what these pods refer to, or it is time to say that there is none.
    pub(super) fn look_again(&mut self, uids: BTreeSet<PodUid>, out: &mut Vec<PodEffect>) {
        for uid in uids {
            let Some(pod) = self.pods.get(&uid).map(Arc::clone) else {
                self.reading.forget(&uid);
                continue;
            };
            if let Some(wanted) = self.want(&pod, out) {
                self.feed(Input::PodSeen(Box::new(wanted)), out);
            }
        }
    }

    /// All deployments. Pods are read again first: only with its manifest in hand is an in-place resize seen as one.
    fn learn(&mut self, held: Vec<HeldDeployment>, out: &mut Vec<PodEffect>) {
        let listed: BTreeSet<&PodUid> = held.iter().map(|held| &held.spec.uid).collect();
        self.manifests.retain(|uid| listed.contains(uid));
        for held in &held {
            self.manifests.learn(&held.spec.uid, &held.spec.manifest);
        }
        if !self.bridge.is_ready() {
            let is_held = |(uid, _): &(&PodUid, &Arc<ObservedPod>)| self.manifests.get(uid).is_some();
            let known: Vec<_> = self
                .pods
                .iter()
                .filter(is_held)
                .map(|(_, pod)| Arc::clone(pod))
                .collect();
            for pod in &known {
                if let Some(wanted) = self.want(pod, out) {
                    self.feed(Input::PodSeen(Box::new(wanted)), out);
                }
            }
        }
        self.feed(Input::DeploymentsListed(held), out);
        let waited = self.admissions.know_hub();
        self.look_again(waited, out);
    }

    fn note_silence(&mut self, message: String) {
        self.metrics.hub_reachable.set(0);
        let since = self
            .silent
            .as_ref()
            .map_or_else(Instant::now, |(since, _)| *since);
        if self.silent.is_none() {
            self.silent_due = Some(since + AWAY_AFTER);
        }
        self.silent = Some((since, message));
    }

    /// What the Node shows. `None` before the hub said anything, unless it has been silent for a while.
    pub(super) fn node(&self) -> Option<PodEffect> {
        let away = self
            .silent
            .as_ref()
            .filter(|(since, _)| since.elapsed() >= AWAY_AFTER);
        let hub = match away {
            Some((_, message)) => HubWord::Silent {
                message: message.chars().take(512).collect(),
            },
            None => HubWord::Answers,
        };
        let endpoint = self.channels.endpoint.sight();
        let aim = self.face.aim(hub, self.reading.kubernetes(), endpoint.as_ref());
        aim.map(PodEffect::Node)
    }

    pub(super) fn list(&mut self, snapshot: PodSnapshot, out: &mut Vec<PodEffect>) {
        self.channels.cluster.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| snapshot.cluster_uid.clone());
            first
        });
        let is_ours = self.channels.cluster.borrow().as_ref() == Some(&snapshot.cluster_uid);
        let mut pods = Vec::new();
        if is_ours {
            let listed: BTreeSet<&str> = snapshot.pods.iter().map(|pod| pod.uid.as_str()).collect();
            self.pods.retain(|uid, _| listed.contains(uid.as_str()));
            self.seat.retain(|pod| listed.contains(pod.uid.as_str()));
            self.views.retain(|uid, _| listed.contains(uid.as_str()));
            self.noted.retain(|uid, _| listed.contains(uid.as_str()));
            self.admissions.retain(|uid| listed.contains(uid.as_str()));
            self.reading.retain(|uid| listed.contains(uid));
            pods.extend(snapshot.pods.iter().filter_map(|pod| self.want(pod, out)));
        }
        // A list of another cluster is handed on for the bridge to refuse; its pods are no business of ours.
        let list = PodList {
            cluster_uid: snapshot.cluster_uid,
            resource_version: snapshot.resource_version,
            node_uid: snapshot.node_uid,
            pods,
        };
        self.feed(Input::PodsListed(list), out);
        for record in self.notices.release() {
            self.happened(&record, out);
        }
    }
}

pub(super) fn elsewhere(found: ReadyElsewhere) -> Elsewhere {
    let of = match found.line.owner {
        Some(owner) => Kin::Controller(Owner {
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
        }),
        None => Kin::Name(found.line.name),
    };
    Elsewhere {
        cluster_uid: found.cluster_uid,
        line: Line {
            namespace: found.line.namespace,
            of,
        },
        wanted: found.wanted,
        ready: found.ready,
    }
}
