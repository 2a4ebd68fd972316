//! Orders of streams, and tickets: each for one device, one enrolment and one session, once.

use edge_protocol::v1::ability::STREAMS;
use edge_protocol::v1::stream::TICKET_MS;
use edge_protocol::v1::{Facts, Hello, Operator, StreamRequest, Ticket, Up};
use edge_protocol::{DeviceId, EnrolmentSerial, Nonce};
use iot_hub_core::{
    DeviceState, HubConfig, Input, Limits, Note, PresentationId, StreamAsk, StreamEnd, StreamId,
};

use crate::support::World;
use crate::support::build::{config, enrol_again, enrolment, pod, serial};

/// These devices, connected, with streams; and what was said so far is delivered.
fn world<const N: usize>(names: [&str; N], limits: Limits) -> (World, [DeviceId; N]) {
    let mut world = World::with(HubConfig { limits, ..config() });
    let ids = names.map(|name| world.enrol(name, &[]));
    for id in &ids {
        let model = world.models.get_mut(id).unwrap();
        model.features = vec![STREAMS.to_owned()];
        world.connect(id);
    }
    world.settle();
    (world, ids)
}

fn ticket(number: u8) -> Ticket {
    Ticket::from_bytes([number; 32])
}

impl World {
    /// Asks for the stream of this number; its ticket has the same.
    fn ask(&mut self, id: &DeviceId, number: u8) {
        let ask = StreamAsk {
            device: id.clone(),
            operator: Operator {
                principal: "kubelet".to_owned(),
                user: Some("ada".to_owned()),
            },
            request: StreamRequest::PortForward {
                uid: pod("p"),
                port: 80,
            },
            ticket: ticket(number),
        };
        let stream = StreamId(number.into());
        self.step(Input::StreamAsked {
            stream,
            ask: Box::new(ask),
        });
    }

    /// A device comes with a ticket; the stream that it is given.
    fn present_as(&mut self, id: &DeviceId, enrolment: EnrolmentSerial, number: u8) -> Option<StreamId> {
        let presentation = PresentationId(self.given.len() as u64);
        self.step(Input::TicketPresented {
            presentation,
            device: id.clone(),
            enrolment,
            ticket: ticket(number),
        });
        self.given[&presentation]
    }

    fn present(&mut self, id: &DeviceId, number: u8) -> Option<StreamId> {
        self.present_as(id, serial(1), number)
    }

    fn ends(&mut self) -> Vec<(u64, StreamEnd)> {
        let ended = std::mem::take(&mut self.ended);
        ended.into_iter().map(|(stream, why)| (stream.0, why)).collect()
    }

    fn refused_tickets(&self) -> Vec<&'static str> {
        let why = |note: &Note| match note {
            Note::TicketRefused { why, .. } => Some(*why),
            _ => None,
        };
        self.notes.iter().filter_map(why).collect()
    }
}

#[test]
fn an_order_reaches_its_device_and_its_ticket_is_good_once() {
    let (mut world, [one]) = world(["one"], Limits::default());
    world.ask(&one, 1);
    world.settle();
    let order = &world.models[&one].orders[0];
    assert_eq!(order.ticket, ticket(1));
    assert_eq!(order.operator.user.as_deref(), Some("ada"));
    assert_eq!(world.audits, 1, "who asked is on record");
    assert_eq!(world.present(&one, 1), Some(StreamId(1)));
    assert_eq!(world.present(&one, 1), None, "spent");
    assert_eq!(world.audits, 2, "a ticket that is no good is on record");
    world.pass(2 * TICKET_MS);
    assert_eq!(world.ends(), [], "an open stream does not expire");
    world.step(Input::StreamOver(StreamId(1)));
    assert_eq!(world.hub.streams(), 0);
}

#[test]
fn a_stream_is_given_once_its_audit_is_on_disk() {
    let (mut world, [one]) = world(["one"], Limits::default());
    world.commit_at_once = false;
    world.ask(&one, 1);
    assert_eq!(world.wire.len(), 1, "the order waits for nothing");
    let presentation = PresentationId(0);
    world.step(Input::TicketPresented {
        presentation,
        device: one,
        enrolment: serial(1),
        ticket: ticket(1),
    });
    assert!(world.given.is_empty());
    world.commit_one();
    assert_eq!(world.given[&presentation], Some(StreamId(1)));
}

#[test]
fn a_ticket_is_good_for_its_own_device_and_enrolment_only() {
    let (mut world, [one, two]) = world(["one", "two"], Limits::default());
    world.ask(&one, 1);
    assert_eq!(world.present(&two, 1), None);
    assert_eq!(world.present_as(&one, serial(2), 1), None);
    assert_eq!(world.present(&one, 9), None);
    let reasons = [
        "of another device",
        "of another enrolment",
        "unknown, spent or expired",
    ];
    assert_eq!(world.refused_tickets(), reasons);
    assert_eq!(world.present(&one, 1), Some(StreamId(1)), "it was not used up");
}

#[test]
fn a_ticket_expires() {
    let (mut world, [one]) = world(["one"], Limits::default());
    world.ask(&one, 1);
    world.pass(TICKET_MS - 1);
    assert_eq!(world.ends(), []);
    world.ask(&one, 2);
    world.pass(1);
    let unanswered = StreamEnd::Unanswered {
        device: one.clone(),
        seconds: 30,
    };
    assert_eq!(world.ends(), [(1, unanswered)]);
    assert_eq!(world.present(&one, 1), None);
    assert_eq!(world.present(&one, 2), Some(StreamId(2)));
    assert_eq!(world.hub.streams(), 1);
}

#[test]
fn a_late_wake_does_not_prolong_a_ticket() {
    let (mut world, [one]) = world(["one"], Limits::default());
    world.ask(&one, 1);
    world.now.mono_ms += TICKET_MS;
    assert_eq!(world.present(&one, 1), None);
    assert_eq!(world.hub.streams(), 0);
}

#[test]
fn all_streams_end_with_the_session() {
    let (mut world, [one]) = world(["one"], Limits::default());
    let both = |why: StreamEnd| [(1, why.clone()), (2, why)];
    let begin = |world: &mut World| {
        world.ask(&one, 1);
        world.ask(&one, 2);
        assert_eq!(world.present(&one, 2), Some(StreamId(2)));
    };
    begin(&mut world);
    world.disconnect(&one);
    assert_eq!(world.ends(), both(StreamEnd::SessionEnded(one.clone())));
    world.connect(&one);
    world.settle();
    assert_eq!(world.present(&one, 1), None, "of the session before");

    begin(&mut world);
    world.connect(&one);
    world.settle();
    assert_eq!(world.ends(), both(StreamEnd::SessionEnded(one.clone())));

    begin(&mut world);
    let hello = Hello {
        nonce: Nonce::new("b".repeat(32)).unwrap(),
        agent_version: "1.0.0".to_owned(),
        features: vec![STREAMS.to_owned()],
        held: None,
        facts: Facts::default(),
    };
    world.say(&one, Up::Hello(Box::new(hello)));
    assert_eq!(world.ends(), both(StreamEnd::SessionEnded(one.clone())));
    world.connect(&one);
    world.settle();

    begin(&mut world);
    world.tunnels_cut.clear();
    world.set_state(&one, DeviceState::Disabled);
    assert_eq!(world.ends(), both(StreamEnd::NotAdmitted(one.clone())));
    assert_eq!(world.tunnels_cut, std::slice::from_ref(&one));
    assert_eq!(world.hub.streams(), 0);
    world.ask(&one, 3);
    assert_eq!(world.ends(), [(3, StreamEnd::NotConnected(one))]);
}

#[test]
fn another_enrolment_ends_streams_and_tunnel() {
    let (mut world, [one]) = world(["one"], Limits::default());
    world.ask(&one, 1);
    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    assert_eq!(world.ends(), [(1, StreamEnd::SessionEnded(one.clone()))]);
    assert_eq!(world.tunnels_cut, [one]);
}

#[test]
fn who_cannot_is_not_asked() {
    let (mut world, [one]) = world(["one"], Limits::default());
    let without = world.enrol("without", &[]);
    let away = world.enrol("away", &[]);
    let gone = world.enrol("gone", &[]);
    world.connect(&without);
    world.settle();
    world.set_state(&gone, DeviceState::Decommissioned);
    let nobody = crate::support::build::device("nobody");
    for (number, id) in [(1, &without), (2, &away), (3, &gone), (4, &nobody)] {
        world.ask(id, number);
    }
    let expected = [
        (1, StreamEnd::NoStreams(without)),
        (2, StreamEnd::NotConnected(away)),
        (3, StreamEnd::NoSuchDevice(gone)),
        (4, StreamEnd::NoSuchDevice(nobody)),
    ];
    assert_eq!(world.ends(), expected);
    assert!(world.wire.is_empty());
    assert_eq!(world.audits, 0, "nothing was asked of a device");

    // It is told its session, and may not have heard it yet.
    world.disconnect(&one);
    world.connect(&one);
    world.ask(&one, 5);
    assert_eq!(world.ends(), [(5, StreamEnd::NotConnected(one.clone()))]);
    world.settle();
    world.say(&one, Up::Heartbeat);
    world.ask(&one, 6);
    assert_eq!(world.ends(), []);
}

#[test]
fn streams_are_bounded_per_device_and_in_all() {
    let limits = Limits {
        device_streams: 2,
        streams: 3,
        ..Limits::default()
    };
    let (mut world, [one, two]) = world(["one", "two"], limits);
    for (number, id) in [(1, &one), (2, &one), (3, &one), (4, &two), (5, &two)] {
        world.ask(id, number);
    }
    let what = |what: &str, limit| StreamEnd::TooMany {
        what: what.to_owned(),
        limit,
    };
    assert_eq!(
        world.ends(),
        [(3, what("device one", 2)), (5, what("the hub", 3))]
    );
    world.step(Input::StreamOver(StreamId(1)));
    world.ask(&two, 6);
    assert_eq!(world.ends(), []);
    assert_eq!(world.hub.streams(), 3);
}

#[test]
fn a_device_that_guesses_tickets_fills_neither_log_nor_audit() {
    let (mut world, [one]) = world(["one"], Limits::default());
    for _ in 0..1_000 {
        assert_eq!(world.present(&one, 9), None);
    }
    assert_eq!(world.refused_tickets().len(), 20);
    assert_eq!(world.audits, 20);
}

#[test]
fn streams_that_are_over_leave_nothing_behind() {
    let (mut world, [one]) = world(["one"], Limits::default());
    for number in 0..=u8::MAX {
        world.ask(&one, number);
        if number % 3 > 0 {
            assert!(world.present(&one, number).is_some());
        }
        world.step(Input::StreamOver(StreamId(number.into())));
        world.wire.clear();
    }
    assert_eq!(world.hub.streams(), 0);
    world.pass_with(&[&one], 2 * TICKET_MS);
    assert_eq!(world.ends(), []);
}
