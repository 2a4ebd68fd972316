//! A device is given as many workloads as it may run; the others wait, and say why.

use edge_protocol::v1::{LadderCounts, Reason};
use edge_protocol::{DeviceId, ItemState};
use iot_hub_core::HubConfig;

use crate::support::World;
use crate::support::build::{config, delete, pod, release, wanted};

/// A device that runs as many workloads as it may: `a` and `b`, while `c` and `d` wait.
fn full() -> (World, DeviceId) {
    let mut world = World::with(small());
    let one = world.enrol("one", &[("site", "a")]);
    world.connect(&one);
    for name in ["a", "b", "c", "d"] {
        world.call(wanted(name, "tags.site = 'a'").put()).unwrap();
        world.pass(1_000);
    }
    world.settle();
    (world, one)
}

fn small() -> HubConfig {
    let mut config = config();
    config.limits.workloads = 2;
    config
}

#[track_caller]
fn check_waits(world: &World, names: &[&str]) {
    for name in ["a", "b", "c", "d"] {
        let assignments = world.hub.assignments(&pod(name));
        let waits = assignments.iter().any(|assignment| assignment.record.waiting);
        assert_eq!(waits, names.contains(&name), "{name}");
        let Some(deployment) = world.hub.deployment(&pod(name)) else {
            continue;
        };
        let failing: Vec<Reason> = deployment.status.failing.iter().map(|one| one.reason).collect();
        let expect: &[Reason] = if waits { &[Reason::OutOfpods] } else { &[] };
        assert_eq!(failing, expect, "{name}");
    }
}

#[test]
fn the_surplus_is_counted_as_targeted_and_names_its_reason() {
    let (world, one) = full();
    assert_eq!(world.running(&one), ["a", "b"]);
    check_waits(&world, &["c", "d"]);
    let status = world.status(&pod("c"));
    let expect = LadderCounts {
        targeted: 1,
        counted: 1,
        ..LadderCounts::default()
    };
    assert_eq!((status.counts, status.ready), (expect, false));
    assert_eq!(status.failing[0].device, one);
}

#[test]
fn the_longest_waiting_gets_in_when_there_is_room() {
    let (mut world, one) = full();
    world.call(delete(&pod("a"), None)).unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["b", "c"]);
    check_waits(&world, &["d"]);
    assert_eq!(world.status(&pod("c")).counts.healthy, 1);
    world.call(delete(&pod("d"), None)).unwrap();
    assert!(
        world.hub.deployment(&pod("d")).is_none(),
        "there is nothing to stop"
    );
}

#[test]
fn a_change_of_what_runs_needs_no_room_and_one_of_what_waits_makes_none() {
    let (mut world, one) = full();
    for name in ["b", "c"] {
        let changed = wanted(name, "tags.site = 'a'").image("app:2");
        world.call(changed.put()).unwrap();
    }
    world.settle();
    assert_eq!(world.running(&one), ["a", "b"]);
    assert_eq!(world.status(&pod("b")).counts.healthy, 1);
    check_waits(&world, &["c", "d"]);
    world.call(delete(&pod("a"), None)).unwrap();
    world.settle();
    assert_eq!(
        world.status(&pod("c")).counts.healthy,
        1,
        "as it was asked for last"
    );
}

#[test]
fn an_orphan_takes_room_and_what_waits_is_none() {
    let (mut world, one) = full();
    for name in ["a", "c"] {
        world.call(release(&pod(name))).unwrap();
    }
    world.settle();
    assert_eq!(world.running(&one), ["a", "b"]);
    assert!(world.hub.assignments(&pod("c")).is_empty());
    check_waits(&world, &["d"]);
}

#[test]
fn a_restart_keeps_the_queue() {
    let (mut world, one) = full();
    let (store, written) = (world.store.clone(), world.store.written.len());
    world.restart(store);
    assert_eq!(world.store.written.len(), written);
    check_waits(&world, &["c", "d"]);
    world.connect(&one);
    world.settle();
    world.call(delete(&pod("b"), None)).unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["a", "c"]);
}

#[test]
fn who_leaves_the_scope_leaves_the_queue_and_comes_back_to_its_end() {
    let (mut world, one) = full();
    world.set_tags(&one, &[("site", "b")]);
    world.settle();
    check_waits(&world, &[]);
    assert!(world.running(&one).is_empty());
    world.set_tags(&one, &[("site", "a")]);
    world.settle();
    assert_eq!(world.running(&one).len(), 2);
}

/// A workload that is stopped and comes back finds its place taken: it waits once it has stopped.
#[test]
fn a_return_waits_like_a_newcomer() {
    let mut world = World::with(small());
    let one = world.enrol("one", &[("site", "a"), ("extra", "no")]);
    world.connect(&one);
    world.call(wanted("a", "tags.site = 'a'").put()).unwrap();
    world.call(wanted("b", "tags.site = 'a'").put()).unwrap();
    world.call(wanted("c", "tags.extra = 'yes'").put()).unwrap();
    world.settle();
    world.call(wanted("a", "tags.site = 'x'").put()).unwrap();
    world.set_tags(&one, &[("site", "a"), ("extra", "yes")]);
    world.call(wanted("a", "tags.site = 'a'").put()).unwrap();
    let set = &world.store.sets[&one].items;
    assert_eq!(set.get(&pod("a")).unwrap().state, ItemState::Stop);
    world.settle();
    assert_eq!(world.running(&one), ["b", "c"]);
    check_waits(&world, &["a"]);
    assert!(world.models[&one].vanished.is_empty());
}
