//! The MQTT connection to the hub: dials, subscribes, carries bytes, and dials again for ever.
//!
//! It knows topics and backoff, not what the bytes mean. A message that cannot be queued ends the connection: the next session's
//! hello makes good whatever was lost, so nothing is held back here.

mod backoff;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::Input;
use edge_protocol::{DeviceId, Lane};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, Packet, QoS,
    SubscribeFilter, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::backoff::Backoff;
use crate::options::Endpoint;

/// Messages waiting for the socket; the machine sends a handful at a time.
const QUEUE: usize = 128;
/// TCP, TLS and CONNACK together, in seconds.
const CONNECT_TIMEOUT_S: u64 = 20;
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
    #[error("the connection failed")]
    Connection(#[source] Box<ConnectionError>),
    #[error("the outgoing queue is full")]
    QueueFull(#[source] rumqttc::ClientError),
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
            let cause = std::error::Error::source(&ended).map(ToString::to_string);
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
        let (client, mut events) = self.client(endpoint, wishes.keep_alive);
        loop {
            let event = {
                let poll = events.poll();
                tokio::pin!(poll);
                loop {
                    tokio::select! {
                        event = &mut poll => break Some(event),
                        message = self.outgoing.recv() => {
                            let Some(message) = message else { return Ended::Stopping };
                            if let Err(ended) = self.publish(message, &client) {
                                return ended;
                            }
                        }
                        changed = self.wishes.changed() => {
                            let now = self.wishes.borrow_and_update();
                            if changed.is_err() {
                                return Ended::Stopping;
                            }
                            if now.reconnects != wishes.reconnects {
                                return Ended::Asked(now.why.clone());
                            }
                        }
                        () = token.cancelled() => break None,
                    }
                }
            };
            match event {
                Some(Ok(event)) => {
                    if matches!(event, Event::Incoming(Packet::ConnAck(_))) {
                        // From here on the machine's hello, then its heartbeats, keep the connection alive and prove it: a PINGREQ
                        // beside each of them would say the same once more.
                        events.mqtt_options.set_keep_alive(Duration::ZERO);
                    }
                    if let Err(ended) = self.incoming(event, &client).await {
                        return ended;
                    }
                }
                Some(Err(error)) => return Ended::Connection(Box::new(error)),
                // Without a session there is nobody to say goodbye to, and perhaps not even a connection.
                None if self.session.is_none() => return Ended::Stopping,
                None => {
                    self.close(&client, &mut events).await;
                    return Ended::Stopping;
                }
            }
        }
    }

    fn client(&self, endpoint: &Endpoint, keep_alive: Duration) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(self.options.device.as_str(), &endpoint.host, endpoint.port);
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(
                self.options.tls.clone(),
            )))
            .set_clean_session(true)
            .set_keep_alive(keep_alive)
            .set_inflight(20)
            .set_max_packet_size(
                edge_protocol::frame::MAX_WIRE + 1024,
                edge_protocol::frame::MAX_WIRE + 1024,
            );
        let (client, mut events) = AsyncClient::new(options, QUEUE);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_TIMEOUT_S);
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        (client, events)
    }

    fn publish(&self, (lane, bytes): (Lane, Vec<u8>), client: &AsyncClient) -> Result<(), Ended> {
        client
            .try_publish(self.topic(lane), QoS::AtLeastOnce, false, bytes)
            .map_err(Ended::QueueFull)
    }

    async fn incoming(&mut self, event: Event, client: &AsyncClient) -> Result<(), Ended> {
        let input = match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                let filters = [Lane::Desired, Lane::Command]
                    .map(|lane| SubscribeFilter::new(self.topic(lane), QoS::AtLeastOnce));
                return client.try_subscribe_many(filters).map_err(Ended::QueueFull);
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                let granted = ack
                    .return_codes
                    .iter()
                    .all(|code| matches!(code, rumqttc::SubscribeReasonCode::Success(_)));
                if !granted {
                    return Err(Ended::NotSubscribed);
                }
                info!("link up");
                Input::LinkUp {
                    nonce: rand::random(),
                }
            }
            Event::Incoming(Packet::Publish(publish)) => match self.lane(&publish.topic) {
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

    /// Sends what is queued and a DISCONNECT, without waiting for answers.
    async fn close(&mut self, client: &AsyncClient, events: &mut EventLoop) {
        while let Ok(message) = self.outgoing.try_recv() {
            if self.publish(message, client).is_err() {
                return;
            }
        }
        if client.try_disconnect().is_err() {
            return;
        }
        // Flushed when its event comes. The hub need not answer a DISCONNECT, and one that is gone does not.
        let drained = async {
            while let Ok(event) = events.poll().await {
                if event == Event::Outgoing(Outgoing::Disconnect) {
                    return;
                }
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, drained).await.is_err() {
            warn!("the last messages were not flushed in time");
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
