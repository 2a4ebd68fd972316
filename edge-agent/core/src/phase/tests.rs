//! Pods told by the words of their containers: initial ones before a bar, sidecars in brackets.

use edge_protocol::v1::{Reason, RestartPolicy};

use super::*;

fn status(name: &str, word: &str) -> ContainerStatus {
    let end = |exit_code| ContainerState::Terminated {
        exit_code,
        reason: Reason::Error,
        message: String::new(),
        started_at_ms: 0,
        finished_at_ms: 0,
    };
    let waiting = ContainerState::Waiting {
        reason: Reason::ContainerCreating,
        message: String::new(),
    };
    let (state, last) = match word {
        "running" | "starting" => (ContainerState::Running { started_at_ms: 0 }, None),
        "waiting" => (waiting, None),
        "crashing" => (waiting, Some(end(1))),
        "done" => (end(0), None),
        "failed" => (end(1), None),
        other => panic!("{other}"),
    };
    ContainerStatus {
        state,
        last,
        started: Some(word == "running"),
        ..ContainerStatus::waiting(name, "", Reason::ContainerCreating)
    }
}

#[track_caller]
fn check(policy: RestartPolicy, words: &str, expect: Phase) {
    let (initial, mains) = words.split_once('|').unwrap_or(("", words));
    let mut workload = WorkloadSpec::new("w", vec![]);
    workload.restart_policy = policy;
    let mut statuses = vec![];
    for (index, word) in initial.split_whitespace().enumerate() {
        let mut spec = ContainerSpec::new(format!("i{index}"), "image");
        let bare = word.trim_matches(['[', ']']);
        spec.restart_policy = (bare != word).then_some(RestartPolicy::Always);
        statuses.push(status(&spec.name, bare));
        workload.init_containers.push(spec);
    }
    for (index, word) in mains.split_whitespace().enumerate() {
        let spec = ContainerSpec::new(format!("c{index}"), "image");
        statuses.push(status(&spec.name, word));
        workload.containers.push(spec);
    }
    let initialized = statuses
        .iter()
        .any(|s| s.name.starts_with('c') && !matches!(&s.state, ContainerState::Waiting { .. }));
    assert_eq!(
        of(&workload, &statuses, initialized),
        expect,
        "{policy:?} {words}"
    );
}

use RestartPolicy::{Always, Never, OnFailure};

#[test]
fn of_main_containers() {
    for policy in [Always, OnFailure, Never] {
        check(policy, "waiting", Phase::Pending);
        check(policy, "waiting running", Phase::Pending);
        check(policy, "running", Phase::Running);
        check(policy, "running failed", Phase::Running);
        check(policy, "running crashing", Phase::Running);
    }
    check(Always, "done done", Phase::Running);
    check(Always, "crashing", Phase::Running);
    check(OnFailure, "done done", Phase::Succeeded);
    check(OnFailure, "done failed", Phase::Running);
    check(OnFailure, "done crashing", Phase::Running);
    check(Never, "done done", Phase::Succeeded);
    check(Never, "done failed", Phase::Failed);
}

#[test]
fn of_initial_containers_and_sidecars() {
    for policy in [Always, OnFailure] {
        check(policy, "running | waiting", Phase::Pending);
        check(policy, "crashing | waiting", Phase::Pending);
        check(policy, "failed | waiting", Phase::Pending);
        check(policy, "done | running", Phase::Running);
        check(policy, "done waiting | waiting", Phase::Pending);
    }
    check(Never, "failed | waiting", Phase::Failed);
    check(Never, "crashing | waiting", Phase::Failed);
    check(Always, "[starting] | waiting", Phase::Pending);
    check(Always, "[running] | running", Phase::Running);
    check(Always, "[starting] | running", Phase::Running);
    check(Always, "[crashing] | running", Phase::Running);
    check(Never, "[running] | done", Phase::Running);
    check(Never, "[failed] | done", Phase::Succeeded);
    check(Never, "done [done] | done failed", Phase::Failed);
}
