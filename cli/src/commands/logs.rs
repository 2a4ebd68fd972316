//! `outrigger logs`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use edge_protocol::v1::{LogQuery, LogSource};
use iot_hub_client::{HubClient, LogError, LogPart, LogTarget};
use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncWriteExt as _;

use super::target::ContainerArgs;
use crate::terminal::standard;

const EXAMPLES: &str = "\
Examples:
  What a container has written, and what it writes from now on:
    outrigger logs --device press-7 default/web-6d4cf56db6-x2v7p --follow

  The last lines of the instance before, with their times:
    outrigger logs --device press-7 default/web-6d4cf56db6-x2v7p -c main --previous --tail 20 --timestamps";

/// How long a link may be away in the middle of a log that is not followed.
const PATIENCE: Duration = Duration::from_mins(5);

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
    let query = arguments.query()?;
    let (uid, container) = arguments.target.find(hub).await?;
    let mut output = standard(&std::io::stdout())?;
    let target = LogTarget {
        device: arguments.target.pod.device.clone(),
        uid,
        container,
        patience: if query.follow { Duration::MAX } else { PATIENCE },
    };
    let mut reader = hub.logs(target, query, None).await?;
    loop {
        match reader.next().await {
            Ok(Some(LogPart::Text(text))) => {
                output.write_all(&text).await?;
                output.flush().await?;
            }
            Ok(Some(LogPart::Cut)) => {
                eprintln!("outrigger: the link to the device was lost; asking again for what comes after");
            }
            Ok(None) => return Ok(()),
            Err(LogError::Failed { message }) => {
                bail!("the device cannot tell the log on: {}", message.escape_debug())
            }
            Err(error) => return Err(error.into()),
        }
    }
}
