//! What the device says of one workload: its containers, its phase, and how far it is on the ladder.

mod container;

use edge_protocol::text::sanitise;
use edge_protocol::v1::{
    ContainerSpec, ContainerState, ContainerStatus, Phase, Reason, Rung, WorkloadStatus,
};
use edge_protocol::{DeviceTime, ItemState};

use self::container::{close, container, image_failure};
pub(crate) use self::container::{ended, removed};
use crate::lifecycle::order::{self, Place};
use crate::lifecycle::{Decision, decide};
use crate::phase;
use crate::plan::Given;
use crate::step::ObservedState;
use crate::sums::Bounds;
use crate::workload::Subject;

/// The words around what is observed.
#[derive(Clone, Copy)]
pub(crate) struct Saying<'a> {
    /// The scheme of container ids, such as `containerd`.
    pub(crate) runtime: &'a str,
    pub(crate) now: DeviceTime,
}

/// The whole status, as of now; `None` for what no trusted set ever named.
pub(crate) fn build(given: &Given<'_>, saying: Saying<'_>) -> Option<WorkloadStatus> {
    let record = &given.workload.record;
    let item = given.workload.item.as_ref();
    let refused = given
        .workload
        .refused
        .as_ref()
        .filter(|_| given.workload.wants_run());
    let manifest = match (item, refused) {
        (Some(item), Some(_)) => item.digest,
        (Some(item), None) => record.manifest.unwrap_or(item.digest),
        (None, _) => record.manifest?,
    };
    let initial = containers(given, saying, Part::Initial);
    let mains = containers(given, saying, Part::Main);
    let ephemeral = containers(given, saying, Part::Ephemeral);
    let phase = phase(given, &initial, &mains);
    let admitted = record.rejected.is_none();
    let shown = |statuses: Vec<ContainerStatus>| statuses.into_iter().filter(|_| admitted).collect();
    // Why it failed is said when it has failed.
    let (reason, message) = reason(given)
        .filter(|_| record.failed.is_none() || phase == Phase::Failed)
        .map_or((None, String::new()), |(reason, message)| (Some(reason), message));
    // As `determinePodResizeStatus` of `pkg/kubelet/kubelet_pods.go`.
    let is_over = !matches!(phase, Phase::Pending | Phase::Running);
    let wish = record.deferred.as_ref().filter(|_| !is_over);
    let mut ips = given.workload.ips.iter().map(ToString::to_string);
    Some(WorkloadStatus {
        uid: given.uid.clone(),
        revision: item.map_or(record.revision, |item| item.revision),
        manifest,
        rung: rung(given, phase),
        phase,
        reason,
        message: sanitise(&message),
        disrupted: phase == Phase::Failed && record.failed.as_ref().is_some_and(|failed| failed.disrupted),
        pod_ip: ips.next(),
        init_containers: shown(initial),
        ephemeral_containers: shown(ephemeral),
        sandbox_ready: given.pod.sandbox().is_some(),
        further_pod_ips: ips.collect(),
        started: record.started,
        allocated: given
            .manifest()
            .filter(|_| admitted)
            .and_then(|manifest| manifest.workload.resources.clone()),
        resources: record
            .bounds
            .filter(|_| given.pod.sandbox().is_some())
            .map(Bounds::resources),
        deferred: wish.map(|deferred| deferred.word.clone()),
        resizing: record.resizing.clone().filter(|_| !is_over),
        since: saying.now,
        containers: shown(mains),
    })
}

/// Nothing of an ended workload is left.
pub(crate) fn is_gone(given: &Given<'_>) -> bool {
    let workload = given.workload;
    workload.record.ending.is_some()
        && given.pod.is_empty()
        && !workload.is_busy()
        && !workload.is_blind()
        && workload.is_clean()
}

fn is_leaving(given: &Given<'_>) -> bool {
    given.workload.record.ending.is_some() || given.workload.record.superseded.is_some()
}

/// The lists of a pod's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Initial,
    Main,
    Ephemeral,
}

fn containers(given: &Given<'_>, saying: Saying<'_>, part: Part) -> Vec<ContainerStatus> {
    let specs: &[ContainerSpec] = match (part, given.manifest()) {
        (Part::Initial, Some(manifest)) => &manifest.workload.init_containers,
        (Part::Main, Some(manifest)) => &manifest.workload.containers,
        (Part::Ephemeral, Some(manifest)) => &manifest.workload.ephemeral_containers,
        (_, None) => &[],
    };
    let mut all: Vec<ContainerStatus> = specs.iter().map(|spec| container(given, spec, saying)).collect();
    if part == Part::Main {
        let listed = |name: &str| given.workload.every_container().any(|spec| spec.name == name);
        let ended = given.workload.record.ended.values().map(|ended| &ended.status);
        all.extend(ended.filter(|status| !listed(&status.name)).cloned());
    }
    if is_gone(given) {
        all.iter_mut().for_each(close);
    }
    for status in &mut all {
        shorten(given, status);
    }
    all
}

/// As `normalizeStatus` of pkg/kubelet/status: the last words of all containers share one bound.
fn shorten(given: &Given<'_>, status: &mut ContainerStatus) {
    const ALL_WORDS: usize = 12 << 10;
    let share = ALL_WORDS / given.workload.every_container().count().max(1);
    for state in std::iter::once(&mut status.state).chain(&mut status.last) {
        if let ContainerState::Terminated { message, .. } = state {
            message.truncate(message.floor_char_boundary(share));
        }
    }
}

fn phase(given: &Given<'_>, initial: &[ContainerStatus], mains: &[ContainerStatus]) -> Phase {
    let record = &given.workload.record;
    let wants_again = given
        .workload
        .item
        .as_ref()
        .is_some_and(|item| item.state != ItemState::Stop);
    if is_gone(given) && !wants_again {
        return Phase::Gone;
    }
    if record.rejected.is_some() {
        return Phase::Failed;
    }
    if given.workload.refused.is_some() && given.pod.is_empty() && record.started.is_none() {
        return Phase::Refused;
    }
    let ran = |spec: &ContainerSpec| {
        order::active(given, spec).is_some_and(|current| current.state != ObservedState::Created)
    };
    let initialized = given.workload.containers().iter().any(ran);
    let phase = match given.manifest() {
        _ if record.failed.is_some() => Phase::Failed,
        Some(manifest) => {
            let statuses: Vec<ContainerStatus> = initial.iter().chain(mains).cloned().collect();
            phase::of(&manifest.workload, &statuses, initialized)
        }
        None => Phase::Pending,
    };
    match phase {
        // What is stopped to be started again has not ended.
        Phase::Succeeded | Phase::Failed if record.resetting || !record.replacing.is_empty() => {
            Phase::Running
        }
        Phase::Succeeded | Phase::Failed if may_run(given) && initialized => Phase::Running,
        Phase::Succeeded | Phase::Failed if may_run(given) => Phase::Pending,
        phase => phase,
    }
}

/// As `mergePodStatus` of `pkg/kubelet/status/status_manager.go`: what may still run has not ended, and its network is not given back.
fn may_run(given: &Given<'_>) -> bool {
    given.workload.wants_run() && (given.pod.live().next().is_some() || given.pod.sandbox().is_some())
}

fn rung(given: &Given<'_>, phase: Phase) -> Rung {
    let workload = given.workload;
    let acted_on = workload.wants_run()
        && workload.refused.is_none()
        && workload.record.superseded.is_none()
        && workload.manifest.is_some()
        && workload
            .item
            .as_ref()
            .is_some_and(|item| Some(item.digest) == workload.record.manifest);
    let created = |spec: &ContainerSpec| match given.pod.current(&spec.name) {
        Some(current) => {
            current.restart_digest == spec.restart_digest && current.state != ObservedState::Unknown
        }
        None => workload
            .record
            .ended
            .get(&spec.name)
            .is_some_and(|e| e.restart_digest == spec.restart_digest),
    };
    let ready = |spec: &ContainerSpec| {
        let current = given.pod.current(&spec.name);
        current.is_some_and(|current| workload.is_ready(spec, current))
    };
    let lasting = || {
        workload
            .all_containers()
            .filter(|spec| order::place(given, spec) == Place::Main || spec.is_sidecar())
    };
    if !acted_on || workload.containers().is_empty() {
        Rung::Persisted
    } else if phase == Phase::Succeeded && workload.containers().iter().all(created) {
        Rung::Healthy
    } else if !lasting().all(created) {
        Rung::Persisted
    } else if lasting().all(ready) && workload.record.failed.is_none() {
        Rung::Healthy
    } else {
        Rung::Applied
    }
}

/// What keeps the workload as a whole from being as desired; the first that applies.
fn reason(given: &Given<'_>) -> Option<(Reason, String)> {
    let workload = given.workload;
    let record = &workload.record;
    if record.ending.is_some() {
        return None;
    }
    if let Some(rejected) = &record.rejected {
        return Some((rejected.reason, rejected.message.clone()));
    }
    if let Some(failed) = &record.failed {
        return Some((failed.reason?, failed.message.clone()));
    }
    if let Some((reason, message)) = workload.refused.clone().filter(|_| workload.wants_run()) {
        return Some((reason, message));
    }
    if workload.quarantined {
        return Some((
            Reason::Quarantined,
            "kept as it was: the restored hub's word contradicts it".to_owned(),
        ));
    }
    if let Some(superseded) = &record.superseded {
        return Some((
            Reason::SupersededOnDevice,
            format!("{} takes its place on this device", superseded.by),
        ));
    }
    if workload.manifest.is_none() {
        return Some((Reason::WaitingForBlob, "its manifest has not arrived".to_owned()));
    }
    if let Some(failure) = workload.failures.get(&Subject::Sandbox(String::new())) {
        let reason = match failure.reason {
            Reason::DevicePolicy => Reason::DevicePolicy,
            _ => Reason::SandboxFailed,
        };
        return Some((reason, failure.message.clone()));
    }
    // The kubelet only tells of volumes in events; what this system alone knows, and a person has to mend, shows.
    let is_own = |reason| matches!(reason, Reason::SecretNotSealed | Reason::DevicePolicy);
    let volumes = workload.failures.get(&Subject::Volumes);
    if let Some(failure) = volumes.filter(|failure| is_own(failure.reason)) {
        return Some((failure.reason, failure.message.clone()));
    }
    // A container that runs on while the image of its successor cannot be had shows that here, and itself as running.
    workload
        .all_containers()
        .filter(|spec| decide(given, spec) == Decision::Replace)
        .find_map(|spec| {
            Some(image_failure(
                &spec.image,
                workload.failures.get(&Subject::Image(spec.image.clone()))?,
            ))
        })
}
