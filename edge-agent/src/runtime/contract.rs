//! What every [`ContainerRuntime`] must do, checked on the fake and on a real containerd.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use edge_agent_core::step::{ObservedContainer, ObservedState, Step, StepOutcome};

use super::{ContainerRuntime, FakeRuntime};
use given::IMAGE;

#[path = "../../cri/tests/it/archive.rs"]
mod archive;
mod clauses;
#[path = "../../cri/tests/it/containerd.rs"]
mod containerd;
mod device;
mod figures;
mod given;
mod limits;
mod logs;
mod pods;
mod real;

/// What a clause is checked on.
struct Subject<R> {
    runtime: R,
    /// Where containers log, if they really do.
    logs: Option<PathBuf>,
}

/// Runs each clause once on either runtime.
macro_rules! on_both {
    ($($clause:ident),+ $(,)?) => {
        mod fake {
            $(#[tokio::test]
            async fn $clause() {
                let runtime = super::FakeRuntime::new([super::IMAGE]);
                super::clauses::$clause(super::Subject { runtime, logs: None }).await;
            })+
        }
        mod cri {
            $(#[tokio::test]
            async fn $clause() {
                let device = super::device::Device::start().await;
                let logs = Some(device.logs("device-a"));
                super::clauses::$clause(super::Subject { runtime: device.runtime("device-a"), logs }).await;
            })+
        }
    };
}

on_both!(
    a_workload_lives_and_leaves_nothing,
    a_repeated_step_finds_its_own_work,
    a_stop_asks_and_then_kills,
    a_second_stop_shortens_the_first,
    a_leftover_sandbox_gives_way,
    images_are_found_and_pulled,
    what_is_gone_is_done,
    a_second_sandbox_follows_the_first,
    a_change_wakes,
);

/// Runs a step that makes something, and gives the id of it.
async fn started(runtime: &impl ContainerRuntime, step: Step) -> String {
    match runtime.run(step).await {
        StepOutcome::Sandbox { sandbox_id, .. } => sandbox_id,
        StepOutcome::Started { container_id, .. } => container_id,
        other => panic!("{other:?}"),
    }
}

async fn done(runtime: &impl ContainerRuntime, step: Step) {
    assert_eq!(runtime.run(step.clone()).await, StepOutcome::Done, "{step:?}");
}

async fn find(runtime: &impl ContainerRuntime, id: &str) -> Option<ObservedContainer> {
    runtime
        .observe()
        .await
        .unwrap()
        .containers
        .into_iter()
        .find(|container| container.id == id)
}

/// Looks, whenever the runtime says it changed, until the container has ended.
async fn exited(runtime: &impl ContainerRuntime, id: &str) -> ObservedContainer {
    within("the container ended", async {
        loop {
            match find(runtime, id).await {
                Some(container) if matches!(container.state, ObservedState::Exited { .. }) => {
                    return container;
                }
                _ => runtime.changed().await,
            }
        }
    })
    .await
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}
