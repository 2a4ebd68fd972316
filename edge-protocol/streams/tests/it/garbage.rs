//! Bytes of no sense and of some, to everything that serves a connection.

use edge_streams::spdy::{Encoder, Frame, Headers, StreamId};
use proptest::prelude::*;

use crate::survive;

/// Frames that make some sense, so that more than the first eight bytes are looked at.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let frame = (
        0_u8..12,
        0_u32..12,
        any::<u8>(),
        proptest::collection::vec(any::<u8>(), 0..24),
    )
        .prop_map(|(kind, stream, flags, tail)| {
            let mut encoder = Encoder::default();
            let mut out = Vec::new();
            let headers = Headers::new([("streamtype", "data")]).unwrap();
            match (kind, StreamId::new(stream)) {
                (0, Some(stream)) => encoder.put(
                    Frame::Open {
                        stream,
                        headers: &headers,
                    },
                    &mut out,
                ),
                (1, Some(stream)) => encoder.put(
                    Frame::Data {
                        stream,
                        bytes: &tail,
                        fin: flags & 1 == 1,
                    },
                    &mut out,
                ),
                (2, _) => encoder.put(Frame::Ping(stream), &mut out),
                (3, _) => encoder.put(
                    Frame::GoAway {
                        last_good: stream,
                        status: 0,
                    },
                    &mut out,
                ),
                _ => {
                    out.extend([0x80, 3, 0, kind, flags, 0, 0, u8::try_from(tail.len()).unwrap()]);
                    out.extend(tail);
                }
            }
            out
        });
    proptest::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

/// Messages of WebSocket, masked by nothing, with what may be in them.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let sizes = proptest::collection::vec(
        prop_oneof![Just(b'{'), Just(b'"'), Just(b'1'), any::<u8>()],
        0..30,
    );
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..30),
        plausible(),
        (0_u8..6, proptest::collection::vec(any::<u8>(), 0..30)).prop_map(|(channel, bytes)| [
            vec![channel],
            bytes
        ]
        .concat()),
        sizes.prop_map(|text| [b"\x04{\"Width\":80,\"Height\":24}".to_vec(), text].concat()),
        any::<u8>().prop_map(|channel| vec![255, channel]),
        "[0-4][a-zA-Z0-9+/]{0,8}={0,2}".prop_map(String::into_bytes),
    ];
    let opcode = prop_oneof![Just(0x82_u8), Just(0x81), Just(0x88), Just(0x89), any::<u8>()];
    let message = (opcode, payload).prop_map(|(opcode, payload)| {
        let mut out = vec![opcode];
        let length = u16::try_from(payload.len()).unwrap();
        if length < 126 {
            out.push(0x80 | length.to_be_bytes()[1]);
        } else {
            // The next two bytes are the length.
            out.push(0x80 + 126);
            out.extend(length.to_be_bytes());
        }
        out.extend([0; 4]);
        out.extend(payload);
        out
    });
    proptest::collection::vec(message, 0..8).prop_map(|messages| messages.concat())
}

/// Frames of a command's pipe, most of them whole.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(b"{\"Width\":80,\"Height\":24}".to_vec()),
        Just(b"{\"status\":\"Success\"}".to_vec()),
        any::<u8>().prop_map(|channel| vec![channel]),
    ];
    let channel = prop_oneof![0_u8..6, Just(255)];
    let frame = (channel, payload, prop_oneof![9 => Just(0_u8), 1 => any::<u8>()]);
    let frame = frame.prop_map(|(channel, payload, excess)| {
        let length = u32::try_from(payload.len()).unwrap() + (u32::from(excess) << 9);
        let mut out = vec![channel];
        out.extend(length.to_be_bytes());
        out.extend(payload);
        out
    });
    proptest::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

// `PROPTEST_CASES=100000 cargo test --release -p edge-streams survive` looks longer, `cargo xtask fuzz` further.
proptest! {
    #[test]
    fn connections_survive_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1_usize..100) {
        survive::spdy(&bytes, piece);
        survive::websocket(&bytes, piece);
        survive::pipe(&bytes, piece);
    }

    #[test]
    fn connections_survive_frames_that_make_some_sense(bytes in plausible(), piece in 1_usize..100) {
        survive::spdy(&bytes, piece);
    }

    #[test]
    fn connections_survive_messages_that_make_some_sense(bytes in messages(), piece in 1_usize..100) {
        survive::websocket(&bytes, piece);
    }

    #[test]
    fn connections_survive_pipes_that_make_some_sense(bytes in frames(), piece in 1_usize..100) {
        survive::pipe(&bytes, piece);
    }
}
