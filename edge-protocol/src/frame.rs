//! Bytes on a topic ⇄ a document. One leading byte names the encoding; what a peer declares is never trusted with memory.

use std::io::Read as _;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest frame on the wire, in bytes, encoding byte included.
pub const MAX_WIRE: usize = 1 << 20;
/// The largest document after decompression, in bytes.
pub const MAX_DOCUMENT: usize = 4 << 20;
/// Blobs up to this many bytes in sum travel inline with a statement; the device fetches the rest by digest.
pub const MAX_INLINE: usize = 256 << 10;

/// Below this size compressing costs more than it saves.
const COMPRESS_ABOVE: usize = 512;
const PLAIN: u8 = b'{';
const ZSTD: u8 = 0x01;

/// Why some bytes are no frame. The sender is at fault, or newer; the bytes are dropped and counted.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes exceeds {MAX_WIRE}")]
    TooLarge(usize),
    #[error("the document exceeds {MAX_DOCUMENT} bytes")]
    DocumentTooLarge,
    #[error("the frame is empty")]
    Empty,
    #[error("unknown encoding {0:#04x}")]
    UnknownEncoding(u8),
    #[error("the compressed document is damaged")]
    Damaged(#[source] std::io::Error),
    #[error("the document is not what this topic carries")]
    Malformed(#[source] serde_json::Error),
}

/// Encodes a document: JSON as it is, or compressed with zstd when that pays.
///
/// # Errors
/// [`FrameError::DocumentTooLarge`] and [`FrameError::TooLarge`] when the reader would have to refuse it.
pub fn encode(document: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let json = serde_json::to_vec(document).map_err(FrameError::Malformed)?;
    if json.len() > MAX_DOCUMENT {
        return Err(FrameError::DocumentTooLarge);
    }
    let frame = if json.len() < COMPRESS_ABOVE {
        json
    } else {
        let mut frame = vec![ZSTD];
        frame.extend(zstd::bulk::compress(&json, 3).map_err(FrameError::Damaged)?);
        frame
    };
    if frame.len() > MAX_WIRE {
        Err(FrameError::TooLarge(frame.len()))
    } else {
        Ok(frame)
    }
}

/// Decodes a frame.
///
/// # Errors
/// Every [`FrameError`]; memory is bounded by [`MAX_DOCUMENT`] whatever the frame claims.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
    if frame.len() > MAX_WIRE {
        return Err(FrameError::TooLarge(frame.len()));
    }
    match frame.split_first() {
        None => Err(FrameError::Empty),
        Some((&PLAIN, _)) => serde_json::from_slice(frame).map_err(FrameError::Malformed),
        Some((&ZSTD, compressed)) => {
            let json = decompress(compressed)?;
            serde_json::from_slice(&json).map_err(FrameError::Malformed)
        }
        Some((&other, _)) => Err(FrameError::UnknownEncoding(other)),
    }
}

fn decompress(compressed: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(FrameError::Damaged)?;
    // 2^22 is MAX_DOCUMENT: a frame that asks for a larger window is refused before the window is allocated.
    decoder.window_log_max(22).map_err(FrameError::Damaged)?;
    let mut json = Vec::new();
    decoder
        .take(MAX_DOCUMENT as u64 + 1)
        .read_to_end(&mut json)
        .map_err(FrameError::Damaged)?;
    if json.len() > MAX_DOCUMENT {
        Err(FrameError::DocumentTooLarge)
    } else {
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![b' '; 64 << 20], 3).unwrap();
        let frame: Vec<u8> = std::iter::once(ZSTD).chain(bomb).collect();
        assert!(frame.len() < MAX_WIRE);
        let error = decode::<serde_json::Value>(&frame).unwrap_err();
        assert!(
            matches!(error, FrameError::DocumentTooLarge | FrameError::Damaged(_)),
            "{error:?}"
        );
    }

    #[test]
    fn what_would_not_be_read_is_not_written() {
        let document = "x".repeat(MAX_DOCUMENT);
        assert!(matches!(encode(&document), Err(FrameError::DocumentTooLarge)));
    }

    proptest! {
        #[test]
        fn documents_round_trip(keys in prop::collection::btree_map("[a-z]{1,8}", ".{0,200}", 0..20)) {
            let frame = encode(&keys).unwrap();
            prop_assert_eq!(decode::<std::collections::BTreeMap<String, String>>(&frame).unwrap(), keys);
        }

        #[test]
        fn no_bytes_panic(frame in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(decode::<crate::v1::UpFrame>(&frame));
            drop(decode::<crate::v1::DownFrame>(&frame));
        }
    }
}
