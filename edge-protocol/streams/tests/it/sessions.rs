//! SPDY sessions, client against server: nothing is lost, nobody starves, nothing is left.

use std::time::Duration;

use edge_streams::spdy::{Frame, Headers, ResetCode, Session, StreamId};
use edge_streams::{ConnectionError, Limits, OpenError, StreamError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::wire::{
    PIPE, SOON, close, headers, heard, open, pattern, read_all, say, server, sessions, settle, write_all,
};

/// Both directions of one stream end one after the other, and each side reads all of the other.
#[tokio::test]
async fn a_stream_carries_both_ways_and_half_closes() {
    let (client, mut server) = sessions(Limits::default());
    let (mut ours, mut theirs) = open(&client, &mut server).await;
    write_all(&mut ours, b"question").await;
    assert_eq!(read_all(&mut theirs).await, b"question");
    write_all(&mut theirs, b"answer").await;
    assert_eq!(read_all(&mut ours).await, b"answer");
    let late = ours.write_all(b"x").await.unwrap_err();
    assert!(
        matches!(StreamError::of(&late), Some(StreamError::Finished)),
        "{late:?}"
    );

    let (mut ours, mut theirs) = open(&client, &mut server).await;
    write_all(&mut theirs, b"the server first").await;
    assert_eq!(read_all(&mut ours).await, b"the server first");
    write_all(&mut ours, b"then the client").await;
    assert_eq!(read_all(&mut theirs).await, b"then the client");
    drop((ours, theirs));
    close(server, client).await;
}

#[tokio::test]
async fn streams_have_their_headers_and_rising_odd_ids() {
    let (client, mut server) = sessions(Limits::default());
    for (id, kind) in [(1, "error"), (3, "data"), (5, "data")] {
        let sent = headers(&[("streamType", kind), ("port", "8080")]);
        let (ours, theirs) = tokio::join!(client.open(sent.clone()), server.accept());
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!((ours.id(), theirs.id()), (id, id));
        assert_eq!(theirs.headers(), &sent);
        assert_eq!(theirs.headers().get("streamtype"), Some(kind));
    }
}

/// 50 MB through a reader that goes on only when the writer has been held back; how much it could write ahead is the bound.
#[tokio::test]
async fn fifty_megabytes_reach_a_slow_reader_whole_and_bounded() {
    const LENGTH: usize = 50_000_000;
    let limits = Limits::default();
    let (client, mut server) = sessions(limits);
    let (mut ours, mut theirs) = open(&client, &mut server).await;
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&written);
    let writing = tokio::spawn(async move {
        for chunk in pattern(LENGTH).chunks(100_000) {
            ours.write_all(chunk).await.unwrap();
            counter.fetch_add(chunk.len(), std::sync::atomic::Ordering::Relaxed);
        }
        ours.shutdown().await.unwrap();
        ours
    });
    // Both buffers, the pipe, what one side reads and the other writes at a time, and the chunk that is being written.
    let bound = limits.receive_buffer + limits.send_buffer + PIPE + 6 * 16 * 1024 + 100_000;
    let mut read = Vec::with_capacity(LENGTH);
    let mut chunk = vec![0; 1_000_000];
    loop {
        settle().await;
        let ahead = written
            .load(std::sync::atomic::Ordering::Relaxed)
            .saturating_sub(read.len());
        assert!(ahead <= bound, "{ahead} bytes ahead of the reader");
        let length = theirs.read(&mut chunk).await.unwrap();
        if length == 0 {
            break;
        }
        read.extend_from_slice(&chunk[..length]);
    }
    assert!(read == pattern(LENGTH), "every byte, in order");
    drop(writing.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_streams_at_once_each_get_their_own() {
    let (client, mut server) = sessions(Limits::default());
    let echo = async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let mut stream = server.accept().await.unwrap();
            tasks.spawn(async move {
                let bytes = read_all(&mut stream).await;
                write_all(&mut stream, &bytes).await;
            });
        }
        tasks.join_all().await;
    };
    let ask = async {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..20 {
            let stream = client.open(Headers::default()).await.unwrap();
            tasks.spawn(async move {
                let (mut read, mut write) = stream.into_split();
                let sent = pattern(300_000 + n);
                let ((), received) = tokio::join!(write_all(&mut write, &sent), read_all(&mut read));
                assert!(received == sent, "stream {n}");
            });
        }
        tasks.join_all().await;
    };
    tokio::join!(echo, ask);
    close(client, server).await;
}

/// One writer with all the bytes in the world does not keep another from its few.
#[tokio::test]
async fn a_greedy_writer_does_not_starve_another() {
    let (client, mut server) = sessions(Limits::default());
    let (mut greedy, mut read_greedy) = open(&client, &mut server).await;
    let (mut modest, mut read_modest) = open(&client, &mut server).await;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { while greedy.write_all(&[0; 16 * 1024]).await.is_ok() {} });
    let mut chunk = vec![0; 64 * 1024];
    read_greedy.read_exact(&mut chunk).await.unwrap();
    let mut passed = 0;
    for _ in 0..20 {
        modest.write_all(b"x").await.unwrap();
        let mut byte = [0];
        let mut read = std::pin::pin!(read_modest.read_exact(&mut byte));
        loop {
            tokio::select! {
                biased;
                read = &mut read => break assert_eq!(read.unwrap(), 1),
                length = read_greedy.read(&mut chunk) => passed += length.unwrap(),
            }
        }
    }
    let limits = Limits::default();
    let bound = 20 * (limits.receive_buffer + limits.send_buffer + 2 * PIPE + 8 * 16 * 1024);
    assert!(passed < bound, "{passed} bytes went before 20");
}

#[tokio::test]
async fn more_streams_than_the_cap_are_refused_and_the_rest_live() {
    let limits = Limits {
        streams: 3,
        ..Limits::default()
    };
    let (client, server) = tokio::io::duplex(PIPE);
    let client = Session::client(client, Limits::default());
    let mut server = Session::server(server, limits);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(open(&client, &mut server).await);
    }
    let refused = client.open(Headers::default()).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::Refused(ResetCode::REFUSED_STREAM)),
        "{refused:?}"
    );
    let (mut ours, mut theirs) = held.pop().unwrap();
    write_all(&mut ours, b"alive").await;
    assert_eq!(read_all(&mut theirs).await, b"alive");
    drop((ours, theirs));
    held.push(open(&client, &mut server).await);

    // A client holds itself to its own cap.
    let (_peer, io) = tokio::io::duplex(PIPE);
    let client = std::sync::Arc::new(Session::client(io, limits));
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let client = std::sync::Arc::clone(&client);
        opening.spawn(async move { client.open(Headers::default()).await.map(drop) });
    }
    settle().await;
    let own = client.open(Headers::default()).await.unwrap_err();
    assert!(matches!(own, OpenError::TooMany), "{own:?}");
}

#[tokio::test]
async fn pings_of_the_peer_are_echoed_and_its_answers_are_not() {
    let (mut peer, mut session) = server(Limits::default());
    let goaway = Frame::GoAway {
        last_good: 0,
        status: 0,
    };
    say(
        &mut peer,
        &[Frame::Ping(1), Frame::Ping(2), Frame::Ping(3), goaway],
    )
    .await;
    assert!(matches!(session.accept().await, Err(ConnectionError::Closed)));
    session.close().await.unwrap();
    let said = ["Ping(1)", "Ping(3)", "GoAway { last_good: 0, status: 0 }"];
    assert_eq!(heard(&mut peer).await, said);
}

#[tokio::test]
async fn a_client_refuses_streams_of_the_server() {
    let (mut peer, client) = tokio::io::duplex(PIPE);
    let client = Session::client(client, Limits::default());
    let (stream, headers) = (StreamId::new(2).unwrap(), &Headers::default());
    say(&mut peer, &[Frame::Open { stream, headers }, Frame::Ping(2)]).await;
    let mut heard = vec![0; 16 + 12];
    peer.read_exact(&mut heard).await.unwrap();
    let refused = [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 3];
    let pong = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2];
    assert_eq!(heard, [refused.as_slice(), &pong].concat());
    drop(client);
}

#[tokio::test]
async fn activity_tells_when_something_last_passed() {
    let (client, mut server) = sessions(Limits::default());
    let activity = server.activity();
    let (mut ours, mut theirs) = open(&client, &mut server).await;
    let before = tokio::time::Instant::now();
    ours.write_all(b"x").await.unwrap();
    theirs.read_u8().await.unwrap();
    assert!(activity.last() >= before);
    drop((client, server));
    let limit = Duration::from_millis(20);
    timeout(SOON, activity.idle_for(limit))
        .await
        .expect("it outlives the session");
    assert!(activity.last().elapsed() >= limit);
}

/// 1,000 streams one after the other leave nothing: a fourth one fits where three are the cap.
#[tokio::test]
async fn a_thousand_streams_leave_no_trace() {
    let limits = Limits {
        streams: 3,
        ..Limits::default()
    };
    let (client, mut server) = sessions(limits);
    for n in 0..1000 {
        // A reset that has not yet arrived may still hold a place.
        let (mut ours, mut theirs) = loop {
            if let Ok(ours) = client.open(Headers::default()).await {
                break (ours, server.accept().await.unwrap());
            }
            settle().await;
        };
        match n % 4 {
            0 => drop(ours),
            1 => drop(theirs),
            2 => {
                write_all(&mut ours, b"x").await;
                assert_eq!(read_all(&mut theirs).await, b"x");
            }
            _ => {
                tokio::join!(write_all(&mut ours, b"x"), write_all(&mut theirs, b"y"));
                assert_eq!(read_all(&mut theirs).await, b"x");
                assert_eq!(read_all(&mut ours).await, b"y");
            }
        }
    }
}
