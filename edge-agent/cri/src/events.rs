//! The runtime's stream of container events.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tonic::{Response, Status, Streaming};

use crate::client::{CriClient, WHOLE_RUNTIME};
use crate::error::{CriError, Operation};
use crate::v1::{ContainerEventResponse, GetEventsRequest};

type Opening =
    Pin<Box<dyn Future<Output = Result<Response<Streaming<ContainerEventResponse>>, Status>> + Send>>;

enum State {
    Opening(Opening),
    Open(Box<Streaming<ContainerEventResponse>>),
    Closed,
}

/// A subscription to what happens to containers, everybody's included.
///
/// It is a hint when to look, never the truth: events from before it was open, or lost when it broke, do not come
/// again. It has no deadline, because silence is its normal state, so its reader looks from time to time without being
/// told as well.
pub struct ContainerEvents(State);

impl CriClient {
    /// Subscribes to container events; the connection is made by the first [`ContainerEvents::next`].
    pub fn container_events(&self) -> ContainerEvents {
        let mut runtime = self.runtime();
        let opening = async move { runtime.get_container_events(GetEventsRequest {}).await };
        ContainerEvents(State::Opening(Box::pin(opening)))
    }
}

impl ContainerEvents {
    /// Waits for the next event; `None` when the runtime ended the stream. After `None` or an error the subscription
    /// is over and says `None` for ever. Cancel safe: an abandoned wait loses no event.
    ///
    /// # Errors
    /// `Unimplemented` by runtimes before CRI 1.26 (containerd before 1.7): poll instead.
    pub async fn next(&mut self) -> Result<Option<ContainerEventResponse>, CriError> {
        let outcome = self.advance().await;
        if !matches!(outcome, Ok(Some(_))) {
            self.0 = State::Closed;
        }
        outcome.map_err(|status| {
            CriError::from_status(
                Operation::GetContainerEvents,
                WHOLE_RUNTIME,
                status,
                Duration::ZERO,
            )
        })
    }

    async fn advance(&mut self) -> Result<Option<ContainerEventResponse>, Status> {
        // A server sends nothing, not even headers, before the first event: opening may take as long as silence does.
        if let State::Opening(opening) = &mut self.0 {
            self.0 = State::Open(Box::new(opening.await?.into_inner()));
        }
        match &mut self.0 {
            State::Open(stream) => stream.message().await,
            State::Opening(_) | State::Closed => Ok(None),
        }
    }
}

impl fmt::Debug for ContainerEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Opening(_) => "ContainerEvents(opening)",
            State::Open(_) => "ContainerEvents(open)",
            State::Closed => "ContainerEvents(closed)",
        })
    }
}
