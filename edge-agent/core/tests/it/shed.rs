//! What goes when a device runs out of something.

use std::collections::BTreeMap;

use edge_agent_core::step::ObservedState;
use edge_agent_core::usage::{ContainerUsage, Disk, Room, Usage, WorkloadUsage};
use edge_agent_core::{Input, Note, ObservedImage, Step};
use edge_protocol::v1::{ContainerState, EventLevel, Phase, Reason};

use crate::hub::{manifest, uid};
use crate::world::World;

const MIB: u64 = 1 << 20;

fn with(names: &[&str]) -> World {
    let mut world = World::new();
    world.link_up();
    world.settle();
    for name in names {
        world.hub.run(&manifest(name, &["a:1"]));
    }
    world.push();
    world.settle();
    world
}

fn uses(memory_bytes: u64) -> WorkloadUsage {
    let container = ContainerUsage {
        memory_bytes,
        ..ContainerUsage::default()
    };
    WorkloadUsage {
        memory_bytes,
        containers: BTreeMap::from([("c0".to_owned(), container)]),
        ..WorkloadUsage::default()
    }
}

/// A device that lacks something says so in another session: the pump dials again.
fn measured(world: &mut World, usage: Usage) {
    world.give(Input::Usage(Box::new(usage)));
    if !world.reconnects.is_empty() {
        world.reconnects.clear();
        world.link_up();
    }
}

fn room(available: u64) -> Room {
    Room {
        capacity: 1024 * MIB,
        available,
    }
}

fn disk(available: u64) -> Disk {
    let (bytes, inodes) = (room(available), room(available));
    Disk { bytes, inodes }
}

#[test]
fn the_greatest_eater_is_evicted_and_the_others_go_on() {
    let mut world = with(&["big", "small"]);
    let usage = Usage {
        memory: Some(room(50 * MIB)),
        workloads: Some(BTreeMap::from([
            (uid("big"), uses(500 * MIB)),
            (uid("small"), uses(5 * MIB)),
        ])),
        ..Usage::default()
    };
    measured(&mut world, usage);
    while world.commit() {}
    let stop = world.steps.iter().find_map(|(_, step)| match step {
        Step::StopContainer { grace_s, .. } => Some(*grace_s),
        _ => None,
    });
    assert_eq!(stop, Some(1), "no more than a second");
    world.settle();
    let status = world.status("big");
    assert_eq!(
        (status.phase, status.reason),
        (Phase::Failed, Some(Reason::Evicted))
    );
    assert!(status.disrupted, "it did nothing that it may not");
    assert!(
        status
            .message
            .starts_with("The node was low on resource: memory. "),
        "{}",
        status.message
    );
    assert!(
        matches!(
            status.containers[0].state,
            ContainerState::Terminated { exit_code: 143, .. }
        ),
        "{status:?}"
    );
    let left = world.runtime.containers.iter().any(|c| c.uid == uid("big"));
    assert!(
        !left && !world.runtime.logs.contains(&uid("big")),
        "what it took is free"
    );
    assert_eq!(world.runtime.running(&uid("small")), 1);
    assert!(world.hub.events.iter().any(|event| {
        (event.reason, event.level) == (Reason::Evicted, EventLevel::Warning) && event.uid == uid("big")
    }));
    // It stays so, also for the next life of the agent.
    world.crash();
    world.link_up();
    world.settle();
    assert_eq!(world.runtime.running(&uid("big")), 0);
    assert_eq!(world.status("big").reason, Some(Reason::Evicted));
    assert!(world.status("big").disrupted);
}

#[test]
fn nothing_goes_while_there_is_room_or_nothing_was_measured() {
    let mut world = with(&["one"]);
    for memory in [Some(room(500 * MIB)), None] {
        let usage = Usage {
            memory,
            workloads: Some(BTreeMap::from([(uid("one"), uses(900 * MIB))])),
            ..Usage::default()
        };
        measured(&mut world, usage);
        world.settle();
        assert_eq!(world.runtime.running(&uid("one")), 1);
    }
    assert!(
        !world
            .notes
            .iter()
            .any(|note| matches!(note, Note::Evicted { .. }))
    );
}

#[test]
fn nobody_goes_while_it_is_not_known_who_uses_how_much() {
    let mut world = with(&["one", "two"]);
    let usage = |workloads| Usage {
        memory: Some(room(50 * MIB)),
        workloads,
        ..Usage::default()
    };
    measured(&mut world, usage(None));
    world.settle();
    let running = |world: &World| ["one", "two"].map(|name| world.runtime.running(&uid(name)));
    assert_eq!(running(&world), [1, 1]);
    assert!(
        world
            .notes
            .iter()
            .any(|note| matches!(note, Note::Pressure(pressures) if pressures.memory)),
        "but the device says what it lacks"
    );
    measured(
        &mut world,
        usage(Some(BTreeMap::from([
            (uid("two"), uses(5 * MIB)),
            (uid("one"), uses(0)),
        ]))),
    );
    world.settle();
    assert_eq!(running(&world), [1, 0]);
}

#[test]
fn images_that_nobody_uses_go_before_any_workload() {
    let mut world = with(&["one"]);
    let image = |id: &str, name: &str| ObservedImage {
        id: id.to_owned(),
        names: vec![name.to_owned()],
        size_bytes: 10 * MIB,
        pinned: false,
    };
    let lacking = || Usage {
        node_disk: Some(disk(10 * MIB)),
        workloads: Some(BTreeMap::from([(uid("one"), uses(0))])),
        images: Some(vec![image("sha256:1", "a:1"), image("sha256:2", "old:1")]),
        ..Usage::default()
    };
    measured(&mut world, lacking());
    assert!(world.removed_images.is_empty(), "both are too young to judge");
    world.settle();
    let mut world = with(&["one"]);
    let plenty = Usage {
        node_disk: Some(disk(900 * MIB)),
        ..lacking()
    };
    measured(&mut world, plenty);
    world.pass(130_000);
    measured(&mut world, lacking());
    assert_eq!(world.removed_images, ["sha256:2"]);
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 1, "that may have been enough");
    let mut still = lacking();
    still.images = Some(vec![image("sha256:1", "a:1")]);
    measured(&mut world, still);
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 0, "it was not");
    assert_eq!(world.status("one").reason, Some(Reason::Evicted));
}

/// Both are old enough to go; the disk is this full, in hundredths.
fn images_go(world: &mut World, used_percent: u64) -> Vec<String> {
    let image = |name: &str| ObservedImage {
        id: format!("sha256:{name}"),
        names: vec![name.to_owned()],
        size_bytes: MIB,
        pinned: false,
    };
    let usage = |used_percent: u64| Usage {
        node_disk: Some(disk(900 * MIB)),
        image_disk: Some(disk(1024 * MIB * (100 - used_percent) / 100)),
        disks_differ: true,
        images: Some(["a:1", "a:2", "other:1"].map(image).to_vec()),
        ..Usage::default()
    };
    measured(world, usage(10));
    world.pass(130_000);
    measured(world, usage(used_percent));
    std::mem::take(&mut world.removed_images)
}

#[test]
fn images_of_the_generation_before_stay_until_there_is_no_room_and_the_new_one_is_ready() {
    let mut world = with(&["one"]);
    assert_eq!(images_go(&mut world, 85), ["sha256:a:2", "sha256:other:1"]);
    assert!(
        images_go(&mut world, 83).is_empty(),
        "below the mark nothing goes"
    );
    world.runtime.bad_images.insert("a:2".to_owned());
    world.hub.run(&manifest("one", &["a:2"]));
    world.push();
    world.settle();
    assert_eq!(images_go(&mut world, 95), ["sha256:other:1"], "it is not ready");
    world.runtime.bad_images.clear();
    world.pass(600_000);
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 1);
    let ended = |state: &ObservedState| matches!(state, ObservedState::Exited { .. });
    world
        .runtime
        .containers
        .retain(|container| !ended(&container.state));
    world.look();
    assert_eq!(images_go(&mut world, 85), ["sha256:other:1"]);
    // What changes no image leaves the generation before what it was, and so does another life of the agent.
    let mut same = manifest("one", &["a:2"]);
    same.labels.insert("changed".to_owned(), "yes".to_owned());
    world.hub.run(&same);
    world.push();
    world.settle();
    world.crash();
    world.link_up();
    world.settle();
    assert_eq!(images_go(&mut world, 85), ["sha256:other:1"]);
    assert_eq!(images_go(&mut world, 95), ["sha256:other:1", "sha256:a:1"]);
}

#[test]
fn the_image_of_one_that_was_replaced_is_of_the_generation_before() {
    let mut world = with(&["one"]);
    let mut two = manifest("two", &["a:2"]);
    two.replaces = vec![uid("one")];
    world.hub.run(&two);
    world.push();
    world.settle();
    world.hub.stop(&uid("one"), None);
    world.push();
    world.settle();
    world.hub.forget(&uid("one"));
    world.push();
    world.settle();
    assert!(world.runtime.containers.iter().all(|c| c.uid == uid("two")));
    assert_eq!(images_go(&mut world, 85), ["sha256:other:1"]);
}
