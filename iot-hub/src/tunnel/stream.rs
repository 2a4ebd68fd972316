//! One stream of a tunnel.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use edge_protocol::v1::stream::MAX_OPENING;
use edge_protocol::v1::{StreamOpening, VERSION};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use crate::watched::Activity;

/// A stream as raw bytes both ways, with half-closes; dropping it before both ends resets it.
///
/// yamux reads the loss of a connection and a reset as the end in order. Here they are errors, except a reset that comes after this side has finished
/// writing: yamux cannot tell that one from an end.
#[derive(Debug)]
pub(crate) struct DeviceStream {
    stream: Compat<yamux::Stream>,
    /// Of the tunnel that carries it.
    tunnel: Arc<Activity>,
    finished: bool,
}

/// A stream that does not begin as streams do.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadOpening {
    #[error("it ended before it began")]
    Lost(#[from] io::Error),
    #[error("its opening of {0} bytes exceeds {MAX_OPENING}")]
    TooLarge(u32),
    #[error("its opening is no such document")]
    Malformed(#[from] serde_json::Error),
    #[error("its opening is of version {0}")]
    Version(u16),
}

impl DeviceStream {
    pub(super) fn new(stream: yamux::Stream, tunnel: Arc<Activity>) -> Self {
        Self {
            stream: stream.compat(),
            tunnel,
            finished: false,
        }
    }

    /// Reads the device's first word.
    ///
    /// # Errors
    /// [`BadOpening`]. It may take for ever.
    pub(super) async fn opening(&mut self) -> Result<StreamOpening, BadOpening> {
        let length = self.read_u32().await?;
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > MAX_OPENING {
            return Err(BadOpening::TooLarge(length));
        }
        let mut document = vec![0; size];
        self.read_exact(&mut document).await?;
        let opening: StreamOpening = serde_json::from_slice(&document)?;
        if opening.v == VERSION {
            Ok(opening)
        } else {
            Err(BadOpening::Version(opening.v))
        }
    }
}

impl AsyncRead for DeviceStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (into.filled().len(), into.remaining());
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let ended = room > 0 && into.filled().len() == before;
        let reset = !self.finished && self.stream.get_ref().is_closed();
        if ended && (reset || self.tunnel.is_over()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DeviceStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}
