//! Frames of newer peers and of none.

use edge_protocol::frame::{self, FrameError};
use edge_protocol::v1::{Down, DownFrame, Up, UpFrame};

use crate::fixture::read;

#[test]
fn every_golden_frame_survives_the_wire() {
    for name in [
        "up-hello",
        "up-ack",
        "up-status",
        "up-events",
        "up-heartbeat",
        "up-bye",
    ] {
        let value: UpFrame = serde_json::from_str(&read(name)).unwrap();
        assert_eq!(
            frame::decode::<UpFrame>(&frame::encode(&value).unwrap()).unwrap(),
            value,
            "{name}"
        );
    }
}

#[test]
fn unknown_fields_are_ignored_and_unknown_kinds_are_told_apart() {
    let newer = read("up-heartbeat").replace("\"v\": 1,", "\"v\": 1, \"mood\": \"sunny\",");
    assert_eq!(
        serde_json::from_str::<UpFrame>(&newer).unwrap().body,
        Up::Heartbeat
    );
    let newer = read("up-heartbeat").replace("heartbeat", "telepathy");
    assert_eq!(serde_json::from_str::<UpFrame>(&newer).unwrap().body, Up::Unknown);
    let newer: DownFrame =
        serde_json::from_str(r#"{"v": 1, "body": {"kind": "telepathy", "x": 1}}"#).unwrap();
    assert_eq!(newer.body, Down::Unknown);
}

#[test]
fn bytes_that_are_no_frame_say_why() {
    assert!(matches!(frame::decode::<UpFrame>(b""), Err(FrameError::Empty)));
    assert!(matches!(
        frame::decode::<UpFrame>(b"\x07abc"),
        Err(FrameError::UnknownEncoding(7))
    ));
    assert!(matches!(
        frame::decode::<UpFrame>(b"{}"),
        Err(FrameError::Malformed(_))
    ));
    assert!(matches!(
        frame::decode::<UpFrame>(&[1, 2, 3]),
        Err(FrameError::Damaged(_))
    ));
    assert!(matches!(
        frame::decode::<UpFrame>(&vec![0; frame::MAX_WIRE + 1]),
        Err(FrameError::TooLarge(_))
    ));
}
