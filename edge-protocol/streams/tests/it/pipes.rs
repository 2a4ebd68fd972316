//! A WebSocket as a pipe of bytes, and pipes of bytes made one.

use edge_streams::remote_command::{Command, Outcome, Running};
use edge_streams::websocket::{Pipe, PipeError};
use edge_streams::{Limits, Spliced, StreamError, splice};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::peer::ALL;
use crate::roles::{ask, cat};
use crate::wire::{SOON, open, pattern, read_all, sessions, settle, websockets, write_all};

async fn pipes() -> (Pipe<DuplexStream>, Pipe<DuplexStream>) {
    let (client, server) = websockets().await;
    (Pipe::new(client), Pipe::new(server))
}

/// A hand-made peer and a pipe.
async fn pipe() -> (WebSocketStream<DuplexStream>, Pipe<DuplexStream>) {
    let (client, server) = websockets().await;
    (client, Pipe::new(server))
}

#[tokio::test]
async fn each_direction_of_a_pipe_ends_by_itself() {
    for length in [0, 1, 1_000_000] {
        let sent = pattern(length);
        let (mut client, mut server) = pipes().await;
        let ((), received) = tokio::join!(write_all(&mut client, &sent), read_all(&mut server));
        assert!(received == sent);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "its end stays");
        assert!(client.write(b"x").await.is_err(), "this side has ended it");
        let ((), received) = tokio::join!(write_all(&mut server, &sent), read_all(&mut client));
        assert!(received == sent);
    }
}

#[tokio::test]
async fn messages_of_a_pipe_are_bytes_and_an_empty_one_is_their_end() {
    let (mut peer, mut pipe) = pipe().await;
    assert_eq!(pipe.write(b"").await.unwrap(), 0, "which says nothing");
    pipe.write_all(b"ab").await.unwrap();
    pipe.shutdown().await.unwrap();
    pipe.shutdown().await.unwrap();
    for expected in [b"ab".as_slice(), b""] {
        assert_eq!(
            peer.next().await.unwrap().unwrap(),
            Message::Binary(expected.to_vec().into())
        );
    }
    for message in [b"a".as_slice(), b"bc", b""] {
        peer.send(Message::Binary(message.to_vec().into())).await.unwrap();
    }
    assert_eq!(read_all(&mut pipe).await, b"abc");
    drop(pipe);
    assert!(
        peer.next().await.unwrap().is_err(),
        "nothing was said after the end"
    );
}

/// What reading says after these messages, with which the peer goes.
async fn read_after(messages: &[Message]) -> (Vec<u8>, std::io::Error) {
    let (mut peer, mut pipe) = pipe().await;
    let say = async move {
        for message in messages {
            peer.send(message.clone()).await.unwrap();
        }
        drop(peer);
    };
    let mut bytes = Vec::new();
    let ((), read) = tokio::join!(say, pipe.read_to_end(&mut bytes));
    (bytes, read.unwrap_err())
}

#[tokio::test]
async fn an_end_that_was_not_said_is_an_error() {
    let check = async |last: &[Message], expected: Option<PipeError>| {
        let messages = [&[Message::Binary(b"before".as_slice().into())], last].concat();
        let (bytes, error) = timeout(SOON, read_after(&messages)).await.unwrap();
        assert_eq!(bytes, b"before");
        assert_eq!(PipeError::of(&error), expected.as_ref(), "{error:?}");
    };
    let closed = |code: Option<u16>, reason: &str| PipeError::Closed {
        code,
        reason: reason.to_owned(),
    };
    check(&[], Some(PipeError::Cut)).await;
    check(&[Message::Close(None)], Some(closed(None, ""))).await;
    let (code, reason) = (CloseCode::Again, "the device went".into());
    check(
        &[Message::Close(Some(CloseFrame { code, reason }))],
        Some(closed(Some(1013), "the device went")),
    )
    .await;
    check(&[Message::Text("{}".into())], None).await;
}

#[tokio::test]
async fn a_writer_learns_what_becomes_of_a_peer_that_has_ended() {
    let after = async |last: Option<Message>| {
        let (mut peer, mut pipe) = pipe().await;
        peer.send(Message::Binary(Vec::new().into())).await.unwrap();
        assert_eq!(pipe.read(&mut [0]).await.unwrap(), 0);
        peer.send(Message::Ping(b"?".as_slice().into())).await.unwrap();
        pipe.write_all(b"x").await.unwrap();
        pipe.flush().await.unwrap();
        let heard = [peer.next().await, peer.next().await].map(|message| message.unwrap().unwrap());
        assert!(
            heard.contains(&Message::Pong(b"?".as_slice().into())),
            "{heard:?}"
        );
        match last {
            Some(last) => peer.send(last).await.unwrap(),
            None => drop(peer),
        }
        let error = pipe.write_all(b"x").await.unwrap_err();
        PipeError::of(&error).cloned()
    };
    assert_eq!(after(None).await, Some(PipeError::Cut));
    let more = Message::Binary(b"more".as_slice().into());
    assert_eq!(after(Some(more)).await, Some(PipeError::AfterEnd));
    let closed = after(Some(Message::Close(None))).await;
    assert!(matches!(closed, Some(PipeError::Closed { .. })), "{closed:?}");
}

/// A pipe that nobody reads holds its writer back.
#[tokio::test]
async fn a_pipe_holds_back_and_loses_nothing() {
    let (mut client, mut server) = pipes().await;
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            written = client.write(&[7; 10_000]) => sent += written.unwrap(),
            () = settle() => break,
        }
    }
    assert!(sent < 1_000_000, "{sent}");
    let ((), received) = tokio::join!(write_all(&mut client, &[]), read_all(&mut server));
    // The last write was given up, perhaps after its bytes had been taken.
    assert!(
        (sent..=sent + 10_000).contains(&received.len()),
        "{sent} {}",
        received.len()
    );
}

/// Two pipes with a splice between, as at a hub: one's client and the other's.
fn spliced(
    size: usize,
) -> (
    DuplexStream,
    DuplexStream,
    tokio::task::JoinHandle<std::io::Result<Spliced>>,
) {
    let ((first, a), (second, b)) = (duplex(size), duplex(size));
    (first, second, tokio::spawn(splice(a, b)))
}

#[tokio::test]
async fn a_splice_carries_bytes_and_each_end_through() {
    for size in [3, 10_000] {
        let (mut first, mut second, splicing) = spliced(size);
        let sent = pattern(100_000);
        let ((), received) = tokio::join!(write_all(&mut first, &sent), read_all(&mut second));
        assert!(received == sent);
        // The other direction goes on.
        let ((), received) = tokio::join!(write_all(&mut second, b"answer"), read_all(&mut first));
        assert_eq!(received, b"answer");
        let (forth, back) = (100_000, 6);
        assert_eq!(splicing.await.unwrap().unwrap(), Spliced { forth, back });
    }
}

#[tokio::test]
async fn a_splice_flushes_what_waits_for_more() {
    let (mut first, a) = duplex(1000);
    let (mut peer, pipe) = pipe().await;
    let splicing = tokio::spawn(splice(a, pipe));
    first.write_all(b"a line").await.unwrap();
    let heard = timeout(SOON, peer.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(heard, Message::Binary(b"a line".as_slice().into()));
    drop(peer);
    timeout(SOON, splicing).await.unwrap().unwrap().unwrap_err();
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
}

/// A reset on one side of a splice is one on the other, in either order.
#[tokio::test]
async fn a_splice_carries_a_reset_through() {
    for turned in [false, true] {
        let (client, mut server) = sessions(Limits::default());
        let (ours, theirs) = open(&client, &mut server).await;
        let (other, mut others) = open(&client, &mut server).await;
        let splicing = if turned {
            tokio::spawn(splice(other, theirs))
        } else {
            tokio::spawn(splice(theirs, other))
        };
        drop(ours);
        let error = timeout(SOON, others.read_u8()).await.unwrap().unwrap_err();
        assert!(
            matches!(StreamError::of(&error), Some(StreamError::Reset(_))),
            "{error:?}"
        );
        splicing.await.unwrap().unwrap_err();
    }
}

/// The whole way: kubelet, WebSocket, hub, tunnel, device.
#[tokio::test]
async fn a_command_passes_a_websocket_and_a_splice() {
    let (kubelet, hub) = pipes().await;
    let (tunnel, device) = duplex(1000);
    let splicing = tokio::spawn(splice(hub, tunnel));
    let limits = Limits::default();
    let mut running = Running::over_pipe(kubelet, ALL, limits);
    let command = Command::over_pipe(device, ALL, limits);
    let serving = tokio::spawn(async { cat(command, &Outcome::NonZeroExit(3)).await });
    let input = pattern(300_000);
    let (output, errors, outcome) = ask(&mut running, &input).await;
    assert!(output == input);
    assert_eq!(
        (errors.as_slice(), outcome.unwrap()),
        (&b"done\n"[..], Outcome::NonZeroExit(3))
    );
    running.verdict.close().await.unwrap();
    serving.await.unwrap().unwrap();
    let passed = timeout(SOON, splicing).await.unwrap().unwrap().unwrap();
    assert!(passed.forth > 300_000 && passed.back > 300_000, "{passed:?}");
}
