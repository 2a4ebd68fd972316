//! MQTT 3.1.1 over a connection that is there: rumqttc's codec and its state of a session, driven over a connection of our own dialling.
//!
//! rumqttc's event loop dials by itself, which would be a second way to the hub; what it does beyond that is to send pings, and here the machine's
//! heartbeats keep a connection alive.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use edge_protocol::DeviceId;
use futures_util::{SinkExt as _, StreamExt as _};
use rumqttc::{
    Codec, ConnAck, Connect, ConnectReturnCode, Event, MqttState, Packet, Request, StateError, mqttbytes,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::Framed;

/// The largest packet of either direction, in bytes.
const MAX_PACKET: usize = edge_protocol::frame::MAX_WIRE + 1024;
/// Messages that the hub has not acknowledged; further ones wait.
const IN_FLIGHT: u16 = 20;
/// Messages that wait for their turn.
const ROOM: usize = 32;
/// Acknowledgements that wait for the socket; beyond it nothing is read that would ask for more.
const REPLIES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the hub declines the connection: {0:?}")]
    Declined(ConnectReturnCode),
    #[error("the hub closed the connection")]
    Closed,
    #[error("the hub does not speak as MQTT has it")]
    Protocol(#[source] Box<StateError>),
    #[error("the connection was lost")]
    Lost(#[source] mqttbytes::Error),
}

/// An MQTT session, at least once in either direction, that begins anew with each connection.
pub(super) struct Wire {
    framed: Framed<TlsStream<TcpStream>, Codec>,
    state: MqttState,
    /// Asked to be sent, in order.
    waiting: VecDeque<Request>,
    /// What the session answers, before all that waits.
    replies: VecDeque<Packet>,
}

impl Wire {
    /// CONNECT, and the hub's word to it.
    pub(super) async fn open(
        stream: TlsStream<TcpStream>,
        device: &DeviceId,
        keep_alive: Duration,
    ) -> Result<Self, WireError> {
        let codec = Codec {
            max_incoming_size: MAX_PACKET,
            max_outgoing_size: MAX_PACKET,
        };
        let mut framed = Framed::new(stream, codec);
        let mut connect = Connect::new(device.as_str());
        connect.keep_alive = u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX);
        framed
            .send(Packet::Connect(connect))
            .await
            .map_err(WireError::Lost)?;
        match framed.next().await {
            Some(Ok(Packet::ConnAck(ConnAck {
                code: ConnectReturnCode::Success,
                ..
            }))) => {}
            Some(Ok(Packet::ConnAck(ack))) => return Err(WireError::Declined(ack.code)),
            Some(Ok(_)) => return Err(protocol(StateError::WrongPacket)),
            Some(Err(error)) => return Err(WireError::Lost(error)),
            None => return Err(WireError::Closed),
        }
        Ok(Self {
            framed,
            state: MqttState::new(IN_FLIGHT, false),
            waiting: VecDeque::new(),
            replies: VecDeque::new(),
        })
    }

    /// Whether one more may be queued.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < ROOM
    }

    /// Sent by [`Self::next`] or [`Self::drain`], in order.
    pub(super) fn queue(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// The next packet of the hub. Meanwhile what is queued is sent, and what the hub sends is acknowledged. Cancelling is safe.
    pub(super) async fn next(&mut self) -> Result<Packet, WireError> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Sends what is queued. What comes from the hub meanwhile is lost on nobody: it is the end of the session. Cancelling is safe.
    pub(super) async fn drain(&mut self) -> Result<(), WireError> {
        poll_fn(|cx| {
            loop {
                let flushed = self.poll_send(cx)?;
                if flushed && self.waiting.is_empty() && self.replies.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                // The hub's acknowledgements make room for what waits.
                if self.poll(cx)?.is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, WireError>> {
        loop {
            let _flushed = self.poll_send(cx)?;
            if self.replies.len() >= REPLIES {
                return Poll::Pending;
            }
            let Poll::Ready(read) = self.framed.poll_next_unpin(cx) else {
                return Poll::Pending;
            };
            let packet = read.ok_or(WireError::Closed)?.map_err(WireError::Lost)?;
            let reply = self.state.handle_incoming_packet(packet).map_err(protocol)?;
            self.replies.extend(reply);
            // One packet makes one such event; the others tell what is sent.
            let heard = self.state.events.drain(..).find_map(|event| match event {
                Event::Incoming(packet) => Some(packet),
                Event::Outgoing(_) => None,
            });
            if let Some(packet) = heard {
                // Its acknowledgement goes out now, not when the caller has dealt with it.
                let _flushed = self.poll_send(cx)?;
                return Poll::Ready(Ok(packet));
            }
        }
    }

    /// Whether all that may be sent now has left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, WireError> {
        while self.may_send() {
            match self.framed.poll_ready_unpin(cx) {
                Poll::Ready(ready) => ready.map_err(WireError::Lost)?,
                Poll::Pending => return Ok(false),
            }
            if let Some(packet) = self.next_to_send()? {
                self.framed.start_send_unpin(packet).map_err(WireError::Lost)?;
            }
        }
        match self.framed.poll_flush_unpin(cx) {
            Poll::Ready(flushed) => flushed.map(|()| true).map_err(WireError::Lost),
            Poll::Pending => Ok(false),
        }
    }

    fn may_send(&self) -> bool {
        let turn = self.state.inflight() < IN_FLIGHT && self.state.collision.is_none();
        !self.replies.is_empty() || (turn && !self.waiting.is_empty())
    }

    /// Nothing where the hub has not yet acknowledged the last message of that number: it follows by itself then.
    fn next_to_send(&mut self) -> Result<Option<Packet>, WireError> {
        if let Some(reply) = self.replies.pop_front() {
            return Ok(Some(reply));
        }
        let Some(request) = self.waiting.pop_front() else {
            return Ok(None);
        };
        let packet = self.state.handle_outgoing_packet(request).map_err(protocol)?;
        self.state.events.clear();
        Ok(packet)
    }
}

fn protocol(error: StateError) -> WireError {
    WireError::Protocol(Box::new(error))
}
