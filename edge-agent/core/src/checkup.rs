//! What hooks and probes tell of a running container.

use edge_protocol::text::sanitise;
use edge_protocol::v1::{ContainerSpec, EventLevel, Reason};
use edge_protocol::{Now, PodUid};

use crate::agent::Agent;
use crate::backoff::Failure;
use crate::health::{Doom, Hook, Life, mind, probe_of};
use crate::probe::Verdict;
use crate::step::{Finding, InContainer, ProbeKind};
use crate::workload::{Subject, Workload};

const WARNING: EventLevel = EventLevel::Warning;

impl Agent {
    /// Probes begin and end with what runs.
    pub(crate) fn mind_health(&mut self, now: &Now) {
        let mut life = Life {
            began_ms: self.began_ms,
            rng: &mut self.rng,
        };
        self.roster
            .attend(|_, workload, pod| mind(workload, pod, now, &mut life));
    }

    /// A probe of this instance is run now.
    pub(crate) fn probe_begins(&mut self, now: &Now, uid: &PodUid, target: &InContainer, kind: ProbeKind) {
        let Some((workload, spec)) = self.probed_container(uid, &target.container_id) else {
            return;
        };
        let health = workload.health.get_mut(&target.container_id);
        if let Some(prober) = health.and_then(|health| health.prober_mut(kind))
            && let Some(probe) = probe_of(&spec, kind)
        {
            prober.begins(probe, now.mono_ms);
        }
    }

    pub(crate) fn probed(
        &mut self,
        now: &Now,
        uid: &PodUid,
        (target, kind): (&InContainer, ProbeKind),
        (finding, output): (Finding, &str),
    ) {
        let id = &target.container_id;
        let Some((workload, spec)) = self.probed_container(uid, id) else {
            return;
        };
        let Some(health) = workload.health.get_mut(id) else {
            return;
        };
        let (Some(prober), Some(probe)) = (health.prober_mut(kind), probe_of(&spec, kind)) else {
            return;
        };
        let news = prober.ended(probe, finding);
        let fatal = prober.verdict() == Verdict::Failure;
        match kind {
            ProbeKind::Startup if fatal => health.doom = Some(Doom::Startup),
            ProbeKind::Liveness if fatal => health.doom = Some(Doom::Liveness),
            _ => {}
        }
        if news.turned() {
            remember(workload, &spec, id);
        }
        if news.told() {
            let (reason, what) = match finding {
                Finding::Warning => (Reason::ProbeWarning, "warning"),
                Finding::Success | Finding::Failure => (Reason::Unhealthy, "failed"),
            };
            let message = format!("{kind:?} probe {what}: {}", sanitise(output));
            self.event(now, uid, (WARNING, reason), Some(&spec.name), &message);
        }
    }

    /// A probe that cannot be run counts for nothing; it is told once, until it can be run again.
    pub(crate) fn probe_failed(
        &mut self,
        now: &Now,
        uid: &PodUid,
        (target, kind): (&InContainer, ProbeKind),
        (reason, message): (Reason, &str),
    ) {
        let Some((workload, spec)) = self.probed_container(uid, &target.container_id) else {
            return;
        };
        let failure = Failure {
            delay_ms: 0,
            since_ms: now.mono_ms,
            until_ms: now.mono_ms,
            fresh_until_ms: None,
            reason,
            message: message.to_owned(),
        };
        let subject = Subject::Probe(target.container_id.clone(), kind);
        if workload.failures.insert(subject, failure).is_none() {
            let message = format!("{kind:?} probe errored and resulted in unknown state: {message}");
            self.event(now, uid, (WARNING, Reason::Unhealthy), Some(&spec.name), &message);
        }
    }

    pub(crate) fn hook_ended(&mut self, uid: &PodUid, target: &InContainer) {
        let Some((workload, spec)) = self.probed_container(uid, &target.container_id) else {
            return;
        };
        if let Some(health) = workload.health.get_mut(&target.container_id) {
            health.hook = Hook::Past;
            remember(workload, &spec, &target.container_id);
        }
    }

    /// As in `startContainer` of the kubelet: the container is killed. What the hook printed is in no event, for it may hold secrets.
    pub(crate) fn hook_failed(&mut self, now: &Now, uid: &PodUid, target: &InContainer, message: &str) {
        let Some((workload, spec)) = self.probed_container(uid, &target.container_id) else {
            return;
        };
        let Some(health) = workload.health.get_mut(&target.container_id) else {
            return;
        };
        health.hook = Hook::Past;
        health.doom = Some(Doom::PostStart);
        let failure = Failure {
            delay_ms: 0,
            since_ms: now.mono_ms,
            until_ms: now.mono_ms,
            fresh_until_ms: None,
            reason: Reason::PostStartHookError,
            message: message.to_owned(),
        };
        workload
            .failures
            .insert(Subject::Start(spec.name.clone()), failure);
        let what = (WARNING, Reason::FailedPostStartHook);
        self.event(now, uid, what, Some(&spec.name), "PostStartHook failed");
    }

    pub(crate) fn pre_stop_failed(&mut self, now: &Now, uid: &PodUid, container_id: &str) {
        let pod = self.roster.pod(uid);
        let container = pod.and_then(|pod| pod.containers.iter().find(|c| c.id == *container_id));
        let name = container.map(|container| container.name.clone());
        let what = (WARNING, Reason::FailedPreStopHook);
        self.event(now, uid, what, name.as_deref(), "PreStopHook failed");
    }

    /// The workload, and what its container of this runtime id is made from.
    fn probed_container(&mut self, uid: &PodUid, id: &str) -> Option<(&mut Workload, ContainerSpec)> {
        let (workload, pod) = self.roster.get_mut_with_pod(uid)?;
        let container = pod.containers.iter().find(|container| container.id == id)?;
        let spec = workload
            .all_containers()
            .find(|spec| spec.name == container.name)?
            .clone();
        Some((workload, spec))
    }
}

/// Keeps on disk what the next life of the agent must not take for unknown.
fn remember(workload: &mut Workload, spec: &ContainerSpec, id: &str) {
    if spec.probes.startup.is_none() && spec.probes.readiness.is_none() {
        return;
    }
    let Some(health) = workload.health.get(id) else {
        return;
    };
    let remembered = health.remember(id);
    let kept = &mut workload.record.health;
    if kept.get(&spec.name) != Some(&remembered) {
        kept.insert(spec.name.clone(), remembered);
        workload.disk.dirty = true;
    }
}
