//! The server's role of the channel protocols: channels over one WebSocket.

use std::sync::Arc;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message as Frame, Utf8Bytes};

use super::protocol::{ChannelProtocol, Message, Violation};
use crate::error::ConnectionError;
use crate::limits::Limits;
use crate::mux::{Connection, Direction, Next, Shared, Stream, Word};

/// A channel, and what is said on it before anything else.
pub(crate) struct Opening {
    pub(crate) channel: u8,
    pub(crate) direction: Direction,
    /// The first message on the channel; empty ones count.
    pub(crate) greeting: Option<Vec<u8>>,
}

/// A WebSocket whose messages belong to channels that exist from the start. While a full stream holds it up, pings go unanswered too, as
/// with the kubelet; client-go gives up after a minute.
///
/// Messages for other channels are discarded, as the kubelet discards them. A client of the elder protocols cannot end a channel: its
/// streams end with the connection. Nor can the server: shutting a stream down says nothing, only closing the connection does.
pub(crate) struct Channels {
    connection: Connection,
}

impl Channels {
    /// Begins to speak; one stream per opening, in their order.
    pub(crate) fn server<T>(
        socket: WebSocketStream<T>,
        protocol: ChannelProtocol,
        openings: Vec<Opening>,
        limits: Limits,
    ) -> (Self, Vec<Stream>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Shared::new(limits);
        let (sink, stream) = socket.split();
        let (mut streams, mut greetings) = (Vec::new(), Vec::new());
        for opening in openings {
            streams.push(shared.fix(opening.channel.into(), opening.direction));
            greetings.extend(
                opening
                    .greeting
                    .map(|bytes| protocol.data(opening.channel, &bytes)),
            );
        }
        let writer = Writer { sink, protocol };
        let connection = Connection::spawn(
            Arc::clone(&shared),
            read(stream, protocol, Arc::clone(&shared)),
            write(writer, greetings, shared),
        );
        (Self { connection }, streams)
    }

    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }
}

/// The reading task. Pings are answered inside the library, as often as it is polled.
async fn read<T>(mut stream: SplitStream<WebSocketStream<T>>, protocol: ChannelProtocol, shared: Arc<Shared>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let frame = match stream.next().await {
            None => return shared.over(None),
            Some(Err(error)) => return failed(error, &shared),
            Some(Ok(frame)) => frame,
        };
        let message = match &frame {
            Frame::Binary(bytes) => protocol.read(bytes),
            Frame::Text(text) => protocol.read(text.as_bytes()),
            Frame::Close(_) => {
                shared.peer_goes();
                continue;
            }
            Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => continue,
        };
        drop(frame);
        shared.touch();
        match message {
            Ok(Message::Data { channel, bytes }) => shared.deliver(channel.into(), &bytes).await,
            Ok(Message::Close { channel }) => shared.peer_finished(channel.into()),
            Ok(Message::Nothing) => {}
            Err(violation) => return violated(violation, &shared),
        }
    }
}

fn violated(violation: Violation, shared: &Shared) {
    tracing::debug!(%violation, "the peer broke the channel protocol");
    shared.violated(ConnectionError::Channels(violation));
}

fn failed(error: Error, shared: &Shared) {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(ResetWithoutClosingHandshake) => {
            shared.over(None);
        }
        Error::Io(error) => shared.over(Some(ConnectionError::Io(Arc::new(error)))),
        error => {
            tracing::debug!(%error, "the peer broke WebSocket");
            shared.violated(ConnectionError::WebSocket(Arc::new(error)));
        }
    }
}

struct Writer<T> {
    sink: SplitSink<WebSocketStream<T>, Frame>,
    protocol: ChannelProtocol,
}

/// The writing task.
async fn write<T>(mut writer: Writer<T>, greetings: Vec<Vec<u8>>, shared: Arc<Shared>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = writer.run(greetings, &shared).await {
        failed(error, &shared);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Writer<T> {
    async fn run(&mut self, greetings: Vec<Vec<u8>>, shared: &Shared) -> Result<(), Error> {
        for greeting in greetings {
            self.sink.feed(self.frame(greeting)).await?;
        }
        loop {
            match shared.try_next() {
                Next::Say(Word::Data { stream, bytes, .. }) if !bytes.is_empty() => {
                    let channel = u8::try_from(stream).expect("channels are bytes");
                    self.sink
                        .feed(self.frame(self.protocol.data(channel, &bytes)))
                        .await?;
                    shared.touch();
                }
                // An empty Close would read as 1005 and make kubectl fail.
                Next::Say(Word::End { failed, .. }) => {
                    let code = if failed {
                        CloseCode::Protocol
                    } else {
                        CloseCode::Normal
                    };
                    let reason = Utf8Bytes::default();
                    self.sink
                        .send(Frame::Close(Some(CloseFrame { code, reason })))
                        .await?;
                }
                Next::Say(_) => {}
                Next::Wait => {
                    self.sink.flush().await?;
                    shared.words().await;
                }
                Next::Stop => return self.sink.flush().await,
            }
        }
    }

    fn frame(&self, message: Vec<u8>) -> Frame {
        if self.protocol.is_base64() {
            Frame::Text(String::from_utf8(message).expect("base64 is text").into())
        } else {
            Frame::Binary(message.into())
        }
    }
}
