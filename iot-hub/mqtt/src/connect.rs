//! The verdict on a CONNECT packet: pure, no clock, no table.

use std::time::Duration;

use bytes::Bytes;
use rumqttd::protocol::{Connect, LastWill, QoS};

use crate::codec::ConnectAnswer;
use crate::gate::{Identity, Refusal};
use crate::options::Options;
use crate::reason::RefuseReason;
use crate::topics::{Topics, Will};

/// What an accepted CONNECT asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) keep_alive: Duration,
    pub(crate) will: Option<Will>,
}

/// Judges a CONNECT by the identity that the gate gave.
///
/// # Errors
/// The reason to refuse; [`answer_of`] turns it into the CONNACK.
pub(crate) fn judge(
    connect: &Connect,
    will: Option<LastWill>,
    identity: &Identity,
    options: &Options,
) -> Result<Accepted, RefuseReason> {
    if connect.client_id != identity.device.as_str() {
        return Err(RefuseReason::ClientId);
    }
    if !connect.clean_session {
        return Err(RefuseReason::CleanSession);
    }
    let keep_alive = Duration::from_secs(u64::from(connect.keep_alive));
    // Zero would switch liveness off (3.1.2.10).
    if keep_alive.is_zero() || keep_alive > options.max_keep_alive {
        return Err(RefuseReason::KeepAlive);
    }
    let topics = Topics::of(identity.device.clone());
    let will = will.map(|will| judge_will(&will, &topics, options)).transpose()?;
    Ok(Accepted { keep_alive, will })
}

fn judge_will(will: &LastWill, topics: &Topics, options: &Options) -> Result<Will, RefuseReason> {
    if will.retain || will.qos == QoS::ExactlyOnce || will.message.len() > options.max_will {
        return Err(RefuseReason::Will);
    }
    let subtopic = topics.will(&will.topic).ok_or(RefuseReason::Will)?;
    // A copy, so that the will does not pin the buffer it was read into.
    Ok(Will {
        subtopic,
        payload: Bytes::copy_from_slice(&will.message),
    })
}

/// The CONNACK that tells this refusal; `None` where the peer gets no answer (3.1.4: a malformed CONNECT is closed).
pub(crate) fn answer_of(reason: RefuseReason) -> Option<ConnectAnswer> {
    match reason {
        RefuseReason::ProtocolVersion => Some(ConnectAnswer::ProtocolVersion),
        RefuseReason::Gate(Refusal::Unavailable)
        | RefuseReason::Capacity
        | RefuseReason::Takeover
        | RefuseReason::Stopping => Some(ConnectAnswer::Unavailable),
        RefuseReason::Gate(_)
        | RefuseReason::ClientId
        | RefuseReason::KeepAlive
        | RefuseReason::CleanSession
        | RefuseReason::Will => Some(ConnectAnswer::NotAuthorized),
        RefuseReason::Handshake
        | RefuseReason::HandshakeEvicted
        | RefuseReason::CertificateNotValid
        | RefuseReason::NoCertificate
        | RefuseReason::TooManyArrivals
        | RefuseReason::NoConnect
        | RefuseReason::Malformed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DeviceId, Serial};

    fn identity() -> Identity {
        Identity {
            device: DeviceId::new("pump-7").expect("valid"),
            serial: Serial::new("1").expect("valid"),
        }
    }

    fn connect(client_id: &str, keep_alive: u16, clean_session: bool) -> Connect {
        Connect {
            keep_alive,
            client_id: client_id.to_owned(),
            clean_session,
        }
    }

    fn will(topic: &str, len: usize, qos: QoS, retain: bool) -> LastWill {
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        LastWill {
            topic,
            message: Bytes::from(vec![b'x'; len]),
            qos,
            retain,
        }
    }

    #[test]
    fn verdicts() {
        let check = |connect: Connect, will, expect: Result<Option<&str>, RefuseReason>| {
            let verdict = judge(&connect, will, &identity(), &Options::default());
            let got = verdict.map(|accepted| accepted.will.map(|will| will.subtopic));
            assert_eq!(got, expect.map(|will| will.map(str::to_owned)), "{connect:?}");
        };
        let good = || connect("pump-7", 30, true);
        check(good(), None, Ok(None));
        check(
            good(),
            Some(will("dev/pump-7/s", 9, QoS::AtLeastOnce, false)),
            Ok(Some("s")),
        );
        check(connect("pump-8", 30, true), None, Err(RefuseReason::ClientId));
        check(connect("", 30, true), None, Err(RefuseReason::ClientId));
        check(connect("pump-7/#", 30, true), None, Err(RefuseReason::ClientId));
        check(connect("pump-7", 0, true), None, Err(RefuseReason::KeepAlive));
        check(connect("pump-7", 1801, true), None, Err(RefuseReason::KeepAlive));
        check(
            connect("pump-7", 30, false),
            None,
            Err(RefuseReason::CleanSession),
        );
        check(
            good(),
            Some(will("dev/pump-8/c", 9, QoS::AtLeastOnce, false)),
            Err(RefuseReason::Will),
        );
        check(
            good(),
            Some(will("dev/pump-7/s", 9, QoS::ExactlyOnce, false)),
            Err(RefuseReason::Will),
        );
        check(
            good(),
            Some(will("dev/pump-7/s", 9, QoS::AtLeastOnce, true)),
            Err(RefuseReason::Will),
        );
        check(
            good(),
            Some(will("dev/pump-7/s", 1025, QoS::AtLeastOnce, false)),
            Err(RefuseReason::Will),
        );
    }
}
