//! Stories of a wish for other resources: taken in, put off, taken back, and refused by the runtime.

use edge_protocol::v1::{Manifest, PullPolicy, QosClass, Reason, ResizeResource, Resources, Rung};

use crate::hub::{manifest, uid};
use crate::order::{acts, exit, run, told, up, with_initial};
use crate::world::World;

fn asking(name: &str, cpu_milli: u64) -> Manifest {
    let mut wanted = manifest(name, &["a:1"]);
    wanted.workload.containers[0].resources.cpu_request_milli = Some(cpu_milli);
    wanted
}

/// What the runtime holds the one container of a workload to.
fn held(world: &World, name: &str) -> Option<u64> {
    let mut containers = world.runtime.containers.iter();
    let container = containers.rfind(|c| c.uid == uid(name)).unwrap();
    container.resources.as_ref().unwrap().cpu_request_milli
}

fn allocated(world: &World, name: &str) -> Option<u64> {
    let status = &world.status(name).containers[0];
    status.allocated.as_ref().unwrap().cpu_request_milli
}

fn stop(world: &mut World, name: &str) {
    world.hub.stop(&uid(name), None);
    world.push();
    world.settle();
}

fn counts(world: &World) -> [usize; 3] {
    [
        Reason::ResizeDeferred,
        Reason::ResizeStarted,
        Reason::ResizeCompleted,
    ]
    .map(|reason| told(world, reason).len())
}

const NO_ROOM: &str = "Node didn't have enough resource: cpu, requested: 2000, used: 2500, capacity: 4000";

#[test]
fn what_does_not_fit_waits_for_room_and_goes_on_with_what_it_has() {
    let mut world = up();
    run(&mut world, &asking("one", 1_000));
    run(&mut world, &asking("other", 2_500));
    let mut more = asking("one", 2_000);
    more.workload.containers[0].resize_restarts = vec![ResizeResource::Cpu];
    acts(&mut world);
    run(&mut world, &more);
    assert_eq!(acts(&mut world), "");
    assert_eq!(told(&world, Reason::ResizeDeferred), [NO_ROOM]);
    let status = world.status("one");
    let deferred = status.deferred.clone().unwrap();
    assert_eq!(
        (deferred.reason, deferred.message.as_str()),
        (Reason::OutOfcpu, NO_ROOM)
    );
    assert_eq!(status.containers[0].allocated, status.containers[0].resources);
    assert_eq!(allocated(&world, "one"), Some(1_000));
    let event = world
        .hub
        .events
        .iter()
        .find(|event| event.reason == Reason::ResizeDeferred);
    assert_eq!(event.unwrap().cause, Some(Reason::OutOfcpu));

    // It counts for what it has, for others and when it starts again.
    run(&mut world, &asking("third", 500));
    assert_eq!(world.status("third").rung, Rung::Healthy);
    stop(&mut world, "third");
    for _ in 0..2 {
        acts(&mut world);
        exit(&mut world, "c0", 1);
        world.pass(60_000);
        assert_eq!(acts(&mut world), "run c0");
        assert_eq!(held(&world, "one"), Some(1_000));
        world.crash();
        world.link_up();
        world.settle();
    }
    assert_eq!(counts(&world), [1, 0, 0], "what is known is not told again");
    let since = world
        .status("one")
        .deferred
        .as_ref()
        .map(|deferred| deferred.since);
    assert_eq!(since, Some(deferred.since));

    stop(&mut world, "other");
    assert_eq!(acts(&mut world), "stop c0 30s, stop c0 30s, resize pod, run c0");
    assert_eq!(held(&world, "one"), Some(2_000));
    assert_eq!(counts(&world), [1, 1, 1]);
    let status = world.status("one");
    assert_eq!((&status.deferred, &status.resizing), (&None, &None));
    assert_eq!(allocated(&world, "one"), Some(2_000));
    world.crash();
    world.link_up();
    world.pass(600_000);
    assert_eq!(acts(&mut world), "");
    assert_eq!(counts(&world), [1, 1, 1]);
}

#[test]
fn a_wish_that_is_taken_back_leaves_nothing() {
    let mut world = up();
    run(&mut world, &asking("one", 1_000));
    run(&mut world, &asking("other", 2_500));
    acts(&mut world);
    run(&mut world, &asking("one", 2_000));
    run(&mut world, &asking("one", 1_000));
    stop(&mut world, "other");
    assert_eq!(acts(&mut world), "stop c0 30s");
    assert_eq!(counts(&world), [1, 0, 0]);
    assert_eq!(world.status("one").deferred, None);
    // Another wish after it is another one to tell of.
    run(&mut world, &asking("other", 2_500));
    run(&mut world, &asking("one", 2_000));
    run(&mut world, &asking("one", 2_200));
    assert_eq!(counts(&world), [3, 0, 0]);
}

/// `sortPendingResizes` of the kubelet's allocation manager.
#[test]
fn room_goes_to_the_one_whose_turn_it_is() {
    let priority = |name: &str, cpu_milli, priority| {
        let mut wanted = asking(name, cpu_milli);
        wanted.workload.priority = priority;
        wanted
    };
    let guaranteed = |name: &str, cpu_milli| {
        let mut wanted = asking(name, cpu_milli);
        wanted.workload.qos = QosClass::Guaranteed;
        wanted
    };
    for (first, second, winner) in [
        (priority("a", 100, 0), priority("b", 100, 5), "b"),
        (asking("a", 100), guaranteed("b", 100), "b"),
        (asking("a", 100), asking("b", 100), "a"),
        (asking("b", 100), asking("a", 100), "b"),
    ] {
        let mut world = up();
        run(&mut world, &asking("large", 3_700));
        for wanted in [first, second] {
            run(&mut world, &wanted);
            let mut more = wanted;
            more.workload.containers[0].resources.cpu_request_milli = Some(2_500);
            world.pass(1_000);
            run(&mut world, &more);
        }
        assert_eq!(counts(&world), [2, 0, 0]);
        stop(&mut world, "large");
        assert_eq!(held(&world, winner), Some(2_500));
        assert_eq!(counts(&world), [2, 1, 1]);
        // One that asks for less makes room for the other in the same turn.
        run(&mut world, &asking(winner, 1_000));
        let loser = if winner == "a" { "b" } else { "a" };
        assert_eq!(
            (held(&world, winner), held(&world, loser)),
            (Some(1_000), Some(2_500))
        );
    }
}

#[test]
fn a_runtime_that_refuses_is_asked_again_and_told_of_once() {
    let mut world = up();
    run(&mut world, &asking("one", 1_000));
    world.hub.run(&asking("one", 2_000));
    world.push();
    while world.talk() || world.fetch() || world.commit() {}
    world.fail_step_saying("no\u{7} luck: 90 in use");
    world.settle();
    for more in 0..3 {
        assert_eq!(world.steps.len(), 0);
        let at = world.wake_at.unwrap();
        world.now.mono_ms = at;
        world.give(edge_agent_core::Input::Wake);
        while world.talk() || world.commit() {}
        if !world.steps.is_empty() {
            world.fail_step_saying(&format!("no\u{7} luck: {} in use", 95 + 5 * more));
        }
        world.settle();
    }
    assert_eq!(told(&world, Reason::ResizeError), ["no\\u{7} luck: 90 in use"]);
    assert_eq!(counts(&world), [0, 1, 0]);
    let resizing = world.status("one").resizing.clone().unwrap();
    let failure = resizing.failure.unwrap();
    assert_eq!(failure.message, "no\\u{7} luck: 90 in use");
    assert!(resizing.since.mono_ms <= failure.since.mono_ms);
    assert_eq!(allocated(&world, "one"), Some(2_000));
    world.pass(600_000);
    assert_eq!(world.status("one").resizing, None);
    assert_eq!(held(&world, "one"), Some(2_000));
    assert_eq!(counts(&world), [0, 1, 1]);
}

#[test]
fn an_agent_that_did_not_weigh_had_allocated_what_was_asked() {
    let mut world = up();
    run(&mut world, &asking("one", 1_000));
    let record = world.disk.workloads.get_mut(&uid("one")).unwrap();
    let mut older: serde_json::Value = serde_json::from_str(record).unwrap();
    assert!(older.as_object_mut().unwrap().remove("allocated").is_some());
    *record = older.to_string();
    acts(&mut world);
    world.crash();
    world.link_up();
    world.settle();
    run(&mut world, &asking("other", 2_500));
    run(&mut world, &asking("one", 2_000));
    assert_eq!(acts(&mut world), "run c0");
    assert_eq!(told(&world, Reason::ResizeDeferred), [NO_ROOM]);
}

const MIB: u64 = 1 << 20;

fn limited(memory_mib: u64) -> Resources {
    Resources {
        memory_limit_bytes: Some(memory_mib * MIB),
        ..Resources::default()
    }
}

#[test]
fn what_gets_less_memory_says_so() {
    let mut world = up();
    let mut wanted = manifest("one", &["a:1", "b:1", "d:1"]);
    let [first, second, third] = wanted.workload.containers.as_mut_slice() else {
        panic!()
    };
    (first.resources, third.resources) = (limited(64), limited(64));
    second.resources.cpu_request_milli = Some(10);
    run(&mut world, &wanted);
    acts(&mut world);
    for (spec, mib) in wanted.workload.containers.iter_mut().zip([32, 128, 128]) {
        spec.resources = limited(mib);
    }
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "resize pod c0 c1 c2");
    // One that had no limit gets less, too.
    let lowered = [("c0".to_owned(), 32 * MIB), ("c1".to_owned(), 128 * MIB)];
    assert_eq!(world.runtime.lowered, lowered);
}

#[test]
fn an_initial_container_is_resized_while_it_runs() {
    let mut world = up();
    let mut wanted = with_initial(&["a:1", "b:1"], &["c:1"]);
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "run i0");
    wanted.workload.init_containers[0].resources = limited(32);
    wanted.workload.init_containers[0].resize_restarts = vec![ResizeResource::Memory];
    wanted.workload.init_containers[1].resources = limited(48);
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "resize pod i0");
    assert_eq!(counts(&world), [0, 1, 1]);
    exit(&mut world, "i0", 0);
    exit(&mut world, "i1", 0);
    assert_eq!(acts(&mut world), "run i1, run c0");
    // What is past is not run again for it.
    wanted.workload.init_containers[0].resources = limited(16);
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "");
    assert_eq!(counts(&world), [0, 2, 2]);
}

#[test]
fn a_workload_is_resized_as_a_whole() {
    let mut world = up();
    let whole = |cpu_milli, memory_mib| {
        let mut wanted = manifest("one", &["a:1", "b:1"]);
        wanted.workload.containers[1].resources = limited(16);
        wanted.workload.resources = Some(Resources {
            cpu_request_milli: Some(cpu_milli),
            ..limited(memory_mib)
        });
        wanted
    };
    run(&mut world, &whole(1_000, 64));
    run(&mut world, &asking("other", 2_500));
    acts(&mut world);
    let said = |world: &World| world.status("one").allocated.clone().unwrap().cpu_request_milli;
    run(&mut world, &whole(2_000, 32));
    assert_eq!(acts(&mut world), "");
    assert_eq!(told(&world, Reason::ResizeDeferred), [NO_ROOM]);
    assert_eq!(said(&world), Some(1_000));
    stop(&mut world, "other");
    // The one that has a limit of its own is left alone.
    assert_eq!(acts(&mut world), "stop c0 30s, resize pod c0");
    assert_eq!(world.runtime.lowered, [("c0".to_owned(), 32 * MIB)]);
    assert_eq!(said(&world), Some(2_000));
    run(&mut world, &whole(1_500, 32));
    assert_eq!(acts(&mut world), "resize pod");
    assert_eq!(counts(&world), [1, 2, 2]);
    world.crash();
    world.link_up();
    world.pass(600_000);
    assert_eq!(acts(&mut world), "");
}

#[test]
fn an_agent_that_noted_no_bounds_changes_nothing_by_itself() {
    let mut world = up();
    let mut wanted = manifest("one", &["a:1"]);
    wanted.workload.containers[0].resize_restarts = vec![ResizeResource::Memory];
    wanted.workload.resources = Some(limited(64));
    run(&mut world, &wanted);
    let record = world.disk.workloads.get_mut(&uid("one")).unwrap();
    let mut older: serde_json::Value = serde_json::from_str(record).unwrap();
    assert!(older.as_object_mut().unwrap().remove("bounds").is_some());
    older["actuated"]["c0"] = serde_json::json!({});
    *record = older.to_string();
    acts(&mut world);
    world.crash();
    world.link_up();
    world.settle();
    assert_eq!(acts(&mut world), "");
    wanted.workload.resources = Some(limited(128));
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "stop c0 30s, resize pod, run c0");
}

#[test]
fn a_container_whose_image_is_not_to_be_had_holds_up_no_other() {
    let mut world = up();
    run(&mut world, &manifest("one", &["a:1", "b:1"]));
    world.runtime.bad_images.insert("bad:1".to_owned());
    let mut more = manifest("one", &["bad:1", "b:1"]);
    let [first, second] = &mut more.workload.containers[..] else {
        panic!("two containers")
    };
    first.pull_policy = PullPolicy::Always;
    first.resize_restarts = vec![ResizeResource::Cpu];
    for container in [first, second] {
        container.resources.cpu_request_milli = Some(100);
    }
    acts(&mut world);
    run(&mut world, &more);
    assert_eq!(acts(&mut world), "resize pod c1");
    exit(&mut world, "c1", 1);
    world.pass(11_000);
    assert_eq!(acts(&mut world), "run c1");
}
