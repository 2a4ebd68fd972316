//! Sizes of a terminal, as JSON values one after the other.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::output::Output;
use crate::mux::ReadHalf;

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    #[serde(rename = "Width", alias = "width")]
    pub width: u16,
    #[serde(rename = "Height", alias = "height")]
    pub height: u16,
}

/// Bytes of one value at most.
const MAX_VALUE: usize = 1024;

/// The sizes that a client tells. Read them, or drop it: a full stream holds up the others.
#[derive(Debug)]
pub struct Resizes<R = ReadHalf> {
    /// Gone after the end and after what is no size, so that what follows is discarded.
    source: Option<R>,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Resizes<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source: Some(source),
            buffer: Vec::new(),
        }
    }

    /// The next size; `None` at the end, and for good after something that is no size, as with the kubelet. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            match first(&self.buffer) {
                First::Size(size, length) => {
                    self.buffer.drain(..length);
                    return Some(size);
                }
                First::Partial if self.buffer.len() < MAX_VALUE => {}
                First::Partial | First::Garbled => {
                    tracing::debug!("what should be a terminal's size is none; further ones are passed over");
                    self.source = None;
                    self.buffer = Vec::new();
                    return None;
                }
            }
            let mut chunk = [0; MAX_VALUE];
            let read = self.source.as_mut()?.read(&mut chunk).await;
            let length = read.unwrap_or(0);
            if length == 0 {
                self.source = None;
            }
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }
}

enum First {
    Size(TerminalSize, usize),
    Partial,
    Garbled,
}

fn first(buffer: &[u8]) -> First {
    let mut values = serde_json::Deserializer::from_slice(buffer).into_iter();
    match values.next() {
        Some(Ok(size)) => First::Size(size, values.byte_offset()),
        None => First::Partial,
        Some(Err(error)) if error.is_eof() => First::Partial,
        Some(Err(_)) => First::Garbled,
    }
}

/// Tells a runtime the sizes of a terminal.
#[derive(Debug)]
pub struct ResizeSender(Output);

impl ResizeSender {
    pub(crate) fn new(output: Output) -> Self {
        Self(output)
    }

    /// # Errors
    /// Those of the stream.
    pub async fn send(&mut self, size: TerminalSize) -> io::Result<()> {
        let mut text = serde_json::to_vec(&size)?;
        text.push(b'\n');
        self.0.write_all(&text).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(text: &[u8], expected: &[(u16, u16)]) {
        for step in 1..=text.len().min(100) {
            let (mut writer, reader) = tokio::io::duplex(step);
            let write = async {
                let _ = writer.write_all(text).await;
                drop(writer);
            };
            let read = async {
                let mut sizes = Vec::new();
                let mut resizes = Resizes::new(reader);
                while let Some(size) = resizes.next().await {
                    sizes.push((size.width, size.height));
                }
                sizes
            };
            let ((), sizes) = tokio::join!(write, read);
            assert_eq!(sizes, expected, "{step}: {}", String::from_utf8_lossy(text));
        }
    }

    #[tokio::test]
    async fn sizes_follow_one_another_until_something_is_none() {
        check(br#"{"Width":80,"Height":24}"#, &[(80, 24)]).await;
        check(
            b"{\"Width\":80,\"Height\":24}\n{\"Width\":1,\"Height\":2}\n",
            &[(80, 24), (1, 2)],
        )
        .await;
        check(
            br#"{"Width":80,"Height":24}{"width":1,"height":2}"#,
            &[(80, 24), (1, 2)],
        )
        .await;
        check(br#"{"Width":80,"Height":24}!{"Width":1,"Height":2}"#, &[(80, 24)]).await;
        check(br#"{"Width":65536,"Height":24}"#, &[]).await;
        check(br#"{"Width":80}{"Width":1,"Height":2}"#, &[]).await;
        check(br#"{"Width":80,"#, &[]).await;
        // What is held of one value is bounded.
        let padded = [[b' '; 3 * MAX_VALUE].as_slice(), br#"{"Width":80,"Height":24}"#].concat();
        check(&padded, &[]).await;
    }
}
