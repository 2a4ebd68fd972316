//! Connections in memory, and what passes over them.

use std::time::Duration;

use edge_streams::spdy::{Decoder, Encoder, Event, Frame, Headers, Session};
use edge_streams::{ConnectionError, Limits, OpenError, Stream, StreamError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Bytes that a connection in memory holds in each direction.
pub const PIPE: usize = 16 * 1024;

/// A client and a server of one connection.
pub fn sessions(limits: Limits) -> (Session, Session) {
    let (client, server) = duplex(PIPE);
    (Session::client(client, limits), Session::server(server, limits))
}

/// A hand-made peer and a server.
pub fn server(limits: Limits) -> (DuplexStream, Session) {
    let (peer, server) = duplex(PIPE);
    (peer, Session::server(server, limits))
}

/// The client's end of a WebSocket, without bounds of its own, and the server's, upgraded.
pub async fn websockets() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (client, server) = duplex(PIPE);
    let config = Some(edge_streams::websocket::config());
    (
        WebSocketStream::from_raw_socket(client, Role::Client, None).await,
        WebSocketStream::from_raw_socket(server, Role::Server, config).await,
    )
}

pub fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers::new(pairs.iter().copied()).unwrap()
}

/// Opens a stream and takes it on the other side.
pub async fn open(client: &Session, server: &mut Session) -> (Stream, Stream) {
    let (ours, theirs) = tokio::join!(client.open(Headers::default()), server.accept());
    (ours.unwrap(), theirs.unwrap())
}

/// Ends a connection from both sides.
pub async fn close(one: Session, other: Session) {
    let (one, other) = tokio::join!(one.close(), other.close());
    one.unwrap();
    // The first to be done takes the connection away.
    assert!(
        other.is_ok() || matches!(other, Err(ConnectionError::Vanished)),
        "{other:?}"
    );
}

/// `length` bytes that tell where they stand.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..=length / 8)
        .flat_map(|n| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(length)
        .collect()
}

/// Opens a stream that the server resets, perhaps before this side has seen that it was opened.
pub async fn open_in_vain(client: &Session, pairs: &[(&str, &str)]) {
    let error = match client.open(headers(pairs)).await {
        Ok(mut stream) => stream.read_u8().await.unwrap_err(),
        Err(OpenError::Refused(_)) => return,
        Err(other) => panic!("{other}"),
    };
    assert!(
        matches!(StreamError::of(&error), Some(StreamError::Reset(_))),
        "{error:?}"
    );
}

pub async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

pub async fn write_all(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
}

/// A deadline for what should happen at once.
pub const SOON: Duration = Duration::from_mins(1);

/// Waits until nothing goes on any more but what waits for the caller. All is in memory and on one thread here, so whoever can go on
/// does within a few turns.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// What a hand-made peer hears until the connection ends.
pub async fn heard(peer: &mut (impl AsyncRead + Unpin)) -> Vec<String> {
    let mut bytes = Vec::new();
    let _ = peer.read_to_end(&mut bytes).await;
    let mut decoder = Decoder::default();
    let mut input = bytes.as_slice();
    let mut heard = Vec::new();
    while let Some(event) = decoder.next(&mut input).unwrap() {
        heard.push(match event {
            Event::Data { stream, bytes, fin } => format!("data {stream} {} {fin}", bytes.len()),
            other => format!("{other:?}"),
        });
    }
    heard
}

pub async fn say(peer: &mut DuplexStream, frames: &[Frame<'_>]) {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for frame in frames {
        encoder.put(*frame, &mut bytes);
    }
    peer.write_all(&bytes).await.unwrap();
}
