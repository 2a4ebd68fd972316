//! The MQTT connection to the hub: dials, subscribes, carries bytes, and dials again for ever.
//!
//! It knows topics and backoff, not what the bytes mean. A message that cannot be queued ends the connection: the next session's
//! hello makes good whatever was lost, so nothing is held back here.

mod backoff;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::Input;
use edge_protocol::{DeviceId, Lane};
use rumqttc::{Disconnect, Packet, Publish, QoS, Request, Subscribe, SubscribeFilter, SubscribeReasonCode};
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::backoff::Backoff;
use self::wire::{Wire, WireError};
use crate::dial::{DialError, Endpoint, dial};

/// Messages waiting for the socket; the machine sends a handful at a time.
const QUEUE: usize = 128;
/// The way to the hub, TLS and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a last goodbye may take. A hub that misses it learns of the end by silence.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

pub struct LinkOptions {
    pub device: DeviceId,
    pub endpoints: Vec<Endpoint>,
    pub tls: Arc<ClientConfig>,
}

/// Owns the connection. Ends when its token is cancelled.
pub struct LinkTask {
    options: LinkOptions,
    inputs: mpsc::Sender<Input>,
    outgoing: mpsc::Receiver<(Lane, Vec<u8>)>,
    wishes: watch::Receiver<Wishes>,
    backoff: Backoff,
    /// The endpoint to dial next. One that served is dialled again first.
    endpoint: usize,
    /// Since when the hub speaks over the present connection.
    session: Option<Instant>,
}

/// Queues messages for the link and tells it what is wished; never waits.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    outgoing: mpsc::Sender<(Lane, Vec<u8>)>,
    wishes: watch::Sender<Wishes>,
}

/// What the machine wishes of the connection. Kept apart from the messages: a full queue must not swallow the wish to dial anew.
#[derive(Debug, Clone)]
struct Wishes {
    /// For the next CONNECT.
    keep_alive: Duration,
    /// How often a new connection was asked for, and why the last time.
    reconnects: u64,
    why: String,
}

/// Why a connection ended. All of them lead to the next dial.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the hub was not reached")]
    Dial(#[from] DialError),
    #[error("the hub does not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Late,
    #[error("the connection failed")]
    Wire(#[from] WireError),
    #[error("the hub did not grant the subscription")]
    NotSubscribed,
    #[error("{0}")]
    Asked(String),
    #[error("stopping")]
    Stopping,
}

impl LinkHandle {
    /// A full queue means a link that does not drain: it is dialled anew, and the next session repeats what is missing.
    pub fn send(&self, lane: Lane, bytes: Vec<u8>) {
        if let Err(error) = self.outgoing.try_send((lane, bytes)) {
            warn!(%error, "a message is left to the next session");
            self.reconnect("the outgoing queue is full".to_owned());
        }
    }

    pub fn reconnect(&self, why: String) {
        self.wishes.send_modify(|wishes| {
            wishes.reconnects += 1;
            wishes.why = why;
        });
    }

    /// Used from the next CONNECT on.
    pub fn keep_alive(&self, seconds: u16) {
        self.wishes
            .send_modify(|wishes| wishes.keep_alive = Duration::from_secs(seconds.into()));
    }
}

impl LinkTask {
    pub fn new(
        options: LinkOptions,
        keep_alive: Duration,
        inputs: mpsc::Sender<Input>,
    ) -> (Self, LinkHandle) {
        let (sender, outgoing) = mpsc::channel(QUEUE);
        let (wisher, wishes) = watch::channel(Wishes {
            keep_alive,
            reconnects: 0,
            why: String::new(),
        });
        let task = Self {
            options,
            inputs,
            outgoing,
            wishes,
            backoff: Backoff::default(),
            endpoint: 0,
            session: None,
        };
        (
            task,
            LinkHandle {
                outgoing: sender,
                wishes: wisher,
            },
        )
    }

    /// Runs until cancelled. The last queued messages, such as a goodbye, are flushed within half a second.
    pub async fn run(mut self, token: CancellationToken) {
        while !token.is_cancelled() {
            if !self.pause(&token).await {
                return;
            }
            let endpoint = self.options.endpoints[self.endpoint % self.options.endpoints.len()].clone();
            let ended = self.connection(&endpoint, &token).await;
            if matches!(ended, Ended::Stopping) {
                return;
            }
            let session = self.session.take().map(|since| since.elapsed());
            if session.is_none() {
                self.endpoint = self.endpoint.wrapping_add(1);
            }
            let keep_alive = self.wishes.borrow().keep_alive;
            self.backoff.ended(session, keep_alive);
            let cause = std::error::Error::source(&ended).map(DialError::whole);
            info!(host = endpoint.host, port = endpoint.port, %ended, cause, "link down");
            if self.inputs.send(Input::LinkDown).await.is_err() {
                return;
            }
        }
    }

    /// Full jitter: anywhere between nothing and the longest pause. Returns false when cancelled.
    async fn pause(&mut self, token: &CancellationToken) -> bool {
        let longest = self.backoff.longest(self.wishes.borrow().keep_alive);
        if longest.is_zero() {
            return true;
        }
        let end = tokio::time::sleep(longest.mul_f64(rand::random::<f64>()));
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = token.cancelled() => return false,
                () = &mut end => return true,
                // Meant for a connection that is gone.
                message = self.outgoing.recv() => if message.is_none() { return false },
            }
        }
    }

    async fn connection(&mut self, endpoint: &Endpoint, token: &CancellationToken) -> Ended {
        // A wish that was meant for the connection before is fulfilled by this one.
        let wishes = self.wishes.borrow_and_update().clone();
        let mut wire = match self.connect(endpoint, &wishes, token).await {
            Ok(wire) => wire,
            Err(ended) => return ended,
        };
        let filters = [Lane::Desired, Lane::Command]
            .map(|lane| SubscribeFilter::new(self.topic(lane), QoS::AtLeastOnce));
        wire.queue(Request::Subscribe(Subscribe::new_many(filters)));
        loop {
            tokio::select! {
                packet = wire.next() => {
                    let heard = match packet {
                        Ok(packet) => self.incoming(packet).await,
                        Err(error) => Err(error.into()),
                    };
                    if let Err(ended) = heard {
                        return ended;
                    }
                }
                message = self.outgoing.recv(), if wire.has_room() => {
                    let Some(message) = message else { return Ended::Stopping };
                    wire.queue(self.publish(message));
                }
                changed = self.wishes.changed() => {
                    if let Some(ended) = self.wished(changed.is_ok(), wishes.reconnects) {
                        return ended;
                    }
                }
                () = token.cancelled() => {
                    // Without a session there is nobody to say goodbye to.
                    if self.session.is_some() {
                        self.close(&mut wire).await;
                    }
                    return Ended::Stopping;
                }
            }
        }
    }

    /// What is sent meanwhile was meant for a connection that is gone.
    async fn connect(
        &mut self,
        endpoint: &Endpoint,
        wishes: &Wishes,
        token: &CancellationToken,
    ) -> Result<Wire, Ended> {
        let (tls, device) = (Arc::clone(&self.options.tls), self.options.device.clone());
        let open = async {
            let stream = dial(endpoint, tls).await?;
            Ok(Wire::open(stream, &device, wishes.keep_alive).await?)
        };
        let open = tokio::time::timeout(CONNECT_TIMEOUT, open);
        tokio::pin!(open);
        loop {
            tokio::select! {
                opened = &mut open => return opened.unwrap_or(Err(Ended::Late)),
                message = self.outgoing.recv() => if message.is_none() { return Err(Ended::Stopping) },
                changed = self.wishes.changed() => {
                    if let Some(ended) = self.wished(changed.is_ok(), wishes.reconnects) {
                        return Err(ended);
                    }
                }
                () = token.cancelled() => return Err(Ended::Stopping),
            }
        }
    }

    /// Why the present connection shall end, if it shall.
    fn wished(&mut self, open: bool, reconnects: u64) -> Option<Ended> {
        let now = self.wishes.borrow_and_update();
        if !open {
            return Some(Ended::Stopping);
        }
        (now.reconnects != reconnects).then(|| Ended::Asked(now.why.clone()))
    }

    fn publish(&self, (lane, bytes): (Lane, Vec<u8>)) -> Request {
        Request::Publish(Publish::new(self.topic(lane), QoS::AtLeastOnce, bytes))
    }

    async fn incoming(&mut self, packet: Packet) -> Result<(), Ended> {
        let input = match packet {
            Packet::SubAck(ack) => {
                let granted = ack
                    .return_codes
                    .iter()
                    .all(|code| matches!(code, SubscribeReasonCode::Success(_)));
                if !granted {
                    return Err(Ended::NotSubscribed);
                }
                info!("link up");
                Input::LinkUp {
                    nonce: rand::random(),
                }
            }
            Packet::Publish(publish) => match self.lane(&publish.topic) {
                Some(lane) => {
                    self.session.get_or_insert_with(Instant::now);
                    Input::Frame(lane, publish.payload.to_vec())
                }
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        self.inputs.send(input).await.map_err(|_| Ended::Stopping)
    }

    /// Sends what is queued and a DISCONNECT, without waiting for answers: the hub need not answer it, and one that is gone does not.
    async fn close(&mut self, wire: &mut Wire) {
        while let Ok(message) = self.outgoing.try_recv() {
            wire.queue(self.publish(message));
        }
        wire.queue(Request::Disconnect(Disconnect));
        match tokio::time::timeout(CLOSE_TIMEOUT, wire.drain()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the last messages were not sent"),
            Err(_) => warn!("the last messages were not flushed in time"),
        }
    }

    fn topic(&self, lane: Lane) -> String {
        format!("dev/{}/{}", self.options.device, lane.topic_level())
    }

    fn lane(&self, topic: &str) -> Option<Lane> {
        [Lane::Desired, Lane::Command]
            .into_iter()
            .find(|lane| self.topic(*lane) == topic)
    }
}
