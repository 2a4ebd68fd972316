//! The channel protocols: what a message means, and what says it.
#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A protocol in which each message begins with the number of its channel, as the kubelet's `wsstream` and client-go have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelProtocol {
    /// No subprotocol was asked for: as `channel.k8s.io`.
    Unnamed,
    /// `channel.k8s.io`: failures are plain text.
    Plain,
    /// `base64.channel.k8s.io`: the channel as a digit, then base64.
    Base64,
    /// `v4.channel.k8s.io`: the outcome is a `Status`.
    V4,
    /// `v4.base64.channel.k8s.io`.
    Base64V4,
    /// `v5.channel.k8s.io`: a client can say that a channel ends.
    V5,
}

/// A message, read.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Bytes of a channel, possibly none.
    Data { channel: u8, bytes: Vec<u8> },
    /// The sender will say no more on this channel.
    Close { channel: u8 },
    /// An empty message.
    Nothing,
}

/// A message that means nothing in its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a close signal of {0} bytes, not 2")]
    CloseSignal(usize),
    #[error("what should be base64 on channel {channel} is not")]
    Base64 { channel: u8 },
}

const CLOSE_SIGNAL: u8 = 255;

impl ChannelProtocol {
    /// The name in `Sec-WebSocket-Protocol`; `None` stands for no such header.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Unnamed => None,
            Self::Plain => Some("channel.k8s.io"),
            Self::Base64 => Some("base64.channel.k8s.io"),
            Self::V4 => Some("v4.channel.k8s.io"),
            Self::Base64V4 => Some("v4.base64.channel.k8s.io"),
            Self::V5 => Some("v5.channel.k8s.io"),
        }
    }

    /// Whether the outcome of a command is a `Status`, not the text of a failure.
    pub fn has_status(self) -> bool {
        matches!(self, Self::V4 | Self::Base64V4 | Self::V5)
    }

    /// Whether messages are text.
    pub fn is_base64(self) -> bool {
        matches!(self, Self::Base64 | Self::Base64V4)
    }

    /// Reads a message, text or binary alike, as the kubelet does.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn read(self, message: &[u8]) -> Result<Message, Violation> {
        let Some((&first, rest)) = message.split_first() else {
            return Ok(Message::Nothing);
        };
        if self == Self::V5 && first == CLOSE_SIGNAL {
            return match rest {
                &[channel] => Ok(Message::Close { channel }),
                _ => Err(Violation::CloseSignal(message.len())),
            };
        }
        if !self.is_base64() {
            let (channel, bytes) = (first, rest.to_vec());
            return Ok(Message::Data { channel, bytes });
        }
        let channel = first.wrapping_sub(b'0');
        let bytes = STANDARD.decode(rest).map_err(|_| Violation::Base64 { channel })?;
        Ok(Message::Data { channel, bytes })
    }

    /// The largest number of a channel: of base64 it is a character after `0`, which above the digits is some other of ASCII.
    pub fn max_channel(self) -> u8 {
        if self.is_base64() {
            0x7f - b'0'
        } else {
            CLOSE_SIGNAL - 1
        }
    }

    /// The bytes of a message with data; text if [`Self::is_base64`]. `channel` is no larger than [`Self::max_channel`].
    pub fn data(self, channel: u8, bytes: &[u8]) -> Vec<u8> {
        if !self.is_base64() {
            return [&[channel], bytes].concat();
        }
        let mut text = String::from(char::from(b'0' + channel.min(self.max_channel())));
        STANDARD.encode_string(bytes, &mut text);
        text.into_bytes()
    }

    /// The message that ends a channel, if there is one.
    pub fn close(self, channel: u8) -> Option<Vec<u8>> {
        (self == Self::V5).then(|| vec![CLOSE_SIGNAL, channel])
    }
}

#[cfg(test)]
mod tests {
    use ChannelProtocol::{Base64, Base64V4, Plain, Unnamed, V4, V5};

    use super::*;

    fn check(protocol: ChannelProtocol, message: &[u8], expected: Message) {
        assert_eq!(protocol.read(message), Ok(expected), "{protocol:?} {message:?}");
    }

    fn refuses(protocol: ChannelProtocol, message: &[u8], expected: Violation) {
        assert_eq!(protocol.read(message), Err(expected), "{protocol:?} {message:?}");
    }

    fn data(channel: u8, bytes: &[u8]) -> Message {
        let bytes = bytes.to_vec();
        Message::Data { channel, bytes }
    }

    #[test]
    fn messages_mean_this() {
        for protocol in [Unnamed, Plain, V4, V5] {
            check(protocol, b"", Message::Nothing);
            check(protocol, b"\0", data(0, b""));
            check(protocol, b"\0foo\n", data(0, b"foo\n"));
            check(protocol, b"\x07x", data(7, b"x"));
        }
        check(V5, b"\xff\0", Message::Close { channel: 0 });
        refuses(V5, b"\xff", Violation::CloseSignal(1));
        refuses(V5, b"\xff\0\0", Violation::CloseSignal(3));
        check(V4, b"\xff\0", data(255, b"\0"));
        for protocol in [Base64, Base64V4] {
            check(protocol, b"", Message::Nothing);
            check(protocol, b"0", data(0, b""));
            check(protocol, b"0Zm9vCg==", data(0, b"foo\n"));
            refuses(protocol, b"0Zm9vCg", Violation::Base64 { channel: 0 });
            refuses(protocol, b"1\xff\xff", Violation::Base64 { channel: 1 });
            check(protocol, b"\0", data(208, b""));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for protocol in [Unnamed, Plain, Base64, V4, Base64V4, V5] {
            for channel in [0, 1, 2, 3, 4, protocol.max_channel()] {
                for bytes in [b"".as_slice(), b"\n", &[0, 255, 254]] {
                    check(protocol, &protocol.data(channel, bytes), data(channel, bytes));
                }
            }
            assert_eq!(protocol.close(0), (protocol == V5).then(|| vec![255, 0]));
        }
        assert_eq!(Base64.data(1, b"\n"), b"1Cg==");
        assert!(str::from_utf8(&Base64.data(255, b"")).is_ok());
    }
}
