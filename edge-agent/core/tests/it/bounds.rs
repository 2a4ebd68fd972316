//! What the agent takes in and gives out is bounded, and no bound is a trap.

use edge_protocol::v1::{AckStage, Up};
use edge_protocol::{Digest, ItemState};

use crate::hub::{manifest, uid};
use crate::world::World;

fn last_ack(world: &World) -> Option<AckStage> {
    world.hub.heard.iter().rev().find_map(|frame| match &frame.body {
        Up::Ack(ack) => Some(ack.stage),
        _ => None,
    })
}

#[test]
fn too_many_workloads_are_refused_aloud_and_fewer_are_taken() {
    let mut world = World::new();
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    world.settle();
    let template = world.hub.set.get(&uid("one")).unwrap().clone();
    for n in 0..1_000 {
        let mut item = template.clone();
        (item.uid, item.state) = (uid(&format!("x{n}")), ItemState::Orphan);
        world.hub.set.put(item);
    }
    world.hub.n += 1;
    world.push();
    world.settle();
    assert_eq!(last_ack(&world), Some(AckStage::Refused));
    assert_eq!(world.hub.set.len(), 1_001);
    world.pass(120_000);
    assert!(world.reconnects.is_empty(), "to dial again does not help");
    assert_eq!(world.runtime.running(&uid("one")), 1);

    // What goes leaves a tombstone each, so the set is as long as before.
    for n in 0..1_000 {
        world.hub.stop(&uid(&format!("x{n}")), None);
    }
    world.hub.run(&manifest("two", &["a:1"]));
    world.push();
    world.settle();
    assert_eq!(last_ack(&world), Some(AckStage::Persisted));
    assert_eq!(world.runtime.running(&uid("two")), 1);
}

#[test]
fn tombstones_are_bounded_as_well() {
    let mut world = World::new();
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    world.settle();
    let mut item = world.hub.set.get(&uid("one")).unwrap().clone();
    (item.state, item.digest) = (ItemState::Stop, Digest::of("never fetched"));
    world.hub.inline = false;
    for n in 0..=20_000 {
        item.uid = uid(&format!("x{n}"));
        world.hub.set.put(item.clone());
    }
    world.hub.n += 1;
    world.push();
    world.settle();
    assert_eq!(last_ack(&world), Some(AckStage::Refused));
    assert_eq!(world.runtime.running(&uid("one")), 1);
}
