//! A pod, a roll-up, and what the API server holds after each patch.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use edge_protocol::v1::{
    ContainerRollup, ContainerState, ContainerStatus as DeviceWord, DeploymentState, FailingDevice,
    LadderCounts, Reason,
};
use edge_protocol::{DeploymentRevision, DeviceId, PodUid};
use k8s_openapi::api::core::v1::{Container, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

mod conditions;
mod device;
mod ends;

const HOST_IPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7)),
];
const NOW_MS: i64 = 1_795_254_000_123;

fn at(ms: i64) -> Surroundings<'static> {
    let now = Timestamp::from_millisecond(ms).unwrap();
    Surroundings {
        speaker: Speaker::Fleet,
        now,
        host_ips: &HOST_IPS,
        pod_ips: &[],
        observed_generation: Some(3),
        kubernetes: Some((1, 37)),
        refused_edit: None,
    }
}

fn pod(restart_policy: &str, containers: &[&str]) -> Pod {
    let container = |name: &&str| Container {
        name: (*name).to_owned(),
        image: Some(format!("{name}:1")),
        ..Container::default()
    };
    Pod {
        metadata: ObjectMeta {
            name: Some("p".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some(restart_policy.to_owned()),
            containers: containers.iter().map(container).collect(),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some(PENDING.to_owned()),
            conditions: Some(vec![condition("PodScheduled", "True")]),
            qos_class: Some("BestEffort".to_owned()),
            ..PodStatus::default()
        }),
    }
}

fn condition(name: &str, status: &str) -> PodCondition {
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        ..PodCondition::default()
    }
}

fn running() -> ContainerState {
    ContainerState::Running {
        started_at_ms: 1_795_253_000_999,
    }
}

fn waiting(reason: Reason) -> ContainerState {
    ContainerState::Waiting {
        reason,
        message: "why".to_owned(),
    }
}

fn ended(exit_code: i32) -> ContainerState {
    let reason = if exit_code == 0 {
        Reason::Completed
    } else {
        Reason::Error
    };
    ContainerState::Terminated {
        exit_code,
        reason,
        message: String::new(),
        started_at_ms: 1_000,
        finished_at_ms: 2_000,
    }
}

fn word(name: &str, device: &str, state: ContainerState, restarts: u32) -> ContainerRollup {
    let ready = matches!(state, ContainerState::Running { .. });
    ContainerRollup {
        device: Some(DeviceId::new(device).unwrap()),
        status: DeviceWord {
            image_id: "sha256:00".to_owned(),
            container_id: "containerd://c1".to_owned(),
            state,
            restart_count: restarts,
            ready,
            ..DeviceWord::waiting(name, "", Reason::ContainerCreating)
        },
    }
}

/// `healthy` of `targeted` devices, of which `offline` are past their deadline.
fn rollup(
    phase: Phase,
    healthy: u32,
    targeted: u32,
    offline: u32,
    containers: Vec<ContainerRollup>,
) -> DeploymentStatus {
    let counted = targeted - offline;
    DeploymentStatus {
        uid: PodUid::new("u1").unwrap(),
        revision: DeploymentRevision(1),
        state: DeploymentState::Active,
        counts: LadderCounts {
            targeted,
            offline,
            counted,
            applied: healthy,
            healthy,
            ..LadderCounts::default()
        },
        ready: healthy > 0 && healthy >= counted,
        phase,
        containers,
        failing: Vec::new(),
        stopping_online: 0,
        stopping_offline: Vec::new(),
        as_of_ms: Some(NOW_MS),
        unconfirmed: false,
        waiting_for_keys: 0,
        answers: None,
        workload: None,
    }
}

/// What the API server holds after the patch.
fn patch(pod: &mut Pod, wanted: &PodStatus) {
    let status = pod.status.get_or_insert_default();
    let text = |old: &mut Option<String>, new: &Option<String>| {
        if let Some(new) = new {
            *old = (!new.is_empty()).then(|| new.clone());
        }
    };
    text(&mut status.phase, &wanted.phase);
    text(&mut status.reason, &wanted.reason);
    text(&mut status.message, &wanted.message);
    text(&mut status.host_ip, &wanted.host_ip);
    status.host_ips = wanted.host_ips.clone().or(status.host_ips.take());
    status.start_time = wanted.start_time.clone().or(status.start_time.take());
    status.observed_generation = wanted.observed_generation.or(status.observed_generation);
    status.resources = wanted.resources.clone().or(status.resources.take());
    status.allocated_resources = wanted
        .allocated_resources
        .clone()
        .or(status.allocated_resources.take());
    status.container_statuses = wanted
        .container_statuses
        .clone()
        .or(status.container_statuses.take());
    status.init_container_statuses = wanted
        .init_container_statuses
        .clone()
        .or(status.init_container_statuses.take());
    status.ephemeral_container_statuses = wanted
        .ephemeral_container_statuses
        .clone()
        .or(status.ephemeral_container_statuses.take());
    text(&mut status.pod_ip, &wanted.pod_ip);
    status.pod_ips = wanted.pod_ips.clone().or(status.pod_ips.take());
    let conditions = status.conditions.get_or_insert_default();
    for condition in wanted.conditions.iter().flatten() {
        conditions.retain(|held| held.type_ != condition.type_);
        if !condition.status.is_empty() {
            conditions.push(condition.clone());
        }
    }
}

/// Whether the patch would change what the API server holds.
fn differs(current: &PodStatus, wanted: &PodStatus) -> bool {
    let mut pod = Pod {
        status: Some(current.clone()),
        ..Pod::default()
    };
    patch(&mut pod, wanted);
    pod.status.as_ref() != Some(current)
}

/// Shows, checks that it is settled, and leaves the pod as the API server holds it then.
#[track_caller]
fn show(pod: &mut Pod, shown: Shown<'_>) -> PodStatus {
    show_in(pod, shown, at(NOW_MS))
}

fn show_in(pod: &mut Pod, shown: Shown<'_>, around: Surroundings<'_>) -> PodStatus {
    let wanted = pod_status(pod, shown, around);
    patch(pod, &wanted);
    let held = pod.status.clone().unwrap();
    assert!(!differs(&held, &wanted), "patched, and still different");
    assert!(!differs(&held, &pod_status(pod, shown, around)), "not idempotent");
    held
}

/// `Status/Reason` of one condition.
fn of(status: &PodStatus, name: &str) -> String {
    let found = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == name);
    found.map_or_else(
        || "absent".to_owned(),
        |found| format!("{}/{}", found.status, found.reason.as_deref().unwrap_or_default()),
    )
}

fn message(status: &PodStatus, name: &str) -> String {
    let found = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == name);
    found.and_then(|found| found.message.clone()).unwrap_or_default()
}

/// One container of a status in a few words.
fn seen(status: &PodStatus, index: usize) -> String {
    let Some(container) = status.container_statuses.iter().flatten().nth(index) else {
        return "none".to_owned();
    };
    let state = container.state.clone().unwrap_or_default();
    let what = match (state.waiting, state.running, state.terminated) {
        (Some(waiting), None, None) => format!(
            "{} {}",
            waiting.reason.unwrap_or_default(),
            waiting.message.unwrap_or_default()
        ),
        (None, Some(_), None) => "running".to_owned(),
        (None, None, Some(end)) => format!("exit {} {}", end.exit_code, end.message.unwrap_or_default()),
        _ => "undecided".to_owned(),
    };
    format!(
        "{} {} restarts {}",
        container.name,
        what.trim(),
        container.restart_count
    )
}
