//! The conditions that a kubelet owns, in its order and words (`pkg/kubelet/status/generate.go`).

use edge_protocol::text::sanitise;
use edge_protocol::v1::WorkloadStatus;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::jiff::Timestamp;

use super::super::conditions::{CONTAINERS_READY, Conditions, Draft, INITIALIZED, READY, draft};
use super::super::containers::have_started;
use super::super::{FAILED, Refused, SUCCEEDED, Shown, Surroundings, time};
use super::{Facts, is_rejected, resizing};

const SANDBOX: &str = "PodReadyToStartContainers";
const SCHEDULED: &str = "PodScheduled";
const RESTARTING: &str = "AllContainersRestarting";
const DISRUPTED: &str = "DisruptionTarget";
const SILENT: &str = "DeviceSilent";

pub(super) fn all(
    facts: &Facts<'_>,
    previous: &PodStatus,
    shown: Shown<'_>,
    around: &Surroundings<'_>,
    silent_since: Option<Timestamp>,
) -> Vec<PodCondition> {
    let initial = facts.spec.init_containers.iter().flatten().count();
    let conditions = Conditions {
        named: None,
        initial,
        previous,
        around,
    };
    let mut drafts = match shown {
        Shown::Accepted | Shown::Rejected(_) => Vec::new(),
        Shown::Refused(Refused { reason, message }) => vec![draft(READY, false, reason, message)],
        // The hub has no word of the device, now or yet: what the pod shows of its last one stays.
        Shown::Deployed(_) if facts.word.is_none() => Vec::new(),
        Shown::Deployed(_) if facts.word.is_some_and(is_rejected) && conditions.find(SANDBOX).is_none() => {
            Vec::new()
        }
        Shown::Deployed(_) | Shown::Stopped(_) => of_kubelet(facts, previous),
    };
    let is_over = facts.phase == FAILED || facts.phase == SUCCEEDED;
    let said_at = facts.word.and_then(|word| time::of_device(word.since));
    let mut own = Vec::new();
    if let Some(since) = silent_since.filter(|_| !is_over && matches!(shown, Shown::Deployed(_))) {
        drafts.retain(|draft| draft.name != READY);
        let since = time::whole_seconds(since);
        let message = format!("the device is past its deadline; it was last heard at {since}");
        own.push(draft(READY, false, SILENT, &message));
    }
    own.extend(conditions.spec_honoured());
    let settle = |draft: Draft| {
        let restarting = draft.name == RESTARTING;
        let mut condition = conditions.settle_at(draft, said_at);
        // The one that a kubelet sets without it (`GenerateAllContainersRestartingCondition`).
        condition.observed_generation = condition.observed_generation.filter(|_| !restarting);
        condition
    };
    // What the bridge itself finds changes when it finds it.
    let own = own.into_iter().map(|draft| conditions.settle(draft));
    let resizes = match (shown, facts.word) {
        (Shown::Accepted | Shown::Refused(_) | Shown::Rejected(_), _) | (Shown::Deployed(_), None) => {
            Vec::new()
        }
        (Shown::Deployed(_), word) => resizing::all(&conditions, word.filter(|_| !is_over)),
        (Shown::Stopped(_), _) => resizing::all(&conditions, None),
    };
    drafts.into_iter().map(settle).chain(own).chain(resizes).collect()
}

fn of_kubelet(facts: &Facts<'_>, previous: &PodStatus) -> Vec<Draft> {
    let containers_ready = containers_ready(facts);
    let mut drafts = vec![
        sandbox(facts.word),
        initialized(facts, previous),
        ready(facts, previous, &containers_ready),
        containers_ready,
        draft(SCHEDULED, true, "", ""),
    ];
    let containers = facts
        .spec
        .init_containers
        .iter()
        .flatten()
        .chain(&facts.spec.containers);
    let mut rules = containers.flat_map(|container| container.restart_policy_rules.iter().flatten());
    if rules.any(|rule| rule.action == "RestartAllContainers") {
        drafts.push(draft(
            RESTARTING,
            false,
            ended(facts.phase).unwrap_or_default(),
            "",
        ));
    }
    drafts.extend(disrupted(facts));
    drafts
}

/// Shown once the pod has failed (`mergePodStatus` of `pkg/kubelet/status/status_manager.go`); who else may set it is not contradicted.
fn disrupted(facts: &Facts<'_>) -> Option<Draft> {
    let word = facts
        .word
        .filter(|word| word.disrupted && facts.phase == FAILED)?;
    Some(draft(
        DISRUPTED,
        true,
        "TerminationByKubelet",
        &sanitise(&word.message),
    ))
}

fn ended(phase: &str) -> Option<&'static str> {
    match phase {
        SUCCEEDED => Some("PodCompleted"),
        FAILED => Some("PodFailed"),
        _ => None,
    }
}

/// `GeneratePodReadyToStartContainersCondition`; of the reasons why there is no sandbox a device tells two.
fn sandbox(word: Option<&WorkloadStatus>) -> Draft {
    if word.is_some_and(|word| word.sandbox_ready) {
        return draft(SANDBOX, true, "", "");
    }
    let mut all = word
        .into_iter()
        .flat_map(|word| word.containers.iter().chain(&word.init_containers));
    let was = all.any(|container| !container.container_id.is_empty());
    let message = if was {
        "pod sandbox is not ready"
    } else {
        "no pod sandbox exists"
    };
    draft(SANDBOX, false, "PodSandboxNotReady", message)
}

/// `GeneratePodInitializedCondition`.
fn initialized(facts: &Facts<'_>, previous: &PodStatus) -> Draft {
    let init = facts.spec.init_containers.as_deref().unwrap_or_default();
    if facts.init.is_empty() && facts.main.is_empty() && !init.is_empty() {
        return draft(INITIALIZED, false, "UnknownContainerStatuses", "");
    }
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in init {
        match find(facts.init, container) {
            None => unknown.push(container.name.as_str()),
            Some(status) if is_sidecar(container) && status.started == Some(true) => {}
            Some(status) if !is_sidecar(container) && status.ready => {}
            Some(_) => incomplete.push(container.name.as_str()),
        }
    }
    if facts.phase == SUCCEEDED && unknown.is_empty() {
        return draft(INITIALIZED, true, "PodCompleted", "");
    }
    let was = previous.conditions.iter().flatten();
    let mut was = was.filter(|condition| condition.type_ == INITIALIZED && condition.status == "True");
    let message = told(&[("unknown", unknown), ("incomplete", incomplete)]);
    if have_started(facts.main) || message.is_empty() || was.next().is_some() {
        return draft(INITIALIZED, true, "", "");
    }
    draft(INITIALIZED, false, "ContainersNotInitialized", &message)
}

/// `GenerateContainersReadyCondition`.
fn containers_ready(facts: &Facts<'_>) -> Draft {
    if facts.init.is_empty() && facts.main.is_empty() && facts.phase != FAILED {
        return draft(CONTAINERS_READY, false, "UnknownContainerStatuses", "");
    }
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let init = facts.spec.init_containers.iter().flatten();
    let sidecars = init.filter(|container| is_sidecar(container));
    let lists = sidecars.map(|container| (facts.init, container)).chain(
        facts
            .spec
            .containers
            .iter()
            .map(|container| (facts.main, container)),
    );
    for (statuses, container) in lists {
        match find(statuses, container) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    let completed = facts.phase == SUCCEEDED && unknown.is_empty();
    if let Some(reason) = ended(facts.phase).filter(|_| completed || facts.phase == FAILED) {
        return draft(CONTAINERS_READY, false, reason, "");
    }
    let message = told(&[("unknown", unknown), ("unready", unready)]);
    if message.is_empty() {
        draft(CONTAINERS_READY, true, "", "")
    } else {
        draft(CONTAINERS_READY, false, "ContainersNotReady", &message)
    }
}

/// `GeneratePodReadyCondition`: the containers, and the conditions that the pod names as its gates.
fn ready(facts: &Facts<'_>, previous: &PodStatus, containers: &Draft) -> Draft {
    if containers.status != Some(true) {
        return draft(READY, false, &containers.reason, &containers.message);
    }
    let gates = facts.spec.readiness_gates.iter().flatten();
    let closed: Vec<_> = gates
        .filter_map(|gate| {
            let name = &gate.condition_type;
            let mut found = previous.conditions.iter().flatten();
            match found.find(|condition| condition.type_ == *name) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {name:?} does not exist."
                )),
                Some(found) if found.status != "True" => Some(format!(
                    "the status of pod readiness gate {name:?} is not \"True\", but {}",
                    found.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if closed.is_empty() {
        draft(READY, true, "", "")
    } else {
        draft(READY, false, "ReadinessGatesNotReady", &closed.join(", "))
    }
}

fn told(lists: &[(&str, Vec<&str>)]) -> String {
    let lists = lists.iter().filter(|(_, names)| !names.is_empty());
    let told: Vec<_> = lists
        .map(|(what, names)| format!("containers with {what} status: [{}]", names.join(" ")))
        .collect();
    told.join(", ")
}

fn find<'a>(statuses: &'a [ContainerStatus], container: &Container) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == container.name)
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}
