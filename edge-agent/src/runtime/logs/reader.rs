//! Reads one container's log from file to file, in turns that neither hold much nor take long.
//!
//! A line longer than the buffer is told in pieces. Of a reader that follows, a line that is not whole yet waits for its end, as with a kubelet.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_protocol::v1::LogQuery;

use super::files::{Age, LogName, list, list_attempt};
use super::place::At;
use super::source::{NO_TIME, Source};
use super::start::{self, Start};
use super::teller::Teller;

/// How much is handled at a time; tests have it less.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// At least [`MAX_HEAD`](super::line::MAX_HEAD). containerd's lines are 16 KiB long at most, unless it is told otherwise.
    pub(super) buffer: usize,
    /// The text of a frame. Times are not spread over two where they fit one.
    pub(super) frame: usize,
    /// The frames of a turn, but for the last one.
    pub(super) turn: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            buffer: 32 << 10,
            frame: 32 << 10,
            turn: 64 << 10,
        }
    }
}

/// What to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Take the next one.
    More,
    /// All that there is has been told; look again when something was written, or after this time.
    CaughtUp { again: Option<Duration> },
    /// Nothing else will be told of this instance.
    Ended,
    /// As much has been told as was asked for.
    Enough,
}

#[derive(Debug)]
pub(super) struct Reader {
    directory: PathBuf,
    attempt: u32,
    follow: bool,
    /// Where one that does not follow ends: so far it went when it began, however fast it grows.
    until: Option<Until>,
    /// How long nothing may have been written to a rotated file before it is left: the runtime may still have lines for it in hand.
    settle: Duration,
    sizes: Sizes,
    at: Option<At>,
    /// Read and not yet told; `At::offset` is where it begins.
    buffer: Vec<u8>,
    teller: Teller,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub(super) file: i64,
    pub(super) length: u64,
}

impl Reader {
    /// A reader of one attempt's log; `None` where that has no file. `now_ns` is the device's time.
    pub(super) fn open(
        directory: PathBuf,
        attempt: u32,
        query: &LogQuery,
        now_ns: i64,
        settle: Duration,
        sizes: Sizes,
    ) -> io::Result<Option<Self>> {
        let attempt = query.after.map_or(attempt, |after| after.attempt);
        let mut this = Self {
            teller: Teller::new(query, start::since(query, now_ns), sizes.frame),
            directory,
            attempt,
            follow: query.follow,
            until: None,
            settle,
            sizes,
            at: None,
            buffer: Vec::new(),
        };
        let is_there = again_if_gone(|| {
            let files = list_attempt(&this.directory, attempt)?;
            let Some(start) = start::start(&this.directory, &files, query, now_ns)? else {
                return Ok(false);
            };
            if !this.follow {
                this.until = start::end(&this.directory, &files)?;
            }
            // Where nothing was written yet, one that does not follow is at its end.
            if this.follow || this.until.is_some() {
                this.enter(start)?;
            }
            Ok(true)
        })?;
        Ok(is_there.then_some(this))
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The instance has ended: what is there is told, and then nothing.
    pub(super) fn finish(&mut self) {
        self.follow = false;
    }

    /// After the end of an instance: goes on with the next one that has a log. `false` where none has yet.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        let next = again_if_gone(|| {
            let next = list(&self.directory)?
                .into_iter()
                .find(|name| name.attempt > self.attempt);
            let source = next.as_ref().map(|name| Source::open(&self.directory, name));
            Ok(next.zip(source.transpose()?))
        })?;
        let Some((name, source)) = next else {
            return Ok(false);
        };
        self.attempt = name.attempt;
        self.follow = true;
        self.teller.begin_anew();
        self.set(name, source)?;
        Ok(true)
    }

    /// Tells as much as fits a turn: appends frames. What was told is told also where it ends in an error.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn turn(&mut self, out: &mut Vec<u8>) -> io::Result<Turn> {
        let turn = self.read_on(out);
        self.teller.flush(out);
        if !matches!(turn, Ok(Turn::More)) {
            self.teller.rest();
            self.buffer.shrink_to_fit();
        }
        turn
    }

    fn read_on(&mut self, out: &mut Vec<u8>) -> io::Result<Turn> {
        loop {
            if self.teller.is_over() {
                return Ok(Turn::Enough);
            }
            if self.at.is_none() {
                return Ok(Turn::Ended);
            }
            if out.len() >= self.sizes.turn {
                return Ok(Turn::More);
            }
            if self.fill()? > 0 {
                self.consume(false, out);
            } else if let Some(turn) = self.at_end(out)? {
                return Ok(turn);
            }
        }
    }

    /// Reads on in the present file; how much there was.
    fn fill(&mut self) -> io::Result<usize> {
        let Some(at) = &mut self.at else { return Ok(0) };
        let held = self.buffer.len() as u64;
        let mut most = self.sizes.buffer as u64 - held;
        if let Some(until) = self.until.filter(|until| until.file == at.file) {
            most = most.min(until.length.saturating_sub(at.offset + held));
        }
        at.source.read(most, &mut self.buffer)
    }

    /// Tells the whole lines in the buffer, and what cannot be waited for: a piece of a line that fills it, or `the_rest`.
    fn consume(&mut self, the_rest: bool, out: &mut Vec<u8>) {
        let Some(at) = &mut self.at else { return };
        let is_full = self.buffer.len() >= self.sizes.buffer;
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() && !self.teller.is_over() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let Some(end) = end else {
                if the_rest || (is_full && rest.len() == self.buffer.len()) {
                    at.tell(rest, false, &mut self.teller, out);
                    rest = &[];
                }
                break;
            };
            let (line, behind) = rest.split_at(end);
            at.tell(line, true, &mut self.teller, out);
            rest = behind.get(1..).unwrap_or_default();
        }
        if the_rest {
            at.end(&mut self.teller);
        }
        let told = self.buffer.len() - rest.len();
        self.buffer.drain(..told);
    }

    /// At the end of what the present file has: what comes then, unless it is to be read on.
    fn at_end(&mut self, out: &mut Vec<u8>) -> io::Result<Option<Turn>> {
        let Some(at) = &self.at else {
            return Ok(Some(Turn::Ended));
        };
        if self.until.is_some_and(|until| until.file == at.file) {
            self.consume(true, out);
            return Ok(Some(Turn::Ended));
        }
        let is_left = at.is_left;
        match self.successor()? {
            Some(next) if is_left => {
                self.consume(true, out);
                if let Some(source) = opened(&self.directory, &next)? {
                    self.set(next, source)?;
                }
                Ok(None)
            }
            Some(_) => self
                .leave()
                .map(|wait| wait.map(|again| Turn::CaughtUp { again: Some(again) })),
            None if self.follow => Ok(Some(Turn::CaughtUp { again: None })),
            None => {
                self.consume(true, out);
                Ok(Some(Turn::Ended))
            }
        }
    }

    /// The present file is not written to any more, or will not be in a moment.
    fn leave(&mut self) -> io::Result<Option<Duration>> {
        let Some(at) = &mut self.at else { return Ok(None) };
        if self.follow && !at.source.is_settled(self.settle)? {
            return Ok(Some(self.settle));
        }
        at.is_left = true;
        Ok(None)
    }

    /// The file after the present one. Where that is gone, those that are left are younger: the oldest go first.
    fn successor(&mut self) -> io::Result<Option<LogName>> {
        let Some(at) = &mut self.at else { return Ok(None) };
        if at.name.age == Age::Current && at.is_at(&self.directory) {
            return Ok(None);
        }
        let files = again_if_gone(|| {
            let files = list_attempt(&self.directory, self.attempt)?;
            let known = files.into_iter().map(|name| {
                let mut source = Source::open(&self.directory, &name)?;
                Ok((source.inode(), source.first_time()?, name))
            });
            known.collect::<io::Result<Vec<_>>>()
        })?;
        // The last one: a rotation that is being undone has two names for one file.
        let here = files.iter().rposition(|(inode, ..)| *inode == at.source.inode());
        let here = here.or_else(|| {
            files
                .iter()
                .position(|(_, file, _)| *file == at.file && at.file != NO_TIME)
        });
        let mut files = files.into_iter();
        if let Some(here) = here {
            at.name = files.nth(here).map_or(at.name.clone(), |(_, _, name)| name);
            return Ok(files.next().map(|(_, _, name)| name));
        }
        // By its name where that tells its age. One without a line is left for the newest.
        let is_younger = |file: i64, name: &LogName| match at.name.age {
            Age::Rotated(_) => name.age > at.name.age,
            Age::Current => name.age == Age::Current || (file > at.file && at.file != NO_TIME),
        };
        let younger = files.find(|(_, file, name)| is_younger(*file, name));
        Ok(younger.map(|(_, _, name)| name))
    }

    fn enter(&mut self, start: Start) -> io::Result<()> {
        let Start {
            name,
            offset,
            resumes,
        } = start;
        let source = Source::open(&self.directory, &name)?;
        let mut at = At::beginning(name, source)?;
        if offset > 0 {
            at.go_to(offset, resumes, &mut self.teller)?;
        }
        self.at = Some(at);
        Ok(())
    }

    fn set(&mut self, name: LogName, source: Source) -> io::Result<()> {
        self.buffer.clear();
        self.at = Some(At::beginning(name, source)?);
        Ok(())
    }
}

/// `None` where it went away since it was listed.
fn opened(directory: &Path, name: &LogName) -> io::Result<Option<Source>> {
    match Source::open(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Files are renamed and removed under way: what was listed and is gone is listed anew.
fn again_if_gone<T>(mut look: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TRIES: usize = 8;
    for _ in 1..TRIES {
        match look() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    look()
}
