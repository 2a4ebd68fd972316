//! rumqttd's v4 codec behind checks of our own.
//!
//! The checks run on the first bytes of a packet, before its body is waited for or anything is allocated for it: packet
//! type, reserved flags, and a size limit per packet type. What the codec does not tell (quality and packet id of a
//! publish are private there) is read from the same bytes.

#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::protocol::v4::{self, V4};
use rumqttd::protocol::{ConnAck, ConnectReturnCode, PingResp};
use rumqttd::protocol::{
    Connect, Error as CodecError, LastWill, Packet, Protocol, PubAck, PubAckReason, QoS, SubAck,
    SubscribeReasonCode, UnsubAck,
};

/// Remaining length of a CONNECT.
pub(crate) const MAX_CONNECT: usize = 8 * 1024;
/// Remaining length of every packet that is neither CONNECT nor PUBLISH: a SUBSCRIBE to what exists needs under 300
/// bytes, and a parsed filter takes more memory than its bytes on the wire.
pub(crate) const MAX_CONTROL: usize = 1024;
/// Filters in one SUBSCRIBE or UNSUBSCRIBE.
const MAX_FILTERS: usize = 16;
/// How much is read from a stream at a time.
pub(crate) const READ_CHUNK: usize = 4 * 1024;
/// How much is collected for a stream before the rest waits in its lane.
pub(crate) const WRITE_BATCH: usize = 16 * 1024;

/// A packet that a client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Connect(Connect, Option<LastWill>),
    Publish {
        topic: Bytes,
        payload: Bytes,
        qos: QoS,
        retain: bool,
        pkid: u16,
    },
    PubAck(u16),
    Subscribe {
        pkid: u16,
        filters: Vec<(String, QoS)>,
    },
    Unsubscribe {
        pkid: u16,
        filters: Vec<String>,
    },
    PingReq,
    Disconnect,
}

/// Bytes that are not a packet a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A CONNECT of another protocol name or level.
    Version,
    TooLarge,
    Qos,
    Malformed,
}

/// Takes the first packet out of `buffer`; `None` if it is not complete yet. `max_publish` bounds the remaining length
/// of a PUBLISH. After a violation the buffer is of no more use.
pub(crate) fn decode(buffer: &mut BytesMut, max_publish: usize) -> Result<Option<Incoming>, Violation> {
    let Some(first) = buffer.first().copied() else {
        return Ok(None);
    };
    let max = limit_of(first, max_publish)?;
    match v4::check(buffer.iter(), max) {
        Err(CodecError::InsufficientBytes(_)) => return Ok(None),
        Err(CodecError::PayloadSizeLimitExceeded(_)) => return Err(Violation::TooLarge),
        Err(_) => return Err(Violation::Malformed),
        Ok(header) if first == UNSUBSCRIBE && header.remaining_len < 2 => return Err(Violation::Malformed),
        Ok(_) => {}
    }
    let peeked = if first >> 4 == PUBLISH {
        Some(peek_publish(buffer).ok_or(Violation::Malformed)?)
    } else {
        None
    };
    let packet = V4.read_mut(buffer, max).map_err(|error| match error {
        CodecError::InvalidProtocol | CodecError::InvalidProtocolLevel(_) if first == CONNECT => {
            Violation::Version
        }
        _ => Violation::Malformed,
    })?;
    incoming(packet, peeked).map(Some)
}

const PUBLISH: u8 = 3;
const CONNECT: u8 = 0x10;
const UNSUBSCRIBE: u8 = 0xA2;

/// The size limit for the packet that starts with this byte (MQTT 3.1.1, 2.2.1 and 2.2.2: types and reserved flags).
fn limit_of(first: u8, max_publish: usize) -> Result<usize, Violation> {
    match (first >> 4, first & 0x0F) {
        (1, 0) => Ok(MAX_CONNECT),
        (PUBLISH, flags) if flags & 0b0110 >= 0b0100 => Err(Violation::Qos),
        (PUBLISH, _) => Ok(max_publish),
        // PUBREC, PUBREL and PUBCOMP belong to QoS 2.
        (5 | 7, 0) | (6, 2) => Err(Violation::Qos),
        (12 | 14, 0) => Ok(0),
        (4, 0) | (8 | 10, 2) => Ok(MAX_CONTROL),
        _ => Err(Violation::Malformed),
    }
}

/// Quality and packet id of the complete PUBLISH at the start of `frame`. `QoS` 0 has id 0, `QoS` 1 never (2.3.1).
fn peek_publish(frame: &[u8]) -> Option<(QoS, u16)> {
    let first = frame.first()?;
    if first & 0b0110 == 0 {
        return Some((QoS::AtMostOnce, 0));
    }
    let length_bytes = 1 + frame.get(1..)?.iter().position(|byte| byte & 0x80 == 0)?;
    let body = frame.get(1 + length_bytes..)?;
    let topic_len = usize::from(u16::from_be_bytes(body.first_chunk().copied()?));
    let pkid = u16::from_be_bytes(body.get(2 + topic_len..)?.first_chunk().copied()?);
    (pkid != 0).then_some((QoS::AtLeastOnce, pkid))
}

fn incoming(packet: Packet, peeked: Option<(QoS, u16)>) -> Result<Incoming, Violation> {
    match (packet, peeked) {
        (Packet::Connect(connect, _, will, _, _), _) => Ok(Incoming::Connect(connect, will)),
        (Packet::Publish(publish, _), Some((qos, pkid))) => Ok(Incoming::Publish {
            topic: publish.topic,
            payload: publish.payload,
            qos,
            retain: publish.retain,
            pkid,
        }),
        (Packet::PubAck(ack, _), _) => Ok(Incoming::PubAck(ack.pkid)),
        (Packet::Subscribe(subscribe, _), _) if valid(subscribe.pkid, subscribe.filters.len()) => {
            let filters = subscribe
                .filters
                .into_iter()
                .map(|filter| (filter.path, filter.qos))
                .collect();
            Ok(Incoming::Subscribe {
                pkid: subscribe.pkid,
                filters,
            })
        }
        (Packet::Unsubscribe(unsubscribe, _), _) if valid(unsubscribe.pkid, unsubscribe.filters.len()) => {
            Ok(Incoming::Unsubscribe {
                pkid: unsubscribe.pkid,
                filters: unsubscribe.filters,
            })
        }
        (Packet::PingReq(_), _) => Ok(Incoming::PingReq),
        (Packet::Disconnect(_, _), _) => Ok(Incoming::Disconnect),
        _ => Err(Violation::Malformed),
    }
}

fn valid(pkid: u16, filters: usize) -> bool {
    pkid != 0 && (1..=MAX_FILTERS).contains(&filters)
}

/// The answers to CONNECT that this endpoint gives (3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectAnswer {
    Accepted,
    ProtocolVersion,
    Unavailable,
    NotAuthorized,
}

pub(crate) fn put_connack(answer: ConnectAnswer, out: &mut BytesMut) {
    let code = match answer {
        ConnectAnswer::Accepted => ConnectReturnCode::Success,
        ConnectAnswer::ProtocolVersion => ConnectReturnCode::RefusedProtocolVersion,
        ConnectAnswer::Unavailable => ConnectReturnCode::ServiceUnavailable,
        ConnectAnswer::NotAuthorized => ConnectReturnCode::NotAuthorized,
    };
    put(
        Packet::ConnAck(
            ConnAck {
                session_present: false,
                code,
            },
            None,
        ),
        out,
    );
}

pub(crate) fn put_puback(pkid: u16, out: &mut BytesMut) {
    put(
        Packet::PubAck(
            PubAck {
                pkid,
                reason: PubAckReason::Success,
            },
            None,
        ),
        out,
    );
}

/// `granted` per filter, in the order of the SUBSCRIBE; `None` is the failure code 0x80.
pub(crate) fn put_suback(pkid: u16, granted: &[Option<QoS>], out: &mut BytesMut) {
    let code = |qos: &Option<QoS>| qos.map_or(SubscribeReasonCode::Failure, SubscribeReasonCode::Success);
    put(
        Packet::SubAck(
            SubAck {
                pkid,
                return_codes: granted.iter().map(code).collect(),
            },
            None,
        ),
        out,
    );
}

pub(crate) fn put_unsuback(pkid: u16, out: &mut BytesMut) {
    put(
        Packet::UnsubAck(
            UnsubAck {
                pkid,
                reasons: Vec::new(),
            },
            None,
        ),
        out,
    );
}

pub(crate) fn put_pingresp(out: &mut BytesMut) {
    put(Packet::PingResp(PingResp), out);
}

fn put(packet: Packet, out: &mut BytesMut) {
    V4.write(packet, out)
        .expect("these packets are a few bytes long and have no properties");
}

/// The head of a PUBLISH up to its topic; topic, then [`put_publish_tail`], follow. Written by hand because the codec's
/// packet id is private. `topic` and `payload` are lengths.
///
/// # Errors
/// [`Violation::TooLarge`] above MQTT's 256 MiB.
pub(crate) fn put_publish_head(
    topic: usize,
    payload: usize,
    qos: QoS,
    out: &mut BytesMut,
) -> Result<(), Violation> {
    let (flags, id_len) = if qos == QoS::AtMostOnce {
        (0x30, 0)
    } else {
        (0x32, 2)
    };
    let topic_len = u16::try_from(topic).map_err(|_| Violation::TooLarge)?;
    out.put_u8(flags);
    v4::write_remaining_length(out, 2 + topic + id_len + payload).map_err(|_| Violation::TooLarge)?;
    out.put_u16(topic_len);
    Ok(())
}

/// The rest of a PUBLISH; `pkid` exactly if the head said `QoS` 1.
pub(crate) fn put_publish_tail(pkid: Option<u16>, payload: &[u8], out: &mut BytesMut) {
    if let Some(pkid) = pkid {
        out.put_u16(pkid);
    }
    out.extend_from_slice(payload);
}
