//! What opens a stream, as documents and as signed orders.

use edge_protocol::sign::{self, Binding, Envelope, Refusal};
use edge_protocol::v1::{
    Down, DownFrame, LogPosition, LogQuery, LogSource, Operator, Stdio, StreamAnswer, StreamOpening,
    StreamOrder, StreamRefusal, StreamRequest, Ticket,
};
use edge_protocol::{DeviceId, EnrolmentSerial, Nonce, SessionEpoch};

use crate::fixture::{check, read, uid};
use crate::refusals::{binding, signer, trusted};

fn order(request: StreamRequest) -> StreamOrder {
    let Binding {
        hub,
        device,
        enrolment,
        nonce,
        ..
    } = binding();
    StreamOrder {
        v: 1,
        hub,
        device,
        enrolment,
        nonce,
        session: SessionEpoch(7),
        ticket: Ticket::from_bytes([5; 32]),
        operator: Operator {
            principal: "outrigger-kubelet".into(),
            user: Some("ada".into()),
        },
        request,
    }
}

fn exec() -> StreamRequest {
    StreamRequest::Exec {
        uid: uid(1),
        container: "main".into(),
        command: vec!["sh".into(), "-c".into(), "exit 3".into()],
        stdio: Stdio {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        },
    }
}

#[test]
fn orders() {
    check("stream-order-exec", &order(exec()));
    let attach = StreamRequest::Attach {
        uid: uid(1),
        container: "main".into(),
        stdio: Stdio {
            tty: true,
            ..Stdio::default()
        },
    };
    check("stream-order-attach", &order(attach));
    let forward = StreamRequest::PortForward {
        uid: uid(1),
        port: 8080,
    };
    check("stream-order-port-forward", &order(forward));
    let logs = StreamRequest::Logs {
        uid: uid(1),
        container: "main".into(),
        query: LogQuery {
            follow: true,
            tail_lines: Some(10),
            since_ms: Some(1_795_219_200_000),
            source: Some(LogSource::Stderr),
            after: Some(LogPosition {
                attempt: 2,
                file: 1_795_219_200_000_000_000,
                offset: 4_096,
            }),
            ..LogQuery::default()
        },
    };
    check("stream-order-logs", &order(logs));
    let logs = StreamRequest::Logs {
        uid: uid(1),
        container: "main".into(),
        query: LogQuery {
            follow: true,
            through_restarts: true,
            ..LogQuery::default()
        },
    };
    check("stream-order-logs-through-restarts", &order(logs));
}

#[test]
fn openings() {
    let opening = |answer| StreamOpening {
        v: 1,
        ticket: Ticket::from_bytes([5; 32]),
        answer,
    };
    check("stream-opening", &opening(StreamAnswer::Begun));
    let refused = StreamAnswer::Refused {
        why: StreamRefusal::NotRunning,
        message: "container main is waiting: CrashLoopBackOff".into(),
    };
    check("stream-opening-refused", &opening(refused));
}

#[test]
fn what_a_newer_peer_says_is_known_to_be_unknown() {
    let request: StreamRequest = serde_json::from_str(r#"{"kind":"teleport","to":"mars"}"#).unwrap();
    assert_eq!(request, StreamRequest::Unknown);
    let why: StreamRefusal = serde_json::from_str(r#""tired""#).unwrap();
    assert_eq!(why, StreamRefusal::Unknown);
}

#[test]
fn a_ticket_is_well_formed_and_not_shown() {
    for text in ["", "5", &"5".repeat(63), &"A".repeat(64), &"g".repeat(64)] {
        assert!(serde_json::from_value::<Ticket>(text.into()).is_err(), "{text}");
    }
    let shown = format!("{:?}", order(exec()));
    assert!(!shown.contains("0505"), "{shown}");
}

#[test]
fn an_order_is_the_same_in_every_release_and_travels_in_a_frame_of_its_own() {
    let frame = DownFrame {
        v: 1,
        body: Down::Stream {
            envelope: signer().seal_stream_order(&order(exec())),
        },
    };
    check("frame-stream", &frame);
}

/// The golden order, offered to a device whose binding differs.
fn opened_by(change: impl FnOnce(&mut Binding)) -> Result<StreamOrder, Refusal> {
    let frame: DownFrame = serde_json::from_str(&read("frame-stream")).unwrap();
    let Down::Stream { envelope } = frame.body else {
        panic!("it is a stream's order")
    };
    let mut binding = binding();
    change(&mut binding);
    trusted().open_stream_order(&envelope, &binding)
}

#[test]
fn an_order_is_for_one_session_of_one_device() {
    assert_eq!(opened_by(|_| {}), Ok(order(exec())));
    // However many statements came before.
    assert_eq!(opened_by(|b| b.last_seq = 900), Ok(order(exec())));
    let other = |id: &str| DeviceId::new(id).unwrap();
    assert_eq!(
        opened_by(|b| b.device = other("press-8")),
        Err(Refusal::OtherDevice(other("press-7")))
    );
    assert_eq!(
        opened_by(|b| b.enrolment = EnrolmentSerial::new("ffff").unwrap()),
        Err(Refusal::OtherEnrolment(binding().enrolment))
    );
    assert_eq!(
        opened_by(|b| b.nonce = Nonce::from_bytes([8; 16])),
        Err(Refusal::OtherSession)
    );
    assert_eq!(
        opened_by(|b| b.session = Some(SessionEpoch(8))),
        Err(Refusal::OtherSession)
    );
    // Before the hub has said which session it is.
    assert_eq!(opened_by(|b| b.session = None), Err(Refusal::OtherSession));
}

#[test]
fn an_order_is_no_statement_and_a_statement_no_order() {
    let order = signer().seal_stream_order(&order(exec()));
    assert_eq!(
        trusted().open_statement(&order, &binding()),
        Err(Refusal::WrongType(sign::STREAM_TYPE.into()))
    );
    let statement: Envelope = serde_json::from_str(&read("envelope")).unwrap();
    assert_eq!(
        trusted().open_stream_order(&statement, &binding()),
        Err(Refusal::WrongType(sign::STATEMENT_TYPE.into()))
    );
}
