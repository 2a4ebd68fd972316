//! Probes and hooks.

use edge_agent_core::step::{Finding, InContainer, ObservedState, ProbeKind, Step, StepOutcome};
use edge_protocol::v1::{Action, Reason};

use super::{Pod, done, exited, shell, started};
use crate::runtime::ContainerRuntime;
use crate::runtime::contract::device::logged;

#[tokio::test]
async fn probes_and_hooks_are_done_in_the_container() {
    let pod = Pod::new("hooks", |_| {}).await;
    let up = pod.up().await;
    let polite = "trap 'cat /tmp/hook; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let id = started(&pod.runtime, pod.start(&up, shell("main", polite))).await;
    let log = pod.workload.log(&pod.device.logs("device-a"), "main", 0);
    logged(&log, "ready").await;
    let exec = |script: &str| InContainer {
        container_id: id.clone(),
        action: Action::Exec {
            command: ["sh", "-c", script].map(str::to_owned).into(),
        },
        pod_ip: up.1.first().copied(),
    };
    let probe = async |script: &str| {
        let step = Step::Probe {
            kind: ProbeKind::Liveness,
            target: Box::new(exec(script)),
            timeout_s: 1,
        };
        match pod.runtime.run(step).await {
            StepOutcome::Probed { finding, output } => (finding == Finding::Success, output),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(probe("echo fine").await, (true, "fine\n".into()));
    assert_eq!(
        probe("echo out; echo bad >&2; exit 3").await,
        (false, "out\nbad\n".into())
    );
    let late = "command timed out: \"sh -c sleep 100\" timed out after 1s";
    assert_eq!(probe("sleep 100").await, (false, late.into()));
    let absent = InContainer {
        action: Action::Exec {
            command: vec!["/nowhere".into()],
        },
        ..exec("")
    };
    let step = Step::Probe {
        kind: ProbeKind::Startup,
        target: Box::new(absent),
        timeout_s: 1,
    };
    let outcome = pod.runtime.run(step).await;
    assert!(matches!(outcome, StepOutcome::Failed { .. }), "{outcome:?}");

    done(
        &pod.runtime,
        Step::PostStart(Box::new(exec("echo started >> /tmp/hook"))),
    )
    .await;
    let StepOutcome::Failed { reason, message } = pod
        .runtime
        .run(Step::PostStart(Box::new(exec("echo why; exit 4"))))
        .await
    else {
        panic!("the hook fails")
    };
    assert_eq!(reason, Reason::PostStartHookError);
    let words = "Exec lifecycle hook ([sh -c echo why; exit 4]) for Container \"main\" in Pod \"hooks_default(uid-hooks)\" failed - error: command 'sh -c echo why; exit 4' exited with 4: , message: \"why\\n\"";
    assert_eq!(message, words);

    let stop = |script: &str, grace_s| Step::StopContainer {
        container_id: id.clone(),
        grace_s,
        pre_stop: Some(Box::new(exec(script))),
    };
    done(&pod.runtime, stop("echo about to stop >> /tmp/hook", 30)).await;
    logged(&log, "about to stop").await;
    assert!(matches!(
        exited(&pod.runtime, &id).await.state,
        ObservedState::Exited { exit_code: 0, .. }
    ));
    // One that has ended has nothing to be stopped from.
    done(&pod.runtime, stop("true", 30)).await;
}

#[tokio::test]
async fn a_hook_that_fails_or_takes_too_long_does_not_keep_the_container() {
    let pod = Pod::new("slow", |_| {}).await;
    let up = pod.up().await;
    for (name, hook, grace_s, failed) in [("fails", "exit 1", 30, true), ("slow", "sleep 1000", 1, false)] {
        let polite = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done";
        let id = started(&pod.runtime, pod.start(&up, shell(name, polite))).await;
        let log = pod.workload.log(&pod.device.logs("device-a"), name, 0);
        logged(&log, "ready").await;
        let hook = InContainer {
            container_id: id.clone(),
            action: Action::Exec {
                command: ["sh", "-c", hook].map(str::to_owned).into(),
            },
            pod_ip: None,
        };
        let stop = Step::StopContainer {
            container_id: id.clone(),
            grace_s,
            pre_stop: Some(Box::new(hook)),
        };
        let outcome = pod.runtime.run(stop).await;
        assert_eq!(
            matches!(outcome, StepOutcome::HookFailed { .. }),
            failed,
            "{name}: {outcome:?}"
        );
        // The signal had its two seconds.
        let state = exited(&pod.runtime, &id).await.state;
        assert!(
            matches!(state, ObservedState::Exited { exit_code: 5, .. }),
            "{name}: {state:?}"
        );
    }
}
