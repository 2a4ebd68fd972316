//! What the API, the device port and watchers hold of the pump.

use std::sync::Arc;

use iot_hub_core::{Call, CallError, Hub};
use iot_hub_store::AuditRecord;
use tokio::sync::{mpsc, oneshot};

use crate::feed::Feed;

/// The machine at one moment, between two steps.
pub struct Reading<'a> {
    pub hub: &'a Hub,
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
    feed: Arc<Feed>,
}

impl PumpHandle {
    pub(super) fn new(messages: mpsc::Sender<Message>, feed: Arc<Feed>) -> Self {
        Self { messages, feed }
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
