//! A place in one file, and what is told from there on.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use edge_protocol::v1::LogPosition;

use super::files::LogName;
use super::line::{MAX_HEAD, read_head};
use super::source::{FIRST, NO_TIME, Source};
use super::teller::Teller;

/// Where a reader is: in a file that it holds open, whatever becomes of its name.
#[derive(Debug)]
pub(super) struct At {
    pub(super) name: LogName,
    pub(super) source: Source,
    /// By what [`LogPosition`] knows it.
    pub(super) file: i64,
    pub(super) offset: u64,
    line: Line,
    /// It was rotated away, and is read to its end for the last time.
    pub(super) is_left: bool,
}

/// Where in a line of the runtime's the next byte is.
#[derive(Debug, Clone, Copy)]
enum Line {
    Start,
    /// Behind the head, or behind some text.
    Text {
        wanted: bool,
        partial: bool,
        is_empty: bool,
    },
    /// What is no line is passed over.
    Garbage,
}

impl At {
    /// At the file's beginning.
    pub(super) fn beginning(name: LogName, mut source: Source) -> io::Result<Self> {
        let file = source.first_time()?;
        source.seek(0)?;
        Ok(Self {
            name,
            source,
            file,
            offset: 0,
            line: Line::Start,
            is_left: false,
        })
    }

    /// Goes to an offset, at most to the file's end. With `resumes` another reader told what is before it.
    pub(super) fn go_to(&mut self, offset: u64, resumes: bool, teller: &mut Teller) -> io::Result<()> {
        self.offset = self.source.length()?.map_or(offset, |length| offset.min(length));
        if resumes && self.offset > 0 {
            self.line = self.resumed(teller)?;
        }
        self.source.seek(self.offset)
    }

    /// Whether the file is where its name says.
    pub(super) fn is_at(&self, directory: &Path) -> bool {
        let there = fs::metadata(self.name.path(directory));
        there.is_ok_and(|there| there.ino() == self.source.inode())
    }

    fn position(&self) -> LogPosition {
        LogPosition {
            attempt: self.name.attempt,
            file: self.file,
            offset: self.offset,
        }
    }

    /// Tells the next bytes of a line, which `ended` if an end of line follows them.
    pub(super) fn tell(&mut self, bytes: &[u8], ended: bool, teller: &mut Teller, out: &mut Vec<u8>) {
        let text = match self.line {
            Line::Start => self.begin(bytes, teller, out),
            _ => bytes,
        };
        let Line::Text {
            wanted,
            partial,
            is_empty,
        } = &mut self.line
        else {
            self.offset += bytes.len() as u64 + u64::from(ended);
            if ended {
                self.line = Line::Start;
            }
            return;
        };
        *is_empty &= text.is_empty();
        let (wanted, goes_on) = (*wanted, *partial && !*is_empty);
        let ends = ended && !*partial;
        if wanted {
            teller.text(text, self.position(), out);
        }
        self.offset += text.len() as u64;
        if wanted && ends {
            teller.text(b"\n", self.position(), out);
        }
        if ended {
            self.offset += 1;
            self.line = Line::Start;
            teller.line_ended(goes_on);
        }
    }

    /// Reads a line's head, and gives what is behind it.
    fn begin<'a>(&mut self, bytes: &'a [u8], teller: &mut Teller, out: &mut Vec<u8>) -> &'a [u8] {
        let Some(head) = read_head(bytes) else {
            self.line = Line::Garbage;
            return bytes;
        };
        if self.file == NO_TIME && self.offset < FIRST {
            self.file = head.time_ns;
        }
        self.offset += head.length as u64;
        let wanted = teller.wants(&head);
        if wanted {
            teller.begin(&head, self.position(), out);
        }
        self.line = Line::Text {
            wanted,
            partial: head.partial,
            is_empty: true,
        };
        bytes.get(head.length..).unwrap_or_default()
    }

    /// The file ends here, be it inside a line.
    pub(super) fn end(&mut self, teller: &mut Teller) {
        if let Line::Text { is_empty, .. } = self.line {
            teller.line_ended(!is_empty);
        }
        self.line = Line::Start;
    }

    /// What another reader left at the present offset.
    fn resumed(&mut self, teller: &mut Teller) -> io::Result<Line> {
        let start = self.source.last_lines(self.offset, 1)?.start;
        let most = (self.offset - start).min(MAX_HEAD as u64);
        let told = self.source.read_from(start, most)?;
        let is_whole = self.source.read_from(self.offset - 1, 1)? == b"\n";
        let Some(head) = read_head(&told) else {
            return Ok(if is_whole { Line::Start } else { Line::Garbage });
        };
        let text = self
            .offset
            .saturating_sub(start + head.length as u64 + u64::from(is_whole));
        if is_whole {
            teller.resume_behind(head.partial && text > 0);
            return Ok(Line::Start);
        }
        Ok(Line::Text {
            wanted: teller.wants(&head),
            partial: head.partial,
            is_empty: text == 0,
        })
    }
}
