//! Status, history and liveness as the hub keeps them.

use edge_protocol::v1::{DeviceEvent, EventLevel, EventReport, LinkClass, Reason, StatusReport, Up};
use edge_protocol::{DeviceId, PodUid};
use iot_hub_core::{Call, Change};

use crate::support::World;
use crate::support::build::{enrol_again, enrolment, pod, wanted};
use crate::support::model::time;

fn running() -> (World, DeviceId) {
    let (mut world, [one]) = World::of(["one"]);
    world.run("p", "*");
    (world, one)
}

fn events(uid: &PodUid, seqs: std::ops::RangeInclusive<u64>) -> Up {
    let event = |seq| DeviceEvent {
        seq,
        at: time(),
        uid: uid.clone(),
        container: None,
        level: EventLevel::Normal,
        reason: Reason::Started,
        cause: None,
        message: "a\u{1b}b".to_owned(),
    };
    Up::Events(EventReport {
        events: seqs.map(event).collect(),
    })
}

fn stored(world: &World) -> Vec<u64> {
    world.store.events.iter().map(|(_, event)| event.seq).collect()
}

#[test]
fn reports_are_acknowledged_only_after_the_commit() {
    let (mut world, one) = running();
    world.commit_at_once = false;
    let report = world.models.get_mut(&one).unwrap().report();
    world.send(&one, &report);
    assert!(world.wire.is_empty(), "acknowledged before the commit");
    // What follows without any write waits for the same commit.
    let request = world.request(wanted("p", "*").put());
    assert!(!world.replies.contains_key(&request));
    while world.commit_one() {}
    assert!(world.replies.contains_key(&request));
    world.settle();
    assert_eq!(
        world.models[&one].acked_upto,
        world.store.devices[&one].status_upto
    );
}

#[test]
fn a_crash_before_the_commit_loses_the_report_and_its_acknowledgement() {
    let (mut world, one) = running();
    world.commit_at_once = false;
    let before = world.store.devices[&one].status_upto;
    let report = world.models.get_mut(&one).unwrap().report();
    world.send(&one, &report);
    let store = world.store.clone();
    world.restart(store);
    assert_eq!(world.store.devices[&one].status_upto, before);
    assert!(world.models[&one].acked_upto <= before);
}

#[test]
fn a_late_repeat_of_a_status_changes_nothing() {
    let (mut world, one) = running();
    let model = world.models.get_mut(&one).unwrap();
    let old = model.frame(Up::Status(StatusReport {
        upto: 3,
        complete: true,
        workloads: Vec::new(),
    }));
    let new = model.report();
    world.send(&one, &new);
    assert!(world.status(&pod("p")).ready);
    world.send(&one, &[old]);
    assert!(world.status(&pod("p")).ready);
}

#[test]
fn history_is_kept_once_in_order_and_cleaned() {
    let (mut world, one) = running();
    world.say(&one, events(&pod("p"), 1..=2));
    world.say(&one, events(&pod("p"), 2..=3));
    assert_eq!(stored(&world), [1, 2, 3]);
    assert_eq!(world.store.events[0].1.message, "a\\u{1b}b");
    assert!(world.changes.contains(&Change::DeviceEvent {
        device: one.clone(),
        seq: 3
    }));
    assert_eq!(world.store.devices[&one].event_seq, 3);
}

#[test]
fn a_gap_is_believed_only_when_it_is_repeated() {
    let (mut world, one) = running();
    world.say(&one, events(&pod("p"), 1..=1));
    // The frame with 2 was lost: the device sends from there again.
    world.say(&one, events(&pod("p"), 3..=3));
    assert_eq!(stored(&world), [1]);
    world.say(&one, events(&pod("p"), 2..=3));
    assert_eq!(stored(&world), [1, 2, 3]);
    // The device's ring dropped 4 to 8: it begins at 9 each time.
    world.say(&one, events(&pod("p"), 9..=9));
    world.say(&one, events(&pod("p"), 9..=10));
    assert_eq!(stored(&world), [1, 2, 3, 9, 10]);
}

#[test]
fn nobody_speaks_of_what_is_not_assigned_to_him() {
    let (mut world, one) = running();
    let two = world.enrol("two", &[]);
    world.connect(&two);
    world.run("q", "deviceId = 'two'");
    let before = world.status(&pod("q"));
    let foreign = world.models.get_mut(&two).unwrap().set.clone().unwrap().1;
    let item = foreign.get(&pod("q")).unwrap();
    let status = crate::support::model::blank(
        item,
        edge_protocol::v1::Rung::Applied,
        edge_protocol::v1::Phase::Failed,
    );
    world.say(
        &one,
        Up::Status(StatusReport {
            upto: 9,
            complete: false,
            workloads: vec![status],
        }),
    );
    world.say(&one, events(&pod("q"), 1..=1));
    assert_eq!(world.status(&pod("q")), before);
    assert!(stored(&world).is_empty());
    // It is done with, so that a faulty device does not send it for ever.
    assert_eq!(world.store.devices[&one].event_seq, 1);
}

#[test]
fn silence_counts_from_the_last_frame_by_link_class() {
    check_silence(LinkClass::Lan, 45_000);
    check_silence(LinkClass::Cellular, 360_000);
    check_silence(LinkClass::Satellite, 1_350_000);
}

/// Of two devices only the one is silent past the deadline of its link, and it comes back by a word.
#[track_caller]
fn check_silence(link: LinkClass, deadline_ms: u64) {
    let (mut world, [one, two]) = World::of(["one", "two"]);
    for device in [&one, &two] {
        let device = device.clone();
        world.call(Call::SetLink { device, link }).unwrap();
    }
    world.run("p", "*");
    let online = |world: &World| [&one, &two].map(|device| world.hub.device(device).unwrap().online);
    world.pass(deadline_ms - 5_000);
    world.say(&one, Up::Heartbeat);
    world.say(&two, Up::Heartbeat);
    world.pass(deadline_ms - 1_000);
    assert_eq!(online(&world), [true, true], "{link:?}");
    world.say(&two, Up::Heartbeat);
    world.pass(1_000);
    assert_eq!(online(&world), [false, true], "{link:?}");
    assert!(world.hub.device(&one).unwrap().connected);
    world.say(&one, Up::Heartbeat);
    assert_eq!(online(&world), [true, true], "{link:?}");
}

#[test]
fn heartbeats_cost_no_write_and_no_timer() {
    let (mut world, one) = running();
    let written = world.store.written.len();
    world.wake_at = None;
    for _ in 0..100 {
        world.now.mono_ms += 1;
        world.say(&one, Up::Heartbeat);
    }
    assert_eq!(world.store.written.len(), written);
    assert_eq!(world.wake_at, None);
}

#[test]
fn a_jump_of_the_wall_clock_changes_nobodys_liveness() {
    let (mut world, one) = running();
    world.now.wall_ms += 10_i64.pow(12);
    world.pass(44_000);
    assert!(world.hub.device(&one).unwrap().online);
    world.now.wall_ms = 0;
    world.say(&one, Up::Heartbeat);
    world.pass(44_000);
    assert!(world.hub.device(&one).unwrap().online);
}

#[test]
fn what_a_complete_report_leaves_out_is_not_there() {
    let (mut world, one) = running();
    world.say(
        &one,
        Up::Status(StatusReport {
            upto: 9,
            complete: true,
            workloads: Vec::new(),
        }),
    );
    let status = world.status(&pod("p"));
    assert_eq!(
        (status.counts.persisted, status.counts.applied, status.ready),
        (1, 0, false)
    );
}

#[test]
fn a_number_that_no_store_can_hold_is_refused() {
    let (mut world, one) = running();
    world.say(&one, events(&pod("p"), 1..=1));
    // Told twice, a gap is believed; this one is not.
    for seq in [i64::MAX.unsigned_abs() + 1, u64::MAX] {
        world.say(&one, events(&pod("p"), seq..=seq));
        world.say(&one, events(&pod("p"), seq..=seq));
    }
    assert_eq!(stored(&world), [1]);
    let upto = world.store.devices[&one].status_upto;
    world.say(
        &one,
        Up::Status(StatusReport {
            upto: u64::MAX,
            complete: false,
            workloads: Vec::new(),
        }),
    );
    assert_eq!(world.store.devices[&one].status_upto, upto);
    world.say(&one, events(&pod("p"), 2..=2));
    assert_eq!(stored(&world), [1, 2]);
}

#[test]
fn one_report_writes_a_bounded_number_of_events() {
    let (mut world, one) = running();
    world.say(&one, events(&pod("p"), 1..=10_000));
    assert_eq!(stored(&world), (1..=256).collect::<Vec<_>>());
    // The rest is not acknowledged, so the device tells it again.
    assert_eq!(world.store.devices[&one].event_seq, 256);
    world.say(&one, events(&pod("p"), 257..=260));
    assert_eq!(stored(&world).last(), Some(&260));
}

#[test]
fn a_device_that_takes_over_an_id_numbers_its_history_after_the_former_ones() {
    let (mut world, one) = running();
    world.say(&one, events(&pod("p"), 1..=5));
    world.disconnect(&one);
    world
        .call(crate::support::build::delete(&pod("p"), None))
        .unwrap();
    world.connect(&one);
    world.settle();
    world.set_state(&one, iot_hub_core::DeviceState::Decommissioned);
    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    assert_eq!(world.store.devices[&one].event_seq, 5);
}

#[test]
fn a_device_that_says_goodbye_is_away_at_once_and_back_with_its_next_hello() {
    let (mut world, one) = running();
    world.say(&one, Up::Bye);
    world.disconnect(&one);
    assert!(!world.hub.device(&one).unwrap().online);
    assert_eq!(world.status(&pod("p")).counts.offline, 1);
    assert_eq!(world.running(&one), ["p"], "its workloads go on");
    world.connect(&one);
    world.settle();
    assert!(world.hub.device(&one).unwrap().online);
    assert!(world.status(&pod("p")).ready);
    // The deadline that was set before counts from the newer word.
    world.pass(44_000);
    assert!(world.hub.device(&one).unwrap().online);
}
