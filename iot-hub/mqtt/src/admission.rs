//! From a stream to a session: the gate, the CONNECT, the claim of the device's slot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rumqttd::protocol::{Connect, LastWill};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use crate::codec::{self, ConnectAnswer, Incoming, MAX_CONNECT, Violation};
use crate::connect::{self, Accepted};
use crate::endpoint::Shared;
use crate::gate::{Identity, Refusal};
use crate::ids::DeviceId;
use crate::reason::RefuseReason;
use crate::session::{Moved, Outbox, Wire};
use crate::table::{Occupied, Slot};
use crate::tls::PeerCertificates;
use crate::topics::Will;

/// How often the gate is asked again when cuts outdate its answer, before the device is asked to come back later.
const GATE_ROUNDS: usize = 8;

/// How long a connection that the gate refused may take to send its CONNECT; it is counted for no device.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Admission<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) peer: SocketAddr,
    pub(crate) certificates: PeerCertificates,
}

pub(crate) struct Admitted {
    pub(crate) slot: Arc<Slot>,
    pub(crate) keep_alive: Duration,
    pub(crate) will: Option<Will>,
}

pub(crate) struct Refused {
    pub(crate) reason: RefuseReason,
    pub(crate) device: Option<DeviceId>,
}

impl Admission<'_> {
    /// On success the CONNACK stands in `wire.output` and the slot is held: the caller must end it through the intake.
    pub(crate) async fn admit<S>(self, wire: &mut Wire<S>) -> Result<Admitted, Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let deadline = Instant::now() + self.shared.options.connect_timeout;
        if self.certificates.end_entity().is_none() {
            return Err(Refused {
                reason: RefuseReason::NoCertificate,
                device: None,
            });
        }
        let mut epoch = self.shared.table.epoch();
        let identity = match self.identify().await {
            Ok(identity) => identity,
            Err(refusal) => {
                // The CONNECT is awaited, shortly, so that the refusal can be told in its CONNACK.
                let deadline = deadline.min(Instant::now() + REFUSED_WAIT);
                let reason = match read_connect(wire, deadline).await {
                    Ok(_) | Err(RefuseReason::NoConnect) => RefuseReason::Gate(refusal),
                    Err(reason) => reason,
                };
                return Err(Refused { reason, device: None });
            }
        };
        let device = identity.device.clone();
        let admitted = self.enter(wire, identity, &mut epoch, deadline).await;
        admitted.map_err(|reason| Refused {
            reason,
            device: Some(device),
        })
    }

    async fn enter<S>(
        &self,
        wire: &mut Wire<S>,
        identity: Identity,
        epoch: &mut u64,
        deadline: Instant,
    ) -> Result<Admitted, RefuseReason>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let arrival = self
            .shared
            .table
            .arrive(&identity.device)
            .ok_or(RefuseReason::TooManyArrivals)?;
        let (connect, will) = read_connect(wire, deadline).await?;
        let Accepted { keep_alive, will } = connect::judge(&connect, will, &identity, &self.shared.options)?;
        let claim = self.claim(identity, epoch);
        let slot = timeout(self.shared.options.takeover_timeout, claim)
            .await
            .map_err(|_| RefuseReason::Takeover)??;
        drop(arrival);
        codec::put_connack(ConnectAnswer::Accepted, &mut wire.output);
        Ok(Admitted {
            slot,
            keep_alive,
            will,
        })
    }

    async fn identify(&self) -> Result<Identity, Refusal> {
        let answer = self.shared.gate.ask(self.certificates.clone());
        timeout(self.shared.options.gate_timeout, answer)
            .await
            .unwrap_or(Err(Refusal::Unavailable))
    }

    /// Cancel-safe: a slot is claimed in the step that returns it.
    async fn claim(&self, mut identity: Identity, epoch: &mut u64) -> Result<Arc<Slot>, RefuseReason> {
        let mut rounds = 0;
        loop {
            let outbox = || Outbox::new(&self.shared.options);
            match self.shared.table.claim(&identity, self.peer, *epoch, outbox) {
                Ok(slot) => return Ok(slot),
                Err(Occupied::Held(holder)) => holder.released().await,
                Err(Occupied::Capacity) => return Err(RefuseReason::Capacity),
                Err(Occupied::Closing) => return Err(RefuseReason::Stopping),
                Err(Occupied::GateOutdated) if rounds < GATE_ROUNDS => {
                    rounds += 1;
                    *epoch = self.shared.table.epoch();
                    let again = self.identify().await.map_err(RefuseReason::Gate)?;
                    // The CONNECT was judged for this device.
                    if again.device != identity.device {
                        return Err(RefuseReason::ClientId);
                    }
                    identity = again;
                }
                Err(Occupied::GateOutdated) => return Err(RefuseReason::Gate(Refusal::Unavailable)),
            }
        }
    }
}

/// Reads the first packet, which must be a CONNECT (MQTT 3.1.1, 3.1.0-1).
async fn read_connect<S>(
    wire: &mut Wire<S>,
    deadline: Instant,
) -> Result<(Connect, Option<LastWill>), RefuseReason>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match codec::decode(&mut wire.input, MAX_CONNECT) {
            Ok(Some(Incoming::Connect(connect, will))) => return Ok((connect, will)),
            Ok(None) => {}
            Err(Violation::Version) => return Err(RefuseReason::ProtocolVersion),
            Ok(Some(_)) | Err(_) => return Err(RefuseReason::Malformed),
        }
        match timeout_at(deadline, wire.turn(true)).await {
            Ok(Ok(Moved::Read | Moved::Wrote)) => {}
            Ok(Ok(Moved::End) | Err(_)) | Err(_) => return Err(RefuseReason::NoConnect),
        }
    }
}
