//! Compression of header blocks: one zlib stream per direction, flushed after each block, with SPDY/3's dictionary.
//!
//! Every block of a direction must pass through its stream, wanted or not: the next one refers back to it.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Violation;
use super::headers::{Headers, HeadersError};

/// SPDY/3, 2.6.10.1.
static DICTIONARY: &[u8; 1423] = include_bytes!("dictionary.bin");

/// Matches reach back this far (2¹¹ bytes): dictionary and a block of ours, with an eighth of the usual memory.
const WINDOW_BITS: u8 = 11;
const CHUNK: usize = 4 * 1024;

pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut stream = Compress::new_with_window_bits(Compression::default(), true, WINDOW_BITS);
        stream
            .set_dictionary(DICTIONARY)
            .expect("a new stream takes a dictionary");
        Self(stream)
    }

    /// Appends the compressed block of `headers`.
    pub(super) fn put(&mut self, headers: &Headers, out: &mut Vec<u8>) {
        let block = headers.to_block();
        let mut rest = block.as_slice();
        loop {
            out.reserve(CHUNK);
            let before = self.0.total_in();
            self.0
                .compress_vec(rest, out, FlushCompress::Sync)
                .expect("the stream is never finished");
            rest = &rest[advance(before, self.0.total_in())..];
            // Room that is left over says that the flush is complete.
            if rest.is_empty() && out.len() < out.capacity() {
                return;
            }
        }
    }
}

pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers of one compressed block. Memory is bounded by [`Headers::MAX_BLOCK`], whatever the block inflates to.
    pub(super) fn take(&mut self, compressed: &[u8]) -> Result<Headers, Violation> {
        let block = self.inflate(compressed)?;
        Headers::from_block(&block).map_err(Violation::Headers)
    }

    fn inflate(&mut self, mut rest: &[u8]) -> Result<Vec<u8>, Violation> {
        let mut block = Vec::new();
        let mut chunk = [0; CHUNK];
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let outcome = self.0.decompress(rest, &mut chunk, FlushDecompress::Sync);
            let consumed = advance(before_in, self.0.total_in());
            let produced = advance(before_out, self.0.total_out());
            rest = rest.get(consumed..).unwrap_or_default();
            block.extend_from_slice(chunk.get(..produced).unwrap_or_default());
            if block.len() > Headers::MAX_BLOCK {
                return Err(Violation::Headers(HeadersError::TooLarge));
            }
            match outcome {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| Violation::Compression)?;
                }
                Err(_) | Ok(Status::StreamEnd) => return Err(Violation::Compression),
                // More may wait inside as long as the chunk came back full.
                Ok(_) if rest.is_empty() && produced < CHUNK => return Ok(block),
                Ok(_) if consumed == 0 && produced == 0 => return Err(Violation::Compression),
                Ok(_) => {}
            }
        }
    }
}

fn advance(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("a step is within a slice")
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_dictionary_is_that_of_the_specification() {
        let digest: [u8; 32] = Sha256::digest(DICTIONARY).into();
        let (high, low) = digest.split_at(16);
        let word = |half: &[u8]| u128::from_be_bytes(half.try_into().unwrap());
        assert_eq!(word(high), 0x51d2_7341_373f_923f_3cd8_8e1e_b716_2aea);
        assert_eq!(word(low), 0xa372_3d75_85ff_2399_201d_c064_9840_7f02);
    }

    #[test]
    fn blocks_refer_back_to_those_before() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        let mut lengths = Vec::new();
        for round in 0..200 {
            let id = round.to_string();
            let headers =
                Headers::new([("streamtype", "data"), ("port", "8080"), ("requestid", &id)]).unwrap();
            let mut compressed = Vec::new();
            deflater.put(&headers, &mut compressed);
            lengths.push(compressed.len());
            assert_eq!(inflater.take(&compressed).unwrap(), headers);
        }
        assert!(lengths[1] < lengths[0] / 2, "{lengths:?}");
    }

    /// Text that does not compress.
    fn noise() -> impl Iterator<Item = char> {
        let mut state = 1_u32;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'!' + u8::try_from(state >> 26).unwrap())
        })
    }

    fn check(value: &str) {
        let headers = Headers::new([("a", value)]).unwrap();
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        for _ in 0..2 {
            let mut compressed = Vec::new();
            deflater.put(&headers, &mut compressed);
            assert_eq!(inflater.take(&compressed).unwrap(), headers);
        }
    }

    /// Both loops go round more than once, and end in the middle of a chunk, at its end and after it.
    #[test]
    fn blocks_of_any_size_survive() {
        check(&noise().take(Headers::MAX_BLOCK - 100).collect::<String>());
        check(&"a".repeat(Headers::MAX_BLOCK - 100));
        for length in (0..2 * CHUNK).step_by(61).chain(CHUNK - 40..CHUNK + 40) {
            check(&noise().take(length).collect::<String>());
            check(&"a".repeat(length));
        }
    }

    /// Other peers may flush less than Go's do: then all of a block can be inside before all of it has come out.
    #[test]
    fn a_block_that_is_flushed_in_part_comes_out_whole() {
        for length in CHUNK - 300..CHUNK + 300 {
            let value = "a".repeat(length);
            let headers = Headers::new([("a", value.as_str())]).unwrap();
            let mut stream = Compress::new(Compression::best(), true);
            stream.set_dictionary(DICTIONARY).unwrap();
            let mut compressed = Vec::with_capacity(2 * CHUNK);
            stream
                .compress_vec(&headers.to_block(), &mut compressed, FlushCompress::Partial)
                .unwrap();
            assert_eq!(Inflater::new().take(&compressed).unwrap(), headers, "{length}");
        }
    }

    #[test]
    fn a_bomb_is_cut_at_the_bound() {
        let mut stream = Compress::new(Compression::fast(), true);
        stream.set_dictionary(DICTIONARY).unwrap();
        let mut bomb = Vec::with_capacity(64 * 1024);
        stream
            .compress_vec(&vec![0; 4 << 20], &mut bomb, FlushCompress::Sync)
            .unwrap();
        assert!(bomb.len() < super::super::Decoder::MAX_CONTROL, "{}", bomb.len());
        let mut inflater = Inflater::new();
        let refused = inflater.take(&bomb).unwrap_err();
        assert_eq!(refused, Violation::Headers(HeadersError::TooLarge));
        let inflated = usize::try_from(inflater.0.total_out()).unwrap();
        assert!(inflated <= Headers::MAX_BLOCK + CHUNK, "{inflated}");
    }

    #[test]
    fn what_is_not_zlib_with_this_dictionary_is_refused() {
        let mut other = Compress::new(Compression::best(), true);
        other.set_dictionary(b"another dictionary").unwrap();
        let mut foreign = Vec::with_capacity(100);
        other
            .compress_vec(b"\0\0\0\0", &mut foreign, FlushCompress::Sync)
            .unwrap();
        let mut ended = Vec::with_capacity(100);
        let mut stream = Compress::new(Compression::best(), true);
        stream.set_dictionary(DICTIONARY).unwrap();
        stream
            .compress_vec(b"\0\0\0\0", &mut ended, FlushCompress::Finish)
            .unwrap();
        for garbled in [
            foreign.as_slice(),
            &ended,
            b"\x78\x9c",
            b"GET / HTTP/1.1",
            b"\xff\xff\xff\xff",
        ] {
            let refused = Inflater::new().take(garbled);
            assert!(
                matches!(
                    refused,
                    Err(Violation::Compression | Violation::Headers(HeadersError::Truncated))
                ),
                "{garbled:?}: {refused:?}"
            );
        }
    }
}
