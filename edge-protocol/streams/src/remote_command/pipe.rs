//! A command over any pipe of bytes, both roles: what a tunnel to a device carries.
//!
//! Both sides know which channels there are, so nothing is negotiated. Each goes one way; a reader that goes is told to the writer, whose
//! stream is reset then. Either side's last word is [`Event::End`] and the end of its direction: an end without it is a link that was cut.

mod frames;

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use super::{Kind, Options, Role};
use crate::error::ConnectionError;
use crate::limits::{Limits, READ_CHUNK};
use crate::mux::{Carrier, Connection, Direction, Shared, Stream, Word, write_words};
use crate::spdy::ResetCode;
pub use frames::Violation;
use frames::{Decoder, Event, put_close, put_data, put_end};

/// Begins to speak; one stream per channel.
///
/// # Panics
/// Outside of a tokio runtime.
pub(super) fn open<T>(
    io: T,
    role: Role,
    options: Options,
    limits: Limits,
) -> (Connection, Vec<(Kind, Stream)>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Shared::new(limits);
    let fix = |kind: Kind| (kind, shared.fix(kind as u32, role.direction(kind)));
    let streams = options.kinds().map(fix).collect();
    let channels = Channels { role, options };
    let (input, output) = tokio::io::split(io);
    let (said, waits) = oneshot::channel();
    let speaker = Speaker {
        channels,
        ending: false,
        said: Some(said),
    };
    let connection = Connection::spawn(
        Arc::clone(&shared),
        read(input, channels, Arc::clone(&shared), waits),
        write(output, speaker, shared),
    );
    (connection, streams)
}

/// Which channels there are, and which way they go.
#[derive(Debug, Clone, Copy)]
struct Channels {
    role: Role,
    options: Options,
}

impl Channels {
    fn direction(self, channel: u32) -> Option<Direction> {
        let kind = self.options.kinds().find(|kind| *kind as u32 == channel)?;
        Some(self.role.direction(kind))
    }
}

/// The reading task.
async fn read<T: AsyncRead>(
    mut input: ReadHalf<T>,
    channels: Channels,
    shared: Arc<Shared>,
    said: oneshot::Receiver<()>,
) {
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; READ_CHUNK];
    loop {
        match input.read(&mut chunk).await {
            Ok(0) => break,
            Err(error) => return shared.over(Some(ConnectionError::Io(Arc::new(error)))),
            Ok(length) => {
                shared.touch();
                if let Err(violation) = take(&mut decoder, &chunk[..length], channels, &shared).await {
                    tracing::debug!(%violation, "the peer broke the frames of a command's pipe");
                    return shared.violated(ConnectionError::Frames(violation));
                }
            }
        }
    }
    if shared.is_last_word_said() {
        // The peer waits for the like of this side.
        shared.close();
        let _ = said.await;
    }
    shared.over(None);
}

async fn take(
    decoder: &mut Decoder,
    mut bytes: &[u8],
    channels: Channels,
    shared: &Shared,
) -> Result<(), Violation> {
    while let Some(event) = decoder.next(&mut bytes)? {
        match event {
            Event::Data { channel, bytes } => shared.deliver(channel.into(), bytes).await,
            Event::Close { channel } => match channels.direction(channel.into()) {
                Some(Direction::In) => shared.peer_finished(channel.into()),
                Some(_) => shared.peer_reset(channel.into(), ResetCode::CANCEL),
                None => {}
            },
            Event::End => shared.peer_goes(),
        }
    }
    Ok(())
}

/// The writing task.
async fn write<T: AsyncWrite + Send>(mut output: WriteHalf<T>, mut speaker: Speaker, shared: Arc<Shared>) {
    if let Err(error) = write_words(&mut output, &mut speaker, &shared).await {
        shared.over(Some(ConnectionError::Io(Arc::new(error))));
    }
}

struct Speaker {
    channels: Channels,
    /// The last word is among what is being written.
    ending: bool,
    /// Told when the last word is out.
    said: Option<oneshot::Sender<()>>,
}

impl Carrier for Speaker {
    fn put(&mut self, word: &Word, out: &mut Vec<u8>) {
        let number = |stream: &u32| u8::try_from(*stream).expect("channels are bytes");
        match word {
            Word::Data { stream, bytes, fin } => {
                put_data(number(stream), bytes, out);
                if *fin {
                    put_close(number(stream), out);
                }
            }
            // It would read as an end in order, were it of a stream that this side writes: there it is left to the connection's end.
            Word::Reset { stream, .. } if self.channels.direction(*stream) == Some(Direction::In) => {
                put_close(number(stream), out);
            }
            Word::End { failed: false, .. } => {
                put_end(out);
                self.ending = true;
            }
            Word::Reset { .. }
            | Word::End { .. }
            | Word::Open { .. }
            | Word::Reply { .. }
            | Word::Pong(_) => {}
        }
    }

    async fn written<T: AsyncWrite + Send>(
        &mut self,
        output: &mut WriteHalf<T>,
        _: &Shared,
    ) -> io::Result<()> {
        if self.ending
            && let Some(said) = self.said.take()
        {
            output.shutdown().await?;
            // A reader that is gone knows more.
            let _ = said.send(());
        }
        Ok(())
    }
}
