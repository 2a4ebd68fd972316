//! Bytes → frames, in pieces of any size.
//!
//! Control frames are collected up to a cap; data passes through as it comes, so a peer may send frames of any length.
#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

use super::encode::{FIN, GOAWAY, HEADERS, PING, RST_STREAM, SYN_REPLY, SYN_STREAM, UNIDIRECTIONAL, VERSION};
use super::headers::{Headers, HeadersError};
use super::id::{ResetCode, StreamId};
use super::zlib::Inflater;

/// What the peer said. SETTINGS, WINDOW_UPDATE and frames of unknown type are passed over.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// SYN_STREAM.
    Open {
        stream: StreamId,
        headers: Headers,
        /// The peer sends nothing on it.
        fin: bool,
        /// The peer wants nothing on it.
        unidirectional: bool,
    },
    /// SYN_REPLY; its headers mean nothing to Kubernetes.
    Reply {
        stream: StreamId,
        fin: bool,
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
    /// HEADERS; read only because the next block refers back to it.
    Headers {
        stream: StreamId,
        fin: bool,
    },
    /// Some bytes of a frame, possibly none; `fin` with the last of them.
    Data {
        stream: StreamId,
        bytes: &'a [u8],
        fin: bool,
    },
}

/// Bytes that no peer in its right mind sends. The connection cannot go on: later blocks refer back to lost ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("control frames of version {0}, not 3")]
    Version(u16),
    #[error("a control frame of {0} bytes")]
    TooLarge(usize),
    #[error("a control frame of type {kind} and {length} bytes, which is not its length")]
    Length { kind: u16, length: usize },
    #[error("a frame for stream 0")]
    ZeroStream,
    #[error("stream {0} after a later one, or of this side's parity")]
    StreamOrder(StreamId),
    #[error("a header block that is no continued zlib stream with SPDY's dictionary")]
    Compression,
    #[error("a damaged header block")]
    Headers(#[source] HeadersError),
}

/// The receiving direction of one connection.
pub struct Decoder {
    inflater: Inflater,
    state: State,
}

enum State {
    /// Collects the 8 bytes that begin a frame.
    Head {
        bytes: [u8; 8],
        have: usize,
    },
    Control {
        kind: u16,
        flags: u8,
        length: usize,
        body: Vec<u8>,
    },
    Skip {
        left: usize,
    },
    Data {
        stream: StreamId,
        fin: bool,
        left: usize,
    },
}

const HEAD: State = State::Head {
    bytes: [0; 8],
    have: 0,
};

impl Default for Decoder {
    fn default() -> Self {
        Self {
            inflater: Inflater::new(),
            state: HEAD,
        }
    }
}

impl Decoder {
    /// Bytes of a control frame's body.
    pub const MAX_CONTROL: usize = 64 * 1024;

    /// Takes bytes from the front of `input` until a frame, or a piece of a data frame, is there. `None` when `input` is used up
    /// before that.
    ///
    /// # Errors
    /// [`Violation`]; the decoder is of no more use then.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Violation> {
        loop {
            match &mut self.state {
                State::Head { bytes, have } => {
                    let part = take(input, 8 - *have);
                    for (slot, byte) in bytes.iter_mut().skip(*have).zip(part) {
                        *slot = *byte;
                    }
                    *have += part.len();
                    if *have < 8 {
                        return Ok(None);
                    }
                    self.state = begin(*bytes)?;
                }
                State::Skip { left } => {
                    *left -= take(input, *left).len();
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = HEAD;
                }
                State::Data { stream, fin, left } => {
                    if input.is_empty() && *left > 0 {
                        return Ok(None);
                    }
                    let bytes = take(input, *left);
                    *left -= bytes.len();
                    let (stream, fin) = (*stream, *fin && *left == 0);
                    if *left == 0 {
                        self.state = HEAD;
                    }
                    return Ok(Some(Event::Data { stream, bytes, fin }));
                }
                State::Control {
                    kind,
                    flags,
                    length,
                    body,
                } => {
                    body.extend_from_slice(take(input, *length - body.len()));
                    if body.len() < *length {
                        return Ok(None);
                    }
                    let event = control(&mut self.inflater, *kind, *flags, body)?;
                    self.state = HEAD;
                    return Ok(Some(event));
                }
            }
        }
    }
}

fn take<'a>(input: &mut &'a [u8], wanted: usize) -> &'a [u8] {
    let (part, rest) = input.split_at_checked(wanted).unwrap_or((input, &[]));
    *input = rest;
    part
}

/// What follows the first 8 bytes of a frame.
fn begin(head: [u8; 8]) -> Result<State, Violation> {
    let [word @ .., flags, high, middle, low] = head;
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    let [control, minor, kind @ ..] = word;
    if control & 0x80 == 0 {
        let stream = StreamId::new(u32::from_be_bytes(word)).ok_or(Violation::ZeroStream)?;
        let fin = flags & FIN != 0;
        return Ok(State::Data {
            stream,
            fin,
            left: length,
        });
    }
    let version = u16::from_be_bytes([control, minor]);
    if version != VERSION {
        return Err(Violation::Version(version & 0x7fff));
    }
    let kind = u16::from_be_bytes(kind);
    if !matches!(
        kind,
        SYN_STREAM | SYN_REPLY | RST_STREAM | PING | GOAWAY | HEADERS
    ) {
        return Ok(State::Skip { left: length });
    }
    if length > Decoder::MAX_CONTROL {
        return Err(Violation::TooLarge(length));
    }
    let body = Vec::new();
    Ok(State::Control {
        kind,
        flags,
        length,
        body,
    })
}

fn control(inflater: &mut Inflater, kind: u16, flags: u8, body: &[u8]) -> Result<Event<'static>, Violation> {
    let wrong = || Violation::Length {
        kind,
        length: body.len(),
    };
    let fin = flags & FIN != 0;
    match kind {
        SYN_STREAM => {
            // Stream, associated stream, priority and slot.
            let (head, block) = body.split_first_chunk::<10>().ok_or_else(wrong)?;
            let [a, b, c, d, ..] = *head;
            let headers = inflater.take(block)?;
            Ok(Event::Open {
                stream: stream(u32::from_be_bytes([a, b, c, d]))?,
                headers,
                fin,
                unidirectional: flags & UNIDIRECTIONAL != 0,
            })
        }
        SYN_REPLY | HEADERS => {
            let (head, block) = body.split_first_chunk().ok_or_else(wrong)?;
            inflater.take(block)?;
            let stream = stream(u32::from_be_bytes(*head))?;
            if kind == SYN_REPLY {
                Ok(Event::Reply { stream, fin })
            } else {
                Ok(Event::Headers { stream, fin })
            }
        }
        RST_STREAM => {
            let [id, code] = words(body).ok_or_else(wrong)?;
            let (stream, code) = (stream(id)?, ResetCode(code));
            Ok(Event::Reset { stream, code })
        }
        PING => {
            let [id] = words(body).ok_or_else(wrong)?;
            Ok(Event::Ping(id))
        }
        _ => {
            let [last_good, status] = words(body).ok_or_else(wrong)?;
            Ok(Event::GoAway { last_good, status })
        }
    }
}

/// The top bit of an id in a control frame is reserved and ignored.
fn stream(word: u32) -> Result<StreamId, Violation> {
    StreamId::new(word & StreamId::MAX.get()).ok_or(Violation::ZeroStream)
}

/// Exactly `N` words.
fn words<const N: usize>(body: &[u8]) -> Option<[u32; N]> {
    let (words, rest) = body.as_chunks::<4>();
    let words: &[[u8; 4]; N] = words.try_into().ok()?;
    rest.is_empty().then(|| words.map(u32::from_be_bytes))
}

#[cfg(test)]
mod tests;
