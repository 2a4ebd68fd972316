//! Enrolments: each follows the one it was begun over, or none.

use edge_protocol::{DeviceId, ItemState};
use iot_hub_core::{Call, CallError, DeviceState, Enrolment};

use crate::support::World;
use crate::support::build::{
    delete, device, enrol_again, enrol_call, enrolment, pod, sealing_key, serial, wanted,
};

fn superseded(name: &str) -> Result<(), CallError> {
    Err(CallError::EnrolmentSuperseded(device(name)))
}

#[test]
fn of_two_that_race_for_one_device_the_second_is_told() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    let rival = Enrolment {
        expected_previous: Some(serial(1)),
        ..enrolment(3, &[])
    };
    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    let written = world.store.written.len();
    assert_eq!(world.call(enrol_again("one", rival)), superseded("one"));
    assert_eq!(world.store.written.len(), written, "nothing changed");
    let record = world.hub.device(&one).unwrap().record;
    assert_eq!(
        (record.enrolment, record.sealing_key),
        (serial(2), sealing_key(2))
    );
    // The next one in order is let through.
    world.call(enrol_again("one", enrolment(3, &[]))).unwrap();
    assert_eq!(world.store.devices[&one].enrolment, serial(3));
}

#[test]
fn a_new_id_is_expected_to_be_new_and_a_known_one_to_be_known() {
    let mut world = World::new();
    assert_eq!(
        world.call(enrol_again("one", enrolment(2, &[]))),
        superseded("one")
    );
    world.enrol("one", &[]);
    let stranger = Enrolment {
        expected_previous: None,
        ..enrolment(2, &[])
    };
    assert_eq!(world.call(enrol_again("one", stranger)), superseded("one"));
}

#[test]
fn a_repeat_changes_nothing_however_late() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    world.models.get_mut(&one).unwrap().enrolment = serial(2);
    world.connect(&one);
    let (written, cuts) = (world.store.written.len(), world.cuts.len());
    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    assert_eq!((world.store.written.len(), world.cuts.len()), (written, cuts));
    assert_eq!(world.call(enrol_call("one", &[])), superseded("one"));
}

#[test]
fn no_enrolment_of_before_brings_back_what_was_decommissioned() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    world.set_state(&one, DeviceState::Decommissioned);
    assert_eq!(world.call(enrol_call("one", &[])), superseded("one"));
    assert_eq!(
        world.call(enrol_again("one", enrolment(2, &[]))),
        superseded("one")
    );
    let record = world.hub.device(&one).unwrap().record;
    assert_eq!(record.state, DeviceState::Decommissioned);
    world.call(enrol_again("one", enrolment(3, &[]))).unwrap();
    let record = world.hub.device(&one).unwrap().record;
    assert_eq!(
        (record.state, record.sealing_key),
        (DeviceState::Active, sealing_key(3))
    );
}

/// A device that was lost while it ran two workloads, one of which it was told to stop since; and a neighbour.
fn lost() -> (World, DeviceId) {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    let two = world.enrol("two", &[]);
    world.connect(&one);
    world.connect(&two);
    for uid in ["p", "q"] {
        world.call(wanted(uid, "*").put()).unwrap();
    }
    world.settle();
    world.disconnect(&one);
    world.call(delete(&pod("q"), None)).unwrap();
    world.settle();
    world.set_state(&one, DeviceState::Decommissioned);
    (world, one)
}

fn forget(id: &DeviceId) -> Call {
    Call::ForgetDevice { device: id.clone() }
}

/// What may run on the device: uid, what is asked, whether its name is known.
fn may_run(world: &World, id: &DeviceId) -> Vec<(String, Option<ItemState>, bool)> {
    let held = world.hub.workloads(id).unwrap();
    held.into_iter()
        .map(|one| (one.uid.to_string(), one.desired, one.name.is_some()))
        .collect()
}

#[test]
fn what_may_run_on_a_lost_device_is_shown_and_its_id_is_not_free() {
    let (mut world, one) = lost();
    let expect = [
        ("p".to_owned(), None, true),
        ("q".to_owned(), Some(ItemState::Stop), false),
    ];
    assert_eq!(may_run(&world, &one), expect);
    let store = world.store.clone();
    world.restart(store);
    assert_eq!(may_run(&world, &one), expect, "also after a restart");
    let refused = world.call(enrol_again("one", enrolment(2, &[]))).unwrap_err();
    assert_eq!(
        refused,
        CallError::TombstonesLive {
            device: one,
            count: 1
        }
    );
    let way_out = "outrigger device forget one --accept-running-workloads";
    assert!(refused.to_string().contains(way_out), "{refused}");
}

#[test]
fn an_operator_gives_the_id_of_a_lost_device_free() {
    let (mut world, one) = lost();
    let generation = world.generation(&one);
    let session = world.store.devices[&one].last_session;
    world.call(forget(&one)).unwrap();
    assert!(world.store.sets[&one].items.is_empty(), "durably");
    assert!(world.store.blobs.len() == 1, "the tombstone's blob is gone");
    let written = world.store.written.len();
    world.call(forget(&one)).unwrap();
    assert_eq!(world.store.written.len(), written, "a repeat changes nothing");

    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    assert!(world.generation(&one) > generation, "its generation goes on");
    // Another machine under the same id runs what is for it, and was never told of the other.
    let mut fresh = crate::support::model::Model::new(one.clone());
    fresh.enrolment = serial(2);
    world.models.insert(one.clone(), fresh);
    world.connect(&one);
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    assert!(world.store.devices[&one].last_session > session);
    assert_eq!(
        may_run(&world, &one),
        [("p".to_owned(), Some(ItemState::Run), true)]
    );
}

#[test]
fn only_what_is_decommissioned_is_forgotten() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.connect(&one);
    world.call(wanted("p", "*").put()).unwrap();
    world.settle();
    for state in [DeviceState::Active, DeviceState::Disabled] {
        world.set_state(&one, state);
        assert_eq!(
            world.call(forget(&one)),
            Err(CallError::NotDecommissioned(one.clone()))
        );
    }
    assert_eq!(world.store.sets[&one].items.len(), 1);
    let nobody = device("nobody");
    assert_eq!(
        world.call(forget(&nobody)),
        Err(CallError::NoSuchDevice(nobody.clone()))
    );
    assert_eq!(world.hub.workloads(&nobody), None);
}
