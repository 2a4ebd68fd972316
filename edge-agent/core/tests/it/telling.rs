//! Stories of what is shown and told of a workload, held against what a kubelet shows and tells.

use edge_agent_core::{Input, ObservedState, Step, StepOutcome};
use edge_protocol::v1::{ContainerState, Phase, Reason, RestartPolicy};

use crate::hub::{manifest, uid};
use crate::order::{acts, exit, run, shown, told, up, with_volume};
use crate::world::World;

/// Looks, and lets the hub hear of it, without a step being done.
fn look(world: &mut World) {
    world.look();
    while world.talk() || world.commit() {}
}

#[test]
fn a_container_that_is_being_started_again_shows_how_it_ended_before() {
    let mut world = up();
    run(&mut world, &manifest("one", &["c:1"]));
    world.runtime.exit(&uid("one"), "c0", 3, world.now.wall_ms);
    look(&mut world);
    assert_eq!(shown(&world), " | ended 3");
    // The runtime has made the next one, and not started it yet.
    let mut next = world.runtime.containers[0].clone();
    (next.id, next.attempt, next.state) = ("next".to_owned(), 1, ObservedState::Created);
    world.runtime.containers.push(next);
    look(&mut world);
    assert_eq!(shown(&world), " | ended 3");
    assert_eq!(world.status("one").containers[0].restart_count, 0);
    world.settle();
    assert_eq!(shown(&world), " | running");
    assert_eq!(world.status("one").containers[0].restart_count, 1);
}

#[test]
fn what_may_still_run_has_not_failed() {
    let mut world = up();
    let mut wanted = manifest("one", &["c:1"]);
    wanted.workload.active_deadline_s = Some(60);
    run(&mut world, &wanted);
    world.pass(59_990);
    world.now.mono_ms += 10;
    world.give(Input::Wake);
    look(&mut world);
    let status = world.status("one");
    assert_eq!((status.phase, status.reason), (Phase::Running, None));
    // The container has ended, and its sandbox is still there.
    while world.runtime.running(&uid("one")) > 0 {
        assert!(world.step() || world.commit(), "it never stops");
    }
    look(&mut world);
    assert_eq!(shown(&world), " | ended 143");
    let status = world.status("one");
    assert_eq!(
        (status.phase, status.reason, status.sandbox_ready),
        (Phase::Running, None, true)
    );
    world.settle();
    let status = world.status("one");
    assert_eq!(
        (status.phase, status.reason, status.sandbox_ready),
        (Phase::Failed, Some(Reason::DeadlineExceeded), false)
    );
}

#[test]
fn a_job_has_succeeded_when_its_sandbox_has_stopped() {
    let mut world = up();
    let mut wanted = manifest("one", &["c:1"]);
    wanted.workload.restart_policy = RestartPolicy::Never;
    run(&mut world, &wanted);
    world.runtime.exit(&uid("one"), "c0", 0, world.now.wall_ms);
    look(&mut world);
    assert_eq!(
        (world.status("one").phase, shown(&world).as_str()),
        (Phase::Running, " | ended 0")
    );
    world.settle();
    assert_eq!(
        (world.status("one").phase, world.status("one").sandbox_ready),
        (Phase::Succeeded, false)
    );
}

#[test]
fn images_wait_for_volumes_that_a_workload_never_had() {
    let mut world = up();
    world.runtime.bad_volumes.insert(uid("one"));
    run(&mut world, &with_volume());
    assert!(world.runtime.images.is_empty() && told(&world, Reason::Pulled).is_empty());
    world.runtime.bad_volumes.clear();
    world.pass(130_000);
    assert_eq!(told(&world, Reason::Pulled).len(), 1);
}

#[test]
fn a_container_that_cannot_be_started_was_created() {
    let mut world = up();
    world.hub.run(&manifest("one", &["c:1"]));
    world.push();
    while !matches!(world.steps.front(), Some((_, Step::StartContainer(_)))) {
        let moved = world.commit() || world.talk() || world.step();
        assert!(moved, "it never starts");
        if world.look_due {
            world.look();
        }
    }
    let (step, _) = world.steps.pop_front().unwrap();
    let outcome = StepOutcome::Failed {
        reason: Reason::RunContainerError,
        message: "no such file".to_owned(),
    };
    world.give(Input::StepEnded { step, outcome });
    look(&mut world);
    assert_eq!(told(&world, Reason::Created), ["Container created"]);
    assert_eq!(told(&world, Reason::Failed), ["Error: no such file"]);
    assert!(told(&world, Reason::Started).is_empty());
}

#[test]
fn last_words_share_one_bound() {
    let mut world = up();
    let mut wanted = manifest("one", &["a:1", "a:1", "a:1", "a:1"]);
    wanted.workload.restart_policy = RestartPolicy::Never;
    run(&mut world, &wanted);
    for index in 0..4 {
        world
            .runtime
            .exit(&uid("one"), &format!("c{index}"), 1, world.now.wall_ms);
    }
    for container in &mut world.runtime.containers {
        if let ObservedState::Exited { message, .. } = &mut container.state {
            *message = "ü\n".repeat(2_000);
        }
    }
    acts(&mut world);
    exit(&mut world, "c0", 1);
    for container in &world.status("one").containers {
        let ContainerState::Terminated { message, .. } = &container.state else {
            panic!("{container:?}")
        };
        assert_eq!(message.len(), 3 << 10);
    }
}
