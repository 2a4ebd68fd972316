//! What the API, the device port and watchers hold of the pump.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edge_protocol::v1::Ticket;
use edge_protocol::{DeviceId, EnrolmentSerial, Now};
use iot_hub_core::{Call, CallError, Hub, StreamAsk, StreamId};
use iot_hub_store::AuditRecord;
use tokio::sync::{mpsc, oneshot};

use super::streams::{Asked, Asker, Brought};
use crate::feed::Feed;

/// The machine at one moment, between two steps.
pub struct Reading<'a> {
    pub hub: &'a Hub,
    pub now: Now,
    /// Everything up to here is in what is read; more may be.
    pub revision: u64,
}

type Read = Box<dyn FnOnce(&Reading<'_>) + Send>;

pub(super) enum Message {
    Call {
        call: Call,
        cause: Option<AuditRecord>,
        reply: oneshot::Sender<Result<(), CallError>>,
    },
    Ask {
        ask: Box<StreamAsk>,
        cause: AuditRecord,
        asker: Asker,
    },
    Present {
        identity: (DeviceId, EnrolmentSerial),
        ticket: Ticket,
        brought: Box<Brought>,
    },
    WantStats {
        device: DeviceId,
        max_age_ms: u64,
        reply: oneshot::Sender<Result<(), CallError>>,
    },
    Read(Read),
}

/// The process is stopping or has lost its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hub is stopping")]
pub struct PumpGone;

/// A way to the machine. Cloning is cheap; a full queue makes callers wait.
#[derive(Clone)]
pub struct PumpHandle {
    messages: mpsc::Sender<Message>,
    overs: mpsc::UnboundedSender<StreamId>,
    streams: Arc<AtomicU64>,
    feed: Arc<Feed>,
}

impl PumpHandle {
    pub(super) fn new(
        messages: mpsc::Sender<Message>,
        overs: mpsc::UnboundedSender<StreamId>,
        feed: Arc<Feed>,
    ) -> Self {
        Self {
            messages,
            overs,
            streams: Arc::default(),
            feed,
        }
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Asks for a change. The answer comes once the change is on disk. Dropping the future does not take the call back.
    ///
    /// # Errors
    /// [`PumpGone`]; the inner error is the machine's refusal.
    pub async fn call(
        &self,
        call: Call,
        cause: Option<AuditRecord>,
    ) -> Result<Result<(), CallError>, PumpGone> {
        let (reply, answer) = oneshot::channel();
        self.messages
            .send(Message::Call { call, cause, reply })
            .await
            .map_err(|_| PumpGone)?;
        answer.await.map_err(|_| PumpGone)
    }

    /// Asks for a stream of a device. What becomes of it, the answer tells; `cause` is on disk before it is given.
    ///
    /// # Errors
    /// [`PumpGone`].
    pub(crate) async fn ask(&self, ask: StreamAsk, cause: AuditRecord) -> Result<Asked, PumpGone> {
        let stream = StreamId(self.streams.fetch_add(1, Ordering::Relaxed));
        let (asked, asker) = Asked::new(stream, self.overs.clone());
        let ask = Box::new(ask);
        let message = Message::Ask { ask, cause, asker };
        self.messages.send(message).await.map_err(|_| PumpGone)?;
        Ok(asked)
    }

    /// A device of this identity brings a stream for this ticket. One that nobody is to have is dropped.
    ///
    /// # Errors
    /// [`PumpGone`].
    pub(crate) async fn present(
        &self,
        identity: (DeviceId, EnrolmentSerial),
        ticket: Ticket,
        brought: Brought,
    ) -> Result<(), PumpGone> {
        let brought = Box::new(brought);
        let message = Message::Present {
            identity,
            ticket,
            brought,
        };
        self.messages.send(message).await.map_err(|_| PumpGone)
    }

    /// Waits until the machine has the best sample of what a device uses that can be had within a few seconds: one no older than this, or the newest.
    /// Dropping the future does not take the wish back.
    ///
    /// # Errors
    /// [`PumpGone`]; the inner error says why there is none.
    pub async fn want_stats(
        &self,
        device: DeviceId,
        max_age_ms: u64,
    ) -> Result<Result<(), CallError>, PumpGone> {
        let (reply, answer) = oneshot::channel();
        let message = Message::WantStats {
            device,
            max_age_ms,
            reply,
        };
        self.messages.send(message).await.map_err(|_| PumpGone)?;
        answer.await.map_err(|_| PumpGone)
    }

    /// Runs `read` on the machine between two steps. It must be short: nothing else happens meanwhile.
    ///
    /// # Errors
    /// [`PumpGone`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading<'_>) -> T + Send + 'static,
    ) -> Result<T, PumpGone> {
        let (reply, answer) = oneshot::channel();
        let run: Read = Box::new(move |reading| drop(reply.send(read(reading))));
        self.messages
            .send(Message::Read(run))
            .await
            .map_err(|_| PumpGone)?;
        answer.await.map_err(|_| PumpGone)
    }
}
