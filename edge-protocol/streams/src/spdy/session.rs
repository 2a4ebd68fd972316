//! SPDY streams over any connection, in both roles.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadHalf, WriteHalf};

use super::decode::{Decoder, Event, Violation};
use super::encode::{Encoder, Frame};
use super::headers::Headers;
use super::id::StreamId;
use crate::error::{ConnectionError, OpenError};
use crate::limits::{Limits, READ_CHUNK};
use crate::mux::{Activity, Carrier, Connection, Gone, Shared, Stream, Word, write_words};

/// A SPDY connection: streams that the peer opened (server role) or this side opens (client role).
///
/// Two tasks belong to it and end with it. It reads ahead of slow users as far as [`Limits`] allow, then the peer waits; a stream that
/// nobody reads holds up the others, so read every stream or drop its reading half. A connection has no time limits of its own:
/// [`Session::activity`] tells when something last passed.
pub struct Session {
    connection: Connection,
}

impl Session {
    /// The role of kubelet and container runtime: the peer opens the streams.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as the client role does.
    pub fn server<T>(io: T, limits: Limits) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::spawn(io, limits, Role::Server)
    }

    /// The role of kubectl, and of an agent towards its container runtime: this side opens the streams, with odd and rising ids.
    pub fn client<T>(io: T, limits: Limits) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::spawn(io, limits, Role::Client)
    }

    fn spawn<T>(io: T, limits: Limits, role: Role) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let shared = Shared::new(limits);
        if role == Role::Client {
            // Servers have nothing to open streams for.
            shared.stop_accepting();
        }
        let (input, output) = tokio::io::split(io);
        let connection = Connection::spawn(
            Arc::clone(&shared),
            read(input, Arc::clone(&shared), role),
            write(output, shared),
        );
        Self { connection }
    }

    /// The next stream that the peer opened. It has been replied to already. Cancelling loses nothing.
    ///
    /// # Errors
    /// Why no more will come: the connection ended, or the peer said that it goes.
    /// Drop the session when its streams are done: one that broke the protocol and does not read is being told so until then.
    pub async fn accept(&mut self) -> Result<Stream, ConnectionError> {
        self.connection.shared.arrival().await
    }

    /// Opens a stream and waits for the peer's reply: Go's peers discard what comes before they replied. Give it a time limit (Go's: 30 s);
    /// cancelling resets the stream.
    ///
    /// # Errors
    /// [`OpenError`]: refused, too many, or no connection any more.
    pub async fn open(&self, headers: Headers) -> Result<Stream, OpenError> {
        self.connection.shared.open(headers).await
    }

    /// Finishes every stream, writes what is queued, says GOAWAY, and waits until the peer has closed the connection, which Go's peers
    /// do then, or has said it too; until that what it sends is read and discarded, so that no reset overtakes the last output. Give it a
    /// time limit; cancelling drops the connection.
    ///
    /// # Errors
    /// The connection ended before all was written.
    pub async fn close(self) -> Result<(), ConnectionError> {
        self.connection.close().await
    }

    pub fn activity(&self) -> Activity {
        self.connection.activity()
    }

    pub fn gone(&self) -> Gone {
        self.connection.gone()
    }

    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

/// The reading task.
async fn read<T: AsyncRead>(mut input: ReadHalf<T>, shared: Arc<Shared>, role: Role) {
    let mut incoming = Incoming {
        shared: &shared,
        role,
        last_opened: 0,
    };
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; READ_CHUNK];
    loop {
        match input.read(&mut chunk).await {
            Ok(0) => return shared.over(None),
            Err(error) => return shared.over(Some(ConnectionError::Io(Arc::new(error)))),
            Ok(length) => {
                shared.touch();
                if let Err(violation) = incoming.take(&mut decoder, &chunk[..length]).await {
                    tracing::debug!(%violation, "the peer broke SPDY");
                    return shared.violated(ConnectionError::Spdy(violation));
                }
            }
        }
    }
}

/// What the peer's frames do.
struct Incoming<'a> {
    shared: &'a Shared,
    role: Role,
    last_opened: u32,
}

impl Incoming<'_> {
    async fn take(&mut self, decoder: &mut Decoder, mut bytes: &[u8]) -> Result<(), Violation> {
        loop {
            self.shared.may_read().await;
            let Some(event) = decoder.next(&mut bytes)? else {
                return Ok(());
            };
            match event {
                Event::Data { stream, bytes, fin } => {
                    self.shared.deliver(stream.get(), bytes).await;
                    self.finished(stream, fin);
                }
                Event::Open {
                    stream,
                    headers,
                    fin,
                    unidirectional,
                } => {
                    self.open(stream, headers, (fin, unidirectional))?;
                }
                Event::Reply { stream, fin } => self.shared.replied(stream.get(), fin),
                Event::Reset { stream, code } => self.shared.peer_reset(stream.get(), code),
                Event::Headers { stream, fin } => self.finished(stream, fin),
                Event::Ping(id) if self.is_peers(id) => self.shared.pong(id),
                Event::Ping(_) => {}
                Event::GoAway { status, .. } => {
                    tracing::debug!(status, "the peer goes");
                    self.shared.peer_goes();
                }
            }
        }
    }

    fn finished(&self, stream: StreamId, fin: bool) {
        if fin {
            self.shared.peer_finished(stream.get());
        }
    }

    fn open(&mut self, stream: StreamId, headers: Headers, ends: (bool, bool)) -> Result<(), Violation> {
        if stream.get() <= self.last_opened || !self.is_peers(stream.get()) {
            return Err(Violation::StreamOrder(stream));
        }
        self.last_opened = stream.get();
        self.shared.accept(stream.get(), headers, ends);
        Ok(())
    }

    /// Clients use odd ids for streams and pings, servers even ones.
    fn is_peers(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Server)
    }
}

/// The writing task.
async fn write<T: AsyncWrite + Send>(mut output: WriteHalf<T>, shared: Arc<Shared>) {
    if let Err(error) = write_words(&mut output, &mut Encoder::default(), &shared).await {
        shared.over(Some(ConnectionError::Io(Arc::new(error))));
    }
}

impl Carrier for Encoder {
    fn put(&mut self, word: &Word, out: &mut Vec<u8>) {
        let id = |stream: &u32| StreamId::new(*stream).expect("streams of a session have ids of SPDY");
        let no_headers = Headers::default();
        let frame = match word {
            Word::Open { stream, headers } => Frame::Open {
                stream: id(stream),
                headers,
            },
            Word::Reply { stream } => Frame::Reply {
                stream: id(stream),
                headers: &no_headers,
            },
            Word::Reset { stream, code } => Frame::Reset {
                stream: id(stream),
                code: *code,
            },
            Word::Pong(ping) => Frame::Ping(*ping),
            Word::Data { stream, bytes, fin } => Frame::Data {
                stream: id(stream),
                bytes,
                fin: *fin,
            },
            Word::End {
                last_accepted,
                failed,
            } => Frame::GoAway {
                last_good: *last_accepted,
                status: u32::from(*failed),
            },
        };
        Self::put(self, frame, out);
    }

    async fn written<T: AsyncWrite + Send>(
        &mut self,
        _: &mut WriteHalf<T>,
        shared: &Shared,
    ) -> io::Result<()> {
        shared.flushed();
        Ok(())
    }
}
