//! One file of a log: read on from where it is, or looked at from its end. What was compressed looks as it was written.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use flate2::bufread::GzDecoder;

use super::files::LogName;
use super::line::read_head;

/// What is read at a time where a file is only looked through.
const BLOCK: u64 = 64 << 10;
/// A file is known by the time of its first line, looked for in so many bytes.
pub(super) const FIRST: u64 = 64 << 10;
/// The time of a file that has none.
pub(super) const NO_TIME: i64 = i64::MIN;

#[derive(Debug)]
pub(super) struct Source {
    content: Content,
    inode: u64,
}

#[derive(Debug)]
enum Content {
    Plain(File),
    Compressed(Box<GzDecoder<BufReader<File>>>),
}

/// Some lines before a place in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LastLines {
    pub(super) start: u64,
    /// How many there are, at most as many as were wanted.
    pub(super) count: u64,
}

impl Source {
    pub(super) fn open(directory: &Path, name: &LogName) -> io::Result<Self> {
        let file = File::open(name.path(directory))?;
        let inode = file.metadata()?.ino();
        let content = if name.compressed {
            Content::Compressed(Box::new(GzDecoder::new(BufReader::new(file))))
        } else {
            Content::Plain(file)
        };
        Ok(Self { content, inode })
    }

    /// Nobody else's while this is open.
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// In bytes as they were written. Of a compressed one it is not known before its end.
    pub(super) fn length(&self) -> io::Result<Option<u64>> {
        match &self.content {
            Content::Plain(file) => Ok(Some(file.metadata()?.len())),
            Content::Compressed(_) => Ok(None),
        }
    }

    /// Whether nothing was written to it for so long. A clock that was set back cannot tell, and holds nothing up.
    pub(super) fn is_settled(&self, period: Duration) -> io::Result<bool> {
        match &self.content {
            Content::Plain(file) if !period.is_zero() => {
                let age = file.metadata()?.modified()?.elapsed();
                Ok(age.map_or(true, |age| age >= period))
            }
            _ => Ok(true),
        }
    }

    /// Beyond the end there is nothing to read.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.content {
            Content::Plain(file) => {
                file.seek(SeekFrom::Start(offset))?;
            }
            Content::Compressed(decoder) => {
                let mut file = decoder.get_ref().get_ref().try_clone()?;
                file.rewind()?;
                **decoder = GzDecoder::new(BufReader::new(file));
                if let Err(error) = io::copy(&mut decoder.take(offset), &mut io::sink()) {
                    damaged(&error);
                }
            }
        }
        Ok(())
    }

    /// Appends at most so many bytes; fewer are all that there is now.
    pub(super) fn read(&mut self, most: u64, into: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.content {
            Content::Plain(file) => file.take(most).read_to_end(into),
            Content::Compressed(decoder) => {
                let before = into.len();
                let outcome = decoder.take(most).read_to_end(into);
                outcome.or_else(|error| {
                    damaged(&error);
                    Ok(into.len() - before)
                })
            }
        }
    }

    /// The bytes from here on, at most so many. Reading goes on behind them.
    pub(super) fn read_from(&mut self, offset: u64, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.seek(offset)?;
        self.read(most, &mut bytes)?;
        Ok(bytes)
    }

    /// The time of its first line that has one, in nanoseconds since the Unix epoch, or [`NO_TIME`].
    pub(super) fn first_time(&mut self) -> io::Result<i64> {
        let start = self.read_from(0, FIRST)?;
        let head = start.split(|byte| *byte == b'\n').find_map(read_head);
        Ok(head.map_or(NO_TIME, |head| head.time_ns))
    }

    /// The last lines before `end`; what stands before it without an end of line is one too.
    pub(super) fn last_lines(&mut self, end: u64, count: u64) -> io::Result<LastLines> {
        if count == 0 {
            return Ok(LastLines { start: end, count });
        }
        match &self.content {
            Content::Plain(file) => last_lines(file, end, count),
            Content::Compressed(_) => self.last_lines_forward(end, count),
        }
    }

    fn last_lines_forward(&mut self, end: u64, count: u64) -> io::Result<LastLines> {
        // An end of line ends the last line, and begins none.
        let (mut begun, mut is_new) = (0, true);
        self.each_byte(end, |_, byte| {
            begun += u64::from(is_new);
            is_new = byte == b'\n';
            true
        })?;
        let mut skip: u64 = begun.saturating_sub(count);
        let mut start = 0;
        if skip > 0 {
            self.each_byte(end, |at, byte| {
                skip -= u64::from(byte == b'\n');
                start = at + 1;
                skip > 0
            })?;
        }
        Ok(LastLines {
            start,
            count: begun.min(count),
        })
    }

    /// Gives each byte before `end` and where it is, while wanted.
    fn each_byte(&mut self, end: u64, mut see: impl FnMut(u64, u8) -> bool) -> io::Result<()> {
        self.seek(0)?;
        let (mut at, mut block) = (0, Vec::new());
        while at < end {
            block.clear();
            if self.read(BLOCK.min(end - at), &mut block)? == 0 {
                return Ok(());
            }
            for byte in &block {
                if !see(at, *byte) {
                    return Ok(());
                }
                at += 1;
            }
        }
        Ok(())
    }
}

/// What cannot be unpacked is passed over: it would keep all the rest from being read for ever.
fn damaged(error: &io::Error) {
    tracing::warn!(%error, "the rest of a compressed log is damaged");
}

/// Reads backwards as far as it must.
fn last_lines(file: &File, end: u64, count: u64) -> io::Result<LastLines> {
    let mut found = u64::from(end > 0);
    let mut below = end;
    let mut block = Vec::new();
    while below > 0 {
        let from = below.saturating_sub(BLOCK);
        block.resize(usize::try_from(below - from).unwrap_or_default(), 0);
        file.read_exact_at(&mut block, from)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let behind = from + at as u64 + 1;
            if *byte == b'\n' && behind < end {
                if found == count {
                    return Ok(LastLines { start: behind, count });
                }
                found += 1;
            }
        }
        below = from;
    }
    Ok(LastLines {
        start: 0,
        count: found,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn the_last_lines_are_found_plain_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let check = |text: &str, end: usize, count: u64, expect: (usize, u64)| {
            let rotated = LogName::parse("0.log.20261122-180000.gz").unwrap();
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            std::fs::write(rotated.path(dir.path()), encoder.finish().unwrap()).unwrap();
            let current = LogName::current(0);
            std::fs::write(current.path(dir.path()), text).unwrap();
            for name in [current, rotated] {
                let mut source = Source::open(dir.path(), &name).unwrap();
                let found = source.last_lines(end as u64, count).unwrap();
                assert_eq!(
                    (found.start, found.count),
                    (expect.0 as u64, expect.1),
                    "{name:?} {count}"
                );
                let read = source.read_from(found.start, u64::MAX).unwrap();
                assert_eq!(read, &text.as_bytes()[expect.0..]);
            }
        };
        check("a\nbb\nc\n", 7, 2, (2, 2));
        check("a\nbb\nc\n", 7, 3, (0, 3));
        check("a\nbb\nc\n", 7, 9, (0, 3));
        check("a\nbb\nc\n", 7, 0, (7, 0));
        check("a\nbb\nc", 6, 2, (2, 2));
        check("a\nbb\nc\n", 4, 1, (2, 1));
        check("a\nbb\nc\n", 5, 1, (2, 1));
        check("\n\n\n", 3, 2, (1, 2));
        check("", 0, 5, (0, 0));
        // Beyond one block.
        let long = "x".repeat(100_000);
        check(&format!("a\n{long}\n{long}\n"), 200_004, 1, (100_003, 1));
        check(&format!("a\n{long}\n{long}\n"), 200_004, 3, (0, 3));
    }
}
