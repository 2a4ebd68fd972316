//! Peers that mean harm, or are broken.

use edge_streams::spdy::{
    Decoder, Encoder, Event, Frame, Headers, HeadersError, Session, StreamId, Violation,
};
use edge_streams::{ConnectionError, Limits};
use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::wire::{SOON, server, settle};

/// What a server says of these bytes, and whether it told the peer so.
async fn judge(bytes: &[u8]) -> (ConnectionError, bool) {
    let (mut peer, session) = server(Limits::default());
    let mut gone = session.gone();
    let talk = async {
        let mut heard = Vec::new();
        let (mut reader, mut writer) = tokio::io::split(&mut peer);
        let write = async {
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        tokio::join!(write, async {
            let _ = reader.read_to_end(&mut heard).await;
        });
        heard
    };
    let (reason, heard) = tokio::join!(gone.wait(), talk);
    drop(session);
    let mut decoder = Decoder::default();
    let mut input = heard.as_slice();
    let mut told = false;
    while let Ok(Some(event)) = decoder.next(&mut input) {
        told |= matches!(event, Event::GoAway { status: 1, .. });
    }
    (reason, told)
}

async fn check(bytes: &[u8], expected: Violation) {
    let (reason, told) = judge(bytes).await;
    assert!(
        matches!(reason, ConnectionError::Spdy(violation) if violation == expected),
        "{reason:?}"
    );
    assert!(told, "the peer hears of {expected}");
}

/// A SYN_STREAM with this block, which is compressed here.
fn open_with(block: &[u8]) -> Vec<u8> {
    let mut stream = Compress::new(Compression::fast(), true);
    stream
        .set_dictionary(include_bytes!("../../src/spdy/dictionary.bin"))
        .unwrap();
    let mut compressed = Vec::with_capacity(block.len() + 1000);
    stream
        .compress_vec(block, &mut compressed, FlushCompress::Sync)
        .unwrap();
    let mut frame = vec![0x80, 3, 0, 1];
    frame.extend(u32::try_from(10 + compressed.len()).unwrap().to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    frame.extend(compressed);
    frame
}

#[tokio::test]
async fn garbage_ends_the_connection_with_its_name() {
    check(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], Violation::Version(2)).await;
    check(&[0, 0, 0, 0, 0, 0, 0, 0], Violation::ZeroStream).await;
    check(
        &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        Violation::TooLarge(0xff_ffff),
    )
    .await;
    let garbled = [0x80, 3, 0, 8, 0, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3, 4];
    check(&garbled, Violation::Compression).await;
}

#[tokio::test]
async fn oversized_headers_and_bombs_end_the_connection() {
    let too_large = Violation::Headers(HeadersError::TooLarge);
    let mut large = vec![0, 0, 0, 1, 0, 0, 0, 1, b'a', 0, 1, 0, 0];
    large.resize(13 + 65_536, b'x');
    check(&open_with(&large), too_large).await;
    let bomb = open_with(&vec![0; 4 << 20]);
    assert!(bomb.len() < Decoder::MAX_CONTROL, "it comes in one frame");
    check(&bomb, too_large).await;
    check(
        &open_with(&[0, 0, 0, 101]),
        Violation::Headers(HeadersError::TooMany),
    )
    .await;
    let lie = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
    check(&open_with(&lie), Violation::Headers(HeadersError::Truncated)).await;
}

#[tokio::test]
async fn ids_that_do_not_rise_end_the_connection() {
    for ids in [[3, 1], [3, 3], [1, 2]] {
        let mut encoder = Encoder::default();
        let mut bytes = Vec::new();
        for id in ids {
            let (stream, headers) = (StreamId::new(id).unwrap(), &Headers::default());
            encoder.put(Frame::Open { stream, headers }, &mut bytes);
        }
        check(&bytes, Violation::StreamOrder(StreamId::new(ids[1]).unwrap())).await;
    }
}

/// A peer that asks for answers and reads none is read no further, and costs no more than the bound.
#[tokio::test]
async fn a_peer_that_floods_and_does_not_read_is_held_back() {
    async fn flood(frame: fn(u32) -> Frame<'static>) -> u32 {
        let (mut peer, session) = server(Limits::default());
        let mut encoder = Encoder::default();
        for (taken, id) in (1..).step_by(2).enumerate() {
            let mut bytes = Vec::new();
            encoder.put(frame(id), &mut bytes);
            tokio::select! {
                biased;
                written = peer.write_all(&bytes) => written.unwrap(),
                () = settle() => {
                    drop(session);
                    return u32::try_from(taken).unwrap();
                }
            }
            assert!(taken < 20_000, "it takes and takes");
        }
        unreachable!("it goes on for ever")
    }
    static HEADERS: std::sync::LazyLock<Headers> = std::sync::LazyLock::new(Headers::default);
    let pings = flood(Frame::Ping).await;
    assert!(pings > 600, "{pings}");
    let streams = flood(|id| Frame::Open {
        stream: StreamId::new(id).unwrap(),
        headers: &HEADERS,
    })
    .await;
    assert!(streams > 600, "{streams}");
}

/// Streams that the peer opens and resets, whose server never looks: no more than the cap are held.
#[tokio::test]
async fn streams_that_nobody_takes_fill_the_cap_and_no_more() {
    let (mut peer, session) = server(Limits {
        streams: 4,
        ..Limits::default()
    });
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    let id = |id| StreamId::new(id).unwrap();
    for stream in (1..100).step_by(2) {
        let headers = &Headers::default();
        encoder.put(
            Frame::Open {
                stream: id(stream),
                headers,
            },
            &mut bytes,
        );
        let code = edge_streams::spdy::ResetCode::CANCEL;
        encoder.put(
            Frame::Reset {
                stream: id(stream),
                code,
            },
            &mut bytes,
        );
    }
    encoder.put(Frame::Ping(1), &mut bytes);
    peer.write_all(&bytes).await.unwrap();
    let mut decoder = Decoder::default();
    let (mut replied, mut refused) = (0, 0);
    'reading: loop {
        let mut chunk = [0; 1000];
        let length = peer.read(&mut chunk).await.unwrap();
        let mut input = &chunk[..length];
        while let Some(event) = decoder.next(&mut input).unwrap() {
            match event {
                Event::Reply { .. } => replied += 1,
                Event::Reset { .. } => refused += 1,
                Event::Ping(_) => break 'reading,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((replied, refused), (4, 46));
    drop(session);
}

/// A peer that breaks the protocol while it reads nothing cannot be told so; nobody waits for that.
#[tokio::test]
async fn a_culprit_that_does_not_listen_holds_nobody_up() {
    let (mut peer, io) = tokio::io::duplex(16);
    let mut session = Session::server(io, Limits::default());
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for id in [1, 3, 5] {
        encoder.put(Frame::Ping(id), &mut bytes);
    }
    bytes.extend([0; 8]);
    peer.write_all(&bytes).await.unwrap();
    assert!(matches!(
        session.accept().await,
        Err(ConnectionError::Spdy(Violation::ZeroStream))
    ));
    let closed = timeout(SOON, session.close()).await.unwrap();
    assert!(matches!(
        closed,
        Err(ConnectionError::Spdy(Violation::ZeroStream))
    ));
}
