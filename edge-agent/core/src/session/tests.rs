//! The session's verbs in each of its states.

use edge_protocol::v1::StatementBody;
use edge_protocol::{Digest, Incarnation, SetGeneration};

use super::*;

fn parties() -> Parties {
    Parties {
        hub: serde_json::from_str("\"00000000-0000-0000-0000-000000000001\"").unwrap(),
        device: DeviceId::new("d").unwrap(),
        enrolment: EnrolmentSerial::new("ab").unwrap(),
    }
}

fn statement(seq: u64) -> Statement {
    let Parties {
        hub,
        device,
        enrolment,
    } = parties();
    Statement {
        v: 1,
        hub,
        incarnation: Incarnation(1),
        device,
        enrolment,
        nonce: Nonce::from_bytes([1; 16]),
        session: SessionEpoch(4),
        seq,
        request: None,
        issued_ms: 0,
        link: LinkClass::Lan,
        generation: SetGeneration {
            incarnation: Incarnation(1),
            n: 1,
        },
        set_digest: Digest::of(""),
        status_upto: 0,
        event_seq: 0,
        body: StatementBody::Same,
    }
}

#[test]
fn what_is_not_answered_takes_no_heartbeats_place() {
    let mut session = up();
    session.sent(30_000, false);
    assert_eq!(session.wake_at(), Some(31_000));
    check(session, 31_000, Some(Due::Heartbeat));

    let mut session = up();
    session.sent(30_000, true);
    check(session, 31_000, None);
}

fn down() -> Session {
    Session::new(parties(), LinkClass::Lan)
}

fn unsaid() -> Session {
    let mut session = down();
    session.link_up([1; 16]);
    session
}

fn asked() -> Session {
    let mut session = unsaid();
    session.sent(1_000, true);
    session.ask(1_000);
    session
}

fn up() -> Session {
    let mut session = asked();
    assert!(session.accept(&statement(1), 2_000));
    session
}

#[track_caller]
fn check(mut session: Session, at_ms: u64, expect: Option<Due>) {
    assert_eq!(session.due(at_ms), expect);
}

#[test]
fn what_is_due() {
    for at in [0, 11_000, 1_000_000] {
        check(down(), at, None);
        check(unsaid(), at, None);
    }
    check(asked(), 10_999, None);
    check(
        asked(),
        11_000,
        Some(Due::Reconnect("the hello was not answered")),
    );
    check(up(), 30_999, None);
    check(up(), 31_000, Some(Due::Heartbeat));
    check(up(), 47_000, Some(Due::Reconnect("the hub is silent")));
    let mut waits = up();
    waits.await_resync(3_000);
    waits.await_resync(20_000);
    check(
        waits,
        33_000,
        Some(Due::Reconnect("the snapshot that was asked for did not come")),
    );
    let mut served = up();
    served.await_resync(3_000);
    served.resynced();
    check(served, 33_000, Some(Due::Heartbeat));
}

/// No PINGREQ is sent beside heartbeats: a connection that declared 30 s is cut at 45 s of silence, whatever the hub assigned since.
#[test]
fn an_assigned_class_slows_heartbeats_from_the_next_connection_on_only() {
    let mut session = up();
    assert!(session.assign(LinkClass::Cellular));
    assert_eq!(session.wake_at(), Some(31_000));
    check(session, 31_000, Some(Due::Heartbeat));

    let mut session = Session::new(parties(), LinkClass::Cellular);
    session.link_up([1; 16]);
    session.ask(1_000);
    session.sent(1_000, true);
    assert!(session.accept(&statement(1), 2_000));
    assert_eq!(session.wake_at(), Some(241_000));
    assert!(session.assign(LinkClass::Lan));
    check(session, 31_000, Some(Due::Heartbeat));
}

#[test]
fn what_a_statement_must_be_bound_to() {
    assert_eq!(down().binding(), None);
    assert_eq!(unsaid().binding(), None);
    assert_eq!(
        asked().binding().map(|b| (b.session, b.last_seq)),
        Some((None, 0))
    );
    assert_eq!(
        up().binding().map(|b| (b.session, b.last_seq)),
        Some((Some(SessionEpoch(4)), 1))
    );
    let mut further = up();
    assert!(!further.accept(&statement(2), 9_000), "the session began before");
    assert_eq!(further.binding().map(|b| b.last_seq), Some(2));
    further.link_up([2; 16]);
    assert_eq!((further.epoch(), further.seq()), (None, 0));
}

#[test]
fn a_new_boot_leaves_no_deadline_in_the_past() {
    let mut session = up();
    session.rebase(5);
    check(session, 6, None);
    let mut session = asked();
    session.rebase(5);
    check(session, 6, None);
}
