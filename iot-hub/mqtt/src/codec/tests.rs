//! The codec's limits, flags and robustness against any bytes.

use proptest::prelude::*;

use super::*;

const MAX: usize = 4096;

fn check(bytes: &[u8], expect: &Result<Option<Incoming>, Violation>) {
    let mut buffer = BytesMut::from(bytes);
    assert_eq!(&decode(&mut buffer, MAX), expect, "{bytes:02x?}");
}

fn publish(topic: &str, payload: &str, qos: QoS, pkid: u16) -> Incoming {
    Incoming::Publish {
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos,
        retain: false,
        pkid,
    }
}

#[test]
fn packets_of_clients() {
    check(b"", &Ok(None));
    check(&[0xC0], &Ok(None));
    check(&[0xC0, 0], &Ok(Some(Incoming::PingReq)));
    check(&[0xE0, 0], &Ok(Some(Incoming::Disconnect)));
    check(&[0x40, 2, 0x12, 0x34], &Ok(Some(Incoming::PubAck(0x1234))));
    check(
        &[0x30, 4, 0, 1, b't', b'p'],
        &Ok(Some(publish("t", "p", QoS::AtMostOnce, 0))),
    );
    check(
        &[0x32, 6, 0, 1, b't', 0, 7, b'p'],
        &Ok(Some(publish("t", "p", QoS::AtLeastOnce, 7))),
    );
    check(
        &[0x3A, 0x86, 0x00, 0, 1, b't', 0, 7, b'p'],
        &Ok(Some(publish("t", "p", QoS::AtLeastOnce, 7))),
    );
    let filters = vec![("a".to_owned(), QoS::AtLeastOnce)];
    check(
        &[0x82, 6, 0, 1, 0, 1, b'a', 1],
        &Ok(Some(Incoming::Subscribe { pkid: 1, filters })),
    );
    let filters = vec!["a".to_owned()];
    check(
        &[0xA2, 5, 0, 1, 0, 1, b'a'],
        &Ok(Some(Incoming::Unsubscribe { pkid: 1, filters })),
    );
}

#[test]
fn packets_that_no_client_may_send() {
    let malformed: [&[u8]; 14] = [
        &[0x00, 0],                            // reserved type
        &[0xF0, 0],                            // reserved type
        &[0x11, 0],                            // flags of CONNECT
        &[0x20, 2, 0, 0],                      // CONNACK
        &[0x80, 6, 0, 1, 0, 1, b'a', 1],       // SUBSCRIBE without its flag
        &[0x82, 6, 0, 0, 0, 1, b'a', 1],       // packet id 0
        &[0x82, 6, 0, 1, 0, 1, b'a', 3],       // QoS 3
        &[0x82, 2, 0, 1],                      // no filter
        &[0xA2, 1, 0],                         // shorter than its packet id
        &[0xA2, 2, 0, 1],                      // no filter
        &[0x32, 5, 0, 1, b't', 0, 0],          // packet id 0
        &[0x32, 4, 0, 1, b't', 0],             // half a packet id
        &[0x30, 3, 0, 9, b't'],                // topic beyond the packet
        &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], // five length bytes
    ];
    for bytes in malformed {
        check(bytes, &Err(Violation::Malformed));
    }
    for bytes in [
        &[0x34, 7, 0, 1][..],
        &[0x36],
        &[0x50, 2, 0, 1],
        &[0x62, 2, 0, 1],
        &[0x70, 2, 0, 1],
    ] {
        check(bytes, &Err(Violation::Qos));
    }
}

#[test]
fn size_limits_hold_before_the_body_arrives() {
    check(&[0x30, 0x80, 0x20], &Ok(None)); // exactly MAX is declared: wait
    check(&[0x30, 0x81, 0x20], &Err(Violation::TooLarge));
    check(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], &Err(Violation::TooLarge));
    check(&[0x82, 0x81, 0x08], &Err(Violation::TooLarge));
    check(&[0x10, 0x81, 0x40], &Err(Violation::TooLarge));
    check(&[0xC0, 1], &Err(Violation::TooLarge));
    check(&[0xE0, 1], &Err(Violation::TooLarge));
}

#[test]
fn other_protocols() {
    let mqisdp = b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03abc";
    check(mqisdp, &Err(Violation::Version));
    let five = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc";
    check(five, &Err(Violation::Version));
}

#[test]
fn what_we_write_can_be_read() {
    let mut out = BytesMut::new();
    put_publish_head(1, 300, QoS::AtLeastOnce, &mut out).expect("small");
    out.extend_from_slice(b"t");
    put_publish_tail(Some(9), &[7; 300], &mut out);
    let read = decode(&mut out, MAX).expect("well-formed").expect("complete");
    let expect = Incoming::Publish {
        topic: Bytes::from_static(b"t"),
        payload: Bytes::from(vec![7; 300]),
        qos: QoS::AtLeastOnce,
        retain: false,
        pkid: 9,
    };
    assert_eq!(read, expect);
    assert!(out.is_empty(), "nothing is left over");
}

fn drain(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(_)) = decode(&mut buffer, MAX) {}
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes are packets, an incomplete packet or a violation; never a panic.
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        drain(&bytes);
    }

    /// The same behind a well-formed header, so that the bodies are reached.
    #[test]
    fn random_bodies_never_panic(
        first in proptest::sample::select(vec![0x10_u8, 0x30, 0x32, 0x3B, 0x40, 0x82, 0xA2, 0xC0, 0xE0]),
        body in proptest::collection::vec(prop_oneof![Just(0_u8), 0..8_u8, any::<u8>()], 0..127),
    ) {
        let length = u8::try_from(body.len()).expect("below 127");
        drain(&[&[first, length], body.as_slice()].concat());
    }

    /// A CONNECT whose fields are any bytes.
    #[test]
    fn random_connects_never_panic(flags in any::<u8>(), tail in proptest::collection::vec(0..32_u8, 0..100)) {
        let body = [b"\x00\x04MQTT\x04".as_slice(), &[flags, 0, 60], &tail].concat();
        let length = u8::try_from(body.len()).expect("below 127");
        drain(&[&[0x10, length], body.as_slice()].concat());
    }

    /// What was cut at any point is completed by the rest, with the same result.
    #[test]
    fn packets_arrive_in_any_pieces(at in 0..8_usize) {
        let bytes = [0x32, 6, 0, 1, b't', 0, 7, b'p'];
        let mut buffer = BytesMut::from(&bytes[..at]);
        prop_assert_eq!(decode(&mut buffer, MAX), Ok(None));
        buffer.extend_from_slice(&bytes[at..]);
        prop_assert_eq!(decode(&mut buffer, MAX), Ok(Some(publish("t", "p", QoS::AtLeastOnce, 7))));
    }
}
