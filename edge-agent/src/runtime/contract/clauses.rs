//! The clauses of the contract, one function each.

use edge_agent_core::step::{ObservedContainer, ObservedState, Step, StepOutcome};
use edge_protocol::v1::Reason;

use super::given::{self, IMAGE, Workload};
use super::{Subject, device, done, exited, find, started, within};
use crate::runtime::ContainerRuntime;

pub async fn a_workload_lives_and_leaves_nothing(Subject { runtime, .. }: Subject<impl ContainerRuntime>) {
    let workload = Workload::new("hello");
    let image = Step::FindImage { image: IMAGE.into() };
    let StepOutcome::Image { .. } = runtime.run(image).await else {
        panic!("the image is there")
    };
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let first = started(&runtime, workload.start(&sandbox, "main", 0, "exit 7")).await;
    let exited = exited(&runtime, &first).await;
    let ObservedState::Exited {
        exit_code: 7,
        reason: Reason::Error,
        started_at_ms,
        finished_at_ms,
        ..
    } = exited.state
    else {
        panic!("{exited:?}")
    };
    assert!(
        0 < started_at_ms && started_at_ms <= finished_at_ms,
        "{started_at_ms} {finished_at_ms}"
    );
    assert_eq!(
        (&exited.uid, exited.name.as_str(), exited.attempt),
        (&workload.uid(), "main", 0)
    );
    assert_eq!(exited.image, IMAGE);
    assert!(!exited.image_id.is_empty());
    assert_eq!(
        (exited.restart_digest, &exited.sandbox_id),
        (given::restart_digest(), &sandbox)
    );

    let second = started(&runtime, workload.start(&sandbox, "main", 1, "exit 0")).await;
    let state = super::exited(&runtime, &second).await.state;
    assert!(
        matches!(
            state,
            ObservedState::Exited {
                exit_code: 0,
                reason: Reason::Completed,
                ..
            }
        ),
        "{state:?}"
    );
    let observed = runtime.observe().await.unwrap();
    let sandboxes: Vec<_> = observed
        .sandboxes
        .iter()
        .map(|s| (&s.id, s.attempt, s.ready, !s.ips.is_empty()))
        .collect();
    assert_eq!(sandboxes, [(&sandbox, 0, true, true)]);
    assert_eq!(observed.containers.len(), 2);

    // Twice, because every one of these may be repeated.
    for _ in 0..2 {
        done(
            &runtime,
            Step::RemoveContainer {
                container_id: first.clone(),
            },
        )
        .await;
        done(
            &runtime,
            Step::StopSandbox {
                sandbox_id: sandbox.clone(),
            },
        )
        .await;
        assert!(
            runtime
                .observe()
                .await
                .unwrap()
                .sandboxes
                .iter()
                .all(|sandbox| !sandbox.ready)
        );
    }
    for _ in 0..2 {
        done(
            &runtime,
            Step::RemoveSandbox {
                sandbox_id: sandbox.clone(),
                uid: workload.uid(),
            },
        )
        .await;
        done(&runtime, Step::RemoveWorkload { uid: workload.uid() }).await;
    }
    let observed = runtime.observe().await.unwrap();
    assert!(
        observed.sandboxes.is_empty() && observed.containers.is_empty(),
        "{observed:?}"
    );
}

pub async fn a_repeated_step_finds_its_own_work(Subject { runtime, .. }: Subject<impl ContainerRuntime>) {
    let workload = Workload::new("twice");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    assert_eq!(started(&runtime, workload.run_sandbox(0)).await, sandbox);
    for script in ["sleep 1000", "exit 0"] {
        let name = script.split(' ').next().unwrap_or_default();
        let container = started(&runtime, workload.start(&sandbox, name, 0, script)).await;
        assert_eq!(
            started(&runtime, workload.start(&sandbox, name, 0, script)).await,
            container
        );
    }
    let observed = runtime.observe().await.unwrap();
    assert_eq!((observed.sandboxes.len(), observed.containers.len()), (1, 2));
}

pub async fn a_stop_asks_and_then_kills(Subject { runtime, logs }: Subject<impl ContainerRuntime>) {
    #[track_caller]
    fn check(container: &ObservedContainer, code: i32) {
        let ended = matches!(container.state, ObservedState::Exited { exit_code, reason: Reason::Error, .. } if exit_code == code);
        assert!(ended, "{code}: {container:?}");
    }
    let workload = Workload::new("stops");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let polite = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    for (name, script, grace_s, code) in [
        ("polite", polite, 30, 3),
        ("stubborn", "sleep 1000", 1, 137),
        ("hurried", polite, 0, 137),
    ] {
        let container_id = started(&runtime, workload.start(&sandbox, name, 0, script)).await;
        if let Some(logs) = logs.as_ref().filter(|_| script == polite) {
            device::logged(&workload.log(logs, name, 0), "ready").await;
        }
        done(
            &runtime,
            Step::StopContainer {
                container_id: container_id.clone(),
                grace_s,
                pre_stop: None,
            },
        )
        .await;
        check(&find(&runtime, &container_id).await.expect("is observed"), code);
        done(
            &runtime,
            Step::StopContainer {
                container_id,
                grace_s,
                pre_stop: None,
            },
        )
        .await;
    }
}

pub async fn a_second_stop_shortens_the_first(Subject { runtime, .. }: Subject<impl ContainerRuntime>) {
    let workload = Workload::new("hurry");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let container_id = started(&runtime, workload.start(&sandbox, "main", 0, "sleep 1000")).await;
    let patient = Step::StopContainer {
        container_id: container_id.clone(),
        grace_s: 1000,
        pre_stop: None,
    };
    let patient = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.run(patient).await }
    });
    tokio::task::yield_now().await;
    done(
        &runtime,
        Step::StopContainer {
            container_id: container_id.clone(),
            grace_s: 0,
            pre_stop: None,
        },
    )
    .await;
    let outcome = within("the patient stop ends, too", patient).await.unwrap();
    assert_eq!(outcome, StepOutcome::Done);
    let state = exited(&runtime, &container_id).await.state;
    assert!(
        matches!(state, ObservedState::Exited { exit_code: 137, .. }),
        "{state:?}"
    );
}

pub async fn a_leftover_sandbox_gives_way(Subject { runtime, .. }: Subject<impl ContainerRuntime>) {
    let workload = Workload::new("leftover");
    let leftover = started(&runtime, workload.run_sandbox(0)).await;
    done(
        &runtime,
        Step::StopSandbox {
            sandbox_id: leftover.clone(),
        },
    )
    .await;
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    assert_ne!(sandbox, leftover);
    let seen = runtime.observe().await.unwrap().sandboxes;
    assert_eq!(
        seen.iter().map(|s| (&s.id, s.ready)).collect::<Vec<_>>(),
        [(&sandbox, true)]
    );

    // One that still holds a container of its time is for the plan to clear, not for this step.
    started(&runtime, workload.start(&sandbox, "main", 0, "exit 1")).await;
    done(&runtime, Step::StopSandbox { sandbox_id: sandbox }).await;
    let outcome = runtime.run(workload.run_sandbox(0)).await;
    assert!(
        matches!(
            outcome,
            StepOutcome::Failed {
                reason: Reason::FailedCreatePodSandBox,
                ..
            }
        ),
        "{outcome:?}"
    );
}

pub async fn images_are_found_and_pulled(Subject { runtime, .. }: Subject<impl ContainerRuntime>) {
    let find = |image: &str| Step::FindImage { image: image.into() };
    let pull = |image: &str| Step::PullImage {
        image: image.into(),
        manifest: Workload::new("pulls").sandbox.manifest,
    };
    // Nobody listens on port 1.
    let absent = "127.0.0.1:1/absent:1";
    let invalid = "Not/An Image";
    for (step, image, expect) in [
        (find(IMAGE), IMAGE, Ok(true)),
        (find(absent), absent, Ok(false)),
        (pull(absent), absent, Err(Reason::ErrImagePull)),
        (find(invalid), invalid, Err(Reason::InvalidImageName)),
        (pull(invalid), invalid, Err(Reason::InvalidImageName)),
    ] {
        let words = format!("{step:?}");
        let outcome = match runtime.run(step).await {
            StepOutcome::Image {
                image_id, size_bytes, ..
            } => {
                assert!(!image_id.is_empty() && size_bytes > 0);
                Ok(true)
            }
            StepOutcome::NoImage => Ok(false),
            StepOutcome::Failed { reason, message } => {
                assert!(message.contains(image), "{message}");
                Err(reason)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome, expect, "{words}");
    }
}

pub async fn what_is_gone_is_done(Subject { runtime, .. }: Subject<impl ContainerRuntime>) {
    let id = "0123456789abcdef";
    done(
        &runtime,
        Step::StopContainer {
            container_id: id.into(),
            grace_s: 5,
            pre_stop: None,
        },
    )
    .await;
    done(
        &runtime,
        Step::RemoveContainer {
            container_id: id.into(),
        },
    )
    .await;
    done(
        &runtime,
        Step::StopSandbox {
            sandbox_id: id.into(),
        },
    )
    .await;
    let uid = Workload::new("absent").uid();
    done(
        &runtime,
        Step::RemoveSandbox {
            sandbox_id: id.into(),
            uid: uid.clone(),
        },
    )
    .await;
    done(&runtime, Step::RemoveWorkload { uid }).await;
}

pub async fn a_second_sandbox_follows_the_first(Subject { runtime, .. }: Subject<impl ContainerRuntime>) {
    let workload = Workload::new("again");
    let first = started(&runtime, workload.run_sandbox(0)).await;
    let inside = started(&runtime, workload.start(&first, "main", 0, "sleep 1000")).await;
    done(
        &runtime,
        Step::StopSandbox {
            sandbox_id: first.clone(),
        },
    )
    .await;
    assert!(matches!(
        exited(&runtime, &inside).await.state,
        ObservedState::Exited { exit_code: 137, .. }
    ));
    let second = started(&runtime, workload.run_sandbox(1)).await;
    assert_ne!(first, second);
    started(&runtime, workload.start(&second, "main", 1, "sleep 1000")).await;
    done(
        &runtime,
        Step::RemoveSandbox {
            sandbox_id: first,
            uid: workload.uid(),
        },
    )
    .await;
    let observed = runtime.observe().await.unwrap();
    assert_eq!(
        observed
            .sandboxes
            .iter()
            .map(|s| (&s.id, s.attempt))
            .collect::<Vec<_>>(),
        [(&second, 1)]
    );
    assert_eq!(
        observed.containers.len(),
        1,
        "the containers of a sandbox go with it"
    );
}

pub async fn a_change_wakes(Subject { runtime, .. }: Subject<impl ContainerRuntime>) {
    let workload = Workload::new("wakes");
    within("the first look is due at once", runtime.changed()).await;
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let container_id = started(&runtime, workload.start(&sandbox, "main", 0, "sleep 1000")).await;
    runtime.observe().await.unwrap();
    let changed = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.changed().await }
    });
    tokio::task::yield_now().await;
    assert!(!changed.is_finished());
    done(
        &runtime,
        Step::StopContainer {
            container_id,
            grace_s: 0,
            pre_stop: None,
        },
    )
    .await;
    within("an ended container wakes", changed).await.unwrap();
}
