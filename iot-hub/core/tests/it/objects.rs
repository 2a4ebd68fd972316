//! Objects beside manifests: taken whole or not at all, kept as long as they are named, given to those that may have them.

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{Blob, Down, DownFrame};
use edge_protocol::{DeviceId, Digest, frame};
use iot_hub_core::{Call, CallError, HubConfig, Limits};

use crate::support::World;
use crate::support::build::{Wanted, config, delete, object, pod, wanted};

/// The digests of the blobs that travel inline on the wire to this device.
fn inline(world: &World, id: &DeviceId) -> Vec<Digest> {
    let to = world.wire.iter().filter(|(device, ..)| device == id);
    let frames = to.map(|(.., bytes)| frame::decode::<DownFrame>(bytes).unwrap().body);
    let blobs = frames.flat_map(|body| match body {
        Down::Statement { blobs, .. } => blobs,
        _ => Vec::new(),
    });
    blobs.map(|blob| blob.digest).collect()
}

fn web(config: &str) -> Wanted {
    wanted("p", "*").object(kind::CONFIG_MAP, "settings", config)
}

#[track_caller]
fn refused(world: &mut World, call: Call, expect: &str) {
    let before = world.store.clone();
    match world.call(call) {
        Err(
            error
            @ (CallError::BadObject { .. } | CallError::BadManifest(_) | CallError::LimitReached { .. }),
        ) => {
            assert!(error.to_string().contains(expect), "{error}");
        }
        other => panic!("{other:?} instead of {expect:?}"),
    }
    assert_eq!(world.store.blobs, before.blobs);
    assert_eq!(world.store.deployments, before.deployments);
}

#[test]
fn an_object_travels_with_its_manifest_and_a_changed_one_alone() {
    let (mut world, [one]) = World::of(["one"]);
    world.settle();
    let keys = object(kind::SECRET, "keys", "sealed");
    let (old, new) = (web("a").with(keys.clone()), web("b").with(keys.clone()));
    let (first, second) = (old.objects[0].digest, new.objects[0].digest);
    world.call(old.put()).unwrap();
    let sent = inline(&world, &one);
    assert!(sent.contains(&first) && sent.contains(&keys.1.digest), "{sent:?}");
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    assert_eq!(world.hub.deployment(&pod("p")).unwrap().record.revision.0, 1);

    // What it has already may be left out of the put, and is not sent again.
    let mut put = new;
    put.objects.retain(|blob| blob.digest == second);
    world.call(put.put()).unwrap();
    let sent = inline(&world, &one);
    assert!(
        sent.contains(&second) && !sent.contains(&keys.1.digest),
        "{sent:?}"
    );
    assert_eq!(world.hub.deployment(&pod("p")).unwrap().record.revision.0, 2);
    world.settle();
    assert!(
        !world.store.blobs.contains_key(&first),
        "nothing names it any more"
    );
    assert_eq!(world.status(&pod("p")).counts.healthy, 1);
}

#[test]
fn one_that_missed_a_revision_gets_all_objects() {
    let (mut world, [one]) = World::of(["one"]);
    let keys = object(kind::SECRET, "keys", "sealed");
    world.call(web("a").with(keys.clone()).put()).unwrap();
    world.settle();
    world.disconnect(&one);
    for text in ["b", "c"] {
        world.call(web(text).with(keys.clone()).put()).unwrap();
    }
    world.connect(&one);
    let sent = inline(&world, &one);
    assert!(sent.contains(&keys.1.digest), "{sent:?}");
    world.settle();
    assert_eq!(world.status(&pod("p")).counts.healthy, 1);
}

#[test]
fn a_put_whose_objects_are_not_whole_changes_nothing() {
    let config = HubConfig {
        limits: Limits {
            object_bytes: 1_000,
            deployment_object_bytes: 2_000,
            objects_bytes: 3_000,
            ..Limits::default()
        },
        ..config()
    };
    let mut world = World::with(config);
    let without = |mut wanted: Wanted| {
        wanted.objects.clear();
        wanted
    };
    refused(
        &mut world,
        without(web("a")).put(),
        "ConfigMap \"settings\" is not valid: its body is missing",
    );
    let swapped = |body: String| {
        let mut put = web("a");
        put.objects[0].body = body;
        put.put()
    };
    let other = object(kind::CONFIG_MAP, "settings", "b").1.body;
    refused(&mut world, swapped(other), "does not have its digest");
    let named = |kind: &str, name: &str, sealed, body: &str| {
        let (mut reference, _) = object(kind, name, "");
        let blob = Blob::new(body);
        (reference.digest, reference.sealed) = (blob.digest, sealed);
        wanted("p", "*").with((reference, blob)).put()
    };
    let clear = object(kind::CONFIG_MAP, "s", "hunter2").1.body;
    refused(
        &mut world,
        named(kind::CONFIG_MAP, "t", false, &clear),
        "its body is ConfigMap \"s\"",
    );
    for kind in [kind::SECRET, kind::TOKEN, kind::PULL_CREDENTIAL] {
        refused(&mut world, named(kind, "s", false, &clear), "it is not sealed");
    }
    refused(
        &mut world,
        named(kind::SECRET, "s", true, &clear),
        "is no sealed object (line 1",
    );
    refused(
        &mut world,
        named(kind::CONFIG_MAP, "s", false, "hunter2"),
        "is no object (line 1",
    );
    let newer = clear.replace("\"v\":1", "\"v\":2");
    refused(
        &mut world,
        named(kind::CONFIG_MAP, "s", false, &newer),
        "version 2",
    );
    let mut stray = web("a");
    stray.objects.push(Blob::new("stray"));
    refused(&mut world, stray.put(), "which it does not name");

    let long = |name, length| object(kind::CONFIG_MAP, name, &"x".repeat(length));
    refused(
        &mut world,
        wanted("p", "*").with(long("a", 1_000)).put(),
        "bytes exceed 1000",
    );
    let three = wanted("p", "*")
        .with(long("a", 800))
        .with(long("b", 800))
        .with(long("c", 800));
    refused(&mut world, three.put(), "bytes of objects in a deployment");
    world
        .call(wanted("p", "*").with(long("a", 800)).with(long("b", 800)).put())
        .unwrap();
    refused(
        &mut world,
        wanted("q", "*").with(long("c", 900)).put(),
        "bytes of blobs",
    );
    // What is there already takes no room.
    world.call(wanted("q", "*").with(long("a", 800)).put()).unwrap();
}

#[test]
fn the_digest_alone_gives_nobody_the_content() {
    let (mut world, [one]) = World::of(["one"]);
    world.call(web("a").put()).unwrap();
    let mut thief = wanted("thief", "*").with(object(kind::CONFIG_MAP, "settings", "a"));
    thief.objects.clear();
    refused(&mut world, thief.put(), "its body is missing");
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
}

#[test]
fn only_a_device_with_the_assignment_is_served() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    let two = world.enrol("two", &[]);
    let mut put = web("a");
    put.spec.target.condition = "deviceId = 'one'".to_owned();
    let digest = put.objects[0].digest;
    world.call(put.put()).unwrap();
    assert!(world.hub.blob(&one, &digest).is_some());
    assert_eq!(world.hub.blob(&two, &digest), None);
    world.connect(&one);
    world.settle();
    world.disconnect(&one);
    world.call(delete(&pod("p"), None)).unwrap();
    assert_eq!(world.hub.blob(&one, &digest), None, "it is to stop it");
}

#[test]
fn objects_outlive_a_restart_and_end_with_the_last_that_names_them() {
    let (mut world, [one]) = World::of(["one"]);
    let shared = object(kind::CONFIG_MAP, "settings", "a");
    world.call(wanted("p", "*").with(shared.clone()).put()).unwrap();
    world.call(wanted("q", "*").with(shared.clone()).put()).unwrap();
    world.settle();
    world.restart(world.store.clone());
    world.connect(&one);
    world.settle();
    assert!(world.hub.blob(&one, &shared.1.digest).is_some());
    for (uid, left) in [("p", true), ("q", false)] {
        world.call(delete(&pod(uid), None)).unwrap();
        world.settle();
        assert_eq!(world.store.blobs.contains_key(&shared.1.digest), left, "{uid}");
    }
    assert!(world.store.blobs.is_empty());
}

#[test]
fn a_repeated_put_brings_what_an_older_hub_did_not_keep() {
    let (mut world, [one]) = World::of(["one"]);
    world.call(web("a").put()).unwrap();
    world.settle();
    let digest = web("a").objects[0].digest;
    let mut store = world.store.clone();
    store.blobs.remove(&digest);
    world.restart(store);
    assert_eq!(world.hub.blob(&one, &digest), None);
    world.call(web("a").put()).unwrap();
    assert!(world.hub.blob(&one, &digest).is_some());
    assert_eq!(world.hub.deployment(&pod("p")).unwrap().record.revision.0, 1);
}
