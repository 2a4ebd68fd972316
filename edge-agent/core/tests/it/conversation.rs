//! What the hub may and may not say.

use edge_agent_core::Input;
use edge_protocol::frame;
use edge_protocol::sign::Envelope;
use edge_protocol::v1::{
    AckStage, Down, DownFrame, Facts, HeldImage, LinkClass, Reason, ReportAck, Statement, StatementBody, Up,
    UpFrame,
};
use edge_protocol::{DeviceId, EnrolmentSerial, HubId, Incarnation, Lane, Nonce, SessionEpoch};

use crate::hub::{Hub, manifest, uid};
use crate::world::World;

fn running() -> World {
    let mut world = World::new();
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    world.settle();
    world.push();
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 1);
    world
}

/// Every way in which a signed order may be for someone else. Nothing of it is acted on, and nothing is said to the hub about it.
#[test]
fn what_is_not_for_this_session_is_only_reported() {
    type Spoil = fn(&mut Statement);
    let spoilt: [(&str, Spoil); 8] = [
        ("other device", |s| s.device = DeviceId::new("press-8").unwrap()),
        ("other session", |s| s.session = SessionEpoch(99)),
        ("other hello", |s| s.nonce = Nonce::from_bytes([9; 16])),
        ("other enrolment", |s| {
            s.enrolment = EnrolmentSerial::new("ab13").unwrap();
        }),
        ("other hub", |s| s.hub = HubId(uuid::Uuid::from_u128(2))),
        ("replay", |s| s.seq = 1),
        ("newer protocol", |s| s.v = 2),
        ("mixed incarnations", |s| s.incarnation = Incarnation(9)),
    ];
    for (what, spoil) in spoilt {
        check_negative(what, |hub, mut statement| {
            spoil(&mut statement);
            hub.seal(&statement, vec![])
        });
    }
    check_negative("stripped signature", |hub, statement| {
        tamper(hub, &statement, |e| e.signatures.clear())
    });
    check_negative("damaged signature", |hub, statement| {
        tamper(hub, &statement, |e| e.signatures[0].sig = "AAAA".repeat(22))
    });
    check_negative("other payload", |hub, statement| {
        tamper(hub, &statement, |e| e.payload = "e30=".to_owned())
    });
    check_negative("no frame", |_, _| b"{}".to_vec());
    check_negative("nothing", |_, _| vec![]);
}

fn tamper(hub: &Hub, statement: &Statement, with: impl Fn(&mut Envelope)) -> Vec<u8> {
    let DownFrame {
        body: Down::Statement { mut envelope, blobs },
        v,
    } = frame::decode(&hub.seal(statement, vec![])).unwrap()
    else {
        panic!("a sealed statement is one");
    };
    with(&mut envelope);
    frame::encode(&DownFrame {
        v,
        body: Down::Statement { envelope, blobs },
    })
    .unwrap()
}

#[track_caller]
fn check_negative(what: &str, forge: impl Fn(&Hub, Statement) -> Vec<u8>) {
    let mut world = running();
    let disk = world.disk.workloads.clone();
    world.hub.forget(&uid("one"));
    let statement = world.hub.statement(StatementBody::Snapshot {
        part: 0,
        of: 1,
        items: vec![],
    });
    let bytes = forge(&world.hub, statement);
    world.notes.clear();
    world.give(Input::Frame(Lane::Desired, bytes));
    assert!(
        world.commits.is_empty() && world.steps.is_empty() && world.to_hub.is_empty(),
        "{what}"
    );
    assert!(
        world.notes.iter().all(|note| note.kind() == "frame_refused") && world.notes.len() == 1,
        "{what}"
    );
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 1, "{what}");
    assert_eq!(world.disk.workloads, disk, "{what}");
}

#[test]
fn an_older_or_contradictory_set_is_acknowledged_as_such_and_not_acted_on() {
    for (n, stage) in [(0, AckStage::Stale), (1, AckStage::Quarantined)] {
        let mut world = running();
        world.hub.forget(&uid("one"));
        world.hub.n = n;
        world.push();
        world.settle();
        assert_eq!(acks(&world).last(), Some(&stage));
        assert_eq!(world.runtime.running(&uid("one")), 1);
    }
}

fn acks(world: &World) -> Vec<AckStage> {
    let ack = |body: &Up| match body {
        Up::Ack(ack) => Some(ack.stage),
        _ => None,
    };
    world
        .hub
        .heard
        .iter()
        .filter_map(|frame| ack(&frame.body))
        .collect()
}

#[test]
fn persisted_is_said_after_the_disk_has_it_and_nothing_starts_before() {
    let mut world = World::new();
    world.look();
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    while world.talk() {}
    assert_eq!(acks(&world), [AckStage::Received]);
    assert!(world.steps.is_empty());
    world.commit();
    while world.talk() {}
    assert_eq!(acks(&world), [AckStage::Received, AckStage::Persisted]);
    assert!(!world.steps.is_empty());
}

#[test]
fn a_delta_needs_its_exact_base() {
    let mut world = running();
    let (base, base_digest) = (world.hub.generation(), world.hub.set.digest());
    world.hub.run(&manifest("two", &["a:1"]));
    let put = vec![world.hub.set.get(&uid("two")).unwrap().clone()];
    let blobs = world.hub.blobs_of(&put);
    let body = StatementBody::Delta {
        base,
        base_digest,
        put: put.clone(),
        forget: vec![],
    };
    let statement = world.hub.statement(body);
    world.give(Input::Frame(
        Lane::Desired,
        world.hub.seal(&statement, blobs.clone()),
    ));
    world.settle();
    assert_eq!(world.runtime.running(&uid("two")), 1);

    world.hub.n += 1;
    let body = StatementBody::Delta {
        base,
        base_digest,
        put,
        forget: vec![],
    };
    let statement = world.hub.statement(body);
    world.give(Input::Frame(Lane::Desired, world.hub.seal(&statement, blobs)));
    world.settle();
    assert_eq!(acks(&world).last(), Some(&AckStage::BaseMissing));
    // A hub that does not send the snapshot is called again.
    world.pass(29_000);
    assert!(world.reconnects.is_empty());
    world.pass(1_001);
    assert_eq!(world.reconnects.len(), 1);
}

#[test]
fn a_device_that_trusts_nothing_takes_only_a_whole_snapshot() {
    let mut world = World::new();
    world.link_up();
    world.talk();
    world.to_device.clear();
    world.hub.run(&manifest("one", &["a:1"]));
    let put: Vec<_> = world.hub.set.iter().cloned().collect();
    let base_digest = edge_protocol::DesiredSet::default().digest();
    let base = edge_protocol::SetGeneration {
        incarnation: Incarnation(1),
        n: 0,
    };
    for body in [
        StatementBody::Same,
        StatementBody::Delta {
            base,
            base_digest,
            put,
            forget: vec![],
        },
    ] {
        let statement = world.hub.statement(body);
        world.give(Input::Frame(Lane::Desired, world.hub.seal(&statement, vec![])));
        world.settle();
        assert_eq!(acks(&world).last(), Some(&AckStage::BaseMissing));
    }
    assert!(world.runtime.containers.is_empty());
}

#[test]
fn a_restored_hub_cannot_take_away_what_it_forgot() {
    let mut world = running();
    world.hub.run(&manifest("two", &["a:1"]));
    world.hub.run(&manifest("two", &["a:2"]));
    world.push();
    world.settle();
    // The hub comes back from a backup in which "one" is unknown and "two" is older; "three" is new.
    world.hub.incarnation = 2;
    world.hub.n = 1;
    world.hub.forget(&uid("one"));
    world.hub.forget(&uid("two"));
    world.hub.run(&manifest("two", &["a:1"]));
    world.hub.run(&manifest("three", &["a:1"]));
    world.crash();
    world.link_up();
    world.settle();
    for (name, quarantined) in [("one", true), ("two", true), ("three", false)] {
        assert_eq!(world.runtime.running(&uid(name)), 1, "{name}");
        assert_eq!(
            world.status(name).reason == Some(Reason::Quarantined),
            quarantined,
            "{name}"
        );
    }
    assert_eq!(world.status("two").revision.0, 2);
    assert_eq!(
        acks(&world)[acks(&world).len() - 2..],
        [AckStage::Quarantined, AckStage::Persisted]
    );
    assert!(
        world
            .runtime
            .stopped
            .iter()
            .all(|(stopped, _)| *stopped != uid("one"))
    );
    // It stays so over a restart, until the hub says something newer.
    world.crash();
    world.link_up();
    world.settle();
    assert_eq!(world.status("one").reason, Some(Reason::Quarantined));
    world.hub.run(&manifest("two", &["a:1"]));
    world.hub.stop(&uid("two"), None);
    world.push();
    world.settle();
    assert_eq!(
        (
            world.runtime.running(&uid("one")),
            world.runtime.running(&uid("two"))
        ),
        (1, 0)
    );
}

#[test]
fn a_lost_store_keeps_everything() {
    let mut world = running();
    world.disk = crate::world::Disk::default();
    world.crash();
    world.settle();
    world.pass(60_000);
    assert_eq!(world.runtime.running(&uid("one")), 1);
    world.link_up();
    world.settle();
    assert_eq!(world.runtime.started.len(), 1, "adopted, not restarted");
    assert_eq!(world.status("one").rung, edge_protocol::v1::Rung::Healthy);
}

#[test]
fn the_watchdog_calls_again() {
    let mut world = World::new();
    world.linked = true;
    world.give(Input::LinkUp { nonce: [1; 16] });
    world.to_hub.clear();
    world.pass(9_999);
    assert!(world.reconnects.is_empty());
    world.pass(1);
    assert_eq!(world.reconnects, ["the hello was not answered"]);

    world.link_up();
    world.settle();
    // An answered heartbeat keeps a session for ever.
    world.pass(3_600_000);
    assert_eq!(world.reconnects.len(), 1);
    let beats = world
        .hub
        .heard
        .iter()
        .filter(|frame| frame.body == Up::Heartbeat)
        .count();
    assert_eq!(beats, 120);
    for _ in 0..46 {
        world.to_hub.clear();
        world.now.mono_ms += 1_000;
        world.give(Input::Wake);
    }
    assert_eq!(
        world.reconnects.last().map(String::as_str),
        Some("the hub is silent")
    );
}

/// What frames of their own told of the device, and how often it said hello.
fn told(world: &World) -> (Vec<Facts>, usize) {
    let heard = world.hub.heard.iter();
    let facts = heard.filter_map(|frame| match &frame.body {
        Up::Facts { facts } => Some((**facts).clone()),
        _ => None,
    });
    let hellos = world
        .hub
        .heard
        .iter()
        .filter(|frame| matches!(frame.body, Up::Hello(_)));
    (facts.collect(), hellos.count())
}

fn measure(world: &mut World, address: &str) {
    world.facts.addresses = vec![address.to_owned()];
    world.give(Input::Facts(Box::new(world.facts.clone())));
    world.settle();
}

#[test]
fn facts_that_change_are_told_within_the_session() {
    let mut world = running();
    world.give(Input::Facts(Box::new(world.facts.clone())));
    world.settle();
    assert_eq!(told(&world), (vec![], 1), "nothing new");
    measure(&mut world, "10.0.0.1");
    let first = world.facts.clone();
    assert_eq!(told(&world), (vec![first.clone()], 1), "at once");
    // What flutters is told once per keep-alive, as it is then.
    measure(&mut world, "10.0.0.2");
    measure(&mut world, "10.0.0.3");
    world.pass(29_000);
    assert_eq!(told(&world).0.len(), 1);
    world.pass(1_000);
    assert_eq!(told(&world), (vec![first, world.facts.clone()], 1));
    world.pass(300_000);
    assert_eq!(told(&world).0.len(), 2);
    assert!(world.reconnects.is_empty());
}

#[test]
fn facts_that_a_hub_does_not_acknowledge_are_told_by_another_hello() {
    let mut world = running();
    world.hub.is_old = true;
    measure(&mut world, "10.0.0.1");
    world.pass(29_999);
    assert!(world.reconnects.is_empty());
    world.pass(1);
    assert_eq!(
        world.reconnects,
        ["the facts of the device were not acknowledged"]
    );
    world.link_up();
    world.settle();
    let hello = world.hub.heard.iter().rev().find_map(|frame| match &frame.body {
        Up::Hello(hello) => Some(hello.facts.clone()),
        _ => None,
    });
    assert_eq!(hello, Some(world.facts.clone()));
    world.pass(300_000);
    assert_eq!(world.reconnects.len(), 1, "the hello told all");
}

fn pull(world: &mut World, name: &str) {
    let names = vec![name.to_owned()];
    world.facts.images = vec![HeldImage { names, size_bytes: 7 }];
    world.give(Input::Facts(Box::new(world.facts.clone())));
    world.settle();
}

fn hellos_images(world: &World) -> usize {
    let images = |frame: &UpFrame| match &frame.body {
        Up::Hello(hello) => hello.facts.images.len(),
        _ => 0,
    };
    world.hub.heard.iter().map(images).sum()
}

#[test]
fn images_are_told_once_beside_the_hello() {
    let mut world = running();
    pull(&mut world, "a:1");
    assert_eq!(told(&world), (vec![world.facts.clone()], 1));
    world.link_down();
    world.link_up();
    world.settle();
    world.pass(300_000);
    assert_eq!(told(&world).0.len(), 1, "the hub keeps them");
    pull(&mut world, "a:2");
    assert_eq!(told(&world).0.last(), Some(&world.facts));
    assert_eq!((told(&world).0.len(), hellos_images(&world)), (2, 0));
}

#[test]
fn a_link_that_counts_bytes_carries_no_images() {
    let mut world = running();
    world.hub.link = LinkClass::Cellular;
    world.push();
    world.settle();
    pull(&mut world, "a:1");
    world.pass(600_000);
    assert_eq!((told(&world), hellos_images(&world)), ((vec![], 1), 0));
    measure(&mut world, "10.0.0.1");
    assert!(told(&world).0[0].images.is_empty());
}

#[test]
fn images_that_a_hub_does_not_acknowledge_cost_no_session() {
    let mut world = running();
    world.hub.is_old = true;
    pull(&mut world, "a:1");
    world.pass(300_000);
    assert!(world.reconnects.is_empty());
    assert_eq!(told(&world).0.len(), 1);
    measure(&mut world, "10.0.0.1");
    world.pass(30_000);
    assert_eq!(world.reconnects.len(), 1, "for what is worth one");
}

#[test]
fn the_link_class_is_the_hubs_and_is_kept() {
    assert_eq!(World::new().keep_alive, 240, "as assigned at enrolment");
    let mut world = running();
    world.hub.link = LinkClass::Satellite;
    world.push();
    world.settle();
    assert_eq!(world.keep_alive, 900);
    world.crash();
    assert_eq!(world.keep_alive, 900);
}

#[test]
fn an_acknowledgement_of_another_session_counts_for_nothing() {
    let mut world = running();
    world.link_down();
    world.link_up();
    while world.talk() {
        if let Some(frame) = world.hub.heard.last()
            && matches!(frame.body, Up::Status(_))
        {
            break;
        }
    }
    world.to_device.clear();
    let nonce = world.hub.nonce.clone().expect("a hello was heard");
    // Of an earlier session of this device; and of another device whose session has the same number.
    for (nonce, session) in [
        (nonce, SessionEpoch(1)),
        (Nonce::from_bytes([0xee; 16]), SessionEpoch(world.hub.session)),
    ] {
        let ack = ReportAck {
            nonce,
            session,
            status_upto: 1_000,
            event_seq: 1_000,
            facts_seq: None,
        };
        let bytes = frame::encode(&DownFrame {
            v: 1,
            body: Down::Ack(ack),
        })
        .unwrap();
        world.notes.clear();
        world.give(Input::Frame(Lane::Command, bytes));
        assert_eq!(world.notes[0].kind(), "frame_refused");
    }
    let reports = |world: &World| {
        world
            .hub
            .heard
            .iter()
            .filter(|f| matches!(f.body, Up::Status(_)))
            .count()
    };
    let before = reports(&world);
    world.pass(11_000);
    assert!(
        reports(&world) > before,
        "the unacknowledged report is sent again"
    );
}

#[test]
fn a_set_beyond_the_bounds_is_refused() {
    let mut world = running();
    let statement = world.hub.statement(StatementBody::Snapshot {
        part: 0,
        of: 1_000_000,
        items: vec![],
    });
    world.hub.n += 1;
    let statement = Statement {
        generation: world.hub.generation(),
        ..statement
    };
    world.notes.clear();
    world.give(Input::Frame(Lane::Desired, world.hub.seal(&statement, vec![])));
    assert_eq!(world.notes[0].kind(), "frame_refused");
}

#[test]
fn a_stop_of_the_agent_says_goodbye_and_touches_nothing() {
    let mut world = running();
    world.hub.run(&manifest("two", &["a:1"]));
    world.push();
    while world.talk() {}
    world.give(Input::Stop);
    while world.commit() || world.talk() {}
    assert_eq!(world.hub.heard.last().map(|frame| &frame.body), Some(&Up::Bye));
    assert!(world.steps.is_empty());
    assert_eq!(world.runtime.running(&uid("one")), 1);
    world.crash();
    world.settle();
    assert_eq!(
        world.runtime.running(&uid("two")),
        1,
        "what was on disk is acted on by the next process"
    );
}
