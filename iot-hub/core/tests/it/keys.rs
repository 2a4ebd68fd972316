//! Content keys: wanted by devices, brought by a sealer, carried and forgotten by the hub.

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{Bytes, Down, DownFrame, KeyWrap, Up};
use edge_protocol::{DeviceId, Digest, frame};
use iot_hub_core::{Call, CallError, WantedKey};

use crate::support::World;
use crate::support::build::{delete, device, enrol_again, enrolment, pod, sealing_key, wanted};

/// The key of the sealed object that `object(kind::SECRET, _, text)` makes.
fn key(text: &str) -> Digest {
    Digest::of(text)
}

fn wrap(text: &str, sealing: u8) -> KeyWrap {
    KeyWrap {
        key: key(text),
        sealing_key: sealing_key(sealing).fingerprint(),
        enc: Bytes(vec![3; 32]),
        ciphertext: Bytes(vec![4; 48]),
    }
}

fn put(uid: &str, wraps: Vec<KeyWrap>) -> Call {
    Call::PutKeyWraps { uid: pod(uid), wraps }
}

fn wanted_keys(world: &World) -> Vec<(String, Digest)> {
    let all = world.hub.wanted_keys(|_| true, 100);
    let pair = |WantedKey { device, key, .. }| (device.to_string(), key);
    all.into_iter().map(pair).collect()
}

/// The keys that go to this device over the wire.
fn told(world: &mut World, id: &DeviceId) -> Vec<Digest> {
    let to = std::mem::take(&mut world.wire)
        .into_iter()
        .filter(|(device, ..)| device == id);
    let frames = to.map(|(.., bytes)| frame::decode::<DownFrame>(&bytes).unwrap().body);
    let wraps = frames.flat_map(|body| match body {
        Down::Keys { wraps } => wraps,
        _ => Vec::new(),
    });
    wraps.map(|wrap| wrap.key).collect()
}

/// A device (with sealing key 1) that runs a deployment with one secret.
fn with_secret() -> (World, DeviceId) {
    let (mut world, [one]) = World::of(["one"]);
    world
        .call(wanted("p", "*").object(kind::SECRET, "s", "a").put())
        .unwrap();
    world.settle();
    (world, one)
}

#[test]
fn a_key_is_wanted_until_it_is_brought_and_told_at_once() {
    let (mut world, one) = with_secret();
    assert_eq!(wanted_keys(&world), [("one".to_owned(), key("a"))]);
    assert_eq!(world.hub.wanted_keys(|_| false, 100), []);
    assert_eq!(world.status(&pod("p")).waiting_for_keys, 1);
    world.announced.clear();
    world.call(put("p", vec![wrap("a", 1)])).unwrap();
    assert_eq!(told(&mut world, &one), [key("a")]);
    assert_eq!(wanted_keys(&world), []);
    assert_eq!(world.status(&pod("p")).waiting_for_keys, 0);
    assert!(!world.announced.is_empty());
    // Brought again it is no news.
    let written = world.store.written.len();
    world.call(put("p", vec![wrap("a", 1)])).unwrap();
    assert_eq!(
        (told(&mut world, &one), world.store.written.len()),
        (vec![], written)
    );
}

#[test]
fn a_device_that_asks_gets_what_is_there_and_only_of_what_it_runs() {
    let (mut world, one) = with_secret();
    let two = world.enrol("two", &[]);
    let mut other = wanted("q", "*").object(kind::SECRET, "t", "b");
    other.spec.target.condition = "deviceId = 'two'".to_owned();
    world.call(other.put()).unwrap();
    world.connect(&two);
    world.settle();
    world.call(put("p", vec![wrap("a", 1)])).unwrap();
    world.call(put("q", vec![wrap("b", 1)])).unwrap();
    world.wire.clear();
    let keys = vec![key("a"), key("b"), key("unknown")];
    world.say(&one, Up::WantKeys { keys: keys.clone() });
    assert_eq!(told(&mut world, &one), [key("a")]);
    // After a restart as well.
    world.restart(world.store.clone());
    world.connect(&one);
    world.settle();
    assert_eq!(world.status(&pod("p")).waiting_for_keys, 0);
    world.say(&one, Up::WantKeys { keys });
    assert_eq!(told(&mut world, &one), [key("a")]);
}

#[test]
fn a_late_joiner_waits_for_its_own() {
    let (mut world, _) = with_secret();
    world.call(put("p", vec![wrap("a", 1)])).unwrap();
    let late = enrolment(1, &[]);
    world
        .call(enrol_again(
            "two",
            iot_hub_core::Enrolment {
                sealing_key: sealing_key(7),
                ..late
            },
        ))
        .unwrap();
    assert_eq!(wanted_keys(&world), [("two".to_owned(), key("a"))]);
    assert_eq!(world.status(&pod("p")).waiting_for_keys, 1);
    world.call(put("p", vec![wrap("a", 7)])).unwrap();
    assert_eq!(world.status(&pod("p")).waiting_for_keys, 0);
}

#[test]
fn another_enrolment_needs_another_wrap() {
    let (mut world, one) = with_secret();
    world.call(put("p", vec![wrap("a", 1)])).unwrap();
    world.disconnect(&one);
    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    assert_eq!(wanted_keys(&world), [(device("one").to_string(), key("a"))]);
    assert_eq!(world.status(&pod("p")).waiting_for_keys, 1);
}

#[test]
fn wraps_end_with_the_key() {
    let (mut world, _) = with_secret();
    world
        .call(wanted("q", "*").object(kind::SECRET, "s", "a").put())
        .unwrap();
    world.settle();
    world.call(put("p", vec![wrap("a", 1)])).unwrap();
    assert_eq!(world.store.wraps.len(), 1);
    // Another content has another key; the other deployment still names the first.
    world
        .call(wanted("p", "*").object(kind::SECRET, "s", "b").put())
        .unwrap();
    assert_eq!(wanted_keys(&world), [("one".to_owned(), key("b"))]);
    assert_eq!(world.store.wraps.len(), 1);
    world.settle();
    world.call(delete(&pod("q"), None)).unwrap();
    world.settle();
    assert!(world.store.wraps.is_empty());
}

#[test]
fn what_nobody_wants_or_has_not_the_form_is_not_kept() {
    let (mut world, _) = with_secret();
    world
        .call(put("p", vec![wrap("unknown", 1), wrap("a", 9)]))
        .unwrap();
    assert!(world.store.wraps.is_empty());
    let unknown = world.call(put("nobody", vec![wrap("a", 1)]));
    assert_eq!(unknown, Err(CallError::NoSuchDeployment(pod("nobody"))));
    for (enc, ciphertext) in [(31, 48), (32, 47), (32, 4_000)] {
        let odd = KeyWrap {
            enc: Bytes(vec![3; enc]),
            ciphertext: Bytes(vec![4; ciphertext]),
            ..wrap("a", 1)
        };
        let refused = world.call(put("p", vec![odd]));
        assert_eq!(refused, Err(CallError::BadKeyWrap { key: key("a") }));
    }
    assert!(world.store.wraps.is_empty());
}
