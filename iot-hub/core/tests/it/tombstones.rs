//! Stopping: explicit, acknowledged, remembered for those who are away.

use edge_protocol::v1::{DeploymentState, Tombstone, Up};
use edge_protocol::{DeviceId, ItemState};
use iot_hub_core::{CallError, Change};

use crate::support::World;
use crate::support::build::{delete, pod, release, wanted};
use crate::support::model::Behaviour;

fn ended(world: &World, uid: &str) -> bool {
    world.hub.deployment(&pod(uid)).is_none()
        && world.changes.contains(&Change::DeploymentEnded { uid: pod(uid) })
        && !world.store.deployments.contains_key(&pod(uid))
        && world.store.assignments.keys().all(|(held, _)| *held != pod(uid))
}

#[test]
fn a_deployment_ends_when_every_device_has_acknowledged() {
    let (mut world, [one, two]) = World::of(["one", "two"]);
    world.run("p", "*");
    world.call(delete(&pod("p"), None)).unwrap();
    let status = world.status(&pod("p"));
    assert!(matches!(status.state, DeploymentState::Deleting { .. }));
    assert_eq!((status.stopping_online, status.stopping_offline.len()), (2, 0));
    assert_eq!(world.call(wanted("p", "*").put()), Err(CallError::BeingDeleted));
    assert_eq!(world.call(release(&pod("p"))), Err(CallError::BeingDeleted));
    world.settle();
    assert!(ended(&world, "p"));
    assert!(world.store.sets.values().all(|set| set.items.is_empty()));
    assert!(world.store.blobs.is_empty());
    assert!(world.running(&one).is_empty() && world.running(&two).is_empty());
}

#[test]
fn a_device_that_is_away_holds_nothing_up_and_stops_when_it_is_back() {
    let (mut world, [_, two]) = World::of(["one", "two"]);
    world.run("p", "*");
    world.disconnect(&two);
    world.call(delete(&pod("p"), None)).unwrap();
    world.settle();
    // Still inside its deadline it holds the pod; past it, it is only listed.
    assert_eq!(world.status(&pod("p")).stopping_online, 1);
    world.pass(46_000);
    let status = world.status(&pod("p"));
    assert_eq!(status.stopping_online, 0);
    assert_eq!(status.stopping_offline, std::slice::from_ref(&two));
    assert_eq!(world.running(&two), ["p"]);

    let store = world.store.clone();
    world.restart(store);
    assert_eq!(
        world.status(&pod("p")).stopping_offline,
        std::slice::from_ref(&two)
    );
    world.connect(&two);
    world.settle();
    assert!(world.running(&two).is_empty());
    assert!(ended(&world, "p"));
}

#[test]
fn a_device_that_never_got_it_has_nothing_to_stop() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.call(wanted("p", "*").put()).unwrap();
    world.call(delete(&pod("p"), None)).unwrap();
    assert!(ended(&world, "p"));
    assert!(world.store.sets[&one].items.is_empty());
}

#[test]
fn after_a_restart_it_is_not_known_who_got_it() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.call(wanted("p", "*").put()).unwrap();
    let store = world.store.clone();
    world.restart(store);
    world.call(delete(&pod("p"), None)).unwrap();
    assert_eq!(
        world.status(&pod("p")).stopping_offline,
        std::slice::from_ref(&one)
    );
    world.connect(&one);
    world.settle();
    assert!(ended(&world, "p"));
}

#[test]
fn a_sent_but_unanswered_item_is_stopped_by_tombstone() {
    let (mut world, [one]) = World::of(["one"]);
    world.settle();
    world.call(wanted("p", "*").put()).unwrap();
    world.wire.clear();
    world.call(delete(&pod("p"), None)).unwrap();
    assert_eq!(
        world.store.sets[&one].items.get(&pod("p")).unwrap().state,
        ItemState::Stop
    );
    world.pass(20_000);
    world.settle();
    assert!(ended(&world, "p"));
}

#[test]
fn only_a_shorter_grace_makes_a_new_tombstone() {
    let (mut world, [one]) = World::of(["one"]);
    world.run("p", "*");
    world.disconnect(&one);
    let grace = |world: &World| {
        let set = &world.store.sets[&one];
        let item = set.items.get(&pod("p")).unwrap();
        let tombstone: Tombstone = serde_json::from_str(&world.store.blobs[&item.digest]).unwrap();
        (tombstone.grace_period_s, set.generation.n)
    };
    world.call(delete(&pod("p"), None)).unwrap();
    let (first, n) = grace(&world);
    assert_eq!(first, None);
    // The manifest's own is 30 s.
    world.call(delete(&pod("p"), Some(60))).unwrap();
    assert_eq!(grace(&world), (None, n));
    world.call(delete(&pod("p"), Some(5))).unwrap();
    assert_eq!(grace(&world), (Some(5), n + 1));
    world.call(delete(&pod("p"), Some(10))).unwrap();
    assert_eq!(grace(&world), (Some(5), n + 1));
    world.call(delete(&pod("p"), Some(0))).unwrap();
    assert_eq!(grace(&world), (Some(0), n + 2));
}

#[test]
fn gone_counts_only_after_the_tombstone_is_on_the_devices_disk() {
    let (mut world, [one]) = World::of(["one"]);
    world.run("p", "*");
    world.call(delete(&pod("p"), None)).unwrap();
    let item = world.store.sets[&one].items.get(&pod("p")).unwrap().clone();
    let gone = crate::support::model::blank(
        &item,
        edge_protocol::v1::Rung::Targeted,
        edge_protocol::v1::Phase::Gone,
    );
    world.say(
        &one,
        Up::Status(edge_protocol::v1::StatusReport {
            upto: 99,
            complete: false,
            workloads: vec![gone],
        }),
    );
    assert!(!ended(&world, "p"));
    world.settle();
    assert!(ended(&world, "p"));
}

#[test]
fn a_device_that_matches_again_before_it_stopped_runs_again() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    world.connect(&one);
    world.run("p", "tags.site = 'a'");
    world.set_tags(&one, &[("site", "b")]);
    world.set_tags(&one, &[("site", "a")]);
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    assert!(world.status(&pod("p")).ready);
}

#[test]
fn a_healthy_successor_supersedes_on_its_device_alone() {
    let (mut world, [one, two]) = World::of(["one", "two"]);
    world.run("a", "*");
    world
        .models
        .get_mut(&two)
        .unwrap()
        .behaves(&pod("b"), Behaviour::Waiting);
    world.call(wanted("b", "*").replaces("a").put()).unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["b"]);
    assert_eq!(world.running(&two), ["a", "b"]);
    let status = world.status(&pod("a"));
    assert_eq!(status.counts.targeted, 1);
    assert_eq!(status.failing[0].device, one);
    assert_eq!(status.failing[0].reason.as_str(), "SupersededOnDevice");
    // Matching again does not bring it back.
    world.set_tags(&one, &[("x", "y")]);
    world
        .call(wanted("a", "*").image("app:2").replaces("nothing").put())
        .unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["b"]);
    let store = world.store.clone();
    world.restart(store);
    assert_eq!(world.status(&pod("a")).counts.targeted, 1);
    world.call(delete(&pod("a"), None)).unwrap();
    world.connect(&two);
    world.settle();
    assert!(ended(&world, "a"));
}

/// A runs nowhere any more, for B took its place on both devices.
fn taken_over(targets: [&str; 2]) -> (World, [DeviceId; 2]) {
    let mut world = World::new();
    let ids = ["one", "two"].map(|name| world.enrol(name, &[("site", "a")]));
    for id in &ids {
        world.connect(id);
    }
    world.call(wanted("a", targets[0]).put()).unwrap();
    world.settle();
    world.call(wanted("b", targets[1]).replaces("a").put()).unwrap();
    world.settle();
    for id in &ids {
        assert_eq!(world.running(id), ["b"]);
    }
    (world, ids)
}

#[test]
fn what_was_replaced_runs_again_when_its_successor_is_deleted() {
    let (mut world, [one, two]) = taken_over(["*", "*"]);
    world.disconnect(&two);
    world.call(delete(&pod("b"), None)).unwrap();
    let items = &world.store.sets[&one].items;
    let states = ["a", "b"].map(|uid| items.get(&pod(uid)).map(|item| item.state));
    assert_eq!(
        states,
        [Some(ItemState::Run), Some(ItemState::Stop)],
        "one set says both, so that no link can fail in between"
    );
    world.settle();
    assert_eq!(world.running(&one), ["a"]);
    world.connect(&two);
    world.settle();
    assert_eq!(world.running(&two), ["a"]);
    assert!(ended(&world, "b"));
    let status = world.status(&pod("a"));
    assert!(status.ready && status.counts.targeted == 2, "{status:?}");
}

#[test]
fn what_was_replaced_runs_again_where_its_successor_is_out_of_scope() {
    let (mut world, [one, two]) = taken_over(["*", "tags.site = 'a'"]);
    world.set_tags(&one, &[("site", "b")]);
    // Its last words there are that it is healthy.
    let report = world.models.get_mut(&one).unwrap().report();
    world.send(&one, &report);
    world.settle();
    assert_eq!([world.running(&one), world.running(&two)], [["a"], ["b"]]);
}

#[test]
fn what_was_replaced_stays_away_from_the_successor_of_its_successor() {
    let (mut world, [one, _]) = taken_over(["*", "*"]);
    world.call(wanted("c", "*").replaces("b").put()).unwrap();
    world.settle();
    world.call(delete(&pod("b"), None)).unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["c"]);
}

#[test]
fn an_orphan_goes_when_its_successor_is_healthy_everywhere() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    let two = world.enrol("two", &[]);
    let dark = world.enrol("dark", &[]);
    for id in [&one, &two, &dark] {
        world.connect(id);
    }
    world.run("a", "*");
    world.disconnect(&dark);
    world.pass_with(&[&one, &two], 60_000);
    world.call(release(&pod("a"))).unwrap();
    world
        .models
        .get_mut(&two)
        .unwrap()
        .behaves(&pod("b"), Behaviour::Waiting);
    world.call(wanted("b", "*").replaces("a").put()).unwrap();
    world.settle();
    assert_eq!(world.running(&two), ["a", "b"]);
    assert!(matches!(
        world.status(&pod("a")).state,
        DeploymentState::Released { .. }
    ));
    world
        .models
        .get_mut(&two)
        .unwrap()
        .behaves(&pod("b"), Behaviour::Healthy);
    let report = world.models.get_mut(&two).unwrap().report();
    world.send(&two, &report);
    world.settle();
    assert_eq!(world.running(&two), ["b"]);
    // The device in the dark runs it on until the successor is healthy there: a tombstone would stop it before that (law 6).
    assert!(matches!(
        world.status(&pod("a")).state,
        DeploymentState::Released { .. }
    ));
    let item = world.store.sets[&dark].items.get(&pod("a")).unwrap();
    assert_eq!(item.state, ItemState::Orphan);
    world.connect(&dark);
    world.settle();
    assert!(ended(&world, "a"));
    assert_eq!(world.running(&dark), ["b"]);
}

#[test]
fn a_stranger_replaces_nothing() {
    let (mut world, [one]) = World::of(["one"]);
    world.call(wanted("a", "*").put()).unwrap();
    let mut elsewhere = wanted("b", "*").replaces("a");
    elsewhere.spec.namespace = "other".to_owned();
    let mut foreign = wanted("b", "*").replaces("a");
    foreign.spec.source.cluster_uid = "another".to_owned();
    for stranger in [elsewhere, foreign] {
        // The device would stop what a manifest names: so none that names another's is given out.
        let refused = world.call(stranger.put());
        assert!(matches!(refused, Err(CallError::BadManifest(_))), "{refused:?}");
    }
    world.settle();
    assert_eq!(world.running(&one), ["a"]);
    // What is gone already is no one's.
    world.call(wanted("b", "*").replaces("gone").put()).unwrap();
}
