//! The endpoint: serves accepted streams and tells the hub what happens, in fair order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Admitted, Refused};
use crate::connect::answer_of;
use crate::gate::Gate;
use crate::ids::{ConnectionId, DeviceId, Serial};
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::options::{Options, OptionsError};
use crate::reason::{CutReason, DisconnectReason, RefuseReason};
use crate::session::{self, Session, Wire};
use crate::table::{CutTarget, Slot, Table};
use crate::tls::PeerCertificates;
use crate::topics::{DownLane, UpLane, Will};

/// What the hub is told. Per device: `Connected`, then messages, then `Disconnected` of the same connection, and only
/// then the `Connected` of the next. Order holds within a lane; status overtakes bulk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Connected {
        device: DeviceId,
        connection: ConnectionId,
        keep_alive: Duration,
        peer: SocketAddr,
    },
    /// The device may already have the PUBACK: it means "queued", not "done".
    Message {
        device: DeviceId,
        connection: ConnectionId,
        lane: UpLane,
        bytes: Bytes,
    },
    /// `will` is there unless the device said DISCONNECT.
    Disconnected {
        device: DeviceId,
        connection: ConnectionId,
        reason: DisconnectReason,
        will: Option<Will>,
    },
}

/// A session as [`EndpointHandle::sessions`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub device: DeviceId,
    pub serial: Serial,
    pub connection: ConnectionId,
    pub peer: SocketAddr,
}

/// Why a message was not queued for a device. It is not kept anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("the connection is not the device's session")]
    NotConnected,
    #[error("the device's queue of this lane is full")]
    QueueFull,
    #[error("the message is larger than {max} bytes")]
    TooLarge { max: usize },
}

/// Why the endpoint ended on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("nobody receives events any more")]
    EventsDropped,
    #[error("sessions did not end in time")]
    StopTimeout,
}

/// The task that hands events to the hub. Without it running, no session proceeds.
pub struct Endpoint {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
}

/// Serves streams, sends to devices, ends sessions. Clones share one endpoint.
#[derive(Clone)]
pub struct EndpointHandle {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) gate: Gate,
    pub(crate) table: Arc<Table>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) metrics: Metrics,
}

impl Endpoint {
    /// # Errors
    /// [`OptionsError`] if the options cannot work.
    pub fn new(
        options: Options,
        gate: Gate,
    ) -> Result<(Self, EndpointHandle, mpsc::Receiver<Event>), OptionsError> {
        options.check()?;
        let (events, receiver) = mpsc::channel(options.event_queue);
        let shared = Arc::new(Shared {
            table: Arc::new(Table::new(options.max_sessions, options.max_arrivals_per_device)),
            intake: Arc::new(Intake::new(&options)),
            metrics: Metrics::default(),
            gate,
            options,
        });
        let handle = EndpointHandle {
            shared: Arc::clone(&shared),
        };
        Ok((Self { shared, events }, handle, receiver))
    }

    /// Hands events over until `stop`; then ends all sessions, hands over their `Disconnected` and returns.
    ///
    /// # Errors
    /// [`EndpointError::EventsDropped`] if the receiver was dropped, [`EndpointError::StopTimeout`] if sessions
    /// did not end within [`Options::stop_timeout`]. In either case no session begins any more.
    pub async fn run(self, stop: CancellationToken) -> Result<(), EndpointError> {
        let handed_over = tokio::select! {
            handed_over = self.hand_over(|| false) => handed_over,
            () = stop.cancelled() => Ok(()),
        };
        self.shared.table.close();
        handed_over?;
        let drained = self.hand_over(|| self.shared.table.is_empty());
        timeout(self.shared.options.stop_timeout, drained)
            .await
            .map_err(|_| EndpointError::StopTimeout)?
    }

    async fn hand_over(&self, done: impl Fn() -> bool) -> Result<(), EndpointError> {
        while !done() {
            // A place in the queue first: what is fair is decided as late as possible. Cancelling here loses nothing.
            let place = self
                .events
                .reserve()
                .await
                .map_err(|_| EndpointError::EventsDropped)?;
            let event = tokio::select! {
                event = self.shared.intake.next() => event,
                () = self.events.closed() => return Err(EndpointError::EventsDropped),
            };
            let ended = match &event {
                Event::Disconnected {
                    device, connection, ..
                } => Some((device.clone(), *connection)),
                _ => None,
            };
            place.send(event);
            if let Some((device, connection)) = ended {
                self.shared.table.release(&device, connection);
            }
        }
        Ok(())
    }
}

impl EndpointHandle {
    /// Serves one stream after its TLS handshake, until it has ended. `certificates` are what the peer showed in it.
    /// Dropping the future ends the session with [`DisconnectReason::Aborted`].
    pub async fn serve<S>(&self, stream: S, peer: SocketAddr, certificates: PeerCertificates)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut wire = Wire::new(stream);
        // Boxed, so that what admission needs is freed before the session's long life.
        let admission = Box::pin(
            Admission {
                shared: &self.shared,
                peer,
                certificates,
            }
            .admit(&mut wire),
        );
        match admission.await {
            Ok(admitted) => self.session(wire, admitted).await,
            Err(refused) => self.refuse(wire, refused, peer).await,
        }
    }

    /// Queues a message for a device without waiting. It is sent once the device has subscribed to the lane.
    ///
    /// # Errors
    /// [`SendError`]; the message is then not queued.
    pub fn send(
        &self,
        device: &DeviceId,
        connection: ConnectionId,
        lane: DownLane,
        bytes: Bytes,
    ) -> Result<(), SendError> {
        let max = self.max_message(device);
        if bytes.len() > max {
            return Err(SendError::TooLarge { max });
        }
        let slot = self
            .shared
            .table
            .live(device, connection)
            .ok_or(SendError::NotConnected)?;
        slot.outbox.push(lane, bytes).map_err(|refused| match refused {
            session::Refused::Full => SendError::QueueFull,
            session::Refused::Closed => SendError::NotConnected,
        })
    }

    /// The largest message for a device: a PUBLISH of it keeps [`Options::max_packet`].
    pub fn max_message(&self, device: &DeviceId) -> usize {
        self.shared.options.max_packet - (device.as_str().len() + "dev//d".len() + 4)
    }

    /// Ends sessions without waiting; their `Disconnected` follows. Returns how many. Connections on their way in are
    /// judged by the gate anew, so revoke first, then cut. Idempotent.
    pub fn cut(&self, target: &CutTarget, reason: CutReason) -> usize {
        self.shared.table.cut(target, reason)
    }

    /// The sessions now, in no order; those that were told to stop are left out.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.table.sessions()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    async fn session<S>(&self, wire: Wire<S>, admitted: Admitted)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Admitted {
            slot,
            keep_alive,
            will,
        } = admitted;
        let shared = &self.shared;
        let mut running = Running::begin(Arc::clone(shared), Arc::clone(&slot), will);
        let connected = Event::Connected {
            device: slot.identity.device.clone(),
            connection: slot.connection,
            keep_alive,
            peer: slot.peer,
        };
        let space = shared
            .intake
            .open(slot.identity.device.clone(), slot.connection, connected);
        let intake = Arc::clone(&shared.intake);
        let times = (&shared.options, keep_alive);
        let mut session = Session::new(wire, slot, intake, space, shared.metrics.clone(), times);
        let reason = session.run().await;
        if reason.peer_listens() {
            session.wire.close().await;
        }
        running.reason = reason;
        // The stream goes before the end is told: an ended session writes nothing.
        drop(session);
        drop(running);
    }

    async fn refuse<S>(&self, mut wire: Wire<S>, refused: Refused, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Refused { reason, device } = refused;
        tracing::info!(%peer, device = device.as_ref().map(DeviceId::as_str), reason = reason.as_str(), "refused");
        self.shared.metrics.refused(reason);
        if let Some(answer) = answer_of(reason) {
            crate::codec::put_connack(answer, &mut wire.output);
        }
        wire.finish().await;
    }

    pub(crate) fn refused(&self, reason: RefuseReason) {
        self.shared.metrics.refused(reason);
    }
}

/// Tells the end of a session, also when its task is dropped.
struct Running {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    will: Option<Will>,
    reason: DisconnectReason,
}

impl Running {
    fn begin(shared: Arc<Shared>, slot: Arc<Slot>, will: Option<Will>) -> Self {
        shared.metrics.connected();
        tracing::debug!(device = %slot.identity.device, connection = %slot.connection, peer = %slot.peer, "connected");
        Self {
            shared,
            slot,
            will,
            reason: DisconnectReason::Aborted,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Self {
            shared,
            slot,
            will,
            reason,
        } = self;
        let device = slot.identity.device.clone();
        tracing::debug!(%device, connection = %slot.connection, reason = reason.as_str(), "disconnected");
        slot.outbox.close();
        shared.metrics.disconnected(*reason);
        let will = will.take().filter(|_| *reason != DisconnectReason::Graceful);
        let end = Event::Disconnected {
            device,
            connection: slot.connection,
            reason: *reason,
            will,
        };
        shared
            .intake
            .close(slot.connection, end, reason.discards_waiting());
    }
}
