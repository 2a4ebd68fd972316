//! `POST /enroll`: a one-time token and a certificate request become a device.
//!
//! Order: the token's use is bound to the key and the certificate is kept (one transaction), then the machine registers the
//! device, then the answer goes out. A crash or a cut line after the first step is repaired by asking again: the same token
//! with the same key gives the same certificate, and registering it again changes nothing.
//!
//! What the device's enrolment was at the first step is kept with it, and the machine registers it over that one only, once:
//! so a takeover that a crash cut in half is finished by the repeat, and a superseded key never takes a device back. One
//! enrolment at a time goes through these steps, so that devices seldom meet there.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use edge_protocol::sealing::EnrolmentBinding;
use edge_protocol::sign::Envelope;
use edge_protocol::v1::{EnrolAnswer, EnrolRequest, VERSION};
use edge_protocol::{DeviceId, Digest, EnrolmentSerial, SealingKey};
use iot_hub_api::{Problem, ProblemCode};
use iot_hub_core::{Call, CallError, DeviceRecord, DeviceState, Enrolment};
use iot_hub_mqtt::{CutReason, CutTarget};
use iot_hub_store::{AuditRecord, Claim, Claimed, EnrolmentRecord, EnrolmentTokenRecord, HubStore as _};

use super::{DevicePort, Peer};
use crate::ca::DeviceRequest;
use crate::clock;
use crate::rest::problem::{Body, Refusal};

/// How long the same token and key get the same certificate.
const REPEAT_WITHIN_MS: i64 = 24 * 60 * 60 * 1000;

/// How long an enrolment waits for the others before it.
const TURN: Duration = Duration::from_secs(10);

/// Who may try: counted by the head of the request, so that bodies which never come are counted as well.
pub(super) struct Attempt(Peer);

impl FromRequestParts<DevicePort> for Attempt {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, port: &DevicePort) -> Result<Self, Refusal> {
        let peer = parts.extensions.get::<Peer>().cloned();
        let peer = peer.expect("every connection is served with its peer");
        if !port.rate.admit(peer.address.ip(), Instant::now()) {
            return Err(Refusal::new(
                ProblemCode::TooManyRequests,
                "too many enrolment attempts from this address",
            ));
        }
        Ok(Self(peer))
    }
}

pub(super) async fn enrol(
    State(port): State<DevicePort>,
    Attempt(peer): Attempt,
    Body(ask): Body<EnrolRequest>,
) -> Result<Json<EnrolAnswer>, Refusal> {
    if ask.v != VERSION {
        let problem = Problem::new(ProblemCode::BadValue, format!("version {} is not known", ask.v));
        return Err(problem.at_field("v").into());
    }
    let token = port.token(&ask).await.inspect_err(|_| {
        let id = edge_protocol::text::sanitise(&ask.token_id);
        tracing::warn!(peer = %peer.address, token = id, "enrolment refused");
    })?;
    let asked = Asked::read(ask, port.authority.anchor())?;
    let turn = tokio::time::timeout(TURN, port.turn.acquire()).await;
    let _turn = turn
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Refusal::new(ProblemCode::TooManyRequests, "too many devices enrol now"))?;
    let (enrolment, is_new) = port.claim(&token, asked).await?;
    port.register(&token, &enrolment, is_new).await?;
    tracing::info!(device = %enrolment.device, token = token.id, peer = %peer.address, "enrolled");
    Ok(Json(EnrolAnswer {
        v: VERSION,
        device: enrolment.device,
        enrolment: enrolment.serial,
        certificate_chain: enrolment.certificate_chain,
        hub: port.authority.hub(),
        signing_keys: port.signing_keys.clone(),
        anchors: port.authority.anchors().to_owned(),
        link: token.link,
        sealing_key: enrolment.sealing_key,
    }))
}

/// What a device asks for, with both keys proven to be its own.
struct Asked {
    request: DeviceRequest,
    wished: Option<DeviceId>,
    sealing_key: SealingKey,
    sealing_proof: Envelope,
}

impl Asked {
    fn read(ask: EnrolRequest, anchor: Digest) -> Result<Self, Problem> {
        let request = DeviceRequest::parse(&ask.csr)
            .map_err(|error| Problem::new(ProblemCode::BadCsr, error.to_string()).at_field("csr"))?;
        let binding = EnrolmentBinding {
            anchor,
            token_id: ask.token_id,
            device: ask.device,
            identity: request.identity().to_vec(),
        };
        let sealing_key = binding.open(&ask.sealing).map_err(|refusal| {
            Problem::new(ProblemCode::BadSealingKey, refusal.to_string()).at_field("sealing")
        })?;
        Ok(Self {
            request,
            wished: binding.device,
            sealing_key,
            sealing_proof: ask.sealing,
        })
    }
}

fn refused() -> Refusal {
    Refusal::new(
        ProblemCode::EnrolmentRefused,
        "the enrolment token is not valid (any more), or was used with another key",
    )
}

impl DevicePort {
    /// The token, if the secret is right. Its expiry is judged with its use, so that a repeat may come later.
    async fn token(&self, ask: &EnrolRequest) -> Result<EnrolmentTokenRecord, Refusal> {
        let found = self.store.enrolment_token(&ask.token_id).await?;
        found
            .filter(|token| token.hash.matches(&ask.token_secret))
            .ok_or_else(refused)
    }

    /// Takes a use of the token for this key, or finds what it got before; and whether it is a new one.
    async fn claim(
        &self,
        token: &EnrolmentTokenRecord,
        asked: Asked,
    ) -> Result<(EnrolmentRecord, bool), Refusal> {
        let Asked {
            request,
            wished,
            sealing_key,
            sealing_proof,
        } = asked;
        let key_fingerprint = request.fingerprint();
        let earlier = self.store.enrolment(&token.id, &key_fingerprint).await?;
        let (device, previous) = match &earlier {
            Some(earlier) => (earlier.device.clone(), earlier.previous.clone()),
            None => self.choose_id(token, wished).await?,
        };
        let issued = self
            .authority
            .device(&device, &request, self.certificate_days)
            .map_err(|error| {
                tracing::error!(%error, "a device certificate could not be issued");
                Refusal::new(ProblemCode::Internal, "the certificate could not be issued")
            })?;
        let now_ms = clock::wall_ms();
        let enrolment = EnrolmentRecord {
            token: token.id.clone(),
            key_fingerprint,
            device,
            serial: issued.serial,
            certificate_chain: issued.chain,
            sealing_key,
            sealing_proof,
            previous,
            at_ms: now_ms,
        };
        let claim = Claim {
            enrolment,
            now_ms,
            repeat_within_ms: REPEAT_WITHIN_MS,
        };
        match self.store.claim(&claim).await? {
            Claimed::New => Ok((claim.enrolment, true)),
            Claimed::Again(earlier) if earlier.sealing_key != sealing_key => {
                let detail = "this token and identity key were used with another sealing key; bring that key back \
                              (sealing.key in the agent's state directory), or ask for a new token";
                Err(Refusal::new(ProblemCode::SealingKeyChanged, detail))
            }
            Claimed::Again(earlier) => Ok((*earlier, false)),
            Claimed::Refused => Err(refused()),
        }
    }

    /// The id the token fixes, else the one wished for, else a new one; and the enrolment that it has now. Only a token that
    /// fixes an id may take over a device that exists: a fleet's token must not.
    async fn choose_id(
        &self,
        token: &EnrolmentTokenRecord,
        wished: Option<DeviceId>,
    ) -> Result<(DeviceId, Option<EnrolmentSerial>), Refusal> {
        let device = token.device.clone().or(wished).unwrap_or_else(|| {
            let random = edge_protocol::digest::hex(&rand::random::<[u8; 8]>());
            DeviceId::new(format!("device-{random}")).expect("hex digits are part of a label")
        });
        let id = device.clone();
        let present = self
            .pump
            .read(move |reading| reading.hub.device(&id).map(|view| view.record))
            .await?;
        // The id of a decommissioned device may come back; the machine knows from when on.
        let taken = |record: &DeviceRecord| record.state != DeviceState::Decommissioned;
        if token.device.is_none() && present.as_ref().is_some_and(taken) {
            return Err(CallError::DeviceIdTaken(device).into());
        }
        Ok((device, present.map(|record| record.enrolment)))
    }

    /// Tells the machine, which knows whether this enrolment is the next of the device, or is there already, or came too late.
    async fn register(
        &self,
        token: &EnrolmentTokenRecord,
        enrolment: &EnrolmentRecord,
        claimed_now: bool,
    ) -> Result<(), Refusal> {
        let device = &enrolment.device;
        let call = Call::EnrolDevice {
            device: device.clone(),
            enrolment: Box::new(Enrolment {
                serial: enrolment.serial.clone(),
                expected_previous: enrolment.previous.clone(),
                sealing_key: enrolment.sealing_key,
                group: token.group.clone(),
                tags: token.tags.clone(),
                link: token.link,
            }),
        };
        if let Err(error) = self.pump.call(call, Some(cause(token, device))).await? {
            tracing::warn!(%device, token = token.id, %error, "an enrolment was not registered");
            // The use is given back, unless the device may have had what it was for.
            if claimed_now || !matches!(error, CallError::EnrolmentSuperseded(_)) {
                self.store
                    .unclaim(&enrolment.token, &enrolment.key_fingerprint)
                    .await?;
            }
            return Err(error.into());
        }
        if enrolment.previous.is_some() {
            // The certificate of before is refused from now on; what it still has open ends.
            let target = CutTarget::Device(crate::pump::device_out(device));
            self.endpoint.cut(&target, CutReason::Revoked);
        }
        Ok(())
    }
}

fn cause(token: &EnrolmentTokenRecord, device: &DeviceId) -> AuditRecord {
    AuditRecord {
        id: 0,
        at_ms: clock::wall_ms(),
        principal: format!("enrolment-token/{}", token.id),
        action: "enrol".to_owned(),
        subject: device.to_string(),
    }
}
