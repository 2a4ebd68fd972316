//! A hub that came back from an older disk, and one that merely came back.

use edge_protocol::{DeviceId, Incarnation, ItemState, SetGeneration};
use iot_hub_core::Note;

use crate::support::World;
use crate::support::build::{delete, pod, wanted};

/// A hub whose disk was set back to before `q` was put; both devices have it.
fn set_back() -> (World, edge_protocol::DeviceId, edge_protocol::DeviceId) {
    let (mut world, [one, two]) = World::of(["one", "two"]);
    world.run("p", "*");
    let backup = world.store.clone();
    world.run("q", "*");
    world.now.wall_ms += 1_000;
    world.restart(backup);
    (world, one, two)
}

#[test]
fn a_device_that_is_ahead_begins_a_new_incarnation() {
    let (mut world, one, _) = set_back();
    let before = world.hub.incarnation();
    world.connect(&one);
    assert!(world.hub.incarnation() > before);
    assert!(
        world
            .notes
            .contains(&Note::NewIncarnation(world.hub.incarnation()))
    );
    assert_eq!(world.store.incarnation, Some(world.hub.incarnation()));
    world.settle();
    assert_eq!(world.models[&one].forms.last(), Some(&"snapshot"));
    let (generation, set) = world.models[&one].set.clone().unwrap();
    assert_eq!(
        generation,
        SetGeneration {
            incarnation: world.hub.incarnation(),
            n: 1
        }
    );
    assert_eq!(set.len(), 1);
    assert!(world.status(&pod("p")).counts.healthy > 0);
}

#[test]
fn another_content_at_the_same_generation_is_as_telling() {
    let (mut world, one, _) = set_back();
    let before = world.hub.incarnation();
    // The restored hub goes another way and reaches the number that the device has.
    world.call(wanted("r", "*").put()).unwrap();
    assert_eq!(world.models[&one].set.as_ref().unwrap().0, world.generation(&one));
    world.connect(&one);
    assert!(world.hub.incarnation() > before);
    world.settle();
    assert_eq!(world.running(&one), ["p", "q", "r"]);
}

#[test]
fn the_others_are_given_the_new_incarnation_even_if_their_number_would_fit() {
    let (mut world, one, two) = set_back();
    world.connect(&one);
    world.settle();
    for name in ["r", "s", "t"] {
        world.call(wanted(name, "*").put()).unwrap();
    }
    world.connect(&two);
    world.settle();
    assert_eq!(world.models[&two].forms.last(), Some(&"snapshot"));
    assert_eq!(
        world.models[&two].set.as_ref().unwrap().0.incarnation,
        world.hub.incarnation()
    );
    assert_eq!(world.running(&two), ["p", "q", "r", "s", "t"]);
}

#[test]
fn in_a_session_a_new_incarnation_comes_as_a_snapshot() {
    let (mut world, one, two) = set_back();
    // `two` lost its disk and is behind; only then `one` reveals the restore.
    world.models.get_mut(&two).unwrap().set = None;
    world.connect(&two);
    world.settle();
    world.connect(&one);
    world.settle();
    let forms = world.models[&two].forms.len();
    world.run("r", "*");
    assert_eq!(world.models[&two].forms[forms..], ["snapshot"]);
    assert_eq!(world.running(&two), ["p", "r"]);
}

#[test]
fn what_no_hub_can_have_given_is_not_believed() {
    let (mut world, one, _) = set_back();
    let before = world.hub.incarnation();
    for incarnation in [u64::MAX, before.0 + 400 * 24 * 3_600_000] {
        let set = world.models[&one].set.clone().unwrap().1;
        let generation = SetGeneration {
            incarnation: Incarnation(incarnation),
            n: u64::MAX,
        };
        world.models.get_mut(&one).unwrap().set = Some((generation, set));
        world.connect(&one);
        assert_eq!(
            world.cuts.last().unwrap().2,
            "what it says it holds is not plausible"
        );
    }
    assert_eq!(world.hub.incarnation(), before);
}

#[test]
fn an_incarnation_is_above_the_devices_even_when_the_clock_is_behind() {
    let (mut world, one, _) = set_back();
    world.now.wall_ms = 0;
    let before = world.hub.incarnation();
    world.connect(&one);
    assert_eq!(world.hub.incarnation(), Incarnation(before.0 + 1));
}

#[test]
fn a_plain_restart_is_no_restore() {
    let (mut world, [one]) = World::of(["one"]);
    world.run("p", "*");
    let (incarnation, generation, status) = (
        world.hub.incarnation(),
        world.generation(&one),
        world.status(&pod("p")),
    );
    let (store, written) = (world.store.clone(), world.store.written.len());
    world.restart(store);
    assert_eq!(world.hub.incarnation(), incarnation);
    // It is the same before any device has said a word: nobody flaps because the hub was away.
    assert_eq!(world.status(&pod("p")), status);
    assert_eq!(world.store.written.len(), written);
    world.connect(&one);
    world.settle();
    assert_eq!(world.generation(&one), generation);
    assert_eq!(world.models[&one].forms.last(), Some(&"same"));
    assert_eq!(world.status(&pod("p")).counts, status.counts);
}

#[test]
fn a_device_that_was_dark_before_a_restart_is_dark_after_it() {
    let (mut world, [one, two]) = World::of(["one", "two"]);
    world.run("p", "*");
    world.disconnect(&two);
    world.pass_with(&[&one], 60_000);
    let store = world.store.clone();
    world.restart(store);
    let counts = world.status(&pod("p")).counts;
    assert_eq!((counts.offline, counts.counted, counts.healthy), (1, 1, 1));
    // The other has its deadline, from now on.
    world.pass(45_001);
    assert_eq!(world.status(&pod("p")).counts.offline, 2);
}

#[test]
fn a_device_that_is_up_to_date_is_moved_to_the_new_incarnation_by_its_own_acknowledgement() {
    let (mut world, [one, two]) = World::of(["one", "two"]);
    world.run("p", "*");
    let backup = world.store.clone();
    world.run("q", "deviceId = 'one'");
    world.restart(backup);
    world.connect(&one);
    world.settle();
    world.connect(&two);
    let incarnation = |generation: Option<SetGeneration>| generation.map(|generation| generation.incarnation);
    let acknowledged = |world: &World| incarnation(world.hub.device(&two).unwrap().acknowledged);
    assert!(
        acknowledged(&world) < Some(world.hub.incarnation()),
        "the hub answers for the device"
    );
    world.settle();
    assert_eq!(world.models[&two].forms.last(), Some(&"snapshot"));
    assert_eq!(acknowledged(&world), Some(world.hub.incarnation()));
    assert_eq!(world.models[&two].starts[&pod("p")], 1);
}

/// Two devices with `p`, and a new incarnation that only the first one knows of.
fn incarnation_claimed() -> (World, DeviceId) {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    let two = world.enrol("two", &[("site", "a")]);
    world.connect(&one);
    world.connect(&two);
    world.run("p", "tags.site = 'a'");
    world.disconnect(&one);
    let before = world.hub.incarnation();
    world.models.get_mut(&one).unwrap().set.as_mut().unwrap().0.n += 100;
    world.connect(&one);
    world.settle();
    assert!(world.hub.incarnation() > before);
    assert_eq!(world.generation(&two).incarnation, before);
    (world, two)
}

/// A device judges each item against the one it holds when the incarnation changes, and keeps what does not look newer.
#[track_caller]
fn check_newer(world: &World, id: &DeviceId, expect: ItemState) {
    let (_, held) = world.models[id].set.as_ref().unwrap();
    let held = held.get(&pod("p")).unwrap();
    let offered = world.store.sets[id].items.get(&pod("p")).unwrap();
    assert_eq!(offered.state, expect);
    assert!(
        offered.revision > held.revision,
        "{offered:?} looks like a conflict with {held:?}"
    );
}

#[test]
fn a_delete_after_a_change_of_incarnation_is_newer_than_what_the_device_runs() {
    let (mut world, two) = incarnation_claimed();
    world.call(delete(&pod("p"), None)).unwrap();
    check_newer(&world, &two, ItemState::Stop);
    world.settle();
    assert!(world.running(&two).is_empty());
}

#[test]
fn so_are_a_move_out_of_scope_and_the_way_back() {
    let (mut world, two) = incarnation_claimed();
    world.set_tags(&two, &[("site", "b")]);
    check_newer(&world, &two, ItemState::Stop);
    world.disconnect(&two);
    let incarnation = &mut world
        .models
        .get_mut(&two)
        .unwrap()
        .set
        .as_mut()
        .unwrap()
        .0
        .incarnation;
    *incarnation = Incarnation(incarnation.0 - 1);
    world.set_tags(&two, &[("site", "a")]);
    check_newer(&world, &two, ItemState::Run);
    world.connect(&two);
    world.settle();
    assert_eq!(world.running(&two), ["p"]);
}

#[test]
fn what_comes_after_an_acknowledged_tombstone_is_newer_than_it() {
    let (mut world, two) = incarnation_claimed();
    world.set_tags(&two, &[("site", "b")]);
    // The device stops it and says so; that the tombstone is forgotten does not reach it.
    while world.store.sets[&two].items.get(&pod("p")).is_some() {
        assert!(world.deliver(0));
    }
    world.wire.clear();
    world.set_tags(&two, &[("site", "a")]);
    check_newer(&world, &two, ItemState::Run);
}

#[test]
fn claims_do_not_make_room_for_higher_claims() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    let bound = u64::try_from(world.now.wall_ms).unwrap() + 366 * 24 * 3_600_000;
    for _ in 0..3 {
        let incarnation = Incarnation(world.hub.incarnation().0 + 300 * 24 * 3_600_000);
        let generation = SetGeneration { incarnation, n: 1 };
        world.models.get_mut(&one).unwrap().set = Some((generation, edge_protocol::DesiredSet::default()));
        world.connect(&one);
    }
    assert!(
        world.hub.incarnation().0 <= bound + 1,
        "{:?}",
        world.hub.incarnation()
    );
}
