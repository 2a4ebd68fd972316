//! Enrolments: each follows the one it was begun over, or none.

use iot_hub_core::{CallError, DeviceState, Enrolment};

use crate::support::World;
use crate::support::build::{device, enrol_again, enrol_call, enrolment, sealing_key, serial};

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
