//! What a device says of itself within its session.

use edge_protocol::DeviceId;
use edge_protocol::v1::{Facts, HeldImage, Up};

use iot_hub_core::Change;

use crate::support::World;
use crate::support::build::wanted;

fn facts(arch: &str) -> Facts {
    Facts {
        arch: arch.to_owned(),
        ..Facts::default()
    }
}

fn tell(world: &mut World, id: &DeviceId, facts: Facts) {
    world.say(
        id,
        Up::Facts {
            facts: Box::new(facts),
        },
    );
    world.settle();
}

fn connected() -> (World, DeviceId) {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.connect(&one);
    world.settle();
    (world, one)
}

#[test]
fn facts_are_stored_acknowledged_and_followed_without_another_session() {
    let (mut world, one) = connected();
    world.call(wanted("p", "facts.arch = 'riscv64'").put()).unwrap();
    world.settle();
    assert!(world.running(&one).is_empty());
    let heard = |world: &World| {
        let news = |change: &&Change| **change == Change::Device { device: one.clone() };
        world.changes.iter().filter(news).count()
    };
    let before = heard(&world);
    let session = world.store.devices[&one].last_session;
    assert_eq!(world.models[&one].facts_seq, None);
    tell(&mut world, &one, facts("riscv64"));
    assert_eq!(world.store.devices[&one].facts.arch, "riscv64");
    assert_eq!(world.hub.device(&one).unwrap().record.facts.arch, "riscv64");
    assert!(world.models[&one].facts_seq.is_some());
    assert_eq!(world.running(&one), ["p"], "a condition that reads it");
    assert_eq!(world.store.devices[&one].last_session, session);
    assert!(heard(&world) > before, "readers are told");
    // As by a hello: a claim brings work and takes none away.
    tell(&mut world, &one, facts("arm64"));
    assert_eq!(world.running(&one), ["p"]);
}

#[test]
fn the_same_facts_are_acknowledged_and_cost_no_write() {
    let (mut world, one) = connected();
    let written = world.store.written.len();
    let same = world.models[&one].facts.clone();
    tell(&mut world, &one, same);
    assert!(world.models[&one].facts_seq.is_some());
    assert_eq!(world.store.written.len(), written);
}

#[test]
fn facts_are_acknowledged_once_they_are_on_disk() {
    let (mut world, one) = connected();
    world.commit_at_once = false;
    tell(&mut world, &one, facts("riscv64"));
    assert_eq!(world.models[&one].facts_seq, None);
    while world.commit_one() {}
    world.settle();
    assert!(world.models[&one].facts_seq.is_some());
}

#[test]
fn facts_in_a_session_are_bounded_as_those_of_a_hello() {
    let (mut world, one) = connected();
    let told = Facts {
        hostname: "\u{1b}é".repeat(1_000),
        addresses: vec!["10.0.0.1".to_owned(); 9],
        ..Facts::default()
    };
    tell(&mut world, &one, told);
    let stored = &world.store.devices[&one].facts;
    assert!(stored.hostname.len() <= 253 && !stored.hostname.chars().any(char::is_control));
    assert_eq!(stored.addresses.len(), 2);
}

fn image(name: &str, size_bytes: u64) -> HeldImage {
    HeldImage {
        names: vec![name.to_owned()],
        size_bytes,
    }
}

#[test]
fn images_are_bounded_and_outlive_a_session() {
    let (mut world, one) = connected();
    let told = Facts {
        images: (0..60)
            .map(|number| image(&format!("a:{number}"), number))
            .collect(),
        ..Facts::default()
    };
    tell(&mut world, &one, told);
    let stored = world.store.devices[&one].facts.images.clone();
    assert_eq!((stored.len(), &stored[0]), (50, &image("a:59", 59)));
    world.disconnect(&one);
    world.connect(&one);
    world.settle();
    assert_eq!(
        world.store.devices[&one].facts.images, stored,
        "a hello says nothing of them"
    );
    tell(&mut world, &one, Facts::default());
    assert_eq!(world.store.devices[&one].facts.images, []);
}
