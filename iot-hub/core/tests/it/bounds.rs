//! What a hostile device can make the hub keep.

use edge_protocol::Nonce;
use edge_protocol::v1::{ContainerStatus, Facts, Hello, Phase, Reason, Rung, StatusReport, Up};

use crate::support::World;
use crate::support::build::pod;
use crate::support::model::blank;

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

#[test]
fn what_is_said_of_a_workload_is_bounded_and_cleaned() {
    let (mut world, [one]) = World::of(["one"]);
    world.run("p", "*");
    let item = world.store.sets[&one].items.get(&pod("p")).unwrap().clone();
    let mut status = blank(&item, Rung::Healthy, Phase::Running);
    let long = "\u{1b}é".repeat(1_000);
    (status.pod_ip, status.further_pod_ips) = (Some(long.clone()), vec![long; 500]);
    status.init_containers = vec![ContainerStatus::waiting("i", "a", Reason::Error); 500];
    let report = StatusReport {
        upto: 50,
        complete: false,
        workloads: vec![status],
    };
    world.say(&one, Up::Status(report));
    let kept = world.store.assignments[&(pod("p"), one)].status.as_ref().unwrap();
    assert_eq!(kept.further_pod_ips.len(), 1);
    // The manifest has none of this name.
    assert_eq!(kept.init_containers, []);
    let mut all = kept.pod_ip.iter().chain(&kept.further_pod_ips);
    assert!(all.all(|ip| ip.len() <= 1024 && !ip.chars().any(char::is_control)));
}
