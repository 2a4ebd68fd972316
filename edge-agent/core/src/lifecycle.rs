//! A workload that is to run: which container starts, restarts, is replaced, waits or is finished, by the kubelet's rules
//! (`computePodActions` and `ShouldContainerBeRestarted` of pkg/kubelet).

use std::sync::Arc;

use edge_protocol::v1::{ContainerSpec, Manifest, PortSpec, PullPolicy, RestartPolicy};

use crate::plan::{Given, Mark, Plan};
use crate::step::{ObservedContainer, ObservedState, SandboxSpec, StartContainer, Step};
use crate::teardown::stop;
use crate::tidy;
use crate::workload::Subject;

/// How far a workload may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Shut,
    /// Images only: what it replaces still has the place.
    PullOnly,
    Open,
}

/// What one container needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It runs as specified.
    Keep,
    /// It will not run again.
    Finished,
    /// Crash back-off after this attempt.
    Wait {
        attempt: u32,
        until_ms: u64,
    },
    Start {
        attempt: u32,
    },
    /// It runs from another spec: pull, stop, start.
    Replace,
    /// An instance is in the way that never ran or that the runtime lost track of.
    Clear,
    /// It lives in a dead sandbox, which goes first.
    Blocked,
}

/// The decision for one container of the manifest.
pub(crate) fn decide(given: &Given<'_>, spec: &ContainerSpec) -> Decision {
    let record = &given.workload.record;
    let policy = given
        .manifest()
        .map_or(RestartPolicy::Always, |manifest| manifest.workload.restart_policy);
    let seen = given
        .pod
        .containers
        .iter()
        .filter(|c| c.name == spec.name)
        .map(|c| c.attempt)
        .max();
    let known = record.attempts.get(&spec.name).copied();
    let next = seen.max(known).map_or(0, |attempt| attempt.saturating_add(1));
    let replacing = record.replacing.contains(&spec.name);
    let Some(current) = given.pod.current(&spec.name) else {
        let over = match policy {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure => record.ended.contains_key(&spec.name),
            RestartPolicy::Never => known.is_some(),
        };
        return if over && !replacing {
            Decision::Finished
        } else {
            start(given, policy, next)
        };
    };
    match &current.state {
        state if current.is_live() => decide_live(given, spec, current, state),
        _ if replacing => start(given, policy, next),
        ObservedState::Exited { exit_code, .. } => {
            let again = match policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => *exit_code != 0,
                RestartPolicy::Never => false,
            };
            let until = given
                .workload
                .crashes
                .get(&spec.name)
                .and_then(|crash| crash.until_ms(current.attempt));
            match until {
                _ if !again => Decision::Finished,
                Some(until_ms) if until_ms > given.now.mono_ms => Decision::Wait {
                    attempt: current.attempt,
                    until_ms,
                },
                _ => start(given, policy, next),
            }
        }
        _ => Decision::Blocked,
    }
}

fn decide_live(
    given: &Given<'_>,
    spec: &ContainerSpec,
    current: &ObservedContainer,
    state: &ObservedState,
) -> Decision {
    let same = current.restart_digest == spec.restart_digest;
    if given
        .pod
        .sandbox()
        .is_none_or(|sandbox| sandbox.id != current.sandbox_id)
    {
        return Decision::Blocked;
    }
    match state {
        ObservedState::Running { .. } if same => Decision::Keep,
        ObservedState::Running { .. } => Decision::Replace,
        // The step finds it by its attempt and starts it.
        ObservedState::Created if same => Decision::Start {
            attempt: current.attempt,
        },
        _ => Decision::Clear,
    }
}

/// As the kubelet: a pod that never restarts gets no second sandbox once a container of it ran.
fn start(given: &Given<'_>, policy: RestartPolicy, attempt: u32) -> Decision {
    let ran = !given.workload.record.attempts.is_empty() || !given.pod.containers.is_empty();
    if policy == RestartPolicy::Never && given.pod.sandbox().is_none() && ran {
        Decision::Finished
    } else {
        Decision::Start { attempt }
    }
}

/// Whether every image that the next starts need is present: the moment from which what it replaces may stop.
pub(crate) fn images_ready(given: &Given<'_>) -> bool {
    given.workload.containers().iter().all(|spec| {
        !matches!(decide(given, spec), Decision::Start { .. } | Decision::Replace)
            || given.workload.images.contains(&spec.image)
    })
}

/// The next steps of a workload that is to run.
pub(crate) fn run(given: &Given<'_>, gate: Gate) -> Plan {
    let mut plan = Plan::default();
    let Some(manifest) = &given.workload.manifest else {
        return plan;
    };
    if gate == Gate::Shut {
        return plan;
    }
    let decisions: Vec<(&ContainerSpec, Decision)> = manifest
        .workload
        .containers
        .iter()
        .map(|spec| (spec, decide(given, spec)))
        .collect();
    tidy::containers(given, manifest, &mut plan);
    tidy::sandboxes(given, &mut plan);
    remember_ends(given, &decisions, &mut plan);
    pull(given, &decisions, &mut plan);
    for (spec, decision) in &decisions {
        match decision {
            Decision::Wait { attempt, until_ms } => wait(given, spec, (*attempt, *until_ms), &mut plan),
            Decision::Replace => replace(given, spec, &mut plan),
            Decision::Clear => tidy::clear(given, spec, &mut plan),
            _ => {}
        }
    }
    if decisions
        .iter()
        .all(|(_, decision)| *decision == Decision::Finished)
    {
        stop_finished(given, &mut plan);
    } else if gate == Gate::Open {
        start_ready(given, manifest, &decisions, &mut plan);
    }
    plan
}

fn remember_ends(given: &Given<'_>, decisions: &[(&ContainerSpec, Decision)], plan: &mut Plan) {
    let containers: Vec<String> = decisions
        .iter()
        .filter(|(spec, decision)| {
            *decision == Decision::Finished
                && given
                    .pod
                    .current(&spec.name)
                    .is_some_and(|current| !current.is_live())
                && !given.workload.record.ended.contains_key(&spec.name)
        })
        .map(|(spec, _)| spec.name.clone())
        .collect();
    if !containers.is_empty() {
        plan.marks.push(Mark::Ended { containers });
    }
}

fn pull(given: &Given<'_>, decisions: &[(&ContainerSpec, Decision)], plan: &mut Plan) {
    for (spec, decision) in decisions {
        let wanted = matches!(decision, Decision::Start { .. } | Decision::Replace);
        let planned = plan
            .steps
            .iter()
            .any(|p| p.subject == Subject::Image(spec.image.clone()));
        if wanted && !planned && !given.workload.images.contains(&spec.image) {
            let step = Step::EnsureImage {
                image: spec.image.clone(),
                policy: policy(given, decisions, spec),
            };
            given.try_step(plan, Subject::Image(spec.image.clone()), step);
        }
    }
}

/// `Always` asks the registry when a container's spec is first started. A mere restart must not depend on a registry that may be
/// out of reach (law 5), so it takes the image that is there; here the device differs from a kubelet on purpose.
fn policy(
    given: &Given<'_>,
    decisions: &[(&ContainerSpec, Decision)],
    image_of: &ContainerSpec,
) -> PullPolicy {
    let restarts = |spec: &ContainerSpec| match given.pod.current(&spec.name) {
        Some(current) => current.restart_digest == spec.restart_digest,
        None => given.workload.record.attempts.contains_key(&spec.name),
    };
    let always = decisions
        .iter()
        .filter(|(spec, _)| spec.image == image_of.image && !restarts(spec))
        .any(|(spec, _)| spec.pull_policy == PullPolicy::Always);
    match image_of.pull_policy {
        _ if always => PullPolicy::Always,
        PullPolicy::Always => PullPolicy::IfNotPresent,
        other => other,
    }
}

/// The kubelet tells of a back-off at each of its syncs and counts; here one wait is told once, when it begins.
fn wait(given: &Given<'_>, spec: &ContainerSpec, (attempt, until_ms): (u32, u64), plan: &mut Plan) {
    plan.wake(until_ms);
    let crash = given.workload.crashes.get(&spec.name);
    if crash.is_some_and(|crash| crash.is_news(attempt)) {
        plan.marks.push(Mark::BackingOff {
            container: spec.name.clone(),
            attempt,
        });
    }
}

/// Law 6: what runs goes on until the image of its successor is here, and the intent to start again is on disk.
fn replace(given: &Given<'_>, spec: &ContainerSpec, plan: &mut Plan) {
    if !given.workload.images.contains(&spec.image) {
        return;
    }
    if !given.workload.record.replacing.contains(&spec.name) {
        plan.marks.push(Mark::Replacing {
            container: spec.name.clone(),
        });
    } else if given.workload.is_settled()
        && let Some(current) = given.pod.current(&spec.name)
    {
        stop(given, plan, current, tidy::grace_deadline(given));
    }
}

/// As the kubelet: a pod whose containers all ended for good gives its network back.
fn stop_finished(given: &Given<'_>, plan: &mut Plan) {
    if given.pod.live().next().is_none()
        && let Some(sandbox) = given.pod.sandbox()
        && !given.workload.stopped.contains(&sandbox.id)
        && !given.workload.is_busy()
    {
        let step = Step::StopSandbox {
            sandbox_id: sandbox.id.clone(),
        };
        given.try_step(plan, Subject::Sandbox(sandbox.id.clone()), step);
    }
}

fn start_ready(
    given: &Given<'_>,
    manifest: &Arc<Manifest>,
    decisions: &[(&ContainerSpec, Decision)],
    plan: &mut Plan,
) {
    let coming = Subject::Sandbox(String::new());
    let starts = decisions.iter().filter_map(|(spec, decision)| match decision {
        Decision::Start { attempt } => Some((*spec, *attempt)),
        _ => None,
    });
    let Some(sandbox) = given.pod.sandbox() else {
        let clear = given.pod.live().next().is_none()
            && given
                .pod
                .sandboxes
                .iter()
                .all(|sandbox| given.workload.stopped.contains(&sandbox.id));
        if clear && starts.count() > 0 {
            let seen = given.pod.sandboxes.iter().map(|sandbox| sandbox.attempt).max();
            let attempt = seen
                .max(given.workload.record.sandbox_attempt)
                .map_or(0, |last| last.saturating_add(1));
            let spec = sandbox_spec(manifest, attempt);
            given.try_step(plan, coming, Step::RunSandbox(Box::new(spec)));
        }
        return;
    };
    if given.workload.in_flight(&coming) || given.workload.in_flight(&Subject::Sandbox(sandbox.id.clone())) {
        return;
    }
    for (spec, attempt) in starts {
        let touched = given
            .pod
            .instances(&spec.name)
            .iter()
            .any(|c| given.workload.in_flight(&Subject::Container(c.id.clone())) && c.attempt >= attempt);
        if given.workload.images.contains(&spec.image) && !touched {
            let step = StartContainer {
                sandbox_id: sandbox.id.clone(),
                sandbox: sandbox_spec(manifest, sandbox.attempt),
                attempt,
                container: spec.clone(),
                pod_ip: sandbox.ip.clone(),
            };
            given.try_step(
                plan,
                Subject::Start(spec.name.clone()),
                Step::StartContainer(Box::new(step)),
            );
        }
    }
}

/// The pod's sandbox with its cgroup, as `ResourceConfigForPod` of pkg/kubelet/cm sums it: a limit stands only if every container has one.
fn sandbox_spec(manifest: &Arc<Manifest>, attempt: u32) -> SandboxSpec {
    let containers = &manifest.workload.containers;
    let resources = || containers.iter().map(|spec| &spec.resources);
    let ports: Vec<PortSpec> = containers.iter().flat_map(|spec| spec.ports.clone()).collect();
    SandboxSpec {
        uid: manifest.uid.clone(),
        namespace: manifest.namespace.clone(),
        name: manifest.name.clone(),
        attempt,
        hostname: manifest.workload.hostname.clone(),
        qos: manifest.workload.qos,
        labels: manifest.labels.clone(),
        annotations: manifest.annotations.clone(),
        ports,
        manifest: Arc::clone(manifest),
        cpu_request_milli: resources()
            .map(|r| r.cpu_request_milli.or(r.cpu_limit_milli).unwrap_or(0))
            .fold(0, u64::saturating_add),
        cpu_limit_milli: resources()
            .map(|r| r.cpu_limit_milli)
            .try_fold(0u64, |sum, l| Some(sum.saturating_add(l?))),
        memory_limit_bytes: resources()
            .map(|r| r.memory_limit_bytes)
            .try_fold(0u64, |sum, l| Some(sum.saturating_add(l?))),
    }
}
