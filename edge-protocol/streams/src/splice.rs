//! Two pipes of bytes made one.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

use crate::limits::READ_CHUNK;

/// How many bytes passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spliced {
    /// From the first pipe to the second.
    pub forth: u64,
    pub back: u64,
}

/// Passes bytes both ways until both directions have ended. The end of one is carried through (`shutdown`) while the other goes on; what
/// is passed is flushed whenever the source pauses. It holds 32 KiB.
///
/// When a side fails, both are dropped, which resets a [`Stream`](crate::Stream) and cuts a [`Pipe`](crate::websocket::Pipe). A TCP
/// connection would end in order: pass it by reference, and give it a linger of zero before dropping it. A side that has ended its
/// writing and then vanishes is noticed at the next bytes for it. No time limits; cancelling drops both.
///
/// # Errors
/// The first failure of either side.
pub async fn splice<A, B>(mut first: A, mut second: B) -> io::Result<Spliced>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let passed = copy_bidirectional_with_sizes(&mut first, &mut second, READ_CHUNK, READ_CHUNK).await;
    passed.map(|(forth, back)| Spliced { forth, back })
}
