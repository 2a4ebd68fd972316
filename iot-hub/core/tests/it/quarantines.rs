//! What devices hold against the word of a restored hub, and who may overrule them (law 4).

use edge_protocol::v1::{AckStage, DeploymentState, Facts, Phase, Rung, StatusReport, Up, UpFrame};
use edge_protocol::{DeploymentRevision, DeviceId, Digest, PodUid, frame};
use iot_hub_core::Change;

use crate::support::World;
use crate::support::build::{delete, pod, release, wanted};
use crate::support::model::blank;

/// One device that holds `p` at revision 3 and `q` at revision 2, and a hub that was set back to `p` at revision 1 and to no `q`.
fn set_back() -> (World, DeviceId) {
    let (mut world, [one]) = World::of(["one"]);
    world.run("p", "*");
    let backup = world.store.clone();
    for image in ["app:2", "app:3"] {
        world.call(wanted("p", "*").image(image).put()).unwrap();
        world.call(wanted("q", "*").image(image).put()).unwrap();
        world.settle();
    }
    world.now.wall_ms += 1_000;
    world.restart(backup);
    (world, one)
}

/// The same, once the device has shown that the hub was set back.
fn discovered() -> (World, DeviceId) {
    let (mut world, one) = set_back();
    world.connect(&one);
    world.settle();
    (world, one)
}

fn manifest(image: &str, name: &str) -> Digest {
    Digest::of(wanted(name, "*").image(image).spec().manifest)
}

#[track_caller]
fn check_runs(world: &World, id: &DeviceId, name: &str, image: &str) {
    assert_eq!(
        world.models[id].running.get(&pod(name)),
        Some(&manifest(image, name))
    );
}

fn kept(world: &World, id: &DeviceId) -> Vec<(PodUid, u64)> {
    let quarantine = world.hub.device(id).unwrap().quarantine;
    quarantine
        .into_iter()
        .map(|kept| (kept.uid, kept.revision.0))
        .collect()
}

#[test]
fn what_only_a_backup_knew_overrules_nothing() {
    let (mut world, one) = discovered();
    check_runs(&world, &one, "p", "app:3");
    check_runs(&world, &one, "q", "app:3");
    assert_eq!(kept(&world, &one), [(pod("p"), 3), (pod("q"), 2)]);
    assert!(world.status(&pod("p")).unconfirmed);
    // Neither a claim of the device nor another session is anybody's wish.
    let cpu = Facts {
        cpu_milli: 4_000,
        ..Facts::default()
    };
    world.models.get_mut(&one).unwrap().facts = cpu;
    world.connect(&one);
    world.settle();
    let store = world.store.clone();
    world.restart(store);
    world.connect(&one);
    world.settle();
    check_runs(&world, &one, "p", "app:3");
    assert_eq!(kept(&world, &one), [(pod("p"), 3), (pod("q"), 2)]);
    assert_eq!(world.status(&pod("p")).counts.healthy, 0);
}

#[test]
fn who_asks_again_is_obeyed() {
    let (mut world, one) = discovered();
    world.call(wanted("p", "*").image("app:4").put()).unwrap();
    world.call(wanted("q", "*").image("app:4").put()).unwrap();
    world.settle();
    for name in ["p", "q"] {
        check_runs(&world, &one, name, "app:4");
        let status = world.status(&pod(name));
        assert_eq!((status.counts.healthy, status.unconfirmed), (1, false));
    }
    assert_eq!(kept(&world, &one), []);
}

#[test]
fn to_put_what_the_backup_has_is_to_ask_for_it() {
    let (mut world, one) = discovered();
    world.run("p", "*");
    check_runs(&world, &one, "p", "app:1");
    assert_eq!(world.status(&pod("p")).counts.healthy, 1);
    assert_eq!(kept(&world, &one), [(pod("q"), 2)]);
}

/// A hub learns only by a device that it was set back, and cannot know then which of its deployments were put before that.
#[test]
fn what_was_put_before_the_restore_showed_is_asked_for_again() {
    let (mut world, one) = set_back();
    world.call(wanted("q", "*").image("app:4").put()).unwrap();
    assert!(!world.status(&pod("q")).unconfirmed);
    world.connect(&one);
    let told = Change::Deployment { uid: pod("q") };
    assert!(
        world.announced.contains(&told) || world.changes.contains(&told),
        "its provider is told"
    );
    assert!(world.status(&pod("q")).unconfirmed);
    world.settle();
    check_runs(&world, &one, "q", "app:3");
    world.call(wanted("q", "*").image("app:4").put()).unwrap();
    world.settle();
    check_runs(&world, &one, "q", "app:4");
    assert_eq!(world.status(&pod("q")).counts.healthy, 1);
}

#[test]
fn a_delete_stops_what_the_device_keeps_and_ends() {
    let (mut world, one) = discovered();
    world.call(wanted("q", "*").image("app:4").put()).unwrap();
    for name in ["p", "q"] {
        world.call(delete(&pod(name), None)).unwrap();
    }
    world.settle();
    assert!(world.running(&one).is_empty());
    assert_eq!(world.hub.deployments().len(), 0);
    assert_eq!(kept(&world, &one), []);
}

#[test]
fn a_delete_of_before_the_restore_showed_is_said_again() {
    let (mut world, one) = set_back();
    world.call(delete(&pod("p"), None)).unwrap();
    world.connect(&one);
    world.settle();
    check_runs(&world, &one, "p", "app:3");
    assert!(world.status(&pod("p")).unconfirmed);
    world.call(delete(&pod("p"), None)).unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["q"]);
    assert!(world.hub.deployment(&pod("p")).is_none());
}

#[test]
fn a_release_is_an_asking_too() {
    let (mut world, one) = discovered();
    world.call(release(&pod("p"))).unwrap();
    world.settle();
    let status = world.status(&pod("p"));
    assert!(matches!(status.state, DeploymentState::Released { .. }));
    assert!(!status.unconfirmed);
    assert_eq!(kept(&world, &one), [(pod("q"), 2)]);
    check_runs(&world, &one, "p", "app:1");
}

#[test]
fn to_name_it_as_replaced_is_to_ask_for_its_end() {
    let (mut world, one) = discovered();
    world.call(wanted("next", "*").replaces("p").put()).unwrap();
    world.settle();
    assert!(!world.status(&pod("p")).unconfirmed);
    assert_eq!(world.running(&one), ["next", "q"]);
}

/// The device says first that it quarantined some of the set, and then that the set is on its disk. Either may be lost.
#[test]
fn that_a_set_is_persisted_is_learnt_although_the_word_was_lost() {
    let (mut world, one) = set_back();
    world.connect(&one);
    let (_, connection, _, bytes) = world.wire.remove(0);
    let blobs = world.fetchable(&one, &bytes);
    let answers = world.models.get_mut(&one).unwrap().receive(&bytes, &blobs);
    assert_eq!(world.models[&one].connection, Some(connection));
    let lost = |bytes: &&Vec<u8>| {
        let frame: UpFrame = frame::decode(bytes).unwrap();
        matches!(&frame.body, Up::Ack(ack) if ack.stage == AckStage::Persisted)
    };
    assert_eq!(answers.iter().filter(lost).count(), 1);
    let heard: Vec<Vec<u8>> = answers.iter().filter(|bytes| !lost(bytes)).cloned().collect();
    world.send(&one, &heard);
    assert_eq!(world.hub.device(&one).unwrap().acknowledged, None);
    world.pass(15_000);
    world.settle();
    let view = world.hub.device(&one).unwrap();
    assert_eq!(view.acknowledged, Some(view.generation));
}

/// The device told what it has before the hub knew of it again, and has nothing to add: the item must be news to it.
#[test]
fn what_was_told_too_early_is_told_again() {
    let (mut world, one) = set_back();
    world.connect(&one);
    // The first report of the session reaches a hub without `q`; the set after it names `q` exactly as the device has it.
    world.models.get_mut(&one).unwrap().silent_about_quarantine = true;
    world.settle();
    world.call(wanted("q", "*").image("app:3").put()).unwrap();
    let item = world.store.sets[&one].items.get(&pod("q")).unwrap().clone();
    assert!(item.revision > DeploymentRevision(2), "{item:?}");
}

/// A device holds the tombstone of what the restored hub lets run: it says only that the workload is gone.
#[test]
fn a_tombstone_of_before_the_restore_is_overruled() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    world.connect(&one);
    world.run("p", "tags.site = 'a'");
    let backup = world.store.clone();
    world.set_tags(&one, &[("site", "b")]);
    // It has stopped, and the hub dies before it forgets the tombstone.
    assert!(world.deliver(0));
    assert!(world.running(&one).is_empty());
    world.wire.clear();
    world.restart(backup);
    world.connect(&one);
    world.settle();
    assert!(world.running(&one).is_empty(), "a backup overrules nothing");
    world.run("p", "tags.site = 'a'");
    assert_eq!(world.running(&one), ["p"]);
    assert_eq!(world.status(&pod("p")).counts.healthy, 1);
}

/// A device that was dark holds what this hub never sent it.
#[test]
fn what_an_absent_device_may_hold_from_before_is_owed_its_end() {
    let (mut world, [one, two]) = World::of(["one", "two"]);
    world.settle();
    let backup = world.store.clone();
    world.run("q", "*");
    world.restart(backup);
    world.connect(&one);
    world.settle();
    world.run("q", "*");
    world.call(delete(&pod("q"), None)).unwrap();
    world.settle();
    assert_eq!(world.status(&pod("q")).stopping_online, 1);
    world.connect(&two);
    world.settle();
    assert!(world.running(&two).is_empty());
    assert_eq!(world.hub.deployments().len(), 0);
}

/// What a device claims to hold raises its own items, and only so far.
#[test]
fn a_claim_does_not_use_up_the_revisions() {
    let (mut world, [one, two]) = World::of(["one", "two"]);
    world.run("p", "*");
    for _ in 0..3 {
        let item = world.store.sets[&one].items.get(&pod("p")).unwrap().clone();
        let mut status = blank(&item, Rung::Healthy, Phase::Running);
        status.revision = DeploymentRevision(u64::MAX);
        let report = StatusReport {
            upto: 1_000,
            complete: false,
            workloads: vec![status],
        };
        world.say(&one, Up::Status(report));
    }
    world.settle();
    world.call(wanted("p", "*").image("app:2").put()).unwrap();
    world.settle();
    let revision = world.status(&pod("p")).revision.0;
    assert!(revision < 1 << 23, "{revision}");
    check_runs(&world, &two, "p", "app:2");
}
