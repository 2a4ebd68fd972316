//! Streams on their way from devices to whoever asked for them. The machine says who gets which; here is only who waits and what came.

use std::collections::BTreeMap;

use edge_protocol::v1::StreamAnswer;
use iot_hub_core::{PresentationId, StreamEnd, StreamId};
use tokio::sync::{mpsc, oneshot};

use super::PumpGone;
use crate::tunnel::DeviceStream;

/// What a device brought: its word, and the stream that goes on behind it.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) answer: StreamAnswer,
    pub(crate) stream: DeviceStream,
}

/// A stream that was asked for. Dropping it ends the stream.
pub(crate) struct Asked {
    brought: oneshot::Receiver<Brought>,
    ended: oneshot::Receiver<StreamEnd>,
    // Last, so that the pump finds the others gone when it hears of it.
    _over: Over,
}

struct Over {
    stream: StreamId,
    /// Unbounded, for dropping cannot wait; there are no more of them than streams.
    overs: mpsc::UnboundedSender<StreamId>,
}

impl Drop for Over {
    fn drop(&mut self) {
        // Without a pump there is nothing to end.
        let _ = self.overs.send(self.stream);
    }
}

impl Asked {
    /// A stream to be, and the pump's side of it.
    pub(super) fn new(stream: StreamId, overs: mpsc::UnboundedSender<StreamId>) -> (Self, Asker) {
        let (bring, brought) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let asked = Self {
            brought,
            ended,
            _over: Over { stream, overs },
        };
        let asker = Asker {
            stream,
            bring: Some(bring),
            end,
        };
        (asked, asker)
    }

    /// What the device brings, or why it does not; once. At most until the ticket expires.
    ///
    /// # Errors
    /// [`PumpGone`].
    pub(crate) async fn brought(&mut self) -> Result<Result<Brought, StreamEnd>, PumpGone> {
        let brought = tokio::select! {
            biased;
            end = &mut self.ended => return end.map(Err).map_err(|_| PumpGone),
            brought = &mut self.brought => brought,
        };
        brought.map(Ok).map_err(|_| PumpGone)
    }

    /// Why the stream is to end although neither side has ended it. Ask after [`brought`](Self::brought) gave it.
    ///
    /// # Errors
    /// [`PumpGone`].
    pub(crate) async fn cut(&mut self) -> Result<StreamEnd, PumpGone> {
        (&mut self.ended).await.map_err(|_| PumpGone)
    }
}

/// Whoever waits for a stream or has it.
pub(super) struct Asker {
    pub(super) stream: StreamId,
    bring: Option<oneshot::Sender<Brought>>,
    end: oneshot::Sender<StreamEnd>,
}

impl Asker {
    /// Whether nobody waits any more.
    pub(super) fn is_gone(&self) -> bool {
        self.end.is_closed()
    }
}

/// Those that wait or have a stream, and what was brought and not yet given.
#[derive(Default)]
pub(super) struct Streams {
    askers: BTreeMap<StreamId, Asker>,
    brought: BTreeMap<PresentationId, Brought>,
    presentations: u64,
}

impl Streams {
    pub(super) fn wait(&mut self, asker: Asker) {
        self.askers.insert(asker.stream, asker);
    }

    pub(super) fn keep(&mut self, brought: Brought) -> PresentationId {
        self.presentations += 1;
        let presentation = PresentationId(self.presentations);
        self.brought.insert(presentation, brought);
        presentation
    }

    /// Gives what was brought to whoever waits for it. An asker that has gone meanwhile says so by itself.
    pub(super) fn give(&mut self, presentation: PresentationId, stream: Option<StreamId>) {
        let brought = self.brought.remove(&presentation);
        let asker = stream.and_then(|stream| self.askers.get_mut(&stream));
        if let (Some(brought), Some(bring)) = (brought, asker.and_then(|asker| asker.bring.take())) {
            drop(bring.send(brought));
        }
    }

    pub(super) fn end(&mut self, stream: StreamId, why: StreamEnd) {
        if let Some(asker) = self.askers.remove(&stream) {
            drop(asker.end.send(why));
        }
    }

    pub(super) fn forget(&mut self, stream: StreamId) {
        self.askers.remove(&stream);
    }
}
