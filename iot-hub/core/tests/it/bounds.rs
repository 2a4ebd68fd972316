//! What a hostile device can make the hub keep.

use edge_protocol::Nonce;
use edge_protocol::v1::{Facts, Hello, Up};

use crate::support::World;

#[test]
fn claims_are_bounded_and_cleaned() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.connect(&one);
    let nonce = Nonce::new("a".repeat(32)).unwrap();
    let long = "\u{1b}é".repeat(1_000);
    world.say(
        &one,
        Up::Hello(Box::new(Hello {
            nonce,
            agent_version: long.clone(),
            features: vec![long.clone(); 500],
            held: None,
            facts: Facts {
                hostname: long.clone(),
                os_image: long,
                ..Facts::default()
            },
        })),
    );
    let record = &world.store.devices[&one];
    assert!(record.facts.hostname.len() <= 253 && record.facts.os_image.len() <= 253);
    assert!(!record.facts.hostname.chars().any(char::is_control));
    assert!(record.agent_version.len() <= 64);
    assert_eq!(record.features.len(), 64);
    assert!(record.features.iter().all(|feature| feature.len() <= 64));
}
