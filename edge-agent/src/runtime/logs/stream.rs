//! Tells a log to whoever asked, as frames: the shell around the reader.

use std::future::Future;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_protocol::v1::LogQuery;
use edge_protocol::v1::log_frames::{encode_end, encode_failed};
use jiff::Timestamp;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use super::reader::{Reader, Sizes, Turn};
use super::watch::{Watched, Watcher};

/// Without news for so long, it is asked whether the container still runs, and looked again (`logForceCheckPeriod` of the kubelet's reader).
const IDLE: Duration = Duration::from_secs(1);
/// The same where the kernel tells of no changes.
const POLL: Duration = Duration::from_millis(250);
/// The runtime may have lines in hand for so long after it opened another file, or after the container's end.
const SETTLE: Duration = Duration::from_millis(200);

/// What of logs may be told at a time. What is absent bounds nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LogCaps {
    pub bytes_per_second: Option<NonZeroU64>,
    /// One answer, frames included: at the first turn beyond it the answer ends.
    pub bytes: Option<NonZeroU64>,
}

/// What can be said of an instance of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Runs,
    /// It has ended, and another may follow.
    Ended,
    /// It has ended, and no other will follow.
    Over,
}

/// Why a log is not told, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    #[error("there is no log of container {container:?}, attempt {attempt}")]
    Missing { container: String, attempt: u32 },
    /// A name that cannot be part of a path, or a query that makes no sense.
    #[error("{0}")]
    Invalid(String),
    #[error("the log in {directory} cannot be read")]
    Unreadable {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the device tells at most {0} bytes of a log at a time; ask for less, such as the last lines")]
    TooMuch(NonZeroU64),
    /// Whoever asked has gone, or does not read.
    #[error("the log cannot be sent")]
    Unsent(#[source] io::Error),
    #[error("the work was abandoned because the agent is ending")]
    Abandoned,
}

impl LogFault {
    fn words(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// A log that is there and can be told.
#[derive(Debug)]
pub struct LogStream {
    reader: Reader,
    directory: PathBuf,
    through_restarts: bool,
    watched: Option<Watched>,
    caps: LogCaps,
}

impl LogStream {
    /// Finds where to begin in the directory of a container's logs; `None` where the attempt has none. Where `query.after` names another attempt, that
    /// one is told: an instance that is gone with its log has ended.
    ///
    /// # Errors
    /// [`LogFault::Unreadable`].
    pub(crate) async fn open(
        directory: &Path,
        attempt: u32,
        query: &LogQuery,
        watcher: Option<&Watcher>,
        caps: LogCaps,
    ) -> Result<Option<Self>, LogFault> {
        // Before the first look: what changes afterwards wakes.
        let watched = watcher
            .filter(|_| query.follow)
            .and_then(|watcher| watcher.watch(directory).ok());
        let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let (path, asked) = (directory.to_owned(), query.clone());
        let reader =
            blocking(move || Reader::open(path, attempt, &asked, now_ns, SETTLE, Sizes::default())).await?;
        let reader = reader.map_err(unreadable(directory))?;
        Ok(reader.map(|reader| Self {
            reader,
            directory: directory.to_owned(),
            through_restarts: query.follow && query.through_restarts,
            watched,
            caps,
        }))
    }

    /// Tells it to its end, which is the last frame. A reader that is slow is waited for, and nothing is read ahead of it. One that has gone is
    /// noticed when there is something to tell: the caller drops this future when it knows sooner. Shutting `to` down is the caller's.
    ///
    /// `standing` is asked about an attempt when nothing is written; only of a log that is followed.
    ///
    /// # Errors
    /// [`LogFault::Unsent`]; any other fault has been told in the last frame.
    pub async fn serve<W, F>(self, standing: impl Fn(u32) -> F, to: &mut W) -> Result<(), LogFault>
    where
        W: AsyncWrite + Unpin,
        F: Future<Output = Standing>,
    {
        let mut sender = Sender {
            to,
            caps: self.caps,
            sent: 0,
            due: Instant::now(),
        };
        let outcome = self.tell(standing, &mut sender).await;
        let mut last = Vec::new();
        match &outcome {
            Ok(()) => encode_end(&mut last),
            Err(LogFault::Unsent(_)) => return outcome,
            Err(fault) => encode_failed(&fault.words(), &mut last),
        }
        sender.to.write_all(&last).await.map_err(LogFault::Unsent)?;
        sender.to.flush().await.map_err(LogFault::Unsent)?;
        outcome
    }

    async fn tell<W, F>(self, standing: impl Fn(u32) -> F, sender: &mut Sender<'_, W>) -> Result<(), LogFault>
    where
        W: AsyncWrite + Unpin,
        F: Future<Output = Standing>,
    {
        let Self {
            mut reader,
            directory,
            through_restarts,
            watched,
            caps: _,
        } = self;
        let changes = Changes(watched);
        let mut asked = Instant::now();
        loop {
            let (frames, turn);
            (reader, (frames, turn)) = elsewhere(reader, |reader| {
                let mut frames = Vec::new();
                let turn = reader.turn(&mut frames);
                (frames, turn)
            })
            .await?;
            if !frames.is_empty() {
                asked = Instant::now();
                sender.send(&frames).await?;
            }
            match turn.map_err(unreadable(&directory))? {
                Turn::More => {}
                Turn::CaughtUp { again } => {
                    sender.flush().await?;
                    changes.next(again).await;
                    if asked.elapsed() >= IDLE {
                        asked = Instant::now();
                        if standing(reader.attempt()).await != Standing::Runs {
                            tokio::time::sleep(SETTLE).await;
                            reader.finish();
                        }
                    }
                }
                Turn::Ended if through_restarts => {
                    let is_over = standing(reader.attempt()).await == Standing::Over;
                    let advanced;
                    (reader, advanced) = elsewhere(reader, Reader::advance).await?;
                    if !advanced.map_err(unreadable(&directory))? {
                        if is_over {
                            return Ok(());
                        }
                        changes.next(None).await;
                    }
                }
                Turn::Ended | Turn::Enough => return Ok(()),
            }
        }
    }
}

/// What tells that there may be more to read.
struct Changes(Option<Watched>);

impl Changes {
    async fn next(&self, again: Option<Duration>) {
        match &self.0 {
            Some(watched) => {
                // No news for so long is a reason to look, too.
                let _woken = tokio::time::timeout(again.unwrap_or(IDLE), watched.changed()).await;
            }
            None => tokio::time::sleep(again.unwrap_or(POLL).min(POLL)).await,
        }
    }
}

struct Sender<'a, W> {
    to: &'a mut W,
    caps: LogCaps,
    sent: u64,
    /// When more may be sent.
    due: Instant,
}

impl<W: AsyncWrite + Unpin> Sender<'_, W> {
    async fn send(&mut self, frames: &[u8]) -> Result<(), LogFault> {
        if let Some(most) = self.caps.bytes.filter(|most| self.sent >= most.get()) {
            return Err(LogFault::TooMuch(most));
        }
        tokio::time::sleep_until(self.due).await;
        self.to.write_all(frames).await.map_err(LogFault::Unsent)?;
        let size = frames.len() as u64;
        self.sent += size;
        if let Some(rate) = self.caps.bytes_per_second {
            let nanoseconds = size.saturating_mul(1_000_000_000) / rate;
            self.due = Instant::now() + Duration::from_nanos(nanoseconds);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LogFault> {
        self.to.flush().await.map_err(LogFault::Unsent)
    }
}

/// Lets the reader work where it may block: the agent has one thread, and a disk may be slow.
async fn elsewhere<T: Send + 'static>(
    mut reader: Reader,
    work: impl FnOnce(&mut Reader) -> T + Send + 'static,
) -> Result<(Reader, T), LogFault> {
    blocking(move || {
        let done = work(&mut reader);
        (reader, done)
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LogFault> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| LogFault::Abandoned)
}

fn unreadable(directory: &Path) -> impl Fn(io::Error) -> LogFault {
    let directory = directory.to_owned();
    move |source| LogFault::Unreadable {
        directory: directory.clone(),
        source,
    }
}
