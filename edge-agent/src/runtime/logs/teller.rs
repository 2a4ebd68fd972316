//! From lines to the frames that tell them: which lines, how they begin, and how much of them (`logWriter` of k8s.io/cri-client/pkg/logs).

use edge_protocol::v1::log_frames::{MAX_LOG_DATA, encode_data};
use edge_protocol::v1::{LogPosition, LogQuery, LogSource};

use super::line::{Head, push_time};

/// Which lines are told, and in what form. What is absent bounds nothing.
#[derive(Debug)]
pub(super) struct Teller {
    since_ns: Option<i64>,
    source: Option<LogSource>,
    timestamps: bool,
    bytes_left: Option<u64>,
    /// Lines of the runtime's, told or not.
    lines_left: Option<u64>,
    /// What is told next begins a line. As the kubelet has it, of both sources together.
    is_new_line: bool,
    frame: Vec<u8>,
    frame_size: usize,
    /// What has been told with the frame.
    told: Option<LogPosition>,
}

impl Teller {
    pub(super) fn new(query: &LogQuery, since_ns: Option<i64>, frame_size: usize) -> Self {
        let is_limited = !query.follow && query.after.is_none();
        Self {
            since_ns,
            source: query.source,
            timestamps: query.timestamps,
            bytes_left: query.limit_bytes,
            lines_left: query.tail_lines.filter(|_| is_limited),
            is_new_line: true,
            frame: Vec::new(),
            frame_size: frame_size.min(MAX_LOG_DATA),
            told: None,
        }
    }

    /// Nothing more may be told.
    pub(super) fn is_over(&self) -> bool {
        self.bytes_left == Some(0) || self.lines_left == Some(0)
    }

    /// Whether the text behind a head is wanted.
    pub(super) fn wants(&self, head: &Head<'_>) -> bool {
        let is_late_enough = self.since_ns.is_none_or(|since| head.time_ns >= since);
        is_late_enough && self.source.is_none_or(|source| head.source == source)
    }

    /// Tells what stands before a line's text; `at` is where that begins.
    pub(super) fn begin(&mut self, head: &Head<'_>, at: LogPosition, out: &mut Vec<u8>) {
        if self.timestamps && self.is_new_line {
            let mut time = Vec::new();
            push_time(head, &mut time);
            self.push(&time, |_| at, out);
        }
    }

    /// Tells text that stands at `at`.
    pub(super) fn text(&mut self, text: &[u8], at: LogPosition, out: &mut Vec<u8>) {
        let behind = |count: usize| LogPosition {
            offset: at.offset + count as u64,
            ..at
        };
        self.push(text, behind, out);
    }

    /// A line of the runtime's has been read. `goes_on` says that what was told of it has no end of line.
    pub(super) fn line_ended(&mut self, goes_on: bool) {
        self.is_new_line = !goes_on;
        if let Some(lines) = &mut self.lines_left {
            *lines = lines.saturating_sub(1);
        }
    }

    /// As [`line_ended`](Self::line_ended), of a line that an earlier reader told.
    pub(super) fn resume_behind(&mut self, goes_on: bool) {
        self.is_new_line = !goes_on;
    }

    /// Another instance begins with a line of its own.
    pub(super) fn begin_anew(&mut self) {
        self.is_new_line = true;
    }

    /// Ends the frame that is being filled.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        if let Some(told) = self.told.take() {
            encode_data(told, &self.frame, out);
            self.frame.clear();
        }
    }

    /// Gives back memory that is not needed before there is more to tell.
    pub(super) fn rest(&mut self) {
        self.frame.shrink_to_fit();
    }

    /// `position` says what has been told with so many bytes of the text.
    fn push(&mut self, text: &[u8], position: impl Fn(usize) -> LogPosition, out: &mut Vec<u8>) {
        let allowed = self
            .bytes_left
            .map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let text = text.get(..allowed).unwrap_or(text);
        if let Some(left) = &mut self.bytes_left {
            *left -= text.len() as u64;
        }
        // A text is not spread over frames if it need not be.
        if self.frame.len() + text.len() > self.frame_size {
            self.flush(out);
        }
        let mut told = 0;
        for part in text.chunks(self.frame_size) {
            if self.frame.len() + part.len() > self.frame_size {
                self.flush(out);
            }
            told += part.len();
            self.frame.extend_from_slice(part);
            self.told = Some(position(told));
        }
    }
}
