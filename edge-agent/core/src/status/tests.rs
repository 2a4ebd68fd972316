//! The phase of a pod by its containers.

use super::*;

fn status(word: &str) -> ContainerStatus {
    let end = |exit_code| ContainerState::Terminated {
        exit_code,
        reason: Reason::Error,
        message: String::new(),
        started_at_ms: 0,
        finished_at_ms: 0,
    };
    let (state, last) = match word {
        "running" => (ContainerState::Running { started_at_ms: 0 }, None),
        "waiting" => (creating(), None),
        "crashing" => (creating(), Some(end(1))),
        "done" => (end(0), None),
        _ => (end(1), None),
    };
    ContainerStatus {
        state,
        last,
        ..ContainerStatus::waiting("", "", Reason::ContainerCreating)
    }
}

#[track_caller]
fn check(policy: RestartPolicy, containers: &[&str], expect: Phase) {
    let containers: Vec<_> = containers.iter().map(|word| status(word)).collect();
    assert_eq!(pod_phase(policy, &containers), expect);
}

#[test]
fn phases_are_the_kubelets() {
    use RestartPolicy::{Always, Never, OnFailure};
    for policy in [Always, OnFailure, Never] {
        check(policy, &["waiting"], Phase::Pending);
        check(policy, &["waiting", "running"], Phase::Pending);
        check(policy, &["running"], Phase::Running);
        check(policy, &["running", "failed"], Phase::Running);
        check(policy, &["running", "crashing"], Phase::Running);
    }
    check(Always, &["done", "done"], Phase::Running);
    check(Always, &["crashing"], Phase::Running);
    check(OnFailure, &["done", "done"], Phase::Succeeded);
    check(OnFailure, &["done", "failed"], Phase::Running);
    check(OnFailure, &["done", "crashing"], Phase::Running);
    check(Never, &["done", "done"], Phase::Succeeded);
    check(Never, &["done", "failed"], Phase::Failed);
}
