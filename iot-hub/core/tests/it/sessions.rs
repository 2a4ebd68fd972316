//! Hello, offers, acknowledgements, and whose frames are listened to.

use edge_protocol::v1::{AckStage, DownFrame, SetAck, Up};
use edge_protocol::{DeviceId, Digest, Lane, SessionEpoch, SetItem, frame};
use iot_hub_core::{Call, ConnectionId, DeviceState, Input, Note};

use crate::support::World;
use crate::support::build::{delete, device, enrol_call, pod, serial, wanted};

fn one_device() -> (World, DeviceId) {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    (world, one)
}

fn refusals(world: &World) -> usize {
    world
        .notes
        .iter()
        .filter(|note| matches!(note, Note::FrameRefused { .. }))
        .count()
}

#[test]
fn the_epoch_is_on_disk_before_the_answer_is_sent() {
    let (mut world, one) = one_device();
    world.commit_at_once = false;
    world.connect(&one);
    assert!(world.wire.is_empty(), "answered before the commit");
    assert_eq!(world.store.devices[&one].last_session, SessionEpoch(0));
    world.commit_one();
    assert_eq!(world.store.devices[&one].last_session, SessionEpoch(1));
    world.deliver(0);
    assert_eq!(world.models[&one].session(), Some(SessionEpoch(1)));
}

#[test]
fn same_delta_or_snapshot() {
    let (mut world, one) = one_device();
    let reconnect = |world: &mut World| {
        world.disconnect(&one);
        world.connect(&one);
        world.settle();
        world.models[&one].forms.last().copied()
    };
    assert_eq!(reconnect(&mut world), Some("snapshot"));
    assert_eq!(reconnect(&mut world), Some("same"));
    world.disconnect(&one);
    world.call(wanted("p", "*").put()).unwrap();
    world.call(wanted("q", "*").put()).unwrap();
    assert_eq!(reconnect(&mut world), Some("delta"));
    assert_eq!(world.running(&one), ["p", "q"]);
    // In a session a change is a delta.
    world.call(delete(&pod("p"), None)).unwrap();
    world.settle();
    assert_eq!(world.models[&one].forms.last(), Some(&"delta"));
    // A device that lost its disk says that it holds nothing.
    world.models.get_mut(&one).unwrap().set = None;
    assert_eq!(reconnect(&mut world), Some("snapshot"));
    // One that was set back to an older state holds a base that is not remembered.
    let older = world.models[&one].set.clone();
    world.run("r", "*");
    world.run("s", "*");
    world.models.get_mut(&one).unwrap().set = older;
    assert_eq!(reconnect(&mut world), Some("snapshot"));
    assert_eq!(world.running(&one), ["q", "r", "s"]);
}

#[test]
fn what_changes_while_an_offer_is_under_way_follows_as_one_delta() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    let forms = world.models[&one].forms.len();
    for n in 0..50 {
        world.call(wanted(&format!("p{n}"), "*").put()).unwrap();
    }
    assert_eq!(world.wire.len(), 1);
    world.settle();
    assert_eq!(world.models[&one].forms[forms..], ["delta", "delta"]);
    assert_eq!(world.running(&one).len(), 50);
}

#[test]
fn a_lost_offer_is_repeated_and_an_unanswered_one_not_hurried() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    world.call(wanted("p", "*").put()).unwrap();
    world.wire.clear();
    world.pass(9_000);
    assert!(world.wire.is_empty());
    world.pass(6_000);
    assert_eq!(world.wire.len(), 1);
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    world.pass_with(&[&one], 120_000);
    assert!(nothing_desired(&world), "an acknowledged offer is repeated");
}

/// Heartbeats are answered; nothing else was said.
fn nothing_desired(world: &World) -> bool {
    world.wire.iter().all(|(_, _, lane, _)| *lane == Lane::Command)
}

#[test]
fn a_heartbeat_is_answered() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    world.wire.clear();
    world.say(&one, Up::Heartbeat);
    assert!(nothing_desired(&world));
    assert_eq!(world.wire.len(), 1, "a device that hears nothing dials again");
}

#[test]
fn a_missing_base_is_answered_with_a_snapshot() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    // The device loses its set within the session.
    world.models.get_mut(&one).unwrap().set = None;
    world.run("p", "*");
    assert_eq!(world.models[&one].forms.last(), Some(&"snapshot"));
    assert_eq!(world.running(&one), ["p"]);
}

#[test]
fn a_refused_offer_is_not_repeated_but_the_next_set_is_offered() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    world.call(wanted("p", "*").put()).unwrap();
    world.wire.clear();
    let set = &world.store.sets[&one];
    let ack = SetAck {
        generation: set.generation,
        digest: set.items.digest(),
        stage: AckStage::Refused,
    };
    world.say(&one, Up::Ack(ack));
    assert!(
        world
            .notes
            .iter()
            .any(|note| matches!(note, Note::SetRefused { .. }))
    );
    world.pass_with(&[&one], 60_000);
    assert!(nothing_desired(&world));
    world.run("q", "*");
    assert_eq!(world.running(&one), ["p", "q"]);
}

#[test]
fn the_ladder_rises_with_acknowledgements() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    world.call(wanted("p", "*").put()).unwrap();
    world.wire.clear();
    let set = world.store.sets[&one].clone();
    let ack = |stage| {
        Up::Ack(SetAck {
            generation: set.generation,
            digest: set.items.digest(),
            stage,
        })
    };
    let rungs = |world: &World| {
        let counts = world.status(&pod("p")).counts;
        (counts.targeted, counts.received, counts.persisted)
    };
    assert_eq!(rungs(&world), (1, 0, 0));
    world.say(&one, ack(AckStage::Received));
    assert_eq!(rungs(&world), (1, 1, 0));
    assert_eq!(world.store.sets[&one].acknowledged.as_ref().unwrap().1.len(), 0);
    world.say(&one, ack(AckStage::Persisted));
    assert_eq!(rungs(&world), (1, 1, 1));
    assert_eq!(
        world.store.sets[&one].acknowledged.as_ref().unwrap().0,
        set.generation
    );
    let written = world.store.written.len();
    world.say(&one, ack(AckStage::Persisted));
    assert_eq!(world.store.written.len(), written, "a repeat is written again");
    // It survives a restart of the hub.
    let store = world.store.clone();
    world.restart(store);
    assert_eq!(rungs(&world), (1, 1, 1));
}

/// What a frame may do in which state of the session.
#[test]
fn verb_by_state() {
    #[derive(Clone, Copy, Debug)]
    enum State {
        NotConnected,
        NoSession,
        InSession,
        Reconnected,
        Disabled,
    }
    use State::{Disabled, InSession, NoSession, NotConnected, Reconnected};
    let heartbeat = || Up::Heartbeat;
    let status = || {
        Up::Status(edge_protocol::v1::StatusReport {
            upto: 5,
            complete: false,
            workloads: Vec::new(),
        })
    };
    let ack = || {
        Up::Ack(SetAck {
            generation: edge_protocol::SetGeneration {
                incarnation: edge_protocol::Incarnation(1),
                n: 1,
            },
            digest: Digest::of(""),
            stage: AckStage::Persisted,
        })
    };
    let verbs: [(&str, &dyn Fn() -> Up); 3] = [("heartbeat", &heartbeat), ("status", &status), ("ack", &ack)];
    for (state, listens) in [
        (NotConnected, false),
        (NoSession, false),
        (InSession, true),
        (Reconnected, false),
        (Disabled, false),
    ] {
        for (name, verb) in &verbs {
            let (mut world, one) = one_device();
            world.connect(&one);
            world.settle();
            let stale = world.models.get_mut(&one).unwrap().frame(verb());
            let mut connection = world.models[&one].connection.unwrap();
            match state {
                InSession => {}
                NotConnected => world.disconnect(&one),
                Disabled => world.set_state(&one, DeviceState::Disabled),
                NoSession => {
                    connection = ConnectionId(900);
                    world.step(Input::Connected {
                        device: one.clone(),
                        connection,
                        enrolment: serial(1),
                    });
                }
                Reconnected => {
                    world.connect(&one);
                    connection = world.models[&one].connection.unwrap();
                }
            }
            let (before, upto) = (refusals(&world), world.store.devices[&one].status_upto);
            world.step(Input::Frame {
                device: one.clone(),
                connection,
                lane: Lane::Status,
                bytes: stale,
            });
            assert_eq!(refusals(&world) == before, listens, "{name} {state:?}");
            if !listens {
                assert_eq!(world.store.devices[&one].status_upto, upto, "{name} {state:?}");
            }
        }
    }
}

#[test]
fn a_newer_connection_replaces_the_older() {
    let (mut world, one) = one_device();
    world.connect(&one);
    let former = world.models[&one].connection.unwrap();
    world.connect(&one);
    assert_eq!(
        world.cuts,
        [(one.clone(), former, "replaced by a newer connection")]
    );
    // The end of the former one says nothing about the present one.
    world.step(Input::Disconnected {
        device: one.clone(),
        connection: former,
    });
    assert!(world.hub.device(&one).unwrap().connected);
    world.settle();
    assert_eq!(world.models[&one].session(), Some(SessionEpoch(2)));
}

#[test]
fn a_repeated_hello_is_answered_again_in_the_same_session() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    let model = world.models.get_mut(&one).unwrap();
    let connection = model.connection.unwrap();
    let hello = model.connect(connection, 77);
    world.send(&one, &[hello.clone(), hello]);
    assert_eq!(world.store.devices[&one].last_session, SessionEpoch(2));
    assert_eq!(world.wire.len(), 2);
    world.settle();
    assert_eq!(world.models[&one].session(), Some(SessionEpoch(2)));
}

#[test]
fn strangers_and_the_dismissed_are_cut() {
    let (mut world, one) = one_device();
    let mut connect = |device: &DeviceId, enrolment| {
        world.cuts.clear();
        world.step(Input::Connected {
            device: device.clone(),
            connection: ConnectionId(500),
            enrolment,
        });
        world.cuts.len()
    };
    assert_eq!(connect(&device("nobody"), serial(1)), 1);
    assert_eq!(connect(&one, serial(2)), 1);
    assert_eq!(connect(&one, serial(1)), 0);
    world.set_state(&one, DeviceState::Disabled);
    assert_eq!(world.cuts.last().unwrap().2, "disabled");
    world.connect(&one);
    assert_eq!(world.cuts.last().unwrap().2, "not an active enrolment");
}

#[test]
fn a_device_gets_only_blobs_that_a_present_assignment_of_its_own_names() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    let two = world.enrol("two", &[("site", "b")]);
    world.connect(&one);
    world.run("p", "tags.site = 'a'");
    let manifest = world.hub.deployment(&pod("p")).unwrap().record.manifest;
    assert!(world.hub.blob(&one, &manifest).is_some());
    assert_eq!(world.hub.blob(&two, &manifest), None);
    assert_eq!(world.hub.blob(&device("nobody"), &manifest), None);
    assert_eq!(world.hub.blob(&one, &Digest::of("other")), None);
    world
        .call(wanted("p", "tags.site = 'a'").image("app:2").put())
        .unwrap();
    assert_eq!(
        world.hub.blob(&one, &manifest),
        None,
        "no assignment names the former manifest"
    );
    let manifest = world.hub.deployment(&pod("p")).unwrap().record.manifest;
    world.set_tags(&one, &[("site", "b")]);
    assert_eq!(
        world.hub.blob(&one, &manifest),
        None,
        "the tombstone names another blob"
    );
}

#[test]
fn small_blobs_travel_along_and_large_ones_do_not() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    world.call(wanted("small", "*").put()).unwrap();
    let blobs = |world: &World| {
        let frame: DownFrame = frame::decode(&world.wire[0].3).unwrap();
        match frame.body {
            edge_protocol::v1::Down::Statement { blobs, .. } => blobs.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(blobs(&world), 1);
    world.settle();
    world
        .call(
            wanted("large", "*")
                .label("big", "x".repeat(frame::MAX_INLINE))
                .put(),
        )
        .unwrap();
    assert_eq!(blobs(&world), 0);
    world.settle();
    assert_eq!(world.running(&one), ["large", "small"]);
}

#[test]
fn a_large_set_comes_in_parts_with_an_end_mark() {
    let (mut world, one) = one_device();
    world.call(wanted("p", "*").put()).unwrap();
    // Putting as many one by one would only cost time.
    let mut store = world.store.clone();
    let items = &mut store.sets.get_mut(&one).unwrap().items;
    let item = items.get(&pod("p")).unwrap().clone();
    items.extend((1..2_100).map(|n| SetItem {
        uid: pod(&format!("p{n}")),
        ..item.clone()
    }));
    world.restart(store);
    world.connect(&one);
    assert_eq!(world.wire.len(), 3);
    world.deliver(0);
    world.deliver(0);
    assert!(world.running(&one).is_empty(), "acted on an incomplete snapshot");
    world.settle();
    assert_eq!(world.running(&one).len(), 2_100);
}

#[test]
fn a_new_link_class_is_told_at_once() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    world
        .call(Call::SetLink {
            device: one.clone(),
            link: edge_protocol::v1::LinkClass::Satellite,
        })
        .unwrap();
    world.settle();
    assert_eq!(world.models[&one].forms.last(), Some(&"same"));
    // And its deadline holds from now on.
    world.pass(1_349_000);
    assert!(world.hub.device(&one).unwrap().online);
    world.pass(2_000);
    assert!(!world.hub.device(&one).unwrap().online);
}

#[test]
fn no_frame_panics_or_changes_anything_unless_it_is_one() {
    let (mut world, one) = one_device();
    world.connect(&one);
    world.settle();
    let written = world.store.written.len();
    let connection = world.models[&one].connection.unwrap();
    for bytes in [&b""[..], b"{", b"{}", b"\x01\xff", b"{\"v\":2}", &[0; 3]] {
        for lane in [Lane::Status, Lane::Bulk, Lane::Desired] {
            world.step(Input::Frame {
                device: one.clone(),
                connection,
                lane,
                bytes: bytes.to_vec(),
            });
        }
    }
    assert_eq!(refusals(&world), 18);
    assert_eq!(world.store.written.len(), written);
    assert_eq!(world.call(enrol_call("one", &[])), Ok(()));
}
