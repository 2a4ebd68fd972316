//! How streams and sessions end, and who is told.

use std::pin::Pin;
use std::task::{Context, Poll};

use edge_streams::spdy::{Encoder, Frame, Headers, ResetCode, Session, StreamId};
use edge_streams::{ConnectionError, Limits, StreamError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use crate::wire::{SOON, close, heard, open, pattern, read_all, say, server, sessions, settle, write_all};

#[tokio::test]
async fn dropping_a_stream_resets_it_for_the_other_side() {
    let (client, mut server) = sessions(Limits::default());
    let (ours, mut theirs) = open(&client, &mut server).await;
    drop(ours);
    let read = theirs.read(&mut [0]).await.unwrap_err();
    assert!(
        matches!(
            StreamError::of(&read),
            Some(StreamError::Reset(ResetCode::CANCEL))
        ),
        "{read:?}"
    );
    let written = theirs.write_all(b"x").await.unwrap_err();
    assert!(
        matches!(StreamError::of(&written), Some(StreamError::Reset(_))),
        "{written:?}"
    );

    // What was flushed before the reset is read before it.
    let (mut ours, mut theirs) = open(&client, &mut server).await;
    ours.write_all(b"flushed").await.unwrap();
    ours.flush().await.unwrap();
    drop(ours);
    let mut bytes = Vec::new();
    let read = theirs.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!(read.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(bytes, b"flushed");

    // One that waits is woken.
    let (ours, mut theirs) = open(&client, &mut server).await;
    let ((), read) = tokio::join!(async { drop(ours) }, theirs.read_u8());
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    close(client, server).await;
}

#[tokio::test]
async fn a_stream_that_was_finished_and_dropped_still_arrives() {
    let (client, mut server) = sessions(Limits::default());
    let (mut ours, mut theirs) = open(&client, &mut server).await;
    let (read, mut write) = {
        ours.write_all(&pattern(60_000)).await.unwrap();
        ours.into_split()
    };
    write.finish();
    drop((read, write));
    assert!(read_all(&mut theirs).await == pattern(60_000));
    let answer = theirs.write_all(b"x").await;
    let answered = match answer {
        Ok(()) => theirs.flush().await,
        other => other,
    };
    // The reset follows at some time; until then writing succeeds.
    if let Err(error) = answered {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_reader_that_is_dropped_holds_nobody_up() {
    let (client, mut server) = sessions(Limits::default());
    let (mut ours, theirs) = open(&client, &mut server).await;
    let (read, mut write) = theirs.into_split();
    drop(read);
    write_all(&mut ours, &pattern(1_000_000)).await;
    write_all(&mut write, b"kept writing").await;
    assert_eq!(read_all(&mut ours).await, b"kept writing");

    // Even when it was what everybody waited for.
    let (mut ours, theirs) = open(&client, &mut server).await;
    let much = pattern(1_000_000);
    tokio::select! {
        _ = ours.write_all(&much) => panic!("nobody reads"),
        () = settle() => {}
    }
    drop(theirs);
    let (mut ours, mut theirs) = open(&client, &mut server).await;
    write_all(&mut ours, b"goes on").await;
    assert_eq!(read_all(&mut theirs).await, b"goes on");
}

/// Every handle learns of a peer that vanished, with what came before it.
#[tokio::test]
async fn a_connection_that_is_cut_is_an_error_everywhere() {
    let (mut peer, mut session) = server(Limits::default());
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    let id = |id| StreamId::new(id).unwrap();
    for stream in [1, 3, 5] {
        let (stream, headers) = (id(stream), &Headers::default());
        encoder.put(Frame::Open { stream, headers }, &mut bytes);
    }
    encoder.put(
        Frame::Data {
            stream: id(1),
            bytes: b"before",
            fin: false,
        },
        &mut bytes,
    );
    encoder.put(
        Frame::Data {
            stream: id(3),
            bytes: b"whole",
            fin: true,
        },
        &mut bytes,
    );
    peer.write_all(&bytes).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(session.accept().await.unwrap());
    }
    let mut third = streams.pop().unwrap();
    let waiting = tokio::spawn(async move { third.read_u8().await });
    let mut gone = session.gone();
    // In the middle of a frame.
    peer.write_all(&[0, 0, 0, 5, 0, 0, 0, 9, 1, 2]).await.unwrap();
    drop(peer);
    let cut = |error: &std::io::Error| {
        matches!(
            StreamError::of(error),
            Some(StreamError::Connection(ConnectionError::Vanished))
        )
    };
    let mut bytes = Vec::new();
    let error = streams[0].read_to_end(&mut bytes).await.unwrap_err();
    assert!(cut(&error), "{error:?}");
    assert_eq!(bytes, b"before");
    assert_eq!(read_all(&mut streams[1]).await, b"whole", "its end had come");
    let third = waiting.await.unwrap();
    assert!(third.is_ok() || cut(third.as_ref().unwrap_err()), "{third:?}");
    let error = streams[0].write_all(b"x").await.unwrap_err();
    assert!(cut(&error), "{error:?}");
    assert!(matches!(session.accept().await, Err(ConnectionError::Vanished)));
    assert!(matches!(gone.wait().await, ConnectionError::Vanished));
    assert!(matches!(session.close().await, Err(ConnectionError::Vanished)));
}

#[tokio::test]
async fn dropping_a_session_ends_its_streams_and_closes_the_connection() {
    let (mut peer, session) = server(Limits::default());
    let (client, mut server) = sessions(Limits::default());
    let (mut ours, mut theirs) = open(&client, &mut server).await;
    let mut gone = server.gone();
    drop(server);
    assert!(theirs.write(b"x").await.is_err(), "at once");
    let error = theirs.read_u8().await.unwrap_err();
    let dropped = StreamError::of(&error);
    assert!(
        matches!(dropped, Some(StreamError::Connection(ConnectionError::Dropped))),
        "{error:?}"
    );
    assert!(matches!(gone.wait().await, ConnectionError::Dropped));
    let error = ours.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    drop(session);
    assert_eq!(
        peer.read(&mut [0; 8]).await.unwrap(),
        0,
        "the tasks have let go of it"
    );
}

/// A connection whose code is broken.
struct Panics;

impl AsyncRead for Panics {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        panic!("as the test wants it")
    }
}

impl AsyncWrite for Panics {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_task_that_panics_leaves_nobody_waiting() {
    let mut session = Session::server(Panics, Limits::default());
    let end = timeout(SOON, session.accept()).await.unwrap();
    assert!(matches!(end, Err(ConnectionError::Dropped)));
}

/// The peer opens no more streams, but those that are open go on.
#[tokio::test]
async fn streams_outlive_the_word_that_the_peer_goes() {
    let (client, mut server) = sessions(Limits::default());
    let (mut ours, mut theirs) = open(&client, &mut server).await;
    let closing = tokio::spawn(async move {
        // Everything of this side is finished by it.
        client.close().await
    });
    assert!(matches!(server.accept().await, Err(ConnectionError::Closed)));
    assert_eq!(read_all(&mut theirs).await, b"");
    write_all(&mut theirs, b"discarded, but taken").await;
    server.close().await.unwrap();
    closing.await.unwrap().unwrap();
    assert!(ours.write_all(b"x").await.is_err());
}

/// The last output, the ends and the last word arrive, however slow the peer reads; then the connection waits for it.
#[tokio::test]
async fn closing_delivers_all_and_waits_for_the_peer() {
    let (mut peer, mut session) = server(Limits::default());
    let (stream, headers) = (StreamId::new(1).unwrap(), &Headers::default());
    say(&mut peer, &[Frame::Open { stream, headers }]).await;
    let mut output = session.accept().await.unwrap();
    output.write_all(&pattern(60_000)).await.unwrap();
    let mut closing = std::pin::pin!(session.close());
    let reading = async {
        let mut bytes = Vec::new();
        let mut chunk = [0; 1000];
        loop {
            tokio::select! {
                biased;
                length = peer.read(&mut chunk) => bytes.extend_from_slice(&chunk[..length.unwrap()]),
                () = settle() => break bytes,
            }
        }
    };
    let bytes = tokio::select! {
        closed = &mut closing => panic!("did not wait: {closed:?}"),
        bytes = reading => bytes,
    };
    let said = heard(&mut bytes.as_slice()).await;
    assert!(said.first().unwrap().starts_with("Reply"), "{said:?}");
    assert_eq!(said.last().unwrap(), "GoAway { last_good: 1, status: 0 }");
    assert!(said[said.len() - 2].ends_with("true"), "{said:?}");
    let late = output.write_all(b"x").await.unwrap_err();
    assert!(
        matches!(StreamError::of(&late), Some(StreamError::Finished)),
        "{late:?}"
    );
    // What the peer still says is read away, so that it can say it.
    let much = pattern(1_000_000);
    let frames = [Frame::Data {
        stream,
        bytes: &much,
        fin: false,
    }];
    tokio::select! {
        closed = &mut closing => panic!("did not wait: {closed:?}"),
        () = say(&mut peer, &frames) => {}
    }
    drop(peer);
    closing.await.unwrap();
}
