//! How connections and streams end, as types.

use std::io;
use std::sync::Arc;

use crate::spdy::ResetCode;
use crate::{remote_command, spdy, websocket};

/// Why a connection ended, told to whoever waits on it or on one of its streams.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionError {
    /// In order: one side said that it goes (SPDY's GOAWAY, WebSocket's Close), then the stream of bytes ended.
    #[error("the connection was closed")]
    Closed,
    /// The stream of bytes ended without a word.
    #[error("the peer vanished")]
    Vanished,
    #[error("the connection failed")]
    Io(#[source] Arc<io::Error>),
    #[error("the peer broke SPDY")]
    Spdy(#[source] spdy::Violation),
    #[error("the peer broke the channel protocol")]
    Channels(#[source] websocket::Violation),
    #[error("the peer broke the frames of a command's pipe")]
    Frames(#[source] remote_command::Violation),
    #[error("the peer broke WebSocket")]
    WebSocket(#[source] Arc<tokio_tungstenite::tungstenite::Error>),
    /// This side let go of the connection before its streams.
    #[error("this side dropped the connection")]
    Dropped,
}

impl ConnectionError {
    /// Whether the peer is at fault and hears of it.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Self::Spdy(_) | Self::Channels(_) | Self::WebSocket(_))
    }
}

/// Why reading from or writing to a stream failed. It travels inside an [`io::Error`]: [`StreamError::of`] finds it there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    #[error("the peer reset the stream: {0}")]
    Reset(ResetCode),
    /// A half of the stream was dropped that had not been finished.
    #[error("this side reset the stream")]
    Abandoned,
    #[error("this side finished the stream")]
    Finished,
    #[error("the connection of the stream ended")]
    Connection(#[source] ConnectionError),
}

impl StreamError {
    /// The cause that a stream of this crate gave, if `error` is from one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Reset(_) => io::ErrorKind::ConnectionReset,
            StreamError::Abandoned | StreamError::Finished => io::ErrorKind::BrokenPipe,
            StreamError::Connection(_) => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, error)
    }
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    #[error("the peer refused the stream: {0}")]
    Refused(ResetCode),
    /// As many streams as [`Limits::streams`](crate::Limits::streams) allows are held, or resets wait for a peer that does not read.
    #[error("too many streams on one connection")]
    TooMany,
    #[error("the connection ended")]
    Connection(#[source] ConnectionError),
}
