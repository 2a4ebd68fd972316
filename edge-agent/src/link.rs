//! The MQTT connection to the hub: dials, subscribes, carries bytes, and dials again for ever.
//!
//! It knows topics and backoff, not what the bytes mean. A message that cannot be queued ends the connection: the next session's
//! hello makes good whatever was lost, so nothing is held back here.

use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::Input;
use edge_protocol::{DeviceId, Lane};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS,
    SubscribeFilter, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::options::Endpoint;

/// Messages waiting for the socket; the machine sends a handful at a time.
const QUEUE: usize = 128;
/// TCP, TLS and CONNACK together, in seconds.
const CONNECT_TIMEOUT_S: u64 = 20;
/// How long a last goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MOST: Duration = Duration::from_mins(1);

pub struct LinkOptions {
    pub device: DeviceId,
    pub endpoints: Vec<Endpoint>,
    pub tls: Arc<ClientConfig>,
}

/// Owns the connection. Ends when its token is cancelled.
pub struct LinkTask {
    options: LinkOptions,
    inputs: mpsc::Sender<Input>,
    orders: mpsc::Receiver<Order>,
    keep_alive: Duration,
    failures: u32,
}

/// Queues orders to the link; never waits.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Send(Lane, Vec<u8>),
    Reconnect(String),
    KeepAlive(Duration),
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
    pub fn send(&self, lane: Lane, bytes: Vec<u8>) {
        self.order(Order::Send(lane, bytes));
    }

    pub fn reconnect(&self, why: String) {
        self.order(Order::Reconnect(why));
    }

    /// Used from the next CONNECT on.
    pub fn keep_alive(&self, seconds: u16) {
        self.order(Order::KeepAlive(Duration::from_secs(seconds.into())));
    }

    /// A full queue means a link that does not drain; its own watchdog ends it, and the next session repeats what is missing.
    fn order(&self, order: Order) {
        if let Err(error) = self.orders.try_send(order) {
            warn!(%error, "the link's queue is full; the message is left to the next session");
        }
    }
}

impl LinkTask {
    pub fn new(
        options: LinkOptions,
        keep_alive: Duration,
        inputs: mpsc::Sender<Input>,
    ) -> (Self, LinkHandle) {
        let (orders, receiver) = mpsc::channel(QUEUE);
        (
            Self {
                options,
                inputs,
                orders: receiver,
                keep_alive,
                failures: 0,
            },
            LinkHandle { orders },
        )
    }

    /// Runs until cancelled. The last queued messages, such as a goodbye, are flushed within two seconds.
    pub async fn run(mut self, token: CancellationToken) {
        while !token.is_cancelled() {
            if self.failures > 0 && !self.pause(&token).await {
                return;
            }
            let endpoint =
                self.options.endpoints[self.failures as usize % self.options.endpoints.len()].clone();
            let ended = self.connection(&endpoint, &token).await;
            if matches!(ended, Ended::Stopping) {
                return;
            }
            self.failures = self.failures.saturating_add(1);
            let cause = std::error::Error::source(&ended).map(ToString::to_string);
            info!(host = endpoint.host, port = endpoint.port, %ended, cause, "link down");
            if self.inputs.send(Input::LinkDown).await.is_err() {
                return;
            }
        }
    }

    /// Full jitter: anywhere between nothing and the capped exponential. Returns false when cancelled.
    async fn pause(&mut self, token: &CancellationToken) -> bool {
        let most = BACKOFF_FIRST
            .saturating_mul(1 << self.failures.min(6))
            .min(BACKOFF_MOST);
        let pause = most.mul_f64(rand::random::<f64>());
        let end = tokio::time::sleep(pause);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = token.cancelled() => return false,
                () = &mut end => return true,
                order = self.orders.recv() => match order {
                    Some(Order::KeepAlive(keep_alive)) => self.keep_alive = keep_alive,
                    // Meant for a connection that is gone.
                    Some(Order::Send(..) | Order::Reconnect(_)) => {}
                    None => return false,
                },
            }
        }
    }

    async fn connection(&mut self, endpoint: &Endpoint, token: &CancellationToken) -> Ended {
        let (client, mut events) = self.client(endpoint);
        loop {
            let event = {
                let poll = events.poll();
                tokio::pin!(poll);
                loop {
                    tokio::select! {
                        event = &mut poll => break event,
                        order = self.orders.recv() => match self.obey(order, &client) {
                            Ok(()) => {}
                            Err(ended) => return ended,
                        },
                        () = token.cancelled() => break Ok(Event::Incoming(Packet::PingResp)),
                    }
                }
            };
            if token.is_cancelled() {
                self.close(&client, &mut events).await;
                return Ended::Stopping;
            }
            match event {
                Ok(event) => {
                    if let Err(ended) = self.incoming(event, &client).await {
                        return ended;
                    }
                }
                Err(error) => return Ended::Connection(Box::new(error)),
            }
        }
    }

    fn client(&self, endpoint: &Endpoint) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(self.options.device.as_str(), &endpoint.host, endpoint.port);
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(
                self.options.tls.clone(),
            )))
            .set_clean_session(true)
            .set_keep_alive(self.keep_alive)
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

    fn obey(&mut self, order: Option<Order>, client: &AsyncClient) -> Result<(), Ended> {
        match order {
            Some(Order::Send(lane, bytes)) => {
                let topic = self.topic(lane);
                client
                    .try_publish(topic, QoS::AtLeastOnce, false, bytes)
                    .map_err(Ended::QueueFull)
            }
            Some(Order::KeepAlive(keep_alive)) => {
                self.keep_alive = keep_alive;
                Ok(())
            }
            Some(Order::Reconnect(why)) => Err(Ended::Asked(why)),
            None => Err(Ended::Stopping),
        }
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
                    self.failures = 0;
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
        while let Ok(order) = self.orders.try_recv() {
            if self.obey(Some(order), client).is_err() {
                return;
            }
        }
        if client.try_disconnect().is_err() {
            return;
        }
        let drained = async { while events.poll().await.is_ok() {} };
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
