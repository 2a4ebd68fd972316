//! The watch: server-sent events as a stream that outlives its connections.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::BoxStream;
use iot_hub_api::{Change, Revision, WatchEvent};
use reqwest::{Method, Response};

use crate::backoff;
use crate::client::{HubClient, accept};
use crate::error::ClientError;
use crate::sse::SseParser;

const PATH: &str = "/watch";

/// Changes after a revision, in log order, each with the present state of its subject.
///
/// * After each connect the hub replays what was missed and then sends a [`Change::Bookmark`]: the watch is live.
/// * A connection that fails or falls silent is an `Err` item; the stream then reconnects by itself, resuming after the last
///   revision it delivered, with capped backoff and full jitter. It never gives up; dropping it ends it.
/// * A [`Change::Resync`] is the last item: the hub cannot say what was missed. List, then watch from the list's revision.
///
/// An event may be delivered twice. Dropping the future of `next()` loses nothing.
pub struct Watch {
    events: BoxStream<'static, Result<WatchEvent, ClientError>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Stream for Watch {
    type Item = Result<WatchEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(context)
    }
}

impl Watch {
    pub(crate) fn new(client: HubClient, from: Revision) -> Self {
        let state = State {
            client,
            from,
            attempt: 0,
            phase: Phase::Away,
        };
        let events = futures_util::stream::unfold(state, |mut state| async move {
            let item = state.next().await?;
            Some((item, state))
        });
        Self {
            events: Box::pin(events),
        }
    }
}

struct State {
    client: HubClient,
    from: Revision,
    /// Attempts since the last event.
    attempt: u32,
    phase: Phase,
}

enum Phase {
    Away,
    Connected(Box<Connection>),
    Ended,
}

struct Connection {
    response: Response,
    parser: SseParser,
    waiting: VecDeque<WatchEvent>,
}

impl State {
    async fn next(&mut self) -> Option<Result<WatchEvent, ClientError>> {
        loop {
            let step = match &mut self.phase {
                Phase::Ended => return None,
                Phase::Away => self.connect().await.map(|connection| {
                    self.phase = Phase::Connected(Box::new(connection));
                    None
                }),
                Phase::Connected(connection) => connection.next(&self.client).await.map(Some),
            };
            match step {
                Ok(None) => {}
                Ok(Some(event)) => {
                    self.attempt = 0;
                    self.from = event.revision;
                    if event.change == Change::Resync {
                        self.phase = Phase::Ended;
                    }
                    return Some(Ok(event));
                }
                Err(error) => {
                    self.attempt = self.attempt.saturating_add(1);
                    self.phase = Phase::Away;
                    return Some(Err(error));
                }
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let options = &self.client.options;
        tokio::time::sleep(backoff::pause(self.attempt, options.backoff_cap)).await;
        let request = self
            .client
            .request(Method::GET, PATH)
            .header(reqwest::header::ACCEPT, "text/event-stream")
            .header("last-event-id", self.from.to_string());
        // The request's own timeout would cover the endless body too.
        let sent = tokio::time::timeout(options.timeout, request.send()).await;
        let response = sent
            .map_err(|_| ClientError::WatchLost {
                why: "no answer in time",
            })?
            .map_err(|source| ClientError::Transport {
                method: "GET",
                path: PATH.to_owned(),
                source,
            })?;
        let refused = tokio::time::timeout(options.timeout, accept("GET", PATH, response)).await;
        let response = refused.map_err(|_| ClientError::WatchLost {
            why: "no answer in time",
        })??;
        Ok(Connection {
            response,
            parser: SseParser::default(),
            waiting: VecDeque::new(),
        })
    }
}

impl Connection {
    async fn next(&mut self, client: &HubClient) -> Result<WatchEvent, ClientError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let chunk = tokio::time::timeout(client.options.watch_idle, self.response.chunk()).await;
            let chunk = chunk
                .map_err(|_| ClientError::WatchLost { why: "silence" })?
                .map_err(|source| ClientError::Transport {
                    method: "GET",
                    path: PATH.to_owned(),
                    source,
                })?
                .ok_or(ClientError::WatchLost {
                    why: "the hub ended it",
                })?;
            for event in self
                .parser
                .push(&chunk)
                .map_err(|not_sse| ClientError::WatchLost { why: not_sse.0 })?
            {
                let event = serde_json::from_str(&event.data).map_err(|source| ClientError::Malformed {
                    method: "GET",
                    path: PATH.to_owned(),
                    source,
                })?;
                self.waiting.push_back(event);
            }
        }
    }
}
