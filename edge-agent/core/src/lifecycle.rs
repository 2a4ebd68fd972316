//! A workload that is to run, by the kubelet's rules (`computePodActions` of `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
//!
//! `decide` says what one container needs next, by its own state, by `restart`, by `resize` and by its place in `order`; `start` is how it
//! comes to run. `deadline` and `reset` are about all of them at once.

mod deadline;
mod decide;
pub(crate) mod order;
mod reset;
pub(crate) mod resize;
pub(crate) mod restart;
mod start;

use std::sync::Arc;

use edge_protocol::v1::{ContainerSpec, Manifest, PullPolicy};

pub(crate) use self::decide::{Decision, decide};
use crate::allocation::Verdict;
use crate::health::{self, Doom, Scope};
use crate::plan::{Given, Mark, Plan};
use crate::record::Failed;
use crate::step::Step;
use crate::teardown::{self, Order};
use crate::tidy;
use crate::workload::{Pod, Subject, Workload};

/// How far a workload may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Shut,
    /// Images only: what it replaces still has the place.
    PullOnly,
    Open,
}

/// Whether every image that the next starts need is present: the moment from which what it replaces may stop.
pub(crate) fn images_ready(given: &Given<'_>) -> bool {
    let mut specs = given.workload.all_containers();
    specs.all(|spec| !wants_image(decide(given, spec)) || given.workload.images.contains(&spec.image))
}

/// A start of it is ahead. The image of one whose turn is not yet is pulled already: the link may be gone when its turn comes.
pub(crate) fn wants_image(decision: Decision) -> bool {
    matches!(
        decision,
        Decision::Start { .. } | Decision::NotYet | Decision::Replace
    )
}

/// It ended for good, and only its end is still to be told.
pub(crate) fn is_finished(given: &Given<'_>) -> bool {
    given.workload.record.failed.is_some() || order::mains_finished(given)
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
    let finished = order::mains_finished(given);
    if !finished && deadline::is_past(given, &mut plan) {
        return plan;
    }
    if reset::is_due(given) {
        reset::run(given, &mut plan);
        return plan;
    }
    if order::progress(given) == order::Progress::Failed {
        plan.marks.push(Mark::Failed(Failed {
            reason: None,
            message: String::new(),
            grace_s: None,
            disrupted: false,
        }));
        return plan;
    }
    let decisions: Vec<(&ContainerSpec, Decision)> = given
        .workload
        .every_container()
        .map(|spec| (spec, decide(given, spec)))
        .collect();
    tidy::containers(given, manifest, &mut plan);
    tidy::sandboxes(given, &mut plan);
    remember_ends(given, &decisions, &mut plan);
    if finished {
        teardown::halt(given, &mut plan);
        return plan;
    }
    if gate == Gate::PullOnly || start::has_volumes(given, manifest) {
        pull(given, manifest, &decisions, &mut plan);
    }
    for (spec, decision) in &decisions {
        match decision {
            Decision::Wait { attempt, until_ms } => wait(given, spec, (*attempt, *until_ms), &mut plan),
            Decision::Replace => replace(given, spec, &mut plan),
            Decision::Kill(doom) => kill(given, spec, *doom, &mut plan),
            Decision::Clear => tidy::clear(given, spec, &mut plan),
            _ => {}
        }
    }
    resize::plan(given, manifest, &decisions, &mut plan);
    if given.workload.record.resizing.is_some() && !resize::is_under_way(given) {
        plan.marks.push(Mark::Allocation(Verdict::InForce));
    }
    health::plan(given, Scope::All, &mut plan);
    if gate == Gate::Open {
        start::ready(given, manifest, &decisions, &mut plan);
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

fn pull(
    given: &Given<'_>,
    manifest: &Arc<Manifest>,
    decisions: &[(&ContainerSpec, Decision)],
    plan: &mut Plan,
) {
    for (spec, decision) in decisions {
        let wanted = wants_image(*decision);
        let planned = plan
            .steps
            .iter()
            .any(|p| p.subject == Subject::Image(spec.image.clone()));
        if wanted && !planned && !given.workload.images.contains(&spec.image) {
            let image = spec.image.clone();
            let pulls = given.workload.missing.contains(&image)
                || pull_policy(given.pod, given.workload, &image) == PullPolicy::Always;
            let step = if pulls {
                Step::PullImage {
                    image,
                    manifest: Arc::clone(manifest),
                }
            } else {
                Step::FindImage { image }
            };
            given.try_step(plan, Subject::Image(spec.image.clone()), step);
        }
    }
}

/// The policy for an image, of all containers that are made from it: what one of them may, the others get.
///
/// `Always` asks the registry when a container's spec is first started. A mere restart must not depend on a registry that may be
/// out of reach (law 5), so it takes the image that is there; here the device differs from a kubelet on purpose.
pub(crate) fn pull_policy(pod: &Pod, workload: &Workload, image: &str) -> PullPolicy {
    let restarts = |spec: &ContainerSpec| match pod.current(&spec.name) {
        Some(current) => current.restart_digest == spec.restart_digest,
        None => workload.record.attempts.contains_key(&spec.name),
    };
    let specs = || workload.every_container().filter(|spec| spec.image == image);
    if specs().any(|spec| spec.pull_policy == PullPolicy::Always && !restarts(spec)) {
        PullPolicy::Always
    } else if specs().all(|spec| spec.pull_policy == PullPolicy::Never) {
        PullPolicy::Never
    } else {
        PullPolicy::IfNotPresent
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
        let kind = if spec.is_sidecar() {
            "Init container"
        } else {
            "Container"
        };
        let what = if current.restart_digest == spec.restart_digest {
            "resize requires restart"
        } else {
            "definition changed, will be restarted"
        };
        let order = Order {
            deadline_ms: tidy::grace_deadline(given),
            why: Some(format!("{kind} {} {what}", spec.name)),
        };
        teardown::stop(given, plan, current, order);
    }
}

fn kill(given: &Given<'_>, spec: &ContainerSpec, doom: Doom, plan: &mut Plan) {
    if let Some(current) = given.pod.current(&spec.name) {
        let order = Order {
            deadline_ms: given.now.mono_ms + u64::from(health::grace_s(given, spec, doom)) * 1_000,
            why: Some(health::epitaph(given, spec, doom)),
        };
        teardown::stop(given, plan, current, order);
    }
}
