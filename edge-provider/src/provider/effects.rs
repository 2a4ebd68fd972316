//! How each effect of the bridge is carried out.

use std::net::IpAddr;
use std::sync::Arc;

use edge_protocol::PodUid;
use edge_protocol::v1::EventLevel;
use edge_provider_core::{Effect, Kin, Line, Note, OpId, PodRefusal, PodView};
use edge_provider_translate::{NodeKind, Refused, Shown, Surroundings, pod_status};
use iot_hub_client::api::PutDeployment;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize as _;
use serde_json::Value;
use virtual_kubelet::core::admission;
use virtual_kubelet::{Annotations, EventText, PodEffect, PodLine, PodOwner};

use super::EdgeProvider;
use crate::hub::{HubCall, execute};
use crate::reading::READING;
use crate::wanted::{POD_IP, TAINT_NOT_ACKNOWLEDGED};

impl EdgeProvider {
    pub(super) fn carry_out(&mut self, effect: Effect, out: &mut Vec<PodEffect>) {
        match effect {
            Effect::Put { op, spec } => {
                let objects = self.reading.bodies(&spec.uid, &spec.manifest);
                let put = PutDeployment { spec: *spec, objects };
                self.call("put", op, HubCall::Put(Box::new(put)));
            }
            Effect::Delete {
                op,
                uid,
                grace_period_s,
            } => self.call("delete", op, HubCall::Delete { uid, grace_period_s }),
            Effect::Release { op, uid } => self.call("release", op, HubCall::Release { uid }),
            Effect::Show { uid, view } => {
                self.views.insert(uid.clone(), view);
                self.show(&uid, out);
            }
            Effect::Finish { op, uid, view } => {
                self.metrics.count("finish");
                out.push(PodEffect::Finish {
                    op: op.0,
                    status: self.render(&uid, &view),
                    uid: uid.to_string(),
                });
            }
            Effect::Event {
                uid,
                level,
                reason,
                message,
            } => out.extend(self.event(&uid, level, reason, message)),
            Effect::WakeAt(at) => self.wake_at = Some(at),
            Effect::Remember { seq, memory } => out.push(PodEffect::Remember {
                seq,
                text: memory.to_text(),
            }),
            Effect::ListPods => out.push(PodEffect::ListPods),
            Effect::LookElsewhere(line) => out.push(PodEffect::LookElsewhere(pod_line(line))),
            Effect::Report(note) => out.extend(self.report(&note)),
        }
    }

    fn call(&mut self, decision: &'static str, op: OpId, call: HubCall) {
        self.metrics.count(decision);
        tracing::debug!(op = op.0, ?call, "calling the hub");
        let (client, permits) = (self.hub.clone(), Arc::clone(&self.permits));
        self.calls.spawn(async move {
            let _permit = permits.acquire().await.expect("the semaphore is never closed");
            (op, execute(&client, call).await)
        });
    }

    /// What the pod was last to show, in the surroundings of now.
    pub(super) fn show(&self, uid: &PodUid, out: &mut Vec<PodEffect>) {
        let Some(view) = self.views.get(uid) else { return };
        let Some(status) = self.render(uid, view) else {
            return;
        };
        if let Some(pod) = self.pods.get(uid) {
            self.seat.shows(pod, &status);
        }
        out.push(PodEffect::Show {
            uid: uid.to_string(),
            status,
            annotations: self.annotations(view),
        });
    }

    /// Addresses that mean nothing outside the device stand in an annotation only.
    fn annotations(&self, view: &PodView) -> Annotations {
        let addresses = pod_ips(view);
        if addresses.is_empty() || self.face.kind() != NodeKind::Device {
            return Annotations::default();
        }
        let hidden = addresses
            .iter()
            .filter(|address| !self.face.is_routable(**address));
        let hidden: Vec<String> = hidden.map(ToString::to_string).collect();
        let shown = (POD_IP, (!hidden.is_empty()).then(|| hidden.join(",")));
        [shown].into_iter().collect()
    }

    /// The status that the pod should show. `None` when the object is not known or not a pod, which is logged.
    fn render<'v>(&self, uid: &PodUid, view: &'v PodView) -> Option<Value> {
        let observed = self.pods.get(uid)?;
        let pod = Pod::deserialize(&observed.raw)
            .inspect_err(|error| tracing::error!(%uid, %error, "the object is not a pod"))
            .ok()?;
        let refused = |refusal: &'v PodRefusal| Refused {
            reason: refusal.reason,
            message: &refusal.message,
        };
        let shown = match view {
            PodView::Accepted => Shown::Accepted,
            PodView::Refused(refusal) if refusal.reason == READING => Shown::Accepted,
            PodView::Refused(refusal) if admission::rejects(refusal.reason) => {
                Shown::Rejected(refused(refusal))
            }
            PodView::Refused(refusal) => Shown::Refused(refused(refusal)),
            PodView::Deployed(status) | PodView::EditRefused { status, .. } => Shown::Deployed(status),
            PodView::Stopped(status) => Shown::Stopped(status.as_deref()),
        };
        let host_ips = self.face.host_ips();
        let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let mut own = if on_host { host_ips.clone() } else { pod_ips(view) };
        own.retain(|address| self.face.is_routable(*address));
        let around = Surroundings {
            speaker: self.face.speaker(),
            now: Timestamp::now(),
            host_ips: &host_ips,
            pod_ips: &own,
            observed_generation: pod.metadata.generation,
            kubernetes: self.reading.kubernetes(),
            refused_edit: match view {
                PodView::EditRefused { refusal, .. } if refusal.reason != READING => Some(refused(refusal)),
                _ => None,
            },
        };
        let status = pod_status(&pod, shown, around);
        Some(serde_json::to_value(status).expect("a pod status has only text keys"))
    }

    fn event(
        &mut self,
        uid: &PodUid,
        level: EventLevel,
        reason: &'static str,
        message: String,
    ) -> Option<PodEffect> {
        if reason == READING {
            return None;
        }
        if reason == TAINT_NOT_ACKNOWLEDGED {
            let pod = self.pods.get(uid)?;
            self.notices
                .unacknowledged(uid, format!("{}/{}", pod.namespace, pod.name));
            return None;
        }
        let event = EventText {
            warning: level == EventLevel::Warning,
            reason: reason.to_owned(),
            message,
            teller: None,
            field_path: None,
            at: None,
        };
        Some(PodEffect::PodEvent {
            uid: uid.to_string(),
            event,
        })
    }

    fn report(&self, note: &Note) -> Option<PodEffect> {
        match note {
            Note::ListIgnored { why } => {
                self.metrics.count("list-ignored");
                tracing::warn!(why, "a list of pods was ignored");
                return Some(PodEffect::NodeEvent {
                    event: EventText {
                        warning: true,
                        reason: "PodListIgnored".to_owned(),
                        message: format!(
                            "{why}; nothing is started or removed on its ground. If the cluster was restored from a backup, stop \
                             outrigger-kubelet, remove the annotation outrigger.io/evidence from its leader lease, and start it"
                        ),
                        teller: None,
                        field_path: None,
                        at: None,
                    },
                });
            }
            Note::Released { uid } => {
                self.metrics.count("released");
                tracing::warn!(%uid, "released: the devices keep the workload");
            }
            Note::Succeeded { uid } => {
                self.metrics.count("succeeded");
                tracing::info!(%uid, "an orphan's successor is ready on another node: it stops");
            }
            Note::StopsAfter { uid } => {
                self.metrics.count("stops-after");
                tracing::info!(%uid, "an orphan's stop-after is over: it stops");
            }
            Note::PutWaits { uid, missing } => {
                tracing::info!(%uid, %missing, "waits for the fate of a missing predecessor");
            }
            Note::Retried { op, in_ms, message } => {
                self.metrics.count("retried");
                tracing::warn!(op = op.0, in_ms, error = message, "will be tried again");
            }
            Note::BrakeHolds { waiting, allowed } => {
                tracing::error!(waiting, allowed, "the brake holds removals back");
                return Some(PodEffect::NodeEvent {
                    event: EventText {
                        warning: true,
                        reason: "BrakeHolds".to_owned(),
                        message: format!(
                            "{waiting} workloads whose pods are gone keep running: more than {allowed} at once is not removed \
                             without a person; SIGUSR1 to outrigger-kubelet lets them go"
                        ),
                        teller: None,
                        field_path: None,
                        at: None,
                    },
                });
            }
        }
        None
    }
}

/// The addresses that the device gave the pod.
fn pod_ips(view: &PodView) -> Vec<IpAddr> {
    let status = match view {
        PodView::Deployed(status) | PodView::EditRefused { status, .. } => status,
        PodView::Accepted | PodView::Refused(_) | PodView::Stopped(_) => return Vec::new(),
    };
    status
        .workload
        .as_ref()
        .map_or_else(Vec::new, |word| word.pod_ips())
}

fn pod_line(line: Line) -> PodLine {
    let (name, owner) = match line.of {
        Kin::Controller(owner) => (String::new(), Some(owner)),
        Kin::Name(name) => (name, None),
    };
    PodLine {
        namespace: line.namespace,
        name,
        owner: owner.map(|owner| PodOwner {
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
        }),
    }
}
