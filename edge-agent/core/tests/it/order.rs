//! Stories of volumes, initial containers, sidecars and hooks: what comes after what.

use edge_protocol::v1::{
    Action, ContainerState, ContainerStatus, Manifest, Phase, Reason, RestartPolicy, Rung, VolumeSource,
    VolumeSpec,
};

use crate::hub::{container, manifest, uid};
use crate::world::World;

pub fn up() -> World {
    let mut world = World::new();
    world.link_up();
    world.settle();
    world
}

/// `i0`, `i1`, … before the main containers; one in brackets is a sidecar.
pub fn with_initial(initial: &[&str], mains: &[&str]) -> Manifest {
    let mut wanted = manifest("one", mains);
    for (index, image) in initial.iter().enumerate() {
        let bare = image.trim_matches(['[', ']']);
        let mut spec = container(&format!("i{index}"), bare);
        spec.restart_policy = (bare != *image).then_some(RestartPolicy::Always);
        wanted.workload.init_containers.push(spec);
    }
    wanted
}

pub fn run(world: &mut World, wanted: &Manifest) {
    world.hub.run(wanted);
    world.push();
    world.settle();
}

pub fn exit(world: &mut World, name: &str, code: i32) {
    world.runtime.exit(&uid("one"), name, code, world.now.wall_ms);
    world.look_due = true;
    world.settle();
}

pub fn acts(world: &mut World) -> String {
    std::mem::take(&mut world.runtime.acts).join(", ")
}

fn word(status: &ContainerStatus) -> String {
    match &status.state {
        ContainerState::Waiting { reason, .. } => reason.to_string(),
        ContainerState::Running { .. } => "running".to_owned(),
        ContainerState::Terminated { exit_code, .. } => format!("ended {exit_code}"),
    }
}

/// The initial containers before a bar, the main ones after it.
pub fn shown(world: &World) -> String {
    let status = world.status("one");
    let list = |all: &[ContainerStatus]| all.iter().map(word).collect::<Vec<_>>().join(" ");
    format!("{} | {}", list(&status.init_containers), list(&status.containers))
}

pub fn told(world: &World, reason: Reason) -> Vec<String> {
    let events = world.hub.events.iter().filter(|event| event.reason == reason);
    events.map(|event| event.message.clone()).collect()
}

#[test]
fn initial_containers_run_one_after_the_other_before_the_main_ones() {
    let mut world = up();
    run(&mut world, &with_initial(&["a:1", "b:1"], &["c:1", "d:1"]));
    assert_eq!(acts(&mut world), "run i0");
    assert_eq!(
        shown(&world),
        "running PodInitializing | PodInitializing PodInitializing"
    );
    assert_eq!(
        (world.status("one").phase, world.status("one").rung),
        (Phase::Pending, Rung::Persisted)
    );
    exit(&mut world, "i0", 0);
    assert_eq!(acts(&mut world), "run i1");
    exit(&mut world, "i1", 1);
    assert_eq!(
        acts(&mut world),
        "run i1",
        "it failed, and the first failure waits for nothing"
    );
    exit(&mut world, "i1", 1);
    assert_eq!(
        shown(&world),
        "ended 0 CrashLoopBackOff | PodInitializing PodInitializing"
    );
    world.pass(10_000);
    assert_eq!(acts(&mut world), "run i1");
    exit(&mut world, "i1", 0);
    assert_eq!(acts(&mut world), "run c0, run c1");
    assert_eq!(shown(&world), "ended 0 ended 0 | running running");
    let status = world.status("one");
    assert_eq!((status.phase, status.rung), (Phase::Running, Rung::Healthy));
    assert!(status.init_containers.iter().all(|status| status.ready) && status.sandbox_ready);
    assert_eq!(status.init_containers[1].restart_count, 2);
    // A restart of the agent or of a main container runs none of them again, a new sandbox all.
    world.crash();
    world.settle();
    exit(&mut world, "c0", 1);
    assert_eq!(acts(&mut world), "run c0");
    world.runtime.kill_sandbox(&uid("one"));
    world.look_due = true;
    world.settle();
    assert_eq!(acts(&mut world), "stop c1 30s, stop c0 30s, run i0");
    exit(&mut world, "i0", 0);
    exit(&mut world, "i1", 0);
    assert_eq!(acts(&mut world), "run i1, run c1");
    world.pass(10_000);
    assert_eq!(acts(&mut world), "run c0", "it had crashed before");
}

#[test]
fn an_initial_container_that_may_not_fail_fails_the_workload() {
    let mut world = up();
    let mut wanted = with_initial(&["[s:1]", "a:1"], &["c:1"]);
    wanted.workload.restart_policy = RestartPolicy::Never;
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "run i0, run i1");
    exit(&mut world, "i1", 3);
    assert_eq!(acts(&mut world), "stop i0 30s");
    assert_eq!(world.status("one").phase, Phase::Failed);
    assert!(world.runtime.sandboxes.iter().all(|sandbox| !sandbox.ready));
    for _ in 0..2 {
        world.reboot(7);
        world.link_up();
        world.pass(600_000);
        assert_eq!(acts(&mut world), "");
        assert_eq!(
            (world.status("one").phase, shown(&world)),
            (Phase::Failed, "ended 143 ended 3 | PodInitializing".to_owned())
        );
        world.runtime.containers.clear();
        world.runtime.sandboxes.clear();
    }
}

#[test]
fn sidecars_start_in_order_are_kept_running_and_leave_last() {
    let mut world = up();
    run(
        &mut world,
        &with_initial(&["[a:1]", "i:1", "[b:1]"], &["c:1", "d:1"]),
    );
    assert_eq!(acts(&mut world), "run i0, run i1");
    exit(&mut world, "i1", 0);
    assert_eq!(acts(&mut world), "run i2, run c0, run c1");
    assert_eq!(shown(&world), "running ended 0 running | running running");
    exit(&mut world, "i0", 0);
    assert_eq!(acts(&mut world), "run i0", "a sidecar always runs again, alone");
    assert_eq!(world.status("one").phase, Phase::Running);
    world.hub.stop(&uid("one"), Some(20));
    world.push();
    while world.talk() || world.commit() {}
    world.now.mono_ms += 5_000;
    world.settle();
    assert_eq!(
        acts(&mut world),
        "stop c0 20s, stop c1 20s, stop i2 15s, stop i0 15s"
    );
    assert_eq!(world.status("one").phase, Phase::Gone);
}

#[test]
fn a_sidecar_does_not_outwait_the_grace() {
    let mut world = up();
    run(&mut world, &with_initial(&["[a:1]"], &["c:1"]));
    acts(&mut world);
    world.hub.stop(&uid("one"), Some(20));
    world.push();
    while world.talk() || world.commit() {}
    assert_eq!(world.steps.len(), 1, "{:?}", world.steps);
    world.now.mono_ms += 20_000;
    world.give(edge_agent_core::Input::Wake);
    assert_eq!(world.steps.len(), 2, "{:?}", world.steps);
}

#[test]
fn a_workload_is_complete_without_its_sidecars() {
    let mut world = up();
    let mut wanted = with_initial(&["[a:1]", "[b:1]"], &["c:1"]);
    wanted.workload.restart_policy = RestartPolicy::OnFailure;
    run(&mut world, &wanted);
    acts(&mut world);
    exit(&mut world, "c0", 1);
    assert_eq!(acts(&mut world), "run c0");
    exit(&mut world, "c0", 0);
    assert_eq!(acts(&mut world), "stop i1 30s, stop i0 30s");
    assert_eq!(world.status("one").phase, Phase::Succeeded);
    assert_eq!(world.status("one").rung, Rung::Healthy);
    world.reboot(3);
    world.link_up();
    world.pass(60_000);
    assert_eq!(
        (acts(&mut world), world.status("one").phase),
        (String::new(), Phase::Succeeded)
    );
}

#[test]
fn a_changed_sidecar_is_replaced_and_a_changed_initial_container_is_not() {
    let mut world = up();
    run(&mut world, &with_initial(&["[a:1]", "i:1"], &["c:1"]));
    exit(&mut world, "i1", 0);
    acts(&mut world);
    run(&mut world, &with_initial(&["[a:2]", "i:2"], &["c:1"]));
    assert_eq!(acts(&mut world), "stop i0 30s, run i0");
    assert!(
        told(&world, Reason::Killing)
            .contains(&"Init container i0 definition changed, will be restarted".to_owned())
    );
    assert_eq!(world.status("one").rung, Rung::Healthy);
}

#[test]
fn a_policy_of_a_containers_own() {
    let mut world = up();
    let mut wanted = manifest("one", &["a:1", "b:1"]);
    wanted.workload.containers[0].restart_policy = Some(RestartPolicy::Never);
    run(&mut world, &wanted);
    acts(&mut world);
    exit(&mut world, "c0", 1);
    exit(&mut world, "c1", 1);
    assert_eq!(
        (acts(&mut world).as_str(), shown(&world).as_str()),
        ("run c1", " | ended 1 running")
    );
    assert_eq!(world.status("one").phase, Phase::Running);
}

pub fn with_volume() -> Manifest {
    let mut wanted = manifest("one", &["a:1"]);
    wanted.workload.volumes.push(VolumeSpec {
        name: "v".to_owned(),
        source: VolumeSource::EmptyDir {
            medium: edge_protocol::v1::Medium::Disk,
            size_limit_bytes: None,
        },
    });
    wanted
}

#[test]
fn volumes_are_there_before_the_sandbox_and_follow_the_manifest() {
    let mut world = up();
    world.runtime.bad_volumes.insert(uid("one"));
    run(&mut world, &with_volume());
    assert_eq!(acts(&mut world), "volumes");
    assert_eq!(shown(&world), " | ContainerCreating");
    assert_eq!(
        told(&world, Reason::FailedMount),
        ["MountVolume.SetUp failed for volume \"v\""]
    );
    assert_eq!(
        (world.status("one").phase, world.status("one").reason),
        (Phase::Pending, None)
    );
    world.pass(400_000);
    assert!(
        (4..20).contains(&acts(&mut world).matches("volumes").count()),
        "it backs off"
    );
    world.runtime.bad_volumes.clear();
    world.pass(130_000);
    assert_eq!(acts(&mut world), "volumes, run c0");
    // Files are swapped under what runs, and a restart does not wait for that.
    let mut changed = with_volume();
    changed.labels.insert("tier".to_owned(), "edge".to_owned());
    world.runtime.bad_volumes.insert(uid("one"));
    run(&mut world, &changed);
    assert_eq!(acts(&mut world), "volumes");
    exit(&mut world, "c0", 1);
    assert_eq!(acts(&mut world), "run c0");
    world.runtime.bad_volumes.clear();
    world.pass(130_000);
    assert_eq!(acts(&mut world), "volumes");
    world.pass(600_000);
    assert_eq!(acts(&mut world), "", "once");
    world.reboot(8);
    world.settle();
    assert_eq!(acts(&mut world), "volumes, run c0", "what was in memory is gone");
}

#[test]
fn a_key_that_is_on_its_way_is_no_failure_and_one_that_does_not_come_is() {
    let mut world = up();
    world.runtime.unsealed.insert(uid("one"));
    run(&mut world, &with_volume());
    assert_eq!(
        world.status("one").reason,
        Some(Reason::SecretNotSealed),
        "it says what it waits for"
    );
    world.pass(5_000);
    assert_eq!(told(&world, Reason::FailedMount), [""; 0]);
    world.pass(60_000);
    assert_eq!(told(&world, Reason::FailedMount)[0], "it waits for its key");
    // Another wait begins anew.
    let mut world = up();
    world.runtime.unsealed.insert(uid("one"));
    run(&mut world, &with_volume());
    world.pass(5_000);
    world.runtime.unsealed.clear();
    world.pass(130_000);
    assert_eq!(told(&world, Reason::FailedMount), [""; 0]);
    assert!(acts(&mut world).ends_with("volumes, run c0"));
}

fn hooked() -> Manifest {
    let mut wanted = manifest("one", &["a:1", "b:1"]);
    let hook = Action::Exec {
        command: vec!["true".to_owned()],
    };
    wanted.workload.containers[0].lifecycle.post_start = Some(hook.clone());
    wanted.workload.containers[0].lifecycle.pre_stop = Some(hook);
    wanted
}

#[test]
fn a_hook_ends_before_the_next_container_starts_and_before_anyone_is_told() {
    let mut world = up();
    world.hub.run(&hooked());
    world.push();
    while !world.runtime.acts.iter().any(|act| act == "run c0") {
        assert!(world.talk() || world.commit() || world.step());
    }
    world.look();
    while world.talk() || world.commit() {}
    assert_eq!(shown(&world), " | ContainerCreating ContainerCreating");
    world.settle();
    assert_eq!(acts(&mut world), "run c0, hook c0, run c1");
    assert_eq!(
        (shown(&world).as_str(), world.status("one").rung),
        (" | running running", Rung::Healthy)
    );
    // A restart waits for nobody's hook.
    exit(&mut world, "c1", 1);
    assert_eq!(acts(&mut world), "run c1");
    // Before its stop the other hook is run, and its failure told.
    world.runtime.bad_hooks.insert("c0".to_owned());
    world.hub.stop(&uid("one"), None);
    world.push();
    world.settle();
    assert_eq!(told(&world, Reason::FailedPreStopHook), ["PreStopHook failed"]);
}

#[test]
fn a_hook_that_fails_kills_its_container() {
    let mut world = up();
    world.runtime.bad_hooks.insert("c0".to_owned());
    run(&mut world, &hooked());
    assert!(acts(&mut world).starts_with("run c0, hook c0, stop c0 30s"));
    assert_eq!(
        told(&world, Reason::FailedPostStartHook)[0],
        "PostStartHook failed"
    );
    assert!(told(&world, Reason::Killing).contains(&"FailedPostStartHook".to_owned()));
    assert!(
        shown(&world).starts_with(" | CrashLoopBackOff"),
        "{}",
        shown(&world)
    );
    world.runtime.bad_hooks.clear();
    world.pass(20_000);
    assert_eq!(shown(&world), " | running running");
}

#[test]
fn nothing_follows_a_sidecar_whose_hook_fails() {
    let mut world = up();
    world.runtime.bad_hooks.insert("i0".to_owned());
    let mut wanted = with_initial(&["[s:1]"], &["a:1"]);
    let hook = Action::Exec {
        command: vec!["true".to_owned()],
    };
    wanted.workload.init_containers[0].lifecycle.post_start = Some(hook);
    run(&mut world, &wanted);
    assert!(acts(&mut world).ends_with("run i0, hook i0, stop i0 30s"));
    world.runtime.bad_hooks.clear();
    world.pass(20_000);
    assert!(acts(&mut world).ends_with("run i0, hook i0, run c0"));
}

#[test]
fn a_hook_does_not_hold_up_a_teardown() {
    let mut world = up();
    world.hub.run(&hooked());
    world.push();
    while !world.runtime.acts.iter().any(|act| act == "run c0") {
        assert!(world.talk() || world.commit() || world.step());
    }
    world.hub.stop(&uid("one"), Some(3));
    world.push();
    world.look();
    // The hook hangs.
    let hook = world
        .steps
        .iter()
        .position(|(_, step)| matches!(step, edge_agent_core::Step::PostStart(_)));
    let hook = world.steps.remove(hook.unwrap()).unwrap();
    world.settle();
    assert_eq!(world.status("one").phase, Phase::Gone);
    let failed = edge_agent_core::StepOutcome::Failed {
        reason: Reason::PostStartHookError,
        message: String::new(),
    };
    world.give(edge_agent_core::Input::StepEnded {
        step: hook.0,
        outcome: failed,
    });
    world.settle();
    assert_eq!(world.status("one").phase, Phase::Gone);
}
