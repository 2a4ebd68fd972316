//! What is in the way of a workload that is to run, or of no use to it any more.

use edge_protocol::v1::{ContainerSpec, Manifest};

use crate::plan::{Given, Plan};
use crate::step::{ObservedContainer, ObservedState, Step};
use crate::teardown::{Order, stop};
use crate::workload::Subject;

pub(crate) fn grace_deadline(given: &Given<'_>) -> u64 {
    given.now.mono_ms + u64::from(given.workload.grace_s()) * 1_000
}

/// Older instances beside a live one, instances of containers that are not in the manifest, and exited ones beyond the last two.
pub(crate) fn containers(given: &Given<'_>, manifest: &Manifest, plan: &mut Plan) {
    for container in &given.pod.containers {
        let specified = manifest
            .workload
            .every_container()
            .any(|spec| spec.name == container.name);
        let current = given
            .pod
            .current(&container.name)
            .is_some_and(|current| current.id == container.id);
        if container.is_live() {
            let lost = given
                .pod
                .sandbox()
                .is_none_or(|sandbox| sandbox.id != container.sandbox_id);
            if !specified || !current || lost {
                stop(given, plan, container, Order::by(grace_deadline(given)));
            }
        } else {
            let newer_ended = given
                .pod
                .containers
                .iter()
                .filter(|c| c.name == container.name && !c.is_live())
                .filter(|c| (c.attempt, &c.id) > (container.attempt, &container.id))
                .count();
            let kept = usize::from(
                given
                    .pod
                    .current(&container.name)
                    .is_some_and(|current| !current.is_live()),
            );
            if !specified || (!current && newer_ended > kept) {
                remove(given, plan, container);
            }
        }
    }
}

/// Sandboxes that nothing will start in: stopped once nothing lives in them, removed once no container needs them.
pub(crate) fn sandboxes(given: &Given<'_>, plan: &mut Plan) {
    let current = given.pod.sandbox().map(|sandbox| sandbox.id.as_str());
    for sandbox in given
        .pod
        .sandboxes
        .iter()
        .filter(|sandbox| Some(sandbox.id.as_str()) != current)
    {
        let mut inside = given
            .pod
            .containers
            .iter()
            .filter(|c| c.sandbox_id == sandbox.id)
            .peekable();
        let subject = Subject::Sandbox(sandbox.id.clone());
        if inside.peek().is_none() && given.workload.stopped.contains(&sandbox.id) {
            let step = Step::RemoveSandbox {
                sandbox_id: sandbox.id.clone(),
                uid: given.uid.clone(),
            };
            given.try_step(plan, subject, step);
        } else if !inside.any(ObservedContainer::is_live) && !given.workload.stopped.contains(&sandbox.id) {
            given.try_step(
                plan,
                subject,
                Step::StopSandbox {
                    sandbox_id: sandbox.id.clone(),
                },
            );
        }
    }
}

/// As the kubelet, an instance in an unknown state is stopped before another starts; one that stays lost is removed by force.
pub(crate) fn clear(given: &Given<'_>, spec: &ContainerSpec, plan: &mut Plan) {
    let Some(current) = given.pod.current(&spec.name) else {
        return;
    };
    let stopped = given.workload.stopped.contains(&current.id);
    if current.state == ObservedState::Unknown && !stopped {
        stop(given, plan, current, Order::by(grace_deadline(given)));
    } else {
        remove(given, plan, current);
    }
}

/// Not while it is being started: a runtime refuses that.
pub(crate) fn remove(given: &Given<'_>, plan: &mut Plan, container: &ObservedContainer) {
    if !given.workload.in_flight(&Subject::Start(container.name.clone())) {
        let step = Step::RemoveContainer {
            container_id: container.id.clone(),
        };
        given.try_step(plan, Subject::Container(container.id.clone()), step);
    }
}
