//! The frames of a command's pipe ⇄ bytes, in pieces of any size.
//!
//! `channel u8 | length u32, the highest byte first | bytes`. Channels have the numbers of WebSocket's. A frame of channel 255 holds one byte:
//! the channel that its sender is done with, be it that it wrote it or that it read it; 255 there is the sender's last word.
#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

/// Bytes of one frame at most.
pub(super) const MAX_FRAME: usize = 64 * 1024;

const CLOSE: u8 = 255;
const HEAD: usize = 5;

/// What the peer said. Frames without bytes are passed over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Some bytes of a frame, at least one.
    Data { channel: u8, bytes: &'a [u8] },
    /// The peer will write no more on this channel, or reads no more of it.
    Close { channel: u8 },
    /// The peer's last word.
    End,
}

/// Bytes that are no frame of a command's pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a frame of {0} bytes, of at most {MAX_FRAME}")]
    TooLarge(u32),
    #[error("a close signal of {0} bytes, not 1")]
    CloseSignal(u32),
}

/// The receiving direction of one pipe. It holds no more than what begins a frame.
pub(super) struct Decoder(State);

enum State {
    Head { bytes: [u8; HEAD], have: usize },
    Data { channel: u8, left: usize },
    Close,
}

const START: State = State::Head {
    bytes: [0; HEAD],
    have: 0,
};

impl Default for Decoder {
    fn default() -> Self {
        Self(START)
    }
}

impl Decoder {
    /// Takes bytes from the front of `input` until something is said. `None` when `input` is used up before that.
    ///
    /// # Errors
    /// [`Violation`]; the decoder is of no more use then.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Violation> {
        loop {
            match &mut self.0 {
                State::Head { bytes, have } => {
                    let part = take(input, HEAD - *have);
                    for (slot, byte) in bytes.iter_mut().skip(*have).zip(part) {
                        *slot = *byte;
                    }
                    *have += part.len();
                    if *have < HEAD {
                        return Ok(None);
                    }
                    self.0 = begin(*bytes)?;
                }
                State::Data { left: 0, .. } => self.0 = START,
                State::Data { channel, left } => {
                    let bytes = take(input, *left);
                    *left -= bytes.len();
                    let channel = *channel;
                    return Ok((!bytes.is_empty()).then_some(Event::Data { channel, bytes }));
                }
                State::Close => {
                    let Some(&channel) = take(input, 1).first() else {
                        return Ok(None);
                    };
                    self.0 = START;
                    return Ok(Some(if channel == CLOSE {
                        Event::End
                    } else {
                        Event::Close { channel }
                    }));
                }
            }
        }
    }
}

fn begin([channel, length @ ..]: [u8; HEAD]) -> Result<State, Violation> {
    let length = u32::from_be_bytes(length);
    let left = usize::try_from(length).unwrap_or(usize::MAX);
    match channel {
        CLOSE if length == 1 => Ok(State::Close),
        CLOSE => Err(Violation::CloseSignal(length)),
        _ if left > MAX_FRAME => Err(Violation::TooLarge(length)),
        _ => Ok(State::Data { channel, left }),
    }
}

fn take<'a>(input: &mut &'a [u8], limit: usize) -> &'a [u8] {
    let (part, rest) = input.split_at(input.len().min(limit));
    *input = rest;
    part
}

/// Bytes of a channel; none say nothing.
pub(super) fn put_data(channel: u8, bytes: &[u8], out: &mut Vec<u8>) {
    for frame in bytes.chunks(MAX_FRAME) {
        put(channel, frame, out);
    }
}

pub(super) fn put_close(channel: u8, out: &mut Vec<u8>) {
    put(CLOSE, &[channel], out);
}

pub(super) fn put_end(out: &mut Vec<u8>) {
    put_close(CLOSE, out);
}

fn put(channel: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).expect("chunked");
    out.push(channel);
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is said, with the pieces of a channel joined.
    fn said(bytes: &[u8], piece: usize) -> Result<Vec<(u8, Vec<u8>)>, Violation> {
        let mut decoder = Decoder::default();
        let mut said: Vec<(u8, Vec<u8>)> = Vec::new();
        for mut input in bytes.chunks(piece) {
            while let Some(event) = decoder.next(&mut input)? {
                match (event, said.last_mut()) {
                    (Event::Data { channel, bytes }, Some((last, joined))) if *last == channel => {
                        assert!(!bytes.is_empty());
                        joined.extend(bytes);
                    }
                    (Event::Data { channel, bytes }, _) => said.push((channel, bytes.to_vec())),
                    (Event::Close { channel }, _) => said.push((CLOSE, vec![channel])),
                    (Event::End, _) => said.push((CLOSE, vec![CLOSE])),
                }
            }
            assert!(input.is_empty());
        }
        Ok(said)
    }

    #[test]
    fn frames_are_these_bytes() {
        let mut out = Vec::new();
        put_data(1, b"ab", &mut out);
        put_data(2, b"", &mut out);
        put_close(0, &mut out);
        put_end(&mut out);
        assert_eq!(out, b"\x01\0\0\0\x02ab\xff\0\0\0\x01\0\xff\0\0\0\x01\xff");
    }

    #[test]
    fn what_is_no_frame_is_named() {
        let check = |bytes: &[u8], expected| assert_eq!(said(bytes, 3), expected, "{bytes:?}");
        check(b"\x01\0\0\0\0", Ok(vec![]));
        check(b"\x01\0\x01\0\0", Ok(vec![]));
        check(b"\x01\0\x01\0\x01", Err(Violation::TooLarge(0x1_0001)));
        check(b"\xfe\xff\xff\xff\xff", Err(Violation::TooLarge(u32::MAX)));
        check(b"\xff\0\0\0\0", Err(Violation::CloseSignal(0)));
        check(b"\xff\0\0\0\x02", Err(Violation::CloseSignal(2)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            frames in proptest::collection::vec((0_u8..=255, 0_usize..200_000), 0..6),
            piece in prop_oneof![1_usize..12, 1_usize..100_000],
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::<(u8, Vec<u8>)>::new());
            for (channel, length) in frames {
                if channel == CLOSE {
                    let channel = u8::try_from(length % 256).unwrap();
                    put_close(channel, &mut bytes);
                    expected.push((CLOSE, vec![channel]));
                    continue;
                }
                let data: Vec<u8> = (0..length).map(|n| (n % 251).to_le_bytes()[0]).collect();
                put_data(channel, &data, &mut bytes);
                match expected.last_mut() {
                    Some((last, joined)) if *last == channel => joined.extend(data),
                    _ if data.is_empty() => {}
                    _ => expected.push((channel, data)),
                }
            }
            let said = said(&bytes, piece);
            prop_assert!(said == Ok(expected));
        }

        #[test]
        fn any_bytes_are_read_alike_however_they_are_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()], 0..400),
            piece in 1_usize..20,
        ) {
            prop_assert_eq!(said(&bytes, piece), said(&bytes, bytes.len().max(1)));
        }
    }
}
