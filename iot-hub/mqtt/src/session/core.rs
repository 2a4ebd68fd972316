//! What a session does with each packet: subscriptions, the window of unacknowledged messages, answers. No IO, no clock.

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use rumqttd::protocol::QoS;

use crate::codec::{self, Incoming, Violation};
use crate::reason::DisconnectReason;
use crate::topics::{DownLane, Subscriptions, Topics, UpLane};

pub(crate) struct Core {
    topics: Topics,
    subscriptions: Subscriptions,
    /// Packet ids sent and not acknowledged yet.
    inflight: Vec<u16>,
    window: usize,
    last_pkid: u16,
}

/// What is left to do after a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Continue,
    /// Hand this to the hub; once it is queued there, acknowledge `pkid`.
    Deliver {
        lane: UpLane,
        payload: Bytes,
        pkid: Option<u16>,
    },
}

impl Core {
    /// `window` is the number of `QoS` 1 messages that may wait for their PUBACK.
    pub(crate) fn new(topics: Topics, window: usize) -> Self {
        Self {
            topics,
            subscriptions: Subscriptions::default(),
            inflight: Vec::new(),
            window,
            last_pkid: 0,
        }
    }

    /// Takes one packet from the device; answers are appended to `out`.
    ///
    /// # Errors
    /// The reason to end the session; DISCONNECT is one.
    pub(crate) fn take(&mut self, packet: Incoming, out: &mut BytesMut) -> Result<Step, DisconnectReason> {
        match packet {
            Incoming::Publish {
                topic,
                payload,
                qos,
                retain,
                pkid,
            } => {
                if retain {
                    return Err(DisconnectReason::Retained);
                }
                let lane = self.topics.publish(&topic).ok_or(DisconnectReason::Topic)?;
                let pkid = (qos == QoS::AtLeastOnce).then_some(pkid);
                // A copy, so that a small message does not pin the buffer it was read into.
                return Ok(Step::Deliver {
                    lane,
                    payload: Bytes::copy_from_slice(&payload),
                    pkid,
                });
            }
            // In any order; an id that is not in flight is of no effect.
            Incoming::PubAck(pkid) => self.inflight.retain(|id| *id != pkid),
            Incoming::Subscribe { pkid, filters } => self.subscribe(pkid, &filters, out),
            Incoming::Unsubscribe { pkid, filters } => {
                for filter in filters.iter().filter_map(|filter| self.topics.subscribe(filter)) {
                    self.subscriptions.set(filter, None);
                }
                codec::put_unsuback(pkid, out);
            }
            Incoming::PingReq => codec::put_pingresp(out),
            Incoming::Disconnect => return Err(DisconnectReason::Graceful),
            // A second CONNECT is a violation (MQTT 3.1.1, 3.1.0-2).
            Incoming::Connect(..) => return Err(DisconnectReason::Protocol),
        }
        Ok(Step::Continue)
    }

    fn subscribe(&mut self, pkid: u16, filters: &[(String, QoS)], out: &mut BytesMut) {
        let mut granted = Vec::with_capacity(filters.len());
        for (filter, asked) in filters {
            // QoS 2 is asked down to 1 (3.8.4).
            let qos = if *asked == QoS::AtMostOnce {
                QoS::AtMostOnce
            } else {
                QoS::AtLeastOnce
            };
            let filter = self.topics.subscribe(filter);
            if let Some(filter) = filter {
                self.subscriptions.set(filter, Some(qos));
            }
            granted.push(filter.map(|_| qos));
        }
        codec::put_suback(pkid, &granted, out);
    }

    /// Whether a message of this lane may be sent now: subscribed, and room in the window.
    pub(crate) fn open(&self, lane: DownLane) -> bool {
        match self.subscriptions.granted(lane) {
            None => false,
            Some(QoS::AtMostOnce) => true,
            Some(_) => self.inflight.len() < self.window,
        }
    }

    /// Appends a message to the device; call only while the lane is [`open`](Self::open).
    pub(crate) fn put(
        &mut self,
        lane: DownLane,
        payload: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), Violation> {
        let qos = self.subscriptions.granted(lane).unwrap_or(QoS::AtMostOnce);
        let needed = payload.len() + self.topics.len() + 9;
        out.reserve(needed);
        codec::put_publish_head(self.topics.len(), payload.len(), qos, out)?;
        self.topics.put_down(lane, out);
        let pkid = (qos == QoS::AtLeastOnce).then(|| self.next_pkid());
        codec::put_publish_tail(pkid, payload, out);
        Ok(())
    }

    /// A packet id that is not in flight. The window is far smaller than the 65,535 ids, so there always is one.
    fn next_pkid(&mut self) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !self.inflight.contains(&self.last_pkid) {
                self.inflight.push(self.last_pkid);
                return self.last_pkid;
            }
        }
    }
}
