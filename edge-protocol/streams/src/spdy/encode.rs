//! Frames → bytes.

use super::headers::Headers;
use super::id::{ResetCode, StreamId};
use super::zlib::Deflater;

pub(super) const VERSION: u16 = 0x8003;
pub(super) const SYN_STREAM: u16 = 1;
pub(super) const SYN_REPLY: u16 = 2;
pub(super) const RST_STREAM: u16 = 3;
pub(super) const PING: u16 = 6;
pub(super) const GOAWAY: u16 = 7;
pub(super) const HEADERS: u16 = 8;
pub(super) const FIN: u8 = 1;
pub(super) const UNIDIRECTIONAL: u8 = 2;

/// Lengths on the wire have 24 bits.
const MAX_LENGTH: usize = 0xff_ffff;

/// What this side can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// SYN_STREAM.
    Open {
        stream: StreamId,
        headers: &'a Headers,
    },
    /// SYN_REPLY.
    Reply {
        stream: StreamId,
        headers: &'a Headers,
    },
    /// RST_STREAM.
    Reset {
        stream: StreamId,
        code: ResetCode,
    },
    Ping(u32),
    GoAway {
        last_good: u32,
        status: u32,
    },
    /// HEADERS.
    Headers {
        stream: StreamId,
        headers: &'a Headers,
    },
    /// `fin` says that nothing follows on this stream. More bytes than a frame carries become several frames.
    Data {
        stream: StreamId,
        bytes: &'a [u8],
        fin: bool,
    },
}

/// The sending direction of one connection. Frames must reach the peer in the order in which they were encoded.
pub struct Encoder {
    deflater: Deflater,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            deflater: Deflater::new(),
        }
    }
}

impl Encoder {
    /// Appends `frame` to `out`.
    pub fn put(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) {
        match frame {
            Frame::Open { stream, headers } => {
                // No associated stream, priority 0, no credential slot.
                self.put_block(SYN_STREAM, stream, &[0; 6], headers, out);
            }
            Frame::Reply { stream, headers } => self.put_block(SYN_REPLY, stream, &[], headers, out),
            Frame::Headers { stream, headers } => self.put_block(HEADERS, stream, &[], headers, out),
            Frame::Reset { stream, code } => put_words(RST_STREAM, &[stream.get(), code.0], out),
            Frame::Ping(id) => put_words(PING, &[id], out),
            Frame::GoAway { last_good, status } => put_words(GOAWAY, &[last_good, status], out),
            Frame::Data { stream, bytes, fin } => put_data(stream, bytes, fin, out),
        }
    }

    fn put_block(
        &mut self,
        kind: u16,
        stream: StreamId,
        middle: &[u8],
        headers: &Headers,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        put_control(kind, 0, out);
        out.extend_from_slice(&stream.get().to_be_bytes());
        out.extend_from_slice(middle);
        self.deflater.put(headers, out);
        let length = out.len() - start - 8;
        out[start + 4..start + 8].copy_from_slice(&flags_and_length(0, length));
    }
}

fn put_control(kind: u16, length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&flags_and_length(0, length));
}

fn put_words(kind: u16, words: &[u32], out: &mut Vec<u8>) {
    put_control(kind, 4 * words.len(), out);
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

fn put_data(stream: StreamId, mut bytes: &[u8], fin: bool, out: &mut Vec<u8>) {
    loop {
        let (now, rest) = bytes.split_at(bytes.len().min(MAX_LENGTH));
        let flags = if fin && rest.is_empty() { FIN } else { 0 };
        out.extend_from_slice(&stream.get().to_be_bytes());
        out.extend_from_slice(&flags_and_length(flags, now.len()));
        out.extend_from_slice(now);
        bytes = rest;
        if bytes.is_empty() {
            return;
        }
    }
}

fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    debug_assert!(length <= MAX_LENGTH);
    let length = u32::try_from(length).expect("blocks and data are cut to 24 bits of length");
    (u32::from(flags) << 24 | length).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frame: Frame<'_>, expected: &[u8]) {
        let mut out = Vec::new();
        Encoder::default().put(frame, &mut out);
        assert_eq!(out, expected, "{frame:?}");
    }

    fn id(id: u32) -> StreamId {
        StreamId::new(id).unwrap()
    }

    /// Bytes by hand from the layouts of SPDY/3, 2.2 and 2.6.
    #[test]
    fn frames_without_headers_are_these_bytes() {
        let code = ResetCode::CANCEL;
        check(
            Frame::Reset { stream: id(5), code },
            &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 5],
        );
        check(Frame::Ping(7), &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
        let goaway = Frame::GoAway {
            last_good: 9,
            status: 1,
        };
        check(goaway, &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 1]);
        let (stream, bytes) = (StreamId::MAX, b"hi".as_slice());
        check(
            Frame::Data {
                stream,
                bytes,
                fin: false,
            },
            &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 2, b'h', b'i'],
        );
        let (stream, bytes) = (id(1), b"".as_slice());
        check(
            Frame::Data {
                stream,
                bytes,
                fin: true,
            },
            &[0, 0, 0, 1, 1, 0, 0, 0],
        );
    }

    #[test]
    fn data_of_any_length_becomes_frames() {
        let bytes = vec![7; MAX_LENGTH + 1];
        let mut out = Vec::new();
        let stream = id(3);
        let bytes = bytes.as_slice();
        Encoder::default().put(
            Frame::Data {
                stream,
                bytes,
                fin: true,
            },
            &mut out,
        );
        assert_eq!(out[..8], [0, 0, 0, 3, 0, 0xff, 0xff, 0xff]);
        assert_eq!(out[8 + MAX_LENGTH..], [0, 0, 0, 3, 1, 0, 0, 1, 7]);
    }
}
