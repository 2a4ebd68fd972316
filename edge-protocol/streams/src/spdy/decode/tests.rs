//! Bytes by hand from SPDY/3, whatever the encoder says, and what the encoder says in pieces of any size.

#![allow(clippy::indexing_slicing, reason = "a panic is a failure")]

use proptest::prelude::*;

use super::super::encode::{Encoder, Frame};
use super::*;

/// What a decoder says of bytes that come in pieces; pieces of data are joined again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Open(u32, Headers, bool, bool),
    Reply(u32, bool),
    Reset(u32, u32),
    Ping(u32),
    GoAway(u32, u32),
    Headers(u32, bool),
    Data(u32, Vec<u8>, bool),
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Said>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut said = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(event)) => push(&mut said, event),
                Ok(None) => break,
                Err(violation) => return (said, Some(violation)),
            }
        }
        assert!(piece.is_empty(), "bytes are used up");
    }
    (said, None)
}

fn push(said: &mut Vec<Said>, event: Event<'_>) {
    let next = match event {
        Event::Open {
            stream,
            headers,
            fin,
            unidirectional,
        } => Said::Open(stream.get(), headers, fin, unidirectional),
        Event::Reply { stream, fin } => Said::Reply(stream.get(), fin),
        Event::Reset { stream, code } => Said::Reset(stream.get(), code.0),
        Event::Ping(id) => Said::Ping(id),
        Event::GoAway { last_good, status } => Said::GoAway(last_good, status),
        Event::Headers { stream, fin } => Said::Headers(stream.get(), fin),
        Event::Data { stream, bytes, fin } => match said.last_mut() {
            Some(Said::Data(last, joined, ended @ false)) if *last == stream.get() => {
                joined.extend_from_slice(bytes);
                *ended = fin;
                return;
            }
            _ => Said::Data(stream.get(), bytes.to_vec(), fin),
        },
    };
    said.push(next);
}

fn id(id: u32) -> StreamId {
    StreamId::new(id).unwrap()
}

fn check(bytes: &[u8], said: &[Said], violation: Option<Violation>) {
    assert_eq!(decode([bytes]), (said.to_vec(), violation), "{bytes:?}");
    let single = decode(bytes.chunks(1));
    assert_eq!(single, (said.to_vec(), violation), "byte by byte: {bytes:?}");
}

#[test]
fn frames_without_headers_mean_this() {
    check(
        &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 5],
        &[Said::Reset(5, 5)],
        None,
    );
    check(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7], &[Said::Ping(7)], None);
    check(
        &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 1],
        &[Said::GoAway(9, 1)],
        None,
    );
    check(
        &[0, 0, 0, 1, 0, 0, 0, 2, b'h', b'i'],
        &[Said::Data(1, b"hi".into(), false)],
        None,
    );
    check(
        &[0x7f, 0xff, 0xff, 0xff, 1, 0, 0, 0],
        &[Said::Data(0x7fff_ffff, vec![], true)],
        None,
    );
    // The reserved bit of an id in a control frame.
    check(
        &[0x80, 3, 0, 3, 0, 0, 0, 8, 0x80, 0, 0, 5, 0, 0, 0, 5],
        &[Said::Reset(5, 5)],
        None,
    );
}

#[test]
fn what_no_one_needs_is_passed_over() {
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7];
    let settings = [0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0];
    let window_update = [0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1];
    let unknown = [0x80, 3, 0x12, 0x34, 0xff, 0, 0, 0];
    for passed in [settings.as_slice(), &window_update, &unknown] {
        check(&[passed, &ping].concat(), &[Said::Ping(7)], None);
    }
}

#[test]
fn what_no_peer_in_its_right_mind_sends_is_a_violation() {
    let length = |kind, length| Some(Violation::Length { kind, length });
    check(&[0x80, 2, 0, 6, 0, 0, 0, 4], &[], Some(Violation::Version(2)));
    check(
        &[0xff, 0xff, 0, 6, 0, 0, 0, 4],
        &[],
        Some(Violation::Version(0x7fff)),
    );
    check(&[0, 0, 0, 0, 0, 0, 0, 0], &[], Some(Violation::ZeroStream));
    check(
        &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5],
        &[],
        Some(Violation::ZeroStream),
    );
    check(&[0x80, 3, 0, 6, 0, 0, 0, 0], &[], length(6, 0));
    check(&[0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 7, 0], &[], length(6, 5));
    check(&[0x80, 3, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5], &[], length(3, 4));
    check(&[0x80, 3, 0, 7, 0, 0, 0, 4, 0, 0, 0, 5], &[], length(7, 4));
    check(
        &[0x80, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        &[],
        length(1, 9),
    );
    check(&[0x80, 3, 0, 2, 0, 0, 0, 3, 0, 0, 0], &[], length(2, 3));
    let largest = Decoder::MAX_CONTROL + 1;
    check(
        &[0x80, 3, 0, 1, 0, 1, 0, 1],
        &[],
        Some(Violation::TooLarge(largest)),
    );
    // A block of no bytes is no empty block.
    let truncated = Some(Violation::Headers(HeadersError::Truncated));
    check(&[0x80, 3, 0, 2, 0, 0, 0, 4, 0, 0, 0, 1], &[], truncated);
    let garbage = [0x80, 3, 0, 8, 0, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3, 4];
    check(&garbage, &[], Some(Violation::Compression));
}

/// A block that Go's `compress/zlib` made of `streamtype: error`, in a SYN_STREAM with every flag; then, referring back to it, one of
/// `streamtype: data`. Written down once from moby/spdystream v0.5.1.
#[test]
fn blocks_of_go_are_read() {
    let headers = |kind| Headers::new([("streamtype", kind)]).unwrap();
    let said = [
        Said::Open(1, headers("error"), true, true),
        Said::Open(3, headers("data"), false, false),
    ];
    let mut bytes = include_bytes!("go-syn-streams.bin").to_vec();
    bytes[4] |= 3;
    check(&bytes, &said, None);
}

#[test]
fn headers_pass_through_both_directions() {
    let headers = Headers::new([("streamtype", "data"), ("port", "80\0x443"), ("requestid", "0")]).unwrap();
    let none = Headers::default();
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    let (first, second) = (id(1), id(3));
    let (headers, none) = (&headers, &none);
    encoder.put(
        Frame::Open {
            stream: first,
            headers,
        },
        &mut bytes,
    );
    encoder.put(
        Frame::Reply {
            stream: first,
            headers: none,
        },
        &mut bytes,
    );
    encoder.put(
        Frame::Headers {
            stream: first,
            headers,
        },
        &mut bytes,
    );
    encoder.put(
        Frame::Open {
            stream: second,
            headers,
        },
        &mut bytes,
    );
    let said = [
        Said::Open(1, headers.clone(), false, false),
        Said::Reply(1, false),
        Said::Headers(1, false),
        Said::Open(3, headers.clone(), false, false),
    ];
    check(&bytes, &said, None);
    for split in 0..=bytes.len() {
        let (front, back) = bytes.split_at(split);
        assert_eq!(decode([front, back]), (said.to_vec(), None), "split at {split}");
    }
}

/// A frame to be encoded, and what it means.
fn frames() -> impl Strategy<Value = Vec<Said>> {
    let stream = 1..=StreamId::MAX.get();
    let headers = || {
        proptest::collection::btree_map("[a-z][a-z0-9-]{0,12}", ".{0,40}", 0..6)
            .prop_map(|pairs| Headers::new(pairs.iter().map(|(name, value)| (&**name, &**value))).unwrap())
    };
    let data = proptest::collection::vec(any::<u8>(), 0..200);
    let frame = prop_oneof![
        (stream.clone(), headers()).prop_map(|(stream, headers)| Said::Open(stream, headers, false, false)),
        stream.clone().prop_map(|stream| Said::Reply(stream, false)),
        (stream.clone(), any::<u32>()).prop_map(|(stream, code)| Said::Reset(stream, code)),
        any::<u32>().prop_map(Said::Ping),
        (any::<u32>(), any::<u32>()).prop_map(|(last, status)| Said::GoAway(last, status)),
        stream.clone().prop_map(|stream| Said::Headers(stream, false)),
        (stream, data, any::<bool>()).prop_map(|(stream, bytes, fin)| Said::Data(stream, bytes, fin)),
    ];
    proptest::collection::vec(frame, 0..12)
}

fn encode(said: &[Said]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    let none = Headers::default();
    for said in said {
        let frame = match said {
            Said::Open(stream, headers, ..) => Frame::Open {
                stream: id(*stream),
                headers,
            },
            Said::Reply(stream, _) => Frame::Reply {
                stream: id(*stream),
                headers: &none,
            },
            Said::Reset(stream, code) => Frame::Reset {
                stream: id(*stream),
                code: ResetCode(*code),
            },
            Said::Ping(id) => Frame::Ping(*id),
            Said::GoAway(last_good, status) => Frame::GoAway {
                last_good: *last_good,
                status: *status,
            },
            Said::Headers(stream, _) => Frame::Headers {
                stream: id(*stream),
                headers: &none,
            },
            Said::Data(stream, bytes, fin) => Frame::Data {
                stream: id(*stream),
                bytes,
                fin: *fin,
            },
        };
        encoder.put(frame, &mut out);
    }
    out
}

/// Neighbouring data without an end is one to the reader.
fn joined(said: Vec<Said>) -> Vec<Said> {
    let mut joined = Vec::new();
    for said in said {
        match (joined.last_mut(), said) {
            (Some(Said::Data(last, bytes, ended @ false)), Said::Data(stream, more, fin))
                if *last == stream =>
            {
                bytes.extend(more);
                *ended = fin;
            }
            (_, said) => joined.push(said),
        }
    }
    joined
}

proptest! {
    #[test]
    fn what_is_said_is_heard_in_pieces_of_any_size(said in frames(), sizes in proptest::collection::vec(1_usize..70, 1..20)) {
        let bytes = encode(&said);
        let mut rest = bytes.as_slice();
        let pieces = sizes.into_iter().cycle().map_while(|size| {
            let (piece, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        let pieces: Vec<&[u8]> = pieces.collect();
        prop_assert_eq!(decode(pieces), (joined(said), None));
    }

    /// Neither panics nor takes its time.
    #[test]
    fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        decode([bytes.as_slice()]);
    }

    #[test]
    fn damage_is_survived(said in frames(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = encode(&said);
        for (index, byte) in damage.into_iter().filter(|_| !said.is_empty()) {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let whole = decode([bytes.as_slice()]);
        prop_assert_eq!(decode(bytes.chunks(1)), whole, "pieces change nothing");
    }

    #[test]
    fn a_cut_is_no_violation(said in frames(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&said);
        let (_, violation) = decode([&bytes[..cut.index(bytes.len() + 1)]]);
        prop_assert_eq!(violation, None);
    }
}
