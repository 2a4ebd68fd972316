//! What was shown and counted is never taken back.

use super::*;

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
