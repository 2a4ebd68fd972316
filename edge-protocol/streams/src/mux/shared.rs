//! The table of streams behind a lock, with the waiting around it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::entry::Own;
use super::stream::Stream;
use super::table::{Direction, Next, Table};
use crate::error::{ConnectionError, OpenError, StreamError};
use crate::limits::{Limits, READ_CHUNK};
use crate::spdy::{Headers, ResetCode};

/// What the tasks of a connection and the handles of its streams share. The lock is never held while anything waits; waking under it is
/// fine, since tokio's wakers only schedule.
pub(crate) struct Shared {
    table: Mutex<Table>,
    /// One waiter each: the writing task, the reading task, whoever accepts.
    words: Notify,
    room: Notify,
    arrivals: Notify,
    /// Any number of waiters: something was written or ended.
    progress: Notify,
    ended: watch::Sender<Option<ConnectionError>>,
    touched: watch::Sender<Instant>,
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(Table::new(limits)),
            words: Notify::new(),
            room: Notify::new(),
            arrivals: Notify::new(),
            progress: Notify::new(),
            ended: watch::Sender::new(None),
            touched: watch::Sender::new(Instant::now()),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics under this lock")
    }

    // For the reading task.

    /// Waits until the peer may say more.
    pub(crate) async fn may_read(&self) {
        while !self.table().may_read() {
            self.room.notified().await;
        }
    }

    /// `ends`: the peer will send nothing; the peer wants nothing.
    pub(crate) fn accept(&self, stream: u32, headers: Headers, ends: (bool, bool)) {
        self.table().accept(stream, headers, ends);
        self.words.notify_one();
        self.arrivals.notify_one();
    }

    pub(crate) fn replied(&self, stream: u32, fin: bool) {
        self.table().replied(stream, fin);
    }

    /// Hands data to a stream's reader, and waits for room there as long as it takes.
    pub(crate) async fn deliver(&self, stream: u32, bytes: &[u8]) {
        for piece in bytes.chunks(READ_CHUNK) {
            while !self.table().deliver(stream, piece) {
                self.room.notified().await;
            }
        }
    }

    pub(crate) fn peer_finished(&self, stream: u32) {
        self.table().peer_finished(stream);
        self.words.notify_one();
    }

    pub(crate) fn peer_reset(&self, stream: u32, code: ResetCode) {
        self.table().peer_reset(stream, code);
        self.progress.notify_waiters();
    }

    pub(crate) fn peer_goes(&self) {
        self.table().peer_goes();
        self.words.notify_one();
        self.arrivals.notify_one();
    }

    pub(crate) fn pong(&self, id: u32) {
        self.table().pong(id);
        self.words.notify_one();
    }

    /// The stream of bytes came to its end, or failed. What comes after the last word of either side is no failure.
    pub(crate) fn over(&self, error: Option<ConnectionError>) {
        let over = self.table().over();
        match (over, error) {
            (ConnectionError::Vanished, Some(error)) => self.end(error),
            (over, _) => self.end(over),
        }
    }

    /// Whether either side has said its last word: an end of the bytes is one in order then.
    pub(crate) fn is_last_word_said(&self) -> bool {
        matches!(self.table().over(), ConnectionError::Closed)
    }

    pub(crate) fn touch(&self) {
        self.touched.send_replace(Instant::now());
    }

    // For the writing task.

    pub(crate) fn try_next(&self) -> Next {
        let next = self.table().next();
        if matches!(next, Next::Say(_)) {
            self.room.notify_one();
            self.progress.notify_waiters();
        }
        next
    }

    /// Waits until [`Self::try_next`] may have another answer.
    pub(crate) async fn words(&self) {
        self.words.notified().await;
    }

    /// Everything that was said so far has been written.
    pub(crate) fn flushed(&self) {
        let done = self.table().is_done();
        if done {
            self.end(ConnectionError::Closed);
        }
    }

    // For users of the connection.

    /// From now on the peer's streams are refused, also those that nobody took.
    pub(crate) fn stop_accepting(&self) {
        self.table().stop_accepting();
        self.words.notify_one();
    }

    pub(crate) async fn arrival(self: &Arc<Self>) -> Result<Stream, ConnectionError> {
        loop {
            match self.table().arrival() {
                Ok(Some((stream, headers))) => return Ok(Stream::new(self, stream, headers)),
                Ok(None) => {}
                Err(reason) => return Err(reason),
            }
            self.arrivals.notified().await;
        }
    }

    /// Dropped before it is done, it resets the stream.
    pub(crate) async fn open(self: &Arc<Self>, headers: Headers) -> Result<Stream, OpenError> {
        let stream = {
            let mut table = self.table();
            if let Some(reason) = table.goes() {
                return Err(OpenError::Connection(reason));
            }
            let id = table.open(headers.clone()).ok_or(OpenError::TooMany)?;
            drop(table);
            Stream::new(self, id, headers)
        };
        self.words.notify_one();
        match std::future::poll_fn(|cx| self.poll_opened(stream.id(), cx)).await {
            Ok(()) => Ok(stream),
            Err(StreamError::Connection(reason)) => Err(OpenError::Connection(reason)),
            Err(StreamError::Reset(code)) => Err(OpenError::Refused(code)),
            Err(StreamError::Abandoned | StreamError::Finished) => {
                Err(OpenError::Connection(ConnectionError::Closed))
            }
        }
    }

    /// A stream that was replied to is open, even if it has been reset since: what came in between is to be read.
    fn poll_opened(&self, stream: u32, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut table = self.table();
        if table.entry(stream).is_some_and(|entry| entry.own != Own::Opening) {
            return Poll::Ready(Ok(()));
        }
        table.writable(stream)?.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn fix(self: &Arc<Self>, stream: u32, direction: Direction) -> Stream {
        self.table().fix(stream, direction);
        Stream::new(self, stream, Headers::default())
    }

    /// Ends the connection for good.
    pub(crate) fn end(&self, reason: ConnectionError) {
        self.finish_all(reason, false);
    }

    /// Ends it because the peer broke the protocol, which it is told if it listens; after the last word of either side that is no failure.
    pub(crate) fn violated(&self, reason: ConnectionError) {
        let over = self.table().over();
        match over {
            ConnectionError::Closed => self.end(over),
            _ => self.finish_all(reason, true),
        }
    }

    fn finish_all(&self, reason: ConnectionError, tell: bool) {
        let reason = {
            let mut table = self.table();
            table.end(reason, tell);
            table.ended().cloned()
        };
        self.ended.send_replace(reason);
        self.wake_all();
    }

    pub(crate) fn close(&self) {
        self.table().close();
        self.wake_all();
    }

    fn wake_all(&self) {
        self.words.notify_one();
        self.room.notify_one();
        self.arrivals.notify_one();
        self.progress.notify_waiters();
    }

    /// Waits until everything that this side could say is said and written, or the connection has ended.
    pub(crate) async fn quiet(&self) {
        self.until(Table::is_quiet).await;
    }

    /// Finishes these streams, and waits until they are written, or the connection has ended.
    pub(crate) async fn write_out(&self, streams: &[u32]) {
        for stream in streams {
            self.finish(*stream);
        }
        self.until(|table| table.is_written(streams)).await;
    }

    async fn until(&self, reached: impl Fn(&Table) -> bool) {
        loop {
            let mut progress = std::pin::pin!(self.progress.notified());
            progress.as_mut().enable();
            if reached(&self.table()) {
                return;
            }
            progress.await;
        }
    }

    pub(crate) fn ended(&self) -> watch::Receiver<Option<ConnectionError>> {
        self.ended.subscribe()
    }

    pub(crate) fn touched(&self) -> watch::Receiver<Instant> {
        self.touched.subscribe()
    }

    // For the handles of streams.

    pub(super) fn poll_read(
        &self,
        stream: u32,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let mut table = self.table();
        let ended = table.ended().cloned();
        let Some(entry) = table.entry(stream) else {
            return Poll::Ready(Err(StreamError::Abandoned));
        };
        if entry.read(buffer) > 0 {
            drop(table);
            self.room.notify_one();
            return Poll::Ready(Ok(()));
        }
        if buffer.remaining() == 0 || entry.peer_finished {
            return Poll::Ready(Ok(()));
        }
        if let Some(broken) = entry.broken {
            return Poll::Ready(Err(broken.into()));
        }
        if let Some(reason) = ended {
            return Poll::Ready(Err(StreamError::Connection(reason)));
        }
        entry.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_write(
        &self,
        stream: u32,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        let mut table = self.table();
        let count = table.write(stream, bytes)?;
        if count == 0 && !bytes.is_empty() {
            if let Some(entry) = table.entry(stream) {
                entry.writer = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        drop(table);
        self.words.notify_one();
        Poll::Ready(Ok(count))
    }

    /// Ready when nothing of this stream waits to be written.
    pub(super) fn poll_flush(&self, stream: u32, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut table = self.table();
        // What has been written stays so when the connection ends.
        if table
            .entry(stream)
            .is_some_and(|entry| entry.own == Own::Finished && entry.broken.is_none())
        {
            return Poll::Ready(Ok(()));
        }
        let entry = table.writable(stream)?;
        if !entry.has_words() {
            return Poll::Ready(Ok(()));
        }
        entry.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn finish(&self, stream: u32) {
        self.table().finish(stream);
        self.words.notify_one();
    }

    pub(super) fn drop_reader(&self, stream: u32) {
        self.table().drop_reader(stream);
        self.words.notify_one();
        self.room.notify_one();
    }

    pub(super) fn drop_writer(&self, stream: u32) {
        self.table().drop_writer(stream);
        self.words.notify_one();
        self.room.notify_one();
        self.progress.notify_waiters();
    }
}
