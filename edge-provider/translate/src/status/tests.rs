use edge_protocol::v1::{
    ContainerRollup, ContainerState, ContainerStatus as DeviceWord, DeploymentState, FailingDevice,
    LadderCounts, Reason,
};
use edge_protocol::{DeploymentRevision, DeviceId, PodUid};
use k8s_openapi::api::core::v1::{Container, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

const NOW_MS: i64 = 1_795_254_000_123;

fn at(ms: i64) -> Surroundings<'static> {
    let now = Timestamp::from_millisecond(ms).unwrap();
    Surroundings {
        now,
        host_ip: Some("192.0.2.7"),
        observed_generation: Some(3),
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
            name: name.to_owned(),
            image: String::new(),
            image_id: "sha256:00".to_owned(),
            container_id: "containerd://c1".to_owned(),
            state,
            last: None,
            restart_count: restarts,
            ready,
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
    status.container_statuses = wanted
        .container_statuses
        .clone()
        .or(status.container_statuses.take());
    let conditions = status.conditions.get_or_insert_default();
    for condition in wanted.conditions.iter().flatten() {
        conditions.retain(|held| held.type_ != condition.type_);
        conditions.push(condition.clone());
    }
}

/// Shows, checks that it is settled, and leaves the pod as the API server holds it then.
#[track_caller]
fn show(pod: &mut Pod, shown: Shown<'_>) -> PodStatus {
    let wanted = pod_status(pod, shown, at(NOW_MS));
    patch(pod, &wanted);
    let held = pod.status.clone().unwrap();
    assert!(!differs(&held, &wanted), "patched, and still different");
    assert!(
        !differs(&held, &pod_status(pod, shown, at(NOW_MS))),
        "not idempotent"
    );
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

#[test]
fn from_seen_to_ready() {
    let mut pod = pod("Always", &["a", "b"]);
    let status = show(&mut pod, Shown::Accepted);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(
        (of(&status, TARGETED), of(&status, "Ready")),
        ("Unknown/AwaitingHub".into(), "False/AwaitingHub".into())
    );
    assert_eq!(
        status.start_time.as_ref().unwrap().0.to_string(),
        "2026-11-21T09:40:00Z"
    );

    let one = rollup(
        Phase::Pending,
        0,
        2,
        0,
        vec![word("b", "dev-1", waiting(Reason::ErrImagePull), 0)],
    );
    let status = show(&mut pod, Shown::Deployed(&one));
    assert_eq!(seen(&status, 0), "a ContainerCreating restarts 0");
    assert_eq!(seen(&status, 1), "b ErrImagePull on device dev-1: why restarts 0");
    assert_eq!(of(&status, TARGETED), "True/DevicesTargeted");
    assert_eq!(of(&status, APPLIED), "False/DevicesApplying");
    assert_eq!(of(&status, HEALTHY), "False/DevicesNotHealthy");
    assert_eq!(of(&status, "Ready"), "False/DevicesNotReady");
    assert_eq!(message(&status, "Ready"), "healthy 0, counted 2, targeted 2");
    assert_eq!(
        message(&status, "ContainersReady"),
        "containers with unready status: [a b]"
    );

    let words = vec![word("a", "dev-1", running(), 0), word("b", "dev-2", running(), 1)];
    let status = show(&mut pod, Shown::Deployed(&rollup(Phase::Running, 2, 3, 1, words)));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    for name in ["Ready", "ContainersReady", "Initialized"] {
        assert_eq!(of(&status, name), "True/", "{name}");
    }
    assert_eq!(message(&status, HEALTHY), "healthy 2, counted 2, targeted 3");
    assert_eq!(
        message(&status, TARGETED),
        "targeted 3, counted 2; 1 offline past their deadline"
    );
    assert_eq!(of(&status, "PodScheduled"), "True/", "others' conditions stay");
    assert_eq!(
        (status.qos_class.as_deref(), status.pod_ip),
        (Some("BestEffort"), None)
    );
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((container.image.as_str(), container.started), ("a:1", Some(true)));
    assert_eq!(container.container_id.as_deref(), Some("containerd://c1"));
}

#[test]
fn nothing_to_count_is_told_apart() {
    let ready = |rollup: &DeploymentStatus| {
        of(
            &show(&mut pod("Always", &["a"]), Shown::Deployed(rollup)),
            "Ready",
        )
    };
    assert_eq!(
        ready(&rollup(Phase::Pending, 0, 0, 0, vec![])),
        "False/NoDevicesTargeted"
    );
    assert_eq!(
        ready(&rollup(Phase::Pending, 0, 5, 5, vec![])),
        "False/AllDevicesOffline"
    );
    let mut joining = rollup(Phase::Pending, 0, 1, 0, vec![]);
    joining.counts = LadderCounts {
        targeted: 1,
        joining: 1,
        ..LadderCounts::default()
    };
    assert_eq!(ready(&joining), "False/DevicesJoining");
    assert_eq!(ready(&rollup(Phase::Running, 19, 20, 1, vec![])), "True/");
}

#[test]
fn no_device_shows_as_the_headline_and_goes_again() {
    let mut pod = pod("Always", &["a"]);
    let status = show(
        &mut pod,
        Shown::Deployed(&rollup(Phase::Pending, 0, 0, 0, vec![])),
    );
    assert_eq!(
        (status.reason.as_deref(), seen(&status, 0).as_str()),
        (Some("NoDevicesTargeted"), "none")
    );
    let words = vec![word("a", "dev-1", running(), 0)];
    let status = show(&mut pod, Shown::Deployed(&rollup(Phase::Running, 1, 1, 0, words)));
    assert_eq!((status.reason, status.message), (None, None));
}

#[test]
fn a_refusal_is_pending_and_names_everything() {
    let mut pod = pod("Always", &["a"]);
    let refusal = Shown::Refused {
        reason: "UnsupportedField",
        message: "spec.hostNetwork: no; spec.volumes[0].nfs: no",
    };
    let status = show(&mut pod, refusal);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(status.reason.as_deref(), Some("UnsupportedField"));
    assert_eq!(of(&status, TARGETED), "False/UnsupportedField");
    assert_eq!(
        message(&status, "Ready"),
        "spec.hostNetwork: no; spec.volumes[0].nfs: no"
    );
    assert_eq!(seen(&status, 0), "none");
    let status = show(&mut pod, Shown::Stopped(None));
    assert_eq!((status.phase.as_deref(), status.reason), (Some("Failed"), None));
}

#[test]
fn a_bridge_that_knows_nothing_yet_takes_nothing_back() {
    let mut pod = pod("Always", &["a"]);
    let words = vec![word("a", "dev-1", running(), 2)];
    let before = show(&mut pod, Shown::Deployed(&rollup(Phase::Running, 1, 1, 0, words)));
    assert_eq!(show(&mut pod, Shown::Accepted), before);
}

#[test]
fn restarts_and_the_last_end_are_never_taken_back() {
    let mut pod = pod("Always", &["a"]);
    let mut crashed = word("a", "dev-1", waiting(Reason::CrashLoopBackOff), 4);
    crashed.status.last = Some(ended(1));
    show(
        &mut pod,
        Shown::Deployed(&rollup(Phase::Running, 0, 1, 0, vec![crashed])),
    );
    let fresh = vec![word("a", "dev-2", running(), 0)];
    let status = show(&mut pod, Shown::Deployed(&rollup(Phase::Running, 1, 1, 0, fresh)));
    assert_eq!(seen(&status, 0), "a running restarts 4");
    let last = status.container_statuses.unwrap()[0].last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 1);
}

/// States of one container shown one after the other, and what each must look like.
#[track_caller]
fn check_ends(policy: &str, steps: &[(ContainerState, &str)]) {
    let mut pod = pod(policy, &["a"]);
    for (state, expect) in steps {
        let words = vec![word("a", "dev-1", state.clone(), 0)];
        let status = show(&mut pod, Shown::Deployed(&rollup(Phase::Running, 0, 1, 0, words)));
        assert_eq!(seen(&status, 0), *expect, "{policy}");
    }
}

#[test]
fn an_end_that_the_policy_makes_final_stands() {
    let exit_3 = "a exit 3 on device dev-1 restarts 0";
    let exit_0 = "a exit 0 on device dev-1 restarts 0";
    let runs = "a running restarts 0";
    check_ends(
        "Never",
        &[
            (running(), runs),
            (ended(3), exit_3),
            (running(), exit_3),
            (ended(0), exit_3),
        ],
    );
    check_ends(
        "OnFailure",
        &[
            (ended(3), exit_3),
            (running(), runs),
            (ended(0), exit_0),
            (running(), exit_0),
        ],
    );
    check_ends("Always", &[(ended(0), exit_0), (running(), runs)]);
}

#[test]
fn a_terminal_phase_is_final() {
    for (phase, name, reason) in [
        (Phase::Succeeded, "Succeeded", "PodCompleted"),
        (Phase::Failed, "Failed", "PodFailed"),
    ] {
        let mut pod = pod("Never", &["a"]);
        let end = vec![word("a", "dev-1", ended(i32::from(phase == Phase::Failed)), 0)];
        let status = show(&mut pod, Shown::Deployed(&rollup(phase, 1, 1, 0, end)));
        let before = status.container_statuses.clone();
        assert_eq!(status.phase.as_deref(), Some(name));
        assert_eq!(of(&status, "Ready"), format!("False/{reason}"));
        assert_eq!(of(&status, "ContainersReady"), format!("False/{reason}"));
        let late = rollup(Phase::Running, 0, 2, 0, vec![word("a", "dev-2", running(), 7)]);
        for shown in [
            Shown::Deployed(&late),
            Shown::Accepted,
            Shown::Stopped(Some(&late)),
            Shown::Stopped(None),
        ] {
            let status = show(&mut pod, shown);
            assert_eq!(status.phase.as_deref(), Some(name));
            assert_eq!(status.container_statuses, before);
            assert_eq!(of(&status, "Ready"), format!("False/{reason}"));
        }
    }
}

#[test]
fn a_stopped_pod_has_every_container_terminated() {
    let mut one = pod("Always", &["a", "b"]);
    let words = || vec![word("a", "dev-1", ended(0), 0), word("b", "dev-1", running(), 0)];
    let last = rollup(Phase::Running, 0, 1, 0, words());
    show(&mut one, Shown::Deployed(&last));
    let status = show(&mut one, Shown::Stopped(Some(&last)));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(seen(&status, 0), "a exit 0 on device dev-1 restarts 0");
    assert_eq!(
        seen(&status, 1),
        "b exit 137 no device told how the container ended restarts 0"
    );
    assert_eq!(of(&status, "Ready"), "False/PodFailed");

    let mut clean = pod("Always", &["a"]);
    let last = rollup(Phase::Running, 0, 1, 0, vec![word("a", "dev-1", ended(0), 0)]);
    assert_eq!(
        show(&mut clean, Shown::Stopped(Some(&last))).phase.as_deref(),
        Some("Succeeded")
    );

    let mut unheard = pod("Always", &["a", "b"]);
    show(
        &mut unheard,
        Shown::Deployed(&rollup(Phase::Running, 1, 1, 0, words())),
    );
    let status = show(&mut unheard, Shown::Stopped(None));
    assert!(
        status
            .container_statuses
            .unwrap()
            .iter()
            .all(|c| c.state.as_ref().unwrap().terminated.is_some())
    );
}

#[test]
fn failing_devices_are_named_and_their_words_bounded() {
    let mut status = rollup(Phase::Running, 1, 3, 0, vec![]);
    let failing = |device: &str, message: &str| FailingDevice {
        device: DeviceId::new(device).unwrap(),
        reason: Reason::ImagePullBackOff,
        message: message.to_owned(),
    };
    status.failing = vec![
        failing("dev-2", "not\nfound"),
        failing("dev-3", &"ü".repeat(4000)),
        failing("dev-4", ""),
    ];
    let shown = show(&mut pod("Always", &["a"]), Shown::Deployed(&status));
    let words = message(&shown, HEALTHY);
    assert!(
        words.starts_with(
            "healthy 1, counted 3, targeted 3; dev-2: ImagePullBackOff: not\\u{a}found; dev-3: "
        ),
        "{words}"
    );
    assert!(words.ends_with("…; dev-4: ImagePullBackOff"), "{words}");
    assert!(words.len() < 400, "{}", words.len());
}

#[test]
fn a_stale_word_shows_its_age_and_changes_seldom() {
    let mut status = rollup(Phase::Running, 1, 1, 0, vec![word("a", "dev-1", running(), 0)]);
    let hours = |h: i64| Some(NOW_MS - h * 3_600_000);
    status.as_of_ms = hours(5);
    let shown = show(&mut pod("Always", &["a"]), Shown::Deployed(&status));
    let old = "the oldest word of a counted device is more than 4 hours old";
    assert_eq!(message(&shown, "Ready"), old);
    assert_eq!(
        message(&shown, HEALTHY),
        format!("healthy 1, counted 1, targeted 1; {old}")
    );
    status.as_of_ms = hours(7);
    assert_eq!(
        message(
            &show(&mut pod("Always", &["a"]), Shown::Deployed(&status)),
            "Ready"
        ),
        old
    );
    status.as_of_ms = None;
    assert_eq!(
        message(
            &show(&mut pod("Always", &["a"]), Shown::Deployed(&status)),
            "Ready"
        ),
        ""
    );
}

#[test]
fn a_transition_time_moves_only_with_its_status() {
    let mut pod = pod("Always", &["a"]);
    let since = |pod: &Pod, name: &str| {
        let conditions = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let found = conditions
            .iter()
            .find(|condition| condition.type_ == name)
            .unwrap();
        found.last_transition_time.as_ref().unwrap().0.as_second() - NOW_MS / 1000
    };
    let mut show_at = |status: &DeploymentStatus, after_s: i64| {
        let wanted = pod_status(&pod, Shown::Deployed(status), at(NOW_MS + after_s * 1000));
        let differs = differs(pod.status.as_ref().unwrap(), &wanted);
        patch(&mut pod, &wanted);
        (differs, since(&pod, "Ready"), since(&pod, TARGETED))
    };
    let up = rollup(Phase::Running, 1, 1, 0, vec![word("a", "dev-1", running(), 0)]);
    let down = rollup(
        Phase::Running,
        0,
        1,
        0,
        vec![word("a", "dev-1", waiting(Reason::CrashLoopBackOff), 1)],
    );
    assert_eq!(show_at(&down, 0), (true, 0, 0));
    assert_eq!(show_at(&up, 10), (true, 10, 0));
    assert_eq!(show_at(&up, 20), (false, 10, 0));
    assert_eq!(show_at(&down, 30), (true, 30, 0));
}

#[test]
fn a_deletion_says_how_many_devices_still_stop() {
    let mut status = rollup(Phase::Running, 0, 3, 0, vec![]);
    status.state = DeploymentState::Deleting {
        since_ms: NOW_MS,
        grace_period_s: None,
    };
    status.stopping_online = 2;
    status.stopping_offline = vec![DeviceId::new("dev-9").unwrap()];
    let shown = show(&mut pod("Always", &["a"]), Shown::Deployed(&status));
    assert_eq!(
        message(&shown, TARGETED),
        "targeted 3, counted 3; stopping on 2 connected and 1 offline devices"
    );
}
