//! What is known of one running instance beside what the runtime shows: its `postStart` hook, its probes, and whether it must go.

use std::collections::BTreeMap;

use edge_protocol::Now;
use edge_protocol::v1::{ContainerSpec, Probe, RestartPolicy};
use serde::{Deserialize, Serialize};

use crate::backoff::Rng;
use crate::lifecycle::restart;
use crate::plan::{Given, Plan};
use crate::probe::{Prober, Verdict, period_ms};
use crate::step::{InContainer, ObservedContainer, ObservedState, ProbeKind, Step};
use crate::workload::{Pod, Subject, Workload};

/// Why a running container must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doom {
    Startup,
    Liveness,
    PostStart,
}

/// Where the `postStart` hook of an instance is. One that an earlier life of the agent began counts as past, as under a kubelet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Hook {
    #[default]
    Past,
    Due,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) hook: Hook,
    probers: BTreeMap<ProbeKind, Prober>,
    pub(crate) doom: Option<Doom>,
}

/// What outlives the agent: an instance that had started, or was ready, is not taken for less because the agent was restarted
/// (`setReadyStateOnKubeletRestart` of `pkg/kubelet/prober/prober_manager.go`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Remembered {
    /// The instance that this is about.
    pub(crate) container_id: String,
    pub(crate) started: bool,
    pub(crate) ready: bool,
}

/// How long an instance runs at least before it is probed. A kubelet learns of a start from its relist, each second
/// (`genericPlegRelistPeriod` of `pkg/kubelet/kubelet.go`), and probes no earlier: a program has that long to open its port.
const FIRST_LOOK_MS: u64 = 1_000;

const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

pub(crate) fn probe_of(spec: &ContainerSpec, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => spec.probes.startup.as_ref(),
        ProbeKind::Liveness => spec.probes.liveness.as_ref(),
        ProbeKind::Readiness => spec.probes.readiness.as_ref(),
    }
}

impl Health {
    pub(crate) fn prober_mut(&mut self, kind: ProbeKind) -> Option<&mut Prober> {
        self.probers.get_mut(&kind)
    }

    fn verdict(&self, kind: ProbeKind) -> Option<Verdict> {
        self.probers.get(&kind).map(Prober::verdict)
    }

    /// Its hook is past, and did not fail, and its startup probe, if it has one, succeeded.
    fn has_started(&self) -> bool {
        let passed = self.verdict(ProbeKind::Startup);
        let hooked = self.hook == Hook::Past && self.doom != Some(Doom::PostStart);
        hooked && passed.is_none_or(|verdict| verdict == Verdict::Success)
    }

    fn is_ready(&self) -> bool {
        let ready = self.verdict(ProbeKind::Readiness);
        self.has_started() && ready.is_none_or(|verdict| verdict == Verdict::Success)
    }

    pub(crate) fn remember(&self, container_id: &str) -> Remembered {
        Remembered {
            container_id: container_id.to_owned(),
            started: self.has_started(),
            ready: self.is_ready(),
        }
    }

    pub(crate) fn rebase(&mut self, now_ms: u64) {
        self.probers.values_mut().for_each(|prober| prober.rebase(now_ms));
    }
}

/// When a life of the agent began, and its source of chance.
pub(crate) struct Life<'a> {
    pub(crate) began_ms: u64,
    pub(crate) rng: &'a mut Rng,
}

impl Life<'_> {
    /// When a probe of an instance that was just found is run first: after its initial delay, [`FIRST_LOOK_MS`] at the least; while the agent
    /// is younger than the probe's period also at some moment within a period, so that a restart of the agent does not run them all at once.
    fn first_ms(&mut self, probe: &Probe, runs_since_ms: i64, now: &Now) -> u64 {
        let ran_ms = u64::try_from(now.wall_ms.saturating_sub(runs_since_ms)).unwrap_or(0);
        let delay_ms = (u64::from(probe.initial_delay_s) * 1_000).max(FIRST_LOOK_MS);
        let delay_ms = delay_ms.saturating_sub(ran_ms);
        let period = period_ms(probe);
        let spread = if now.mono_ms.saturating_sub(self.began_ms) < period {
            self.rng.below(period)
        } else {
            0
        };
        now.mono_ms + delay_ms.max(spread)
    }
}

/// Brings what is known up to date with what runs: probes begin with an instance and end with it.
pub(crate) fn mind(workload: &mut Workload, pod: Option<&Pod>, now: &Now, life: &mut Life<'_>) {
    let Some(manifest) = workload.manifest.clone() else {
        return;
    };
    let containers = pod.map_or(&[][..], |pod| &pod.containers);
    workload
        .health
        .retain(|id, _| containers.iter().any(|c| c.id == *id));
    let health = &workload.health;
    workload.failures.retain(|subject, _| match subject {
        Subject::Probe(id, _) | Subject::Hook(id) => health.contains_key(id),
        _ => true,
    });
    for container in containers {
        let ObservedState::Running { started_at_ms } = container.state else {
            continue;
        };
        let named = |spec: &&ContainerSpec| spec.name == container.name;
        let Some(spec) = manifest.workload.all_containers().find(named) else {
            continue;
        };
        let remembered = workload.record.health.get(&spec.name);
        let remembered = remembered.filter(|remembered| remembered.container_id == container.id);
        let health = workload.health.entry(container.id.clone()).or_default();
        for kind in KINDS {
            match probe_of(spec, kind) {
                None => drop(health.probers.remove(&kind)),
                Some(_) if health.probers.contains_key(&kind) => {}
                Some(probe) => {
                    let next_ms = life.first_ms(probe, started_at_ms, now);
                    let before = remembered.is_some_and(|remembered| match kind {
                        ProbeKind::Startup => remembered.started,
                        ProbeKind::Liveness => false,
                        ProbeKind::Readiness => remembered.ready,
                    });
                    let prober = if before {
                        Prober::succeeded_before(kind, next_ms)
                    } else {
                        Prober::new(kind, next_ms)
                    };
                    health.probers.insert(kind, prober);
                }
            }
        }
    }
}

impl Workload {
    pub(crate) fn doom(&self, container_id: &str) -> Option<Doom> {
        self.health.get(container_id)?.doom
    }

    /// As `isContainerStarted` of the kubelet's prober. Of an instance nothing is known of yet, what its spec has says it.
    pub(crate) fn has_started(&self, spec: &ContainerSpec, instance: &ObservedContainer) -> bool {
        let runs = matches!(instance.state, ObservedState::Running { .. });
        let health = self.health.get(&instance.id);
        runs && health.map_or(spec.probes.startup.is_none(), Health::has_started)
    }

    pub(crate) fn is_ready(&self, spec: &ContainerSpec, instance: &ObservedContainer) -> bool {
        let runs = matches!(instance.state, ObservedState::Running { .. });
        let unknown = spec.probes.startup.is_none() && spec.probes.readiness.is_none();
        runs && self.health.get(&instance.id).map_or(unknown, Health::is_ready)
    }

    /// Its `postStart` hook has not ended: nobody is told that it runs.
    pub(crate) fn awaits_hook(&self, container_id: &str) -> bool {
        let health = self.health.get(container_id);
        health.is_some_and(|health| health.hook == Hook::Due)
    }
}

/// Which probes are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    /// On the way out nothing is restarted any more, but it is still told who is ready (`doProbe`).
    Readiness,
}

/// The hooks and probes that are due.
pub(crate) fn plan(given: &Given<'_>, scope: Scope, plan: &mut Plan) {
    let Some(manifest) = given.manifest() else { return };
    for spec in manifest.workload.all_containers() {
        let Some(current) = given.pod.current(&spec.name) else {
            continue;
        };
        let Some(health) = given.workload.health.get(&current.id) else {
            continue;
        };
        let leaves = given.workload.stop_deadline(&current.id).is_some() || health.doom.is_some();
        let out = scope == Scope::All && leaves;
        if !matches!(current.state, ObservedState::Running { .. }) || out {
            continue;
        }
        if health.hook == Hook::Due {
            if let (Some(action), Scope::All) = (&spec.lifecycle.post_start, scope) {
                let step = Step::PostStart(Box::new(given.in_container(current, action)));
                given.try_step(plan, Subject::Hook(current.id.clone()), step);
            }
            continue;
        }
        for (kind, prober) in &health.probers {
            let meant = scope == Scope::All || *kind == ProbeKind::Readiness;
            let now = (*kind == ProbeKind::Startup) != health.has_started();
            let subject = Subject::Probe(current.id.clone(), *kind);
            let (Some(due), Some(probe)) = (prober.due_ms(), probe_of(spec, *kind)) else {
                continue;
            };
            if !meant || !now || given.workload.in_flight(&subject) {
                continue;
            }
            if due > given.now.mono_ms {
                plan.wake(due);
                continue;
            }
            let target: InContainer = given.in_container(current, &probe.action);
            let step = Step::Probe {
                kind: *kind,
                target: Box::new(target),
                timeout_s: probe.timeout_s,
            };
            plan.push(subject, step);
        }
    }
}

/// How long a doomed container has, in seconds (`setTerminationGracePeriod` of `kuberuntime_container.go`).
pub(crate) fn grace_s(given: &Given<'_>, spec: &ContainerSpec, doom: Doom) -> u32 {
    let probe = match doom {
        Doom::Startup => spec.probes.startup.as_ref(),
        Doom::Liveness => spec.probes.liveness.as_ref(),
        Doom::PostStart => None,
    };
    probe
        .and_then(|probe| probe.termination_grace_period_s)
        .unwrap_or_else(|| given.workload.grace_s())
}

/// What the event of its stop says (`computePodActions`).
pub(crate) fn epitaph(given: &Given<'_>, spec: &ContainerSpec, doom: Doom) -> String {
    let probe = match doom {
        Doom::PostStart => return "FailedPostStartHook".to_owned(),
        Doom::Startup => "startup",
        Doom::Liveness => "liveness",
    };
    let name = &spec.name;
    if spec.is_sidecar() {
        format!("Init container {name} failed {probe} probe")
    } else if restart::policy(given, spec) == RestartPolicy::Never {
        format!("Container {name} failed {probe} probe")
    } else {
        format!("Container {name} failed {probe} probe, will be restarted")
    }
}
