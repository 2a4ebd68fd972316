//! What a pod on a device node shows, held against what a kubelet would.

use edge_protocol::v1::{Rung, WorkloadStatus};
use edge_protocol::{BootId, DeviceTime, Digest};
use k8s_openapi::api::core::v1::PodReadinessGate;
use serde_json::json;

use super::*;

mod containers;
mod resize;

const POD_IPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 4)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 4)),
];
const LATER_MS: i64 = NOW_MS + 3_600_000;

fn on_device(ms: i64) -> Surroundings<'static> {
    Surroundings {
        speaker: Speaker::Device { silent_since: None },
        pod_ips: &POD_IPS,
        ..at(ms)
    }
}

/// Two containers, the second first by name, and two initial ones, the second a sidecar.
fn pod_of_four() -> Pod {
    let mut pod = pod("Always", &["web", "app"]);
    let spec = pod.spec.as_mut().unwrap();
    let init = |name: &str, policy: Option<&str>| Container {
        name: name.to_owned(),
        image: Some(format!("{name}:1")),
        restart_policy: policy.map(str::to_owned),
        ..Container::default()
    };
    spec.init_containers = Some(vec![init("prepare", None), init("proxy", Some("Always"))]);
    pod
}

fn said(name: &str, state: ContainerState) -> DeviceWord {
    let runs = matches!(state, ContainerState::Running { .. });
    let ended_well = matches!(state, ContainerState::Terminated { exit_code: 0, .. });
    DeviceWord {
        image_id: "sha256:00".to_owned(),
        container_id: format!("containerd://{name}-1"),
        ready: runs || (name == "prepare" && ended_well),
        started: Some(runs),
        state,
        ..DeviceWord::waiting(name, "", Reason::ContainerCreating)
    }
}

pub(super) fn spoken(phase: Phase, init: Vec<DeviceWord>, main: Vec<DeviceWord>) -> DeploymentStatus {
    let time = DeviceTime {
        boot_id: serde_json::from_value::<BootId>(json!("00000000-0000-4000-8000-000000000000")).unwrap(),
        mono_ms: 0,
        wall_ms: NOW_MS,
        wall_trusted: true,
    };
    let word = WorkloadStatus {
        uid: PodUid::new("u1").unwrap(),
        revision: DeploymentRevision(1),
        manifest: Digest::of(b"m"),
        rung: Rung::Applied,
        phase,
        reason: None,
        message: String::new(),
        disrupted: false,
        containers: main,
        init_containers: init,
        ephemeral_containers: Vec::new(),
        sandbox_ready: true,
        pod_ip: Some("10.1.0.4".to_owned()),
        further_pod_ips: vec!["fd00::4".to_owned()],
        allocated: None,
        resources: None,
        deferred: None,
        resizing: None,
        started: Some(time),
        since: time,
    };
    DeploymentStatus {
        workload: Some(Box::new(word)),
        ..rollup(phase, 0, 1, 0, Vec::new())
    }
}

fn word_of(status: &mut DeploymentStatus) -> &mut WorkloadStatus {
    status.workload.as_mut().unwrap()
}

#[track_caller]
fn show_device(pod: &mut Pod, shown: Shown<'_>) -> PodStatus {
    show_in(pod, shown, on_device(NOW_MS))
}

fn all_of(status: &PodStatus) -> Vec<String> {
    let names = [
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
        "PodScheduled",
    ];
    names.map(|name| of(status, name)).to_vec()
}

fn types(status: &PodStatus) -> Vec<&str> {
    let all = status.conditions.iter().flatten();
    all.map(|condition| condition.type_.as_str()).collect()
}

#[test]
fn from_seen_to_ready_as_under_a_kubelet() {
    let mut pod = pod_of_four();
    let status = show_device(&mut pod, Shown::Accepted);
    assert_eq!(
        (status.phase.as_deref(), status.container_statuses),
        (Some("Pending"), None)
    );

    let silent = DeploymentStatus {
        workload: None,
        ..spoken(Phase::Pending, Vec::new(), Vec::new())
    };
    let status = show_device(&mut pod, Shown::Deployed(&silent));
    let claimed = (&status.host_ip, &status.start_time, &status.container_statuses);
    assert_eq!(claimed, (&None, &None, &None), "it has not taken the pod in");
    assert_eq!(types(&status), ["PodScheduled"], "the scheduler's");

    let first = |name: &str| DeviceWord::waiting(name, "", Reason::PodInitializing);
    let mut taken = spoken(
        Phase::Pending,
        vec![first("prepare"), first("proxy")],
        vec![first("web"), first("app")],
    );
    word_of(&mut taken).sandbox_ready = false;
    let status = show_device(&mut pod, Shown::Deployed(&taken));
    assert_eq!(
        all_of(&status),
        [
            "False/PodSandboxNotReady",
            "False/ContainersNotInitialized",
            "False/ContainersNotReady",
            "False/ContainersNotReady",
            "True/",
        ]
    );
    assert_eq!(
        message(&status, "Initialized"),
        "containers with incomplete status: [prepare proxy]"
    );
    assert_eq!(
        message(&status, "Ready"),
        "containers with unready status: [proxy web app]"
    );
    assert_eq!(
        message(&status, "PodReadyToStartContainers"),
        "no pod sandbox exists"
    );
    assert_eq!(seen(&status, 0), "app PodInitializing restarts 0");
    assert_eq!(status.container_statuses.unwrap()[0].started, Some(false));

    let init = || vec![said("prepare", ended(0)), said("proxy", running())];
    let begun = spoken(
        Phase::Pending,
        init(),
        vec![said("web", waiting(Reason::PodInitializing))],
    );
    let status = show_device(&mut pod, Shown::Deployed(&begun));
    assert_eq!(
        all_of(&status),
        [
            "True/",
            "True/",
            "False/ContainersNotReady",
            "False/ContainersNotReady",
            "True/"
        ]
    );
    assert_eq!(
        message(&status, "ContainersReady"),
        "containers with unready status: [web app]"
    );

    let main = vec![said("web", running()), said("app", running())];
    let mut done = spoken(Phase::Running, init(), main);
    word_of(&mut done).since.wall_ms = LATER_MS;
    let status = show_in(&mut pod, Shown::Deployed(&done), on_device(LATER_MS));
    assert_eq!(all_of(&status), ["True/"; 5]);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let names: Vec<_> = status
        .container_statuses
        .iter()
        .flatten()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(names, ["app", "web"], "a kubelet sorts by name");
    let init: Vec<_> = status
        .init_container_statuses
        .iter()
        .flatten()
        .map(|c| (c.name.as_str(), c.ready))
        .collect();
    assert_eq!(init, [("prepare", true), ("proxy", true)]);
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.0.4"));
    assert_eq!(status.pod_ips.unwrap().len(), 2);
    let since = |name: &str| {
        let mut found = status.conditions.iter().flatten();
        let found = found.find(|condition| condition.type_ == name).unwrap();
        found.last_transition_time.as_ref().unwrap().0.as_millisecond() / 1000
    };
    assert_eq!(
        (since("Initialized"), since("Ready")),
        (NOW_MS / 1000, LATER_MS / 1000)
    );
}

#[test]
fn nothing_of_a_fleets_is_shown() {
    let mut pod = pod_of_four();
    let status = show_device(
        &mut pod,
        Shown::Deployed(&spoken(Phase::Pending, Vec::new(), Vec::new())),
    );
    let ours = status
        .conditions
        .iter()
        .flatten()
        .filter(|c| c.type_.starts_with("outrigger.io/"));
    assert_eq!(ours.count(), 0);
    let words = vec![said("web", waiting(Reason::ErrImagePull))];
    let status = show_device(
        &mut pod,
        Shown::Deployed(&spoken(Phase::Pending, Vec::new(), words)),
    );
    assert_eq!(seen(&status, 1), "web ErrImagePull why restarts 0");
}

#[test]
fn a_hub_without_the_devices_word_takes_nothing_back() {
    let mut pod = pod("Always", &["web"]);
    let runs = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let before = show_device(&mut pod, Shown::Deployed(&runs));
    let forgot = DeploymentStatus {
        workload: None,
        ..rollup(Phase::Pending, 0, 1, 0, Vec::new())
    };
    let status = show_in(&mut pod, Shown::Deployed(&forgot), on_device(LATER_MS));
    assert_eq!(status, before);
}

#[test]
fn a_device_past_its_deadline_is_not_ready_and_all_else_stays() {
    let mut pod = pod("Always", &["web"]);
    let done = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let before = show_device(&mut pod, Shown::Deployed(&done));
    let silent = Surroundings {
        speaker: Speaker::Device {
            silent_since: Some(Timestamp::from_millisecond(NOW_MS).unwrap()),
        },
        ..on_device(LATER_MS)
    };
    let status = show_in(&mut pod, Shown::Deployed(&done), silent);
    assert_eq!(of(&status, "Ready"), "False/DeviceSilent");
    assert_eq!(
        message(&status, "Ready"),
        "the device is past its deadline; it was last heard at 2026-11-21T09:40:00Z"
    );
    assert_eq!(of(&status, "ContainersReady"), "True/");
    assert_eq!(status.container_statuses, before.container_statuses);
    assert_eq!(status.phase, before.phase);
    let back = show_device(&mut pod, Shown::Deployed(&done));
    assert_eq!(of(&back, "Ready"), "True/");

    let mut over = super::pod("Never", &["web"]);
    let ended = spoken(Phase::Succeeded, Vec::new(), vec![said("web", ended(0))]);
    let status = show_in(&mut over, Shown::Deployed(&ended), silent);
    assert_eq!(
        of(&status, "Ready"),
        "False/PodCompleted",
        "an ended pod stays ended"
    );
}

#[test]
fn a_failure_shows_its_reason_for_good() {
    let mut pod = pod("Always", &["web"]);
    let mut failed = spoken(Phase::Failed, Vec::new(), vec![said("web", ended(137))]);
    let word = word_of(&mut failed);
    (word.reason, word.message) = (
        Some(Reason::Evicted),
        "The node was low on resource: memory.".to_owned(),
    );
    let status = show_device(&mut pod, Shown::Deployed(&failed));
    let shown = |status: &PodStatus| {
        (
            status.phase.clone(),
            status.reason.clone(),
            status.message.clone(),
        )
    };
    let evicted = (
        Some("Failed".to_owned()),
        Some("Evicted".to_owned()),
        Some("The node was low on resource: memory.".to_owned()),
    );
    assert_eq!(shown(&status), evicted);
    assert_eq!(of(&status, "Ready"), "False/PodFailed");
    assert!(!types(&status).contains(&"DisruptionTarget"));
    assert_eq!(shown(&show_device(&mut pod, Shown::Stopped(None))), evicted);

    let mut rejected = super::pod("Always", &["web"]);
    let mut out = spoken(Phase::Failed, Vec::new(), Vec::new());
    let word = word_of(&mut out);
    (word.reason, word.sandbox_ready, word.pod_ip) = (Some(Reason::OutOfcpu), false, None);
    let status = show_device(&mut rejected, Shown::Deployed(&out));
    assert_eq!(
        (status.reason.as_deref(), &status.container_statuses),
        (Some("OutOfcpu"), &None)
    );
    assert_eq!((&status.host_ip, &status.pod_ip), (&None, &None));
    assert_eq!(types(&status), ["PodScheduled"], "nothing else is said of it");
    assert!(status.start_time.is_some());
}

#[test]
fn one_that_had_to_make_room_shows_so_once_it_has_failed() {
    let mut pod = pod("Always", &["web"]);
    let mut ends = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    word_of(&mut ends).disrupted = true;
    let status = show_device(&mut pod, Shown::Deployed(&ends));
    assert!(!types(&status).contains(&"DisruptionTarget"));
    let mut failed = spoken(Phase::Failed, Vec::new(), vec![said("web", ended(137))]);
    let word = word_of(&mut failed);
    (word.reason, word.disrupted) = (Some(Reason::Evicted), true);
    word.message = "The node was low on resource: memory. ".to_owned();
    let status = show_device(&mut pod, Shown::Deployed(&failed));
    assert_eq!(of(&status, "DisruptionTarget"), "True/TerminationByKubelet");
    assert_eq!(
        message(&status, "DisruptionTarget"),
        "The node was low on resource: memory. "
    );
}

#[test]
fn a_refusal_waits_and_goes_again() {
    let mut pod = pod("Always", &["web"]);
    let mut refused = spoken(
        Phase::Refused,
        Vec::new(),
        vec![said("web", waiting(Reason::ContainerCreating))],
    );
    let word = word_of(&mut refused);
    (word.reason, word.message) = (Some(Reason::DevicePolicy), "no privileged".to_owned());
    let status = show_device(&mut pod, Shown::Deployed(&refused));
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Pending"), Some("DevicePolicy"))
    );
    let runs = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let status = show_device(&mut pod, Shown::Deployed(&runs));
    assert_eq!((status.reason, status.message), (None, None));
}

#[test]
fn a_readiness_gate_holds_ready_back() {
    let mut pod = pod("Always", &["web"]);
    let gate = PodReadinessGate {
        condition_type: "example.com/open".to_owned(),
    };
    pod.spec.as_mut().unwrap().readiness_gates = Some(vec![gate]);
    let runs = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let status = show_device(&mut pod, Shown::Deployed(&runs));
    assert_eq!(of(&status, "Ready"), "False/ReadinessGatesNotReady");
    assert_eq!(
        message(&status, "Ready"),
        "corresponding condition of pod readiness gate \"example.com/open\" does not exist."
    );
    assert_eq!(of(&status, "ContainersReady"), "True/");
    let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions.push(condition("example.com/open", "False"));
    let status = show_device(&mut pod, Shown::Deployed(&runs));
    assert_eq!(
        message(&status, "Ready"),
        "the status of pod readiness gate \"example.com/open\" is not \"True\", but False"
    );
    let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions.retain(|condition| condition.type_ != "example.com/open");
    conditions.push(condition("example.com/open", "True"));
    assert_eq!(
        of(&show_device(&mut pod, Shown::Deployed(&runs)), "Ready"),
        "True/"
    );
}

#[test]
fn an_address_is_shown_only_where_it_can_be_reached() {
    let hidden = Surroundings {
        pod_ips: &[],
        ..on_device(NOW_MS)
    };
    let mut runs = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let status = show_in(&mut pod("Always", &["web"]), Shown::Deployed(&runs), hidden);
    assert_eq!((status.pod_ip, status.pod_ips), (None, None));
    // Sandbox or not: on the host's network there is none to wait for.
    word_of(&mut runs).sandbox_ready = false;
    let mut pod = pod("Always", &["web"]);
    let of = |status: &PodStatus| -> Vec<String> {
        let ips = status.pod_ips.iter().flatten();
        status
            .pod_ip
            .iter()
            .chain(ips.map(|ip| &ip.ip))
            .cloned()
            .collect()
    };
    let status = show_device(&mut pod, Shown::Deployed(&runs));
    assert_eq!(of(&status), ["10.1.0.4", "10.1.0.4", "fd00::4"]);
    // Once the sandbox is gone the addresses stay.
    let status = show_in(&mut pod, Shown::Deployed(&runs), hidden);
    assert_eq!(of(&status), ["10.1.0.4", "10.1.0.4", "fd00::4"]);
    let hosts: Vec<_> = status.host_ips.into_iter().flatten().map(|ip| ip.ip).collect();
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.7"));
    assert_eq!(hosts, ["192.0.2.7", "fd00::7"]);
}

#[test]
fn a_pod_that_may_not_be_on_its_node_fails_and_claims_nothing() {
    let refused = Refused {
        reason: "NodeAffinity",
        message: "Predicate NodeAffinity failed: it does not match",
    };
    let mut pod = pod("Always", &["web"]);
    for _ in 0..2 {
        let status = show_device(&mut pod, Shown::Rejected(refused));
        assert_eq!(
            (status.phase.as_deref(), status.reason.as_deref()),
            (Some("Failed"), Some("NodeAffinity"))
        );
        assert_eq!(
            status.message.as_deref(),
            Some("Pod was rejected: Predicate NodeAffinity failed: it does not match")
        );
        assert_eq!(types(&status), ["PodScheduled"], "the scheduler's");
        assert!(status.container_statuses.is_none());
        assert_eq!((&status.host_ip, &status.pod_ip), (&None, &None));
        assert!(status.start_time.is_some());
    }
    // Once it is over it stays so.
    let status = show_device(&mut pod, Shown::Accepted);
    assert_eq!(status.reason.as_deref(), Some("NodeAffinity"));

    let mut of_fleet = super::pod("Always", &["web"]);
    let status = show_in(&mut of_fleet, Shown::Rejected(refused), at(NOW_MS));
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("NodeAffinity"))
    );
    assert!(status.message.unwrap().starts_with("Pod was rejected: "));
}

#[test]
fn a_stopped_pod_has_every_container_terminated() {
    let mut pod = pod_of_four();
    let init = vec![said("prepare", ended(0)), said("proxy", running())];
    let last = spoken(
        Phase::Running,
        init,
        vec![said("web", running()), said("app", ended(0))],
    );
    show_device(&mut pod, Shown::Deployed(&last));
    let status = show_device(&mut pod, Shown::Stopped(Some(&last)));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    let lists = [status.init_container_statuses, status.container_statuses];
    let mut all = lists.iter().flatten().flatten();
    assert!(all.all(|c| c.state.as_ref().unwrap().terminated.is_some()));
}

#[test]
fn a_pod_shows_what_it_was_given_as_a_whole_where_that_is_kept() {
    let mut pod = pod("Always", &["web"]);
    let resources = json!({ "requests": { "cpu": "10m" }, "limits": { "memory": "32Mi" } });
    pod.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(resources).unwrap();
    let status = show_device(&mut pod.clone(), Shown::Accepted);
    assert_eq!((status.resources, status.allocated_resources), (None, None));

    let runs = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let old = Surroundings {
        kubernetes: Some((1, 35)),
        ..on_device(NOW_MS)
    };
    let status = show_in(&mut pod.clone(), Shown::Deployed(&runs), old);
    assert_eq!((status.resources, status.allocated_resources), (None, None));

    let status = show_device(&mut pod.clone(), Shown::Deployed(&runs));
    let shown = json!([status.allocated_resources, status.resources]);
    let limits = json!({ "memory": "32Mi" });
    let requests = json!({ "cpu": "10m" });
    assert_eq!(
        shown,
        json!([requests, { "requests": requests, "limits": limits }])
    );

    let rejected = spoken(Phase::Failed, Vec::new(), Vec::new());
    let status = show_device(&mut pod, Shown::Deployed(&rejected));
    assert_eq!((status.resources, status.allocated_resources), (None, None));
}

/// Acceptance 3 of the issue, as the API object shows it: ten minutes in the dark, told when the hub is back.
#[test]
fn what_happened_in_the_dark_is_shown_with_the_devices_own_times() {
    const MINUTE_MS: i64 = 60_000;
    let mut pod = pod("Always", &["web"]);
    let time_of = |status: &PodStatus, name: &str| {
        let mut all = status.conditions.iter().flatten();
        let found = all.find(|condition| condition.type_ == name).unwrap();
        found.last_transition_time.as_ref().unwrap().0
    };
    let at_minute = |minutes: i64| time::of_millis(NOW_MS + minutes * MINUTE_MS);
    let up = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let before = show_device(&mut pod, Shown::Deployed(&up));
    assert_eq!(time_of(&before, "Ready"), at_minute(0));

    // Its liveness probe failed in the fourth minute; it was started again in the fifth and is not ready by its probe yet.
    let (ended_ms, started_ms) = (NOW_MS + 4 * MINUTE_MS, NOW_MS + 5 * MINUTE_MS);
    let mut again = said(
        "web",
        ContainerState::Running {
            started_at_ms: started_ms,
        },
    );
    again.ready = false;
    again.restart_count = 1;
    again.last = Some(ContainerState::Terminated {
        exit_code: 137,
        reason: Reason::Error,
        message: String::new(),
        started_at_ms: NOW_MS,
        finished_at_ms: ended_ms,
    });
    let mut late = spoken(Phase::Running, Vec::new(), vec![again]);
    word_of(&mut late).since.wall_ms = started_ms;
    let back = on_device(NOW_MS + 10 * MINUTE_MS);
    let after = show_in(&mut pod, Shown::Deployed(&late), back);
    let container = &after.container_statuses.as_ref().unwrap()[0];
    let state = container.state.as_ref().unwrap().running.as_ref().unwrap();
    assert_eq!(state.started_at.as_ref().unwrap().0, at_minute(5));
    let last = container
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!(last.finished_at.as_ref().unwrap().0, at_minute(4));
    assert_eq!(
        time_of(&after, "Ready"),
        at_minute(5),
        "not when the hub was back"
    );
    assert_eq!(time_of(&after, "ContainersReady"), at_minute(5));
    assert_eq!(
        time_of(&after, "Initialized"),
        at_minute(0),
        "which did not change"
    );

    // What a clock says that cannot be trusted, that lies ahead, or that lies before the last change, happens now.
    for (wall_ms, wall_trusted) in [
        (NOW_MS + 11 * MINUTE_MS, false),
        (NOW_MS + 50 * MINUTE_MS, true),
        (NOW_MS + MINUTE_MS, true),
    ] {
        let mut pod = pod.clone();
        let mut up = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
        let since = &mut word_of(&mut up).since;
        (since.wall_ms, since.wall_trusted) = (wall_ms, wall_trusted);
        let now = on_device(NOW_MS + 12 * MINUTE_MS);
        let shown = show_in(&mut pod, Shown::Deployed(&up), now);
        assert_eq!(time_of(&shown, "Ready"), at_minute(12), "{wall_ms}");
    }
}
