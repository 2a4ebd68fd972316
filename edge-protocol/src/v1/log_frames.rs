//! What a log's stream of the tunnel carries: frames of text, each with the position up to which the log has been told, and an end.
//!
//! A frame is a kind (`u8`), a length (`u32`) and so many bytes, all numbers in network order. Data begins with the position: attempt (`u32`), file
//! (`i64`), offset (`u64`). A stream that ends without [`LogFrame::End`] or [`LogFrame::Failed`] was cut: the reader asks again with
//! [`LogQuery::after`](super::LogQuery::after).

use super::LogPosition;

/// The text in one frame, in bytes.
pub const MAX_LOG_DATA: usize = 64 << 10;
/// Why a log cannot be told on, in bytes.
pub const MAX_LOG_MESSAGE: usize = 1 << 10;

const DATA: u8 = 0;
const END: u8 = 1;
const FAILED: u8 = 2;
/// A kind and a length.
const HEAD: usize = 5;
const POSITION: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFrame {
    /// Text as the client gets it, and what of the log has been told with it. It may begin and end inside a line.
    Data { position: LogPosition, text: Vec<u8> },
    /// All that was asked for has been told.
    End,
    /// The device cannot go on, and asking again is of no use.
    Failed { message: String },
}

/// The bytes are no log frames. The sender is at fault, or newer: the stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogFrameError {
    #[error("a log frame of the unknown kind {0}")]
    UnknownKind(u8),
    #[error("a log frame of kind {kind} and {length} bytes")]
    Length { kind: u8, length: u32 },
    #[error("the message of a log frame is not UTF-8")]
    Message,
}

/// Appends a frame of data to what is to be sent.
///
/// # Panics
/// The text exceeds [`MAX_LOG_DATA`]: the caller cuts it.
pub fn encode_data(position: LogPosition, text: &[u8], out: &mut Vec<u8>) {
    assert!(
        text.len() <= MAX_LOG_DATA,
        "a log frame's text is cut by its writer"
    );
    let LogPosition {
        attempt,
        file,
        offset,
    } = position;
    head(DATA, POSITION + text.len(), out);
    out.extend_from_slice(&attempt.to_be_bytes());
    out.extend_from_slice(&file.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(text);
}

/// Appends the end in order.
pub fn encode_end(out: &mut Vec<u8>) {
    head(END, 0, out);
}

/// Appends the end for a reason; what exceeds [`MAX_LOG_MESSAGE`] is cut at a character's boundary.
pub fn encode_failed(message: &str, out: &mut Vec<u8>) {
    let cut = message.floor_char_boundary(MAX_LOG_MESSAGE);
    let bytes = message.as_bytes().get(..cut).unwrap_or_default();
    head(FAILED, bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn head(kind: u8, length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).expect("lengths are bounded by this module");
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
}

/// Takes frames out of the bytes of a stream. It holds what was pushed and not yet taken, no more.
#[derive(Debug, Default)]
pub struct LogFrames {
    buffer: Vec<u8>,
    /// Taken from the buffer's beginning.
    taken: usize,
}

impl LogFrames {
    /// Adds what came. Take frames until there is none before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// [`LogFrameError`] as soon as a frame's head tells; nothing comes after it.
    pub fn take(&mut self) -> Result<Option<LogFrame>, LogFrameError> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((kind, length, rest)) = read_head(rest) else {
            return Ok(None);
        };
        let size = bounded(kind, length)?;
        let Some(body) = rest.get(..size) else {
            return Ok(None);
        };
        let frame = match kind {
            DATA => read_data(body).ok_or(LogFrameError::Length { kind, length })?,
            END => LogFrame::End,
            _ => LogFrame::Failed {
                message: String::from_utf8(body.to_vec()).map_err(|_| LogFrameError::Message)?,
            },
        };
        self.taken += HEAD + size;
        Ok(Some(frame))
    }
}

fn read_head(bytes: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    Some((*kind, u32::from_be_bytes(*length), rest))
}

/// What a frame of this kind may have, before anything of it is waited for.
fn bounded(kind: u8, length: u32) -> Result<usize, LogFrameError> {
    let most = match kind {
        DATA => POSITION + MAX_LOG_DATA,
        END => 0,
        FAILED => MAX_LOG_MESSAGE,
        other => return Err(LogFrameError::UnknownKind(other)),
    };
    let size = usize::try_from(length).ok().filter(|size| *size <= most);
    size.ok_or(LogFrameError::Length { kind, length })
}

fn read_data(body: &[u8]) -> Option<LogFrame> {
    let (attempt, rest) = body.split_first_chunk()?;
    let (file, rest) = rest.split_first_chunk()?;
    let (offset, text) = rest.split_first_chunk()?;
    Some(LogFrame::Data {
        position: LogPosition {
            attempt: u32::from_be_bytes(*attempt),
            file: i64::from_be_bytes(*file),
            offset: u64::from_be_bytes(*offset),
        },
        text: text.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = LogFrame> {
        let position = (any::<u32>(), any::<i64>(), any::<u64>());
        let data = (position, prop::collection::vec(any::<u8>(), 0..300));
        prop_oneof![
            4 => data.prop_map(|((attempt, file, offset), text)| LogFrame::Data {
                position: LogPosition { attempt, file, offset },
                text,
            }),
            1 => Just(LogFrame::End),
            1 => ".{0,80}".prop_map(|message| LogFrame::Failed { message }),
        ]
    }

    fn encode(frame: &LogFrame, out: &mut Vec<u8>) {
        match frame {
            LogFrame::Data { position, text } => encode_data(*position, text, out),
            LogFrame::End => encode_end(out),
            LogFrame::Failed { message } => encode_failed(message, out),
        }
    }

    fn all(chunks: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<LogFrame>, LogFrameError> {
        let (mut frames, mut found) = (LogFrames::default(), Vec::new());
        for chunk in chunks {
            frames.push(&chunk);
            while let Some(frame) = frames.take()? {
                found.push(frame);
            }
        }
        Ok(found)
    }

    #[test]
    fn frames_are_the_same_in_every_release() {
        let position = LogPosition {
            attempt: 2,
            file: -1,
            offset: 0x0102_0304,
        };
        let mut wire = Vec::new();
        encode_data(position, b"hi\n", &mut wire);
        encode_end(&mut wire);
        encode_failed("gone", &mut wire);
        let expect: &[u8] =
            b"\x00\0\0\0\x17\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\x01\x02\x03\x04hi\n\
            \x01\0\0\0\0\
            \x02\0\0\0\x04gone";
        assert_eq!(wire, expect);
    }

    #[test]
    fn a_head_that_promises_too_much_is_refused_before_its_bytes() {
        let check = |head: &[u8], expect| assert_eq!(all([head.to_vec()]), Err(expect), "{head:?}");
        let length = |kind, length| LogFrameError::Length { kind, length };
        check(b"\0\0\x01\0\x15", length(0, 0x1_0015));
        check(b"\0\xff\xff\xff\xff", length(0, u32::MAX));
        check(b"\0\0\0\0\x02..", length(0, 2));
        check(b"\x01\0\0\0\x01", length(1, 1));
        check(b"\x02\0\0\x04\x01", length(2, 1025));
        check(b"\x03\0\0\0\0", LogFrameError::UnknownKind(3));
        check(b"\x02\0\0\0\x01\xff", LogFrameError::Message);
        assert_eq!(all([b"\0\0\x01\0\x14".to_vec()]), Ok(Vec::new()));
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let mut wire = Vec::new();
        encode_failed(&"é".repeat(600), &mut wire);
        let message = "é".repeat(512);
        assert_eq!(all([wire]), Ok(vec![LogFrame::Failed { message }]));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(frames in prop::collection::vec(any_frame(), 0..8), size in 1_usize..700) {
            let mut wire = Vec::new();
            for frame in &frames {
                encode(frame, &mut wire);
            }
            let chunks = wire.chunks(size).map(<[u8]>::to_vec);
            prop_assert_eq!(all(chunks), Ok(frames));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(all([bytes]));
        }
    }
}
