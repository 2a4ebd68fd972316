//! Who may take whose place.

use edge_agent_core::Step;
use edge_protocol::v1::{Manifest, Rung};

use crate::hub::{manifest, uid};
use crate::world::World;

#[test]
fn a_workload_of_another_namespace_is_not_replaced() {
    for (namespace, left) in [("default", 0), ("intruder", 1)] {
        let mut world = World::new();
        world.link_up();
        world.hub.run(&manifest("old", &["a:1"]));
        world.settle();
        let mut new = manifest("new", &["a:1"]);
        new.namespace = namespace.to_owned();
        new.replaces = vec![uid("old")];
        world.hub.run(&new);
        world.push();
        world.settle();
        assert_eq!(world.runtime.running(&uid("old")), left, "{namespace}");
        assert_eq!(world.status("new").rung, Rung::Healthy, "{namespace}");
    }
}

#[test]
fn an_orphan_of_another_namespace_goes_on_over_a_restart() {
    let mut world = World::new();
    world.link_up();
    world.hub.run(&manifest("old", &["a:1"]));
    world.settle();
    world.hub.release(&uid("old"));
    let mut new = manifest("new", &["a:1"]);
    new.namespace = "intruder".to_owned();
    new.replaces = vec![uid("old")];
    world.hub.run(&new);
    world.push();
    world.settle();
    world.crash();
    world.settle();
    assert_eq!(
        world.runtime.running(&uid("old")),
        1,
        "an orphan as well, over a restart"
    );
}

/// `old` runs two containers, and `new` is about to take its place: its image is here, and the latch is on its way to the disk.
fn taking_over() -> World {
    let mut world = World::new();
    world.link_up();
    world.hub.run(&manifest("old", &["a:1", "b:1"]));
    world.settle();
    world.runtime.not_beside = vec![(uid("new"), uid("old")), (uid("old"), uid("new"))];
    world.hub.run(&successor("a:2"));
    world.push();
    while world.talk() || world.commit() {}
    assert!(matches!(world.steps.front(), Some((_, Step::FindImage { .. }))));
    world.step();
    while world.talk() || world.commit() {}
    world.step();
    world.look();
    world
}

fn successor(image: &str) -> Manifest {
    let mut new = manifest("new", &[image]);
    new.replaces = vec![uid("old")];
    new
}

fn running(world: &World) -> (usize, usize) {
    let count = |name| world.runtime.running(&uid(name));
    (count("old"), count("new"))
}

fn stops(world: &World) -> usize {
    let is_stop = |(_, step): &&(_, Step)| matches!(step, Step::StopContainer { .. });
    world.steps.iter().filter(is_stop).count()
}

#[test]
fn a_successor_that_is_changed_on_its_way_stops_nothing_more_and_the_older_goes_on() {
    let mut world = taking_over();
    world.commit();
    assert_eq!(stops(&world), 2);
    // The runtime does not stop the first yet; meanwhile the successor gets an image that is not to be had.
    world.fail_step();
    world.step();
    world.look();
    assert_eq!(running(&world), (1, 0));
    world.runtime.bad_images.insert("a:3".to_owned());
    world.hub.run(&successor("a:3"));
    world.push();
    world.settle();
    world.pass(120_000);
    assert_eq!(running(&world), (2, 0));
    assert_eq!(world.runtime.stopped, [(uid("old"), "c1".to_owned())]);
    assert_eq!(world.status("old").reason, None);

    world.runtime.bad_images.clear();
    world.pass(310_000);
    assert_eq!(running(&world), (0, 1));
}

#[test]
fn a_takeover_goes_on_after_a_crash_unless_the_image_is_gone() {
    for (gone, left) in [(false, (0, 1)), (true, (2, 0))] {
        let mut world = taking_over();
        world.commit();
        world.step();
        world.step();
        assert_eq!(running(&world), (0, 0));
        let started = world.runtime.started.len();
        if gone {
            world.runtime.images.remove("a:2");
            world.runtime.bad_images.insert("a:2".to_owned());
        }
        world.crash();
        world.pass(60_000);
        assert_eq!(running(&world), left, "{gone}");
        assert_eq!(world.runtime.started.len(), started + left.0 + left.1, "{gone}");
    }
}

#[test]
fn who_comes_back_waits_for_the_one_that_had_its_place() {
    let mut world = taking_over();
    world.settle();
    // The hub learns that the successor has the place, and takes the older one out.
    world.hub.stop(&uid("old"), None);
    world.push();
    world.settle();
    world.hub.forget(&uid("old"));
    world.push();
    world.settle();
    assert_eq!(running(&world), (0, 1));
    // The successor is deleted, and does not stop at once. The runtime checks that they are never there together.
    world.hub.stop(&uid("new"), None);
    world.hub.run(&manifest("old", &["a:1", "b:1"]));
    world.push();
    while world.talk() || world.commit() {}
    assert!(matches!(
        world.steps.front(),
        Some((_, Step::StopContainer { .. }))
    ));
    world.fail_step();
    world.settle();
    assert_eq!(running(&world), (0, 1));
    world.pass(10_000);
    assert_eq!(running(&world), (2, 0));
}
