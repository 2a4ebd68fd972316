//! What a hub may still end after it was restored from a backup (law 4).

use edge_protocol::v1::{Reason, Rung};

use crate::hub::{manifest, uid};
use crate::world::World;

/// The incarnation often comes to a device with an edit, and the edit may be a delete.
#[test]
fn a_delete_that_brings_the_new_incarnation_is_judged_by_its_own_revision() {
    for (revision, stops) in [(1, false), (2, false), (3, true), (9, true)] {
        let mut world = World::new();
        world.link_up();
        world.hub.run(&manifest("one", &["a:1"]));
        world.hub.run(&manifest("one", &["a:2"]));
        world.settle();
        assert_eq!(world.status("one").revision.0, 2);
        (world.hub.incarnation, world.hub.n) = (2, 0);
        world.hub.stop_at(&uid("one"), revision);
        world.push();
        world.settle();
        assert_eq!(world.runtime.running(&uid("one")) == 0, stops, "{revision}");
        let quarantined = world.status("one").reason == Some(Reason::Quarantined);
        assert_eq!(quarantined, !stops, "{revision}");
        // A hub that sees it held says it again, above what the device has.
        world.hub.stop_at(&uid("one"), revision.max(2) + 1);
        world.push();
        world.settle();
        assert_eq!(world.runtime.running(&uid("one")), 0, "{revision}");
    }
}

/// It acknowledged statuses of workloads that its store did not know, and kept none.
#[test]
fn a_restored_hub_is_told_again_what_runs() {
    let mut world = World::new();
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    world.settle();
    (world.hub.incarnation, world.hub.n) = (2, 1);
    world.hub.statuses.clear();
    world.push();
    world.settle();
    assert_eq!(world.status("one").rung, Rung::Healthy);
}

#[test]
fn a_delete_in_a_new_incarnation_reaches_a_device_that_was_away() {
    let mut world = World::new();
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    world.settle();
    (world.hub.incarnation, world.hub.n) = (2, 0);
    world.hub.stop(&uid("one"), None);
    world.crash();
    world.link_up();
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 0);
}
