//! `outrigger logs`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use edge_protocol::v1::{
    LogFrame, LogFrames, LogPosition, LogQuery, LogSource, StreamRefusal, StreamRequest,
};
use iot_hub_api::v1::StreamCall;
use iot_hub_client::{Disposition, HubClient, StreamError};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::target::ContainerArgs;
use crate::terminal::standard;

const EXAMPLES: &str = "\
Examples:
  What a container has written, and what it writes from now on:
    outrigger logs --device press-7 default/web-6d4cf56db6-x2v7p --follow

  The last lines of the instance before, with their times:
    outrigger logs --device press-7 default/web-6d4cf56db6-x2v7p -c main --previous --tail 20 --timestamps";

/// Read from the stream at a time.
const CHUNK: usize = 16 * 1024;
/// Links in a row that are cut before they brought anything, of a log that is not followed.
const ATTEMPTS: u32 = 5;
/// Between them; it doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct Arguments {
    #[command(flatten)]
    target: ContainerArgs,
    /// Go on with what is written from now on. A link that is cut is made again, and nothing is lost or told twice.
    #[arg(long, short)]
    follow: bool,
    /// With `--follow`: and on with the instances after it, when the container restarts.
    #[arg(long, requires = "follow")]
    through_restarts: bool,
    /// Of the container's instance before the present one.
    #[arg(long, short)]
    previous: bool,
    /// Begin each line with its time.
    #[arg(long)]
    timestamps: bool,
    /// Only so many of the last lines.
    #[arg(long)]
    tail: Option<u64>,
    /// Only what is younger than this, for example `90s` or `2h30m`, by the device's clock.
    #[arg(long, conflicts_with = "since_time")]
    since: Option<SignedDuration>,
    /// Only what is younger than this time (RFC 3339).
    #[arg(long)]
    since_time: Option<Timestamp>,
    /// No more bytes than these.
    #[arg(long)]
    limit_bytes: Option<u64>,
    /// Only what was written there.
    #[arg(long, value_enum)]
    stream: Option<Source>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    Stdout,
    Stderr,
}

impl Arguments {
    fn query(&self) -> anyhow::Result<LogQuery> {
        let since_seconds = match self.since {
            Some(since) => {
                Some(u64::try_from(since.as_secs()).context("--since is a time in the past: `90s`")?)
            }
            None => None,
        };
        Ok(LogQuery {
            follow: self.follow,
            through_restarts: self.through_restarts,
            previous: self.previous,
            timestamps: self.timestamps,
            tail_lines: self.tail,
            since_seconds,
            since_ms: self.since_time.map(Timestamp::as_millisecond),
            limit_bytes: self.limit_bytes,
            source: self.stream.map(|stream| match stream {
                Source::Stdout => LogSource::Stdout,
                Source::Stderr => LogSource::Stderr,
            }),
            after: None,
        })
    }
}

/// Prints a log to its end, over as many links as it takes.
pub async fn run(hub: &HubClient, arguments: Arguments) -> anyhow::Result<()> {
    let mut query = arguments.query()?;
    let (uid, container) = arguments.target.find(hub).await?;
    let mut output = standard(&std::io::stdout())?;
    let (mut begun, mut vain) = (false, 0);
    loop {
        let request = StreamRequest::Logs {
            uid: uid.clone(),
            container: container.clone(),
            query: query.clone(),
        };
        let call = StreamCall { request, user: None };
        let told = match hub.open_stream(&arguments.target.pod.device, &call).await {
            Ok(mut stream) => {
                begun = true;
                tell(&mut stream, &mut output).await?
            }
            Err(error) if begun && may_pass(&error) => Told::default(),
            Err(error) => return Err(error.into()),
        };
        if told.ended {
            return Ok(());
        }
        vain = if told.position.is_some() { 0 } else { vain + 1 };
        query = match after(&query, &told) {
            Some(query) => query,
            None => return Ok(()),
        };
        if !query.follow && vain >= ATTEMPTS {
            bail!("the link to the device was lost {ATTEMPTS} times");
        }
        eprintln!("outrigger: the link to the device was lost; asking again for what comes after");
        tokio::time::sleep(PAUSE.saturating_mul(1 << vain.min(5)).min(LONGEST_PAUSE)).await;
    }
}

/// Whether the same may be answered otherwise when the device is in reach again.
fn may_pass(error: &StreamError) -> bool {
    match error {
        StreamError::Call(error) => error.disposition() == Disposition::Retry,
        StreamError::Refused { why, .. } => matches!(
            why,
            StreamRefusal::NotConnected
                | StreamRefusal::Unanswered
                | StreamRefusal::Busy
                | StreamRefusal::TooMany
        ),
        StreamError::Lost { .. } => true,
    }
}

/// What one link told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    position: Option<LogPosition>,
    bytes: u64,
    /// All of it, in order.
    ended: bool,
}

/// Writes what a link tells, until its end or until it is cut.
async fn tell(
    stream: &mut (impl AsyncRead + Unpin),
    output: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<Told> {
    let (mut frames, mut told) = (LogFrames::default(), Told::default());
    let mut chunk = vec![0; CHUNK];
    loop {
        // How it was cut does not matter.
        let length = stream.read(&mut chunk).await.unwrap_or(0);
        if length == 0 {
            return Ok(told);
        }
        frames.push(&chunk[..length]);
        while let Some(frame) = frames.take()? {
            match frame {
                LogFrame::Data { position, text } => {
                    output.write_all(&text).await?;
                    told.position = Some(position);
                    told.bytes += text.len() as u64;
                }
                LogFrame::End => told.ended = true,
                LogFrame::Failed { message } => {
                    output.flush().await?;
                    bail!("the device cannot tell the log on: {}", message.escape_debug());
                }
            }
        }
        output.flush().await?;
        if told.ended {
            return Ok(told);
        }
    }
}

/// What is left to ask for; `None` if that is nothing. A position stands for all that chose where to begin.
fn after(query: &LogQuery, told: &Told) -> Option<LogQuery> {
    let limit_bytes = match query.limit_bytes {
        Some(limit) if limit <= told.bytes => return None,
        limit => limit.map(|limit| limit - told.bytes),
    };
    Some(match told.position {
        None => LogQuery {
            limit_bytes,
            ..query.clone()
        },
        Some(position) => LogQuery {
            tail_lines: None,
            since_seconds: None,
            since_ms: None,
            limit_bytes,
            after: Some(position),
            ..query.clone()
        },
    })
}

#[cfg(test)]
mod tests {
    use edge_protocol::v1::log_frames::{encode_data, encode_end, encode_failed};

    use super::*;

    fn position(offset: u64) -> LogPosition {
        LogPosition {
            attempt: 1,
            file: 7,
            offset,
        }
    }

    #[tokio::test]
    async fn a_link_tells_how_far_it_came() {
        let check = async |bytes: &[u8], expected: Told| {
            let mut output = Vec::new();
            let told = tell(&mut &*bytes, &mut output).await.unwrap();
            assert_eq!(told, expected);
            assert!(b"ab\ncd\n".starts_with(&output));
        };
        let mut bytes = Vec::new();
        check(&bytes, Told::default()).await;
        encode_data(position(3), b"ab\n", &mut bytes);
        encode_data(position(6), b"cd\n", &mut bytes);
        let told = |offset, bytes, ended| Told {
            position: Some(position(offset)),
            bytes,
            ended,
        };
        check(&bytes, told(6, 6, false)).await;
        check(&bytes[..bytes.len() - 1], told(3, 3, false)).await;
        encode_end(&mut bytes);
        check(&bytes, told(6, 6, true)).await;

        let mut bytes = Vec::new();
        encode_failed("no\u{1b}", &mut bytes);
        let error = tell(&mut bytes.as_slice(), &mut Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "the device cannot tell the log on: no\\u{1b}");
    }

    #[test]
    fn a_cut_link_is_followed_by_what_is_left() {
        let asked = LogQuery {
            follow: true,
            timestamps: true,
            tail_lines: Some(10),
            since_seconds: Some(60),
            limit_bytes: Some(100),
            ..LogQuery::default()
        };
        let told = |position, bytes| Told {
            position,
            bytes,
            ended: false,
        };
        assert_eq!(after(&asked, &told(None, 0)), Some(asked.clone()));
        let left = LogQuery {
            follow: true,
            timestamps: true,
            limit_bytes: Some(40),
            after: Some(position(9)),
            ..LogQuery::default()
        };
        assert_eq!(after(&asked, &told(Some(position(9)), 60)), Some(left));
        assert_eq!(after(&asked, &told(Some(position(9)), 100)), None);
    }
}
