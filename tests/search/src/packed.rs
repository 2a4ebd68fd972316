//! What is compressed with zstd within other bytes: frames of the wire, wherever they begin.

use std::io::Read as _;

/// How a frame begins (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What is read of one frame: more than any document of ours, less than a decompression bomb.
const MOST: u64 = 16 << 20;

/// The content of every frame that begins in these bytes, as far as it can be read: one that breaks off gives what came before.
pub(crate) fn frames(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let begins = bytes.windows(MAGIC.len()).enumerate();
    let begins = begins.filter_map(|(at, window)| (window == MAGIC).then_some(at));
    begins.filter_map(|at| unpacked(bytes.get(at..)?))
}

fn unpacked(frame: &[u8]) -> Option<Vec<u8>> {
    let decoder = zstd::stream::read::Decoder::with_buffer(frame)
        .ok()?
        .single_frame();
    let mut content = Vec::new();
    // What an error leaves is what was read before it.
    let _ = decoder.take(MOST).read_to_end(&mut content);
    (!content.is_empty()).then_some(content)
}
