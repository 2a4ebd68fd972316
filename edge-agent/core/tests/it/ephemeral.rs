//! Stories of containers that are started in a workload that runs.

use edge_protocol::v1::{ContainerSpec, ContainerState, Phase, Reason, RestartPolicy, Rung};

use crate::hub::{container, manifest, uid};
use crate::order::{acts, exit, run, up, with_initial};
use crate::world::World;

fn debugger(name: &str, target: Option<&str>) -> ContainerSpec {
    ContainerSpec {
        target: target.map(str::to_owned),
        ..container(name, "busybox:1")
    }
}

/// The ephemeral containers, after how the workload as a whole is.
fn shown(world: &World) -> String {
    let status = world.status("one");
    let words = status.ephemeral_containers.iter().map(|one| match &one.state {
        ContainerState::Waiting { reason, .. } => reason.to_string(),
        ContainerState::Running { .. } => "running".to_owned(),
        ContainerState::Terminated { exit_code, .. } => format!("ended {exit_code}"),
    });
    let words: Vec<String> = words.collect();
    format!("{:?} {:?} {}", status.phase, status.rung, words.join(" "))
}

#[test]
fn one_is_started_once_and_counts_for_nothing() {
    let mut world = up();
    let mut wanted = manifest("one", &["a:1"]);
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "run c0");
    wanted
        .workload
        .ephemeral_containers
        .push(debugger("debug", Some("c0")));
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "run debug among c0");
    assert_eq!(shown(&world), "Running Healthy running");
    // Nor does another spec of it begin it anew.
    wanted.workload.ephemeral_containers[0].image = "busybox:2".to_owned();
    wanted.workload.ephemeral_containers[0].restart_digest = container("debug", "busybox:2").restart_digest;
    run(&mut world, &wanted);
    exit(&mut world, "debug", 3);
    assert_eq!(shown(&world), "Running Healthy ended 3");
    world.pass(600_000);
    world.crash();
    world.settle();
    world.link_up();
    world.settle();
    world.pass(600_000);
    assert_eq!(acts(&mut world), "");
    // Its place is the sandbox that it was started in.
    world.runtime.kill_sandbox(&uid("one"));
    world.look_due = true;
    world.settle();
    world.pass(20_000);
    assert_eq!(acts(&mut world), "stop c0 30s, run c0");
    assert_eq!(shown(&world), "Running Healthy ended 3");
}

#[test]
fn one_without_its_image_disturbs_nobody() {
    let mut world = up();
    world.runtime.bad_images.insert("busybox:1".to_owned());
    let mut wanted = manifest("one", &["a:1"]);
    wanted.workload.ephemeral_containers.push(debugger("debug", None));
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "run c0");
    assert_eq!(shown(&world), "Running Healthy ErrImagePull");
    // Nor a change of the workload itself.
    wanted.workload.containers[0] = container("c0", "a:2");
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "stop c0 30s, run c0");
}

#[test]
fn one_waits_for_the_sandbox_and_for_its_target_alone() {
    let mut world = up();
    let mut wanted = with_initial(&["i:1"], &["a:1"]);
    let ephemeral = &mut wanted.workload.ephemeral_containers;
    ephemeral.push(debugger("early", None));
    ephemeral.push(debugger("late", Some("c0")));
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "run i0, run early");
    assert_eq!(shown(&world), "Pending Persisted running PodInitializing");
    exit(&mut world, "i0", 0);
    assert_eq!(acts(&mut world), "run c0, run late among c0");
    assert_eq!(shown(&world), "Running Healthy running running");
}

#[test]
fn one_goes_with_its_workload() {
    let mut world = up();
    let mut wanted = manifest("one", &["a:1"]);
    wanted.workload.restart_policy = RestartPolicy::Never;
    wanted.workload.ephemeral_containers.push(debugger("debug", None));
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "run c0, run debug");
    exit(&mut world, "c0", 0);
    world.pass(60_000);
    assert_eq!(acts(&mut world), "stop debug 30s");
    let status = world.status("one");
    assert_eq!((status.phase, status.rung), (Phase::Succeeded, Rung::Healthy));
    assert_eq!(shown(&world), "Succeeded Healthy ended 143");
    let killed = world
        .hub
        .events
        .iter()
        .filter(|event| event.reason == Reason::Killing);
    assert_eq!(killed.count(), 1);
}
