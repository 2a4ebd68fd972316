//! What one connection may hold.

use crate::spdy::Headers;

/// How much is read from a connection, and at most handed to a stream, at a time.
pub(crate) const READ_CHUNK: usize = 16 * 1024;
/// How much of one stream is written before the next stream has its turn.
pub(crate) const WRITE_CHUNK: usize = 16 * 1024;

/// Bounds of one connection. What is full makes its other side wait; nothing is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams at once. More are refused one by one (`REFUSED_STREAM`); the connection goes on.
    pub streams: usize,
    /// Bytes of one stream that wait for its reader; at least 16 KiB. A full one stops the reading of the whole connection, as
    /// with Go's peers: SPDY between them has no flow control.
    pub receive_buffer: usize,
    /// Bytes of one stream that wait for the connection.
    pub send_buffer: usize,
}

impl Default for Limits {
    /// 256 streams (128 forwarded connections) of 64 KiB in either direction.
    fn default() -> Self {
        Self {
            streams: 256,
            receive_buffer: 64 * 1024,
            send_buffer: 64 * 1024,
        }
    }
}

impl Limits {
    /// The most bytes that the streams of one connection can hold, headers included. Queues grow by doubling, hence the factor. Defaults:
    /// 80 MiB, which takes a peer that fills every stream and a server that reads none; an idle stream holds its headers alone.
    pub fn memory_bound(&self) -> usize {
        let queues = 2 * (self.receive_buffer.max(READ_CHUNK) + self.send_buffer.max(1));
        self.streams * (queues + Headers::MAX_BLOCK)
    }

    /// Whether a piece of up to [`READ_CHUNK`] bytes fits beside what waits already.
    pub(crate) fn receives(&self, waiting: usize) -> bool {
        waiting + READ_CHUNK <= self.receive_buffer.max(READ_CHUNK)
    }

    /// How many more bytes a writer may queue.
    pub(crate) fn sends(&self, waiting: usize) -> usize {
        self.send_buffer.max(1).saturating_sub(waiting)
    }

    /// Words besides data (replies, resets, echoes) that may wait for a peer that does not read; then it is not read either.
    pub(crate) fn signals(&self) -> usize {
        2 * self.streams + 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_figure_is_the_bound() {
        assert_eq!(Limits::default().memory_bound(), 80 << 20);
    }

    #[test]
    fn a_buffer_takes_a_piece_whatever_it_is_set_to() {
        let limits = Limits {
            streams: 1,
            receive_buffer: 0,
            send_buffer: 0,
        };
        assert!(limits.receives(0) && !limits.receives(1));
        assert_eq!((limits.sends(0), limits.sends(1)), (1, 0));
    }
}
