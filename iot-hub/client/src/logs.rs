//! A container's log over links that are cut: what was told is asked for no more.

use std::time::Duration;

use edge_protocol::v1::log_frames::{LogFrame, LogFrameError, LogFrames};
use edge_protocol::v1::{LogPosition, LogQuery, StreamRefusal, StreamRequest};
use edge_protocol::{DeviceId, PodUid};
use iot_hub_api::StreamCall;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use crate::backoff;
use crate::client::HubClient;
use crate::stream::{StreamError, StreamPipe};

/// Between tries to have the link again, at most.
const PAUSE: Duration = Duration::from_secs(10);
const CHUNK: usize = 16 << 10;

/// Whose log, and for how long it is read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTarget {
    pub device: DeviceId,
    pub uid: PodUid,
    pub container: String,
    /// How long the link may be away in the middle of it.
    pub patience: Duration,
}

/// What comes of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPart {
    /// As the device wrote it; it may begin and end inside a line.
    Text(Vec<u8>),
    /// The link was lost, and is asked for again.
    Cut,
}

/// A log as it comes.
#[derive(Debug)]
pub struct LogReader {
    client: HubClient,
    target: LogTarget,
    user: Option<String>,
    /// What is still to be told.
    query: LogQuery,
    /// `None` while the link is away.
    pipe: Option<StreamPipe>,
    frames: LogFrames,
    chunk: Vec<u8>,
    /// Links lost in a row that brought nothing of the log.
    fruitless: u32,
    is_over: bool,
}

/// Why a log is told no further.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The device cannot go on.
    #[error("{message}")]
    Failed { message: String },
    #[error("what device {device} sends is no log")]
    Garbled {
        device: DeviceId,
        #[source]
        source: LogFrameError,
    },
    /// The link was cut and did not come back, or the log is not to be had any more.
    #[error("the log of device {device} was cut")]
    Cut {
        device: DeviceId,
        #[source]
        source: StreamError,
    },
}

impl LogReader {
    /// # Errors
    /// As [`HubClient::open_stream`].
    pub(crate) async fn open(
        client: HubClient,
        target: LogTarget,
        query: LogQuery,
        user: Option<String>,
    ) -> Result<Self, StreamError> {
        let mut reader = Self {
            client,
            target,
            user,
            query,
            pipe: None,
            frames: LogFrames::default(),
            chunk: vec![0; CHUNK],
            fruitless: 0,
            is_over: false,
        };
        let call = reader.call();
        reader.pipe = Some(reader.client.open_stream(&reader.target.device, &call).await?);
        Ok(reader)
    }

    /// The next part; `None` at the end, which a followed log reaches when its container ended. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`LogError`]; nothing comes after it.
    pub async fn next(&mut self) -> Result<Option<LogPart>, LogError> {
        loop {
            if self.is_over {
                return Ok(None);
            }
            let taken = self.frames.take().map_err(|source| {
                self.is_over = true;
                LogError::Garbled {
                    device: self.target.device.clone(),
                    source,
                }
            })?;
            match taken {
                Some(LogFrame::Data { position, text }) => {
                    advance(&mut self.query, position, text.len());
                    self.fruitless = 0;
                    return Ok(Some(LogPart::Text(text)));
                }
                Some(LogFrame::End) => {
                    self.is_over = true;
                    return Ok(None);
                }
                Some(LogFrame::Failed { message }) => {
                    self.is_over = true;
                    return Err(LogError::Failed { message });
                }
                None => {}
            }
            let Some(pipe) = &mut self.pipe else {
                self.resume().await?;
                continue;
            };
            match pipe.read(&mut self.chunk).await {
                Ok(0) => return Ok(self.cut("the stream ended before the log did")),
                Ok(length) => self.frames.push(&self.chunk[..length]),
                Err(error) => return Ok(self.cut(&error.to_string())),
            }
        }
    }

    fn cut(&mut self, why: &str) -> Option<LogPart> {
        tracing::debug!(device = %self.target.device, why, "a log's link was cut");
        self.pipe = None;
        // Half a frame of the old link.
        self.frames = LogFrames::default();
        // The end may be all that was missing.
        self.is_over = self.query.limit_bytes == Some(0);
        (!self.is_over).then_some(LogPart::Cut)
    }

    async fn resume(&mut self) -> Result<(), LogError> {
        let (since, call) = (Instant::now(), self.call());
        loop {
            tokio::time::sleep(backoff::pause(self.fruitless, PAUSE)).await;
            self.fruitless = self.fruitless.saturating_add(1);
            match self.client.open_stream(&self.target.device, &call).await {
                Ok(pipe) => {
                    self.pipe = Some(pipe);
                    return Ok(());
                }
                Err(error) if error.is_away() && since.elapsed() < self.target.patience => {}
                Err(source) => {
                    self.is_over = true;
                    return Err(LogError::Cut {
                        device: self.target.device.clone(),
                        source,
                    });
                }
            }
        }
    }

    fn call(&self) -> StreamCall {
        StreamCall {
            request: StreamRequest::Logs {
                uid: self.target.uid.clone(),
                container: self.target.container.clone(),
                query: self.query.clone(),
            },
            user: self.user.clone(),
        }
    }
}

/// What was told is no part of what is asked for after a cut: a position stands for all that chose where to begin.
fn advance(query: &mut LogQuery, position: LogPosition, bytes: usize) {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    *query = LogQuery {
        tail_lines: None,
        since_seconds: None,
        since_ms: None,
        limit_bytes: query.limit_bytes.map(|limit| limit.saturating_sub(bytes)),
        after: Some(position),
        ..query.clone()
    };
}

impl StreamError {
    /// Whether somebody on the way is away, and may be back.
    fn is_away(&self) -> bool {
        match self {
            Self::Call(error) => error.disposition() == crate::Disposition::Retry,
            Self::Lost { .. } => true,
            Self::Refused { why, .. } => matches!(
                why,
                StreamRefusal::NotConnected
                    | StreamRefusal::Unanswered
                    | StreamRefusal::Busy
                    | StreamRefusal::TooMany
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_asked_for_no_more() {
        let mut query = LogQuery {
            follow: true,
            timestamps: true,
            tail_lines: Some(10),
            since_seconds: Some(60),
            limit_bytes: Some(100),
            ..LogQuery::default()
        };
        let position = LogPosition {
            attempt: 1,
            file: 7,
            offset: 60,
        };
        advance(&mut query, position, 60);
        let left = LogQuery {
            follow: true,
            timestamps: true,
            limit_bytes: Some(40),
            after: Some(position),
            ..LogQuery::default()
        };
        assert_eq!(query, left);
        advance(&mut query, position, 60);
        assert_eq!(query.limit_bytes, Some(0));
    }
}
