//! Objects beside a manifest: all there before anything is made of it, and gone with the last manifest that names them.

use std::collections::BTreeSet;

use edge_agent_core::Input;
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{KeyWrap, Manifest, ObjectRef, Phase, Reason, Rung, Up, UpFrame, ability};
use edge_protocol::{Digest, ItemState, Lane, SealingSecret};

use crate::hub::{keys_frame, manifest, uid};
use crate::world::{World, sealing_secret};

fn with_config(world: &mut World, value: &str) -> Manifest {
    let mut wanted = manifest("one", &["a:1"]);
    wanted.objects = vec![world.hub.config_map("settings", value)];
    wanted
}

fn on_disk(world: &World) -> BTreeSet<Digest> {
    world.disk.objects.keys().copied().collect()
}

fn named(wanted: &Manifest) -> BTreeSet<Digest> {
    wanted.objects.iter().map(|object| object.digest).collect()
}

#[test]
fn a_changed_object_takes_the_place_of_the_one_before_and_restarts_nothing() {
    for inline in [true, false] {
        let mut world = World::new();
        world.hub.inline = inline;
        world.link_up();
        let first = with_config(&mut world, "a");
        world.hub.run(&first);
        world.push();
        world.settle();
        assert_eq!(world.status("one").rung, Rung::Healthy);
        assert_eq!(on_disk(&world), named(&first));
        let containers = world.runtime.containers.clone();

        let second = with_config(&mut world, "b");
        world.hub.run(&second);
        world.push();
        world.settle();
        assert_eq!(on_disk(&world), named(&second), "inline: {inline}");
        assert_eq!(world.runtime.containers, containers);
        world.check_no_surplus();

        world.hub.stop(&uid("one"), Some(0));
        world.push();
        world.settle();
        world.hub.forget(&uid("one"));
        world.push();
        world.settle();
        assert!(on_disk(&world).is_empty());
    }
}

#[test]
fn a_set_waits_for_the_last_of_its_objects() {
    let mut world = World::new();
    world.hub.inline = false;
    world.link_up();
    let mut wanted = with_config(&mut world, "a");
    wanted.objects.push(world.hub.config_map("other", "b"));
    world.hub.run(&wanted);
    world.push();
    while world.talk() || world.commit() {}
    // First the manifest: only it says what else there is to fetch.
    assert_eq!(world.fetches.len(), 1);
    world.fetch();
    let last = world.fetches.pop_back().unwrap();
    while world.fetch() {}
    while world.talk() || world.commit() || world.step() {}
    assert_eq!(world.disk.restored().set.map_or(0, |set| set.items.len()), 0);
    assert!(world.disk.objects.is_empty() && world.runtime.sandboxes.is_empty());

    // One that is not what was asked for does not count, and what failed is asked for again.
    let body = Some("something else".to_owned());
    world.give(Input::Blob { digest: last, body });
    world.settle();
    assert!(world.runtime.sandboxes.is_empty());
    world.pass(5_000);
    assert_eq!(on_disk(&world), named(&wanted));
    assert_eq!(world.status("one").rung, Rung::Healthy);
}

#[test]
fn the_objects_of_the_manifest_that_runs_stay_while_its_successor_is_refused() {
    let mut world = World::new();
    world.link_up();
    let first = with_config(&mut world, "a");
    world.hub.run(&first);
    world.push();
    world.settle();
    let mut second = with_config(&mut world, "b");
    second.requires = vec!["tomorrow".to_owned()];
    world.hub.run(&second);
    world.push();
    world.settle();
    assert_eq!(world.status("one").reason, Some(Reason::RequirementNotMet));
    assert!(on_disk(&world).is_superset(&named(&first)));
    world.crash();
    world.settle();
    assert!(on_disk(&world).is_superset(&named(&first)));
    assert_eq!(world.runtime.running(&uid("one")), 1);
}

#[test]
fn an_object_that_the_disk_lost_is_fetched_before_anything_new_is_made() {
    let mut world = World::new();
    world.link_up();
    let wanted = with_config(&mut world, "a");
    world.hub.run(&wanted);
    world.push();
    world.settle();
    world.disk.objects.clear();
    world.disk.workloads.clear();
    world.runtime = crate::runtime::Runtime::default();
    world.crash();
    world.look();
    assert!(world.steps.is_empty(), "{:?}", world.steps);
    world.settle();
    assert_eq!(on_disk(&world), named(&wanted));
    assert_eq!(world.runtime.running(&uid("one")), 1);
}

#[test]
fn what_runs_goes_on_without_an_object_that_the_disk_lost() {
    let mut world = World::new();
    world.link_up();
    let wanted = with_config(&mut world, "a");
    world.hub.run(&wanted);
    world.push();
    world.settle();
    let containers = world.runtime.containers.clone();
    world.disk.objects.clear();
    world.hub.blobs.remove(&wanted.objects[0].digest);
    world.crash();
    world.settle();
    world.pass(60_000);
    assert_eq!(world.runtime.containers, containers);
}

#[test]
fn an_agent_refuses_by_name_the_objects_that_it_cannot_place() {
    for (sealed, ability, kind) in [
        (false, ability::OBJECTS, kind::CONFIG_MAP),
        (true, ability::SEALED_OBJECTS, kind::SECRET),
    ] {
        let mut world = World::new();
        let all = [ability::OBJECTS, ability::SEALED_OBJECTS];
        world.features = all
            .into_iter()
            .filter(|has| *has != ability)
            .map(str::to_owned)
            .collect();
        world.crash();
        world.link_up();
        let mut wanted = with_config(&mut world, "a");
        wanted.objects = wanted
            .objects
            .into_iter()
            .map(|object| ObjectRef {
                kind: kind.to_owned(),
                sealed,
                ..object
            })
            .collect();
        world.hub.run(&wanted);
        world.push();
        world.settle();
        let status = world.status("one");
        assert_eq!(status.reason, Some(Reason::RequirementNotMet));
        assert!(status.message.contains(&format!("{kind} settings")), "{status:?}");

        // After an upgrade the same set is honoured.
        world.features.push(ability.to_owned());
        world.crash();
        world.link_up();
        world.settle();
        assert_eq!(
            (world.status("one").rung, world.status("one").phase),
            (Rung::Healthy, Phase::Running)
        );
    }
}

#[test]
fn a_crash_after_any_commit_loses_no_object_and_applies_none_by_half() {
    for fatal in 0..60 {
        let mut world = World::new();
        world.hub.inline = fatal % 2 == 0;
        world.link_up();
        let first = with_config(&mut world, "a");
        world.hub.run(&first);
        world.push();
        let mut commits = 0;
        for round in 0..3 {
            while {
                let committed = world.commit();
                commits += usize::from(committed);
                if committed && commits == fatal {
                    world.crash();
                    world.link_up();
                }
                committed || world.talk() || world.fetch() || world.step()
            } {}
            if world.look_due {
                world.look();
            }
            if round == 0 {
                let second = with_config(&mut world, "b");
                world.hub.run(&second);
                world.push();
            }
        }
        world.settle();
        let second = with_config(&mut world, "b");
        assert_eq!(on_disk(&world), named(&second), "crash after commit {fatal}");
        assert_eq!(world.hub.set.get(&uid("one")).unwrap().state, ItemState::Run);
        assert_eq!(world.runtime.running(&uid("one")), 1);
        world.check_no_surplus();
    }
}

/// A device that runs a manifest with one secret, whose key the hub has or has not; and the wrap.
fn with_secret(world: &mut World, sealed: bool) -> KeyWrap {
    let (secret, wrap) = world.hub.secret("db", "hunter2", &sealing_secret());
    if sealed {
        world.hub.wraps.insert(wrap.key, wrap.clone());
    }
    let mut wanted = manifest("one", &["a:1"]);
    wanted.objects = vec![secret];
    world.hub.run(&wanted);
    world.link_up();
    world.settle();
    wrap
}

fn asked(world: &World) -> usize {
    let asked = |frame: &&UpFrame| matches!(frame.body, Up::WantKeys { .. });
    world.hub.heard.iter().filter(asked).count()
}

#[test]
fn a_missing_key_is_asked_for_kept_and_dropped_with_the_last_object_it_opens() {
    let mut world = World::new();
    let wrap = with_secret(&mut world, true);
    assert_eq!(world.disk.keys, [(wrap.key, wrap)].into());
    assert_eq!(asked(&world), 1);
    // It stays over a crash, and nobody asks again.
    world.crash();
    world.link_up();
    world.settle();
    assert_eq!((world.disk.keys.len(), asked(&world)), (1, 1));
    world.hub.stop(&uid("one"), Some(0));
    world.push();
    world.settle();
    world.hub.forget(&uid("one"));
    world.push();
    world.settle();
    assert!(world.disk.keys.is_empty());
}

#[test]
fn a_key_that_comes_late_is_taken_when_it_comes_and_asked_for_meanwhile() {
    let mut world = World::new();
    let wrap = with_secret(&mut world, false);
    assert_eq!((asked(&world), world.disk.keys.len()), (1, 0));
    world.pass(61_000);
    assert_eq!(asked(&world), 2);
    world.link_down();
    world.link_up();
    world.settle();
    assert_eq!(asked(&world), 3, "another session");
    world.give(Input::Frame(Lane::Command, keys_frame(vec![wrap.clone()])));
    world.settle();
    assert!(world.disk.keys.contains_key(&wrap.key));
    world.pass(200_000);
    assert_eq!(asked(&world), 3);
}

#[test]
fn a_key_that_opens_nothing_is_not_kept() {
    let mut world = World::new();
    let wrap = with_secret(&mut world, false);
    let mut forged = wrap.clone();
    forged.ciphertext.0[0] ^= 1;
    let (_, foreign) = world
        .hub
        .secret("db", "hunter2", &SealingSecret::from_bytes([6; 32]));
    let (_, unwanted) = world.hub.secret("other", "hunter2", &sealing_secret());
    world.notes.clear();
    world.give(Input::Frame(
        Lane::Command,
        keys_frame(vec![forged, foreign, unwanted]),
    ));
    world.settle();
    assert!(world.disk.keys.is_empty());
    let refused = world.notes.iter().filter(|note| note.kind() == "frame_refused");
    assert_eq!(refused.count(), 2, "{:?}", world.notes);
    // A key of an earlier enrolment goes, and is asked for anew.
    let (_, foreign) = world
        .hub
        .secret("db", "hunter2", &SealingSecret::from_bytes([6; 32]));
    world.disk.keys.insert(foreign.key, foreign);
    world.hub.wraps.insert(wrap.key, wrap.clone());
    world.crash();
    world.link_up();
    world.settle();
    assert_eq!(world.disk.keys, [(wrap.key, wrap)].into());
}

#[test]
fn what_waits_for_a_key_is_tried_again_as_soon_as_it_comes() {
    let mut world = World::new();
    let (secret, wrap) = world.hub.secret("db", "hunter2", &sealing_secret());
    let mut wanted = manifest("one", &["a:1"]);
    wanted.objects = vec![secret];
    world.hub.run(&wanted);
    world.link_up();
    // The runtime cannot make the sandbox without the secret, however often it is tried.
    for _ in 0..12 {
        while world.commit() || world.talk() {}
        while !world.steps.is_empty() {
            world.fail_step();
        }
        world.look();
        let next = world.wake_at.unwrap().max(world.now.mono_ms);
        world.now.mono_ms = next.min(world.now.mono_ms + 400_000);
        world.give(Input::Wake);
    }
    while !world.steps.is_empty() {
        world.fail_step();
    }
    world.look();
    while world.commit() || world.talk() {}
    assert!(world.steps.is_empty(), "{:?}", world.steps);
    world.give(Input::Frame(Lane::Command, keys_frame(vec![wrap])));
    assert!(!world.steps.is_empty());
}
