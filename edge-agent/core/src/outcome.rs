//! What comes from the runtime: how steps ended, and what a look at it shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use edge_protocol::text::sanitise;
use edge_protocol::v1::{DnsPolicy, EventLevel, Manifest, Reason};
use edge_protocol::{Now, PodUid};

use crate::agent::{Agent, Reach};
use crate::health::Hook;
use crate::io::Note;
use crate::lifecycle::resize::{self, Change};
use crate::pulls::Took;
use crate::roster::Touch;
use crate::step::{
    ContainerResize, Observed, ObservedContainer, ObservedSandbox, ObservedState, SandboxSpec,
    StartContainer, Step, StepId, StepOutcome,
};
use crate::sums::Bounds;
use crate::words;
use crate::workload::{InFlight, Pod, Sight, Workload};

const NORMAL: EventLevel = EventLevel::Normal;

impl Agent {
    /// A complete look: what is not in it is not in the runtime. Of a workload that changed while it was taken, it says nothing.
    pub(crate) fn observe(&mut self, now: &Now, observed: Observed, told: u64) {
        let before = std::mem::replace(&mut self.reach, Reach::Seen);
        if before != Reach::Seen {
            self.roster.touch_all();
        }
        self.take_pods(by_workload(observed), told);
        let at = self.device_time(now);
        let mut adopted = Vec::new();
        self.roster.each(|uid, workload, pod| {
            if workload.changed_at > told {
                return Touch::No;
            }
            let cleared = std::mem::take(&mut workload.sight) != Sight::Clear;
            let Some(pod) = pod else {
                let forgot = !workload.stopped.is_empty();
                workload.stopped.clear();
                return Touch::of(cleared || forgot);
            };
            let mut touch = Touch::of(cleared).or(see(workload, pod, now.mono_ms));
            if workload.record.started.is_none() && (workload.disk.stored || workload.item.is_some()) {
                workload.record.started = Some(at);
                workload.disk.dirty = true;
                touch = Touch::Yes;
            }
            let live = pod.live().count();
            if before == Reach::Never && live > 0 {
                adopted.push((uid.clone(), live));
            }
            touch
        });
        for (uid, live) in adopted {
            self.event(
                now,
                &uid,
                (NORMAL, Reason::Adopted),
                None,
                &format!("Adopted {live} running containers"),
            );
            self.note(Note::Adopted { uid });
        }
    }

    /// What is not believed stays what it was; what no set named and the runtime no longer has is nothing.
    fn take_pods(&mut self, mut pods: BTreeMap<PodUid, Pod>, told: u64) {
        for (uid, workload) in self.roster.workloads() {
            if workload.changed_at > told {
                pods.remove(uid);
                pods.extend(self.roster.pod(uid).map(|pod| (uid.clone(), pod.clone())));
            }
        }
        for uid in pods.keys() {
            if self.roster.get(uid).is_none() {
                self.roster.ensure(uid);
            }
        }
        self.roster.observe(pods);
        let is_nothing = |(uid, workload): &(&PodUid, &Workload)| {
            let kept = workload.disk.stored || workload.disk.dirty || workload.disk.writing > 0;
            !kept && workload.item.is_none() && self.roster.pod(uid).is_none()
        };
        let nothing = self.roster.workloads().iter().filter(is_nothing);
        let nothing: Vec<PodUid> = nothing.map(|(uid, _)| uid.clone()).collect();
        for uid in nothing {
            self.roster.remove(&uid);
        }
    }

    /// The runtime cannot be looked at: nothing is concluded, statuses stay and say so.
    pub(crate) fn lose_sight(&mut self, message: &str) {
        if self.reach == Reach::Seen {
            self.reach = Reach::Lost;
        }
        self.reports.remark(&sanitise(&format!(
            "the container runtime is out of reach: {message}"
        )));
    }

    pub(crate) fn step_ended(&mut self, now: &Now, id: StepId, outcome: StepOutcome) {
        self.told += 1;
        let took = self.pulls.ended(id, now.mono_ms);
        // A step of an earlier life, or one told twice, is nobody's.
        let Some((uid, flight)) = self.roster.end_step(id) else {
            return;
        };
        if flight.step.touches_containers()
            && let Some(workload) = self.roster.get_mut(&uid)
        {
            workload.changed_at = self.told;
        }
        match outcome {
            StepOutcome::Failed { reason, message } => {
                self.step_failed(now, &uid, flight, reason, &sanitise(&message));
            }
            outcome if self.is_out_of_reach(&uid, &flight.step, &outcome) => {
                self.image_absent(now, &uid, flight);
            }
            outcome => self.step_done(now, &uid, flight, (outcome, took)),
        }
    }

    fn step_done(
        &mut self,
        now: &Now,
        uid: &PodUid,
        flight: InFlight,
        (outcome, took): (StepOutcome, Option<Took>),
    ) {
        let Some((workload, pod)) = self.roster.get_mut_with_pod(uid) else {
            return;
        };
        workload.failures.remove(&flight.subject);
        match (flight.step, outcome) {
            (Step::FindImage { image } | Step::PullImage { image, .. }, outcome) => {
                let StepOutcome::Image {
                    size_bytes,
                    image_id,
                    secret,
                } = outcome
                else {
                    return;
                };
                if took.is_some() {
                    self.image_pulled(uid, &image, (image_id, secret));
                }
                self.image_present(now, uid, (&image, size_bytes), took);
            }
            (
                Step::RunSandbox(spec),
                StepOutcome::Sandbox {
                    sandbox_id,
                    ips,
                    left_out,
                },
            ) => {
                workload.record.sandbox_attempt = workload.record.sandbox_attempt.max(Some(spec.attempt));
                workload.record.bounds = Some(Bounds::told(&spec));
                workload.disk.dirty = true;
                workload.blur(Sight::Changed);
                let manifest = Arc::clone(&spec.manifest);
                add_sandbox(pod, *spec, sandbox_id, ips, now);
                note_addresses(workload, pod);
                self.tell_resolver(now, uid, &manifest, &left_out);
            }
            (Step::StartContainer(start), StepOutcome::Started { container_id }) => {
                self.started(now, uid, &start, container_id);
            }
            (Step::StopContainer { container_id, .. }, outcome) => {
                // How it ended, only the runtime can tell.
                workload.stopped.insert(container_id.clone());
                workload.blur(Sight::Blind);
                if matches!(outcome, StepOutcome::HookFailed { .. }) {
                    self.pre_stop_failed(now, uid, &container_id);
                }
                self.note(Note::Stopped { uid: uid.clone() });
            }
            (Step::RemoveContainer { container_id }, _) => pod.containers.retain(|c| c.id != container_id),
            (Step::StopSandbox { sandbox_id }, _) => {
                if let Some(sandbox) = pod.sandboxes.iter_mut().find(|sandbox| sandbox.id == sandbox_id) {
                    sandbox.ready = false;
                }
                // What still lived in it was killed: see how it ended.
                if pod.live().any(|container| container.sandbox_id == sandbox_id) {
                    workload.blur(Sight::Blind);
                }
                workload.blur(Sight::Changed);
                workload.stopped.insert(sandbox_id);
            }
            (Step::RemoveSandbox { sandbox_id, .. }, _) => {
                pod.sandboxes.retain(|sandbox| sandbox.id != sandbox_id);
                pod.containers
                    .retain(|container| container.sandbox_id != sandbox_id);
            }
            (Step::RemoveWorkload { .. }, _) => workload.cleaned = true,
            (Step::SyncVolumes { manifest, .. }, _) => {
                // Those of a manifest that was replaced meanwhile are synced once more.
                if workload.manifest.as_ref() == Some(&manifest) {
                    workload.volumes = workload.record.manifest;
                }
            }
            (Step::PostStart(target), _) => self.hook_ended(uid, &target),
            (Step::Probe { kind, target, .. }, StepOutcome::Probed { finding, output }) => {
                self.probed(now, uid, (&target, kind), (finding, &output));
            }
            (Step::Resize { sandbox, containers }, _) => self.resized(uid, &sandbox, containers),
            (Step::Probe { .. }, _) => {}
            // The pump answered another question: only a look can tell what happened.
            (Step::RunSandbox(_) | Step::StartContainer(_), _) => workload.blur(Sight::Blind),
        }
    }

    /// As the kubelet, whose pods get the node's own resolver then (`GetPodDNS` of `pkg/kubelet/network/dns/dns.go`).
    fn tell_resolver(&mut self, now: &Now, uid: &PodUid, manifest: &Manifest, left_out: &[String]) {
        if manifest.workload.names.dns.policy == DnsPolicy::ClusterFirst && !self.config.cluster_dns {
            let what = (EventLevel::Warning, Reason::MissingClusterDNS);
            self.event(now, uid, what, None, &words::missing_cluster_dns(manifest));
        }
        for message in left_out {
            let what = (EventLevel::Warning, Reason::DNSConfigForming);
            self.event(now, uid, what, None, &sanitise(message));
        }
    }

    fn started(&mut self, now: &Now, uid: &PodUid, start: &StartContainer, container_id: String) {
        let Some((workload, pod)) = self.roster.get_mut_with_pod(uid) else {
            return;
        };
        let name = &start.container.name;
        let attempts = workload.record.attempts.entry(name.clone()).or_default();
        *attempts = (*attempts).max(start.attempt);
        workload.record.replacing.remove(name);
        match workload.record.ended.remove(name) {
            Some(ended) => drop(workload.record.last.insert(name.clone(), ended.status.state)),
            None => drop(workload.record.last.remove(name)),
        }
        workload.record.health.remove(name);
        let whole = start.sandbox.manifest.workload.resources.as_ref();
        let resources = start.container.resources.within(whole);
        workload.record.actuated.insert(name.clone(), resources);
        workload.disk.dirty = true;
        workload.halt_ms = None;
        let health = workload.health.entry(container_id.clone()).or_default();
        if start.container.lifecycle.post_start.is_some() {
            health.hook = Hook::Due;
        }
        workload.blur(Sight::Changed);
        pod.containers.retain(|container| container.id != container_id);
        pod.containers.push(ObservedContainer {
            id: container_id,
            sandbox_id: start.sandbox_id.clone(),
            uid: uid.clone(),
            name: name.clone(),
            attempt: start.attempt,
            image: start.container.image.clone(),
            image_id: String::new(),
            restart_digest: start.container.restart_digest,
            state: ObservedState::Running {
                started_at_ms: now.wall_ms,
            },
            resources: None,
            user: None,
        });
        let name = name.clone();
        self.event(now, uid, (NORMAL, Reason::Created), Some(&name), words::CREATED);
        self.event(
            now,
            uid,
            (NORMAL, Reason::Started),
            Some(&name),
            "Container started",
        );
        self.note(Note::Started {
            uid: uid.clone(),
            container: name,
        });
    }

    fn resized(&mut self, uid: &PodUid, sandbox: &SandboxSpec, containers: Vec<ContainerResize>) {
        let Some((workload, pod)) = self.roster.get_mut_with_pod(uid) else {
            return;
        };
        workload.record.bounds = Some(Bounds::told(sandbox));
        for ContainerResize {
            container_id,
            name,
            resources,
            ..
        } in containers
        {
            // Another instance was started with resources of its own.
            let current = pod.current(&name).filter(|current| current.id == container_id);
            if current.is_some() {
                let resources = resources.within(sandbox.manifest.workload.resources.as_ref());
                workload.record.actuated.insert(name, resources);
            }
        }
        workload.disk.dirty = true;
        workload.blur(Sight::Changed);
    }
}

/// Ordered by their ids, for runtimes list in any order.
fn by_workload(mut observed: Observed) -> BTreeMap<PodUid, Pod> {
    observed.sandboxes.sort_by(|one, other| one.id.cmp(&other.id));
    observed.containers.sort_by(|one, other| one.id.cmp(&other.id));
    let mut pods: BTreeMap<PodUid, Pod> = BTreeMap::new();
    for sandbox in observed.sandboxes {
        pods.entry(sandbox.uid.clone())
            .or_default()
            .sandboxes
            .push(sandbox);
    }
    for container in observed.containers {
        pods.entry(container.uid.clone())
            .or_default()
            .containers
            .push(container);
    }
    pods
}

/// What a look at one workload adds to memory, and whether it adds anything.
fn see(workload: &mut Workload, pod: &Pod, now_ms: u64) -> Touch {
    note_addresses(workload, pod);
    let stopped = workload.stopped.len();
    workload.stopped.retain(|id| {
        let container = pod.containers.iter().find(|container| container.id == *id);
        // A stop that ended well while its container runs was none.
        let still = container.is_some_and(|c| !matches!(c.state, ObservedState::Running { .. }));
        still
            || pod
                .sandboxes
                .iter()
                .any(|sandbox| sandbox.id == *id && !sandbox.ready)
    });
    // An intent to replace that was taken back before anything was stopped is over.
    let kept = |name: &String| {
        pod.current(name).is_some_and(|current| {
            let same = workload.all_containers().any(|s| {
                s.name == *name
                    && s.restart_digest == current.restart_digest
                    && resize::change(workload, s) != Change::Restart
            });
            let touched =
                workload.stopped.contains(&current.id) || workload.stop_deadline(&current.id).is_some();
            matches!(current.state, ObservedState::Running { .. }) && same && !touched
        })
    };
    let over: Vec<String> = workload
        .record
        .replacing
        .iter()
        .filter(|name| kept(name))
        .cloned()
        .collect();
    let mut touch = Touch::of(stopped != workload.stopped.len() || !over.is_empty());
    for name in over {
        workload.record.replacing.remove(&name);
        workload.disk.dirty = true;
    }
    for container in pod.containers.iter().filter(|container| !container.is_live()) {
        let crash = workload.crashes.entry(container.name.clone()).or_default();
        touch = touch.or(crash.saw_end(container.attempt, now_ms));
    }
    touch
}

fn note_addresses(workload: &mut Workload, pod: &Pod) {
    if let Some(sandbox) = pod.sandbox() {
        workload.ips = sandbox.shown_ips();
    }
}

fn add_sandbox(pod: &mut Pod, spec: SandboxSpec, id: String, ips: Vec<IpAddr>, now: &Now) {
    pod.sandboxes.retain(|sandbox| sandbox.id != id);
    pod.sandboxes.push(ObservedSandbox {
        id,
        uid: spec.uid,
        attempt: spec.attempt,
        ready: true,
        ips,
        created_at_ms: now.wall_ms,
    });
}
