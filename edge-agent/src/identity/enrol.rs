//! Enrolment: from a one-time token to a certificate.

use std::path::Path;
use std::sync::Arc;

use edge_protocol::DeviceId;
use edge_protocol::sealing::EnrolmentBinding;
use edge_protocol::v1::{EnrolAnswer, EnrolRequest, EnrolmentToken};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};

use super::files::Keys;
use super::{Identity, IdentityError, IdentityFiles};
use crate::device_api;
use crate::dial::Endpoint;
use crate::tls::{self, TimeFloor};

/// Enrols this device and stores the identity. Repeating it with the same token is safe: the stored keys are used again, and the hub
/// answers the same keys with the same certificate.
///
/// # Errors
/// [`IdentityError::Refused`] needs a person; [`IdentityError::Unreachable`] may be tried again.
pub async fn enrol(
    files: &IdentityFiles,
    endpoints: &[Endpoint],
    token_file: &Path,
    device: Option<DeviceId>,
    floor: TimeFloor,
) -> Result<Identity, IdentityError> {
    let token = read_token(token_file)?;
    let keys = files.ensure_keys()?;
    let tls = Arc::new(tls::first_contact(token.anchor, floor).map_err(IdentityError::Tls)?);
    let request = request(token, device, &keys)?;
    let body = serde_json::to_vec(&request).map_err(|error| IdentityError::BadAnswer(error.to_string()))?;
    let mut last = None;
    for endpoint in endpoints {
        match device_api::call(endpoint, tls.clone(), "POST", "/enroll", body.clone()).await {
            Ok(answer) => return accept(files, &answer, keys),
            Err(error) if error.is_refusal() => return Err(IdentityError::Refused(error)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(IdentityError::NoToken, IdentityError::Unreachable))
}

/// All that the hub is asked, each part bound to the identity key: the request for a certificate by its own signature, the
/// sealing key by one that names this enrolment.
fn request(
    token: EnrolmentToken,
    device: Option<DeviceId>,
    keys: &Keys,
) -> Result<EnrolRequest, IdentityError> {
    let binding = EnrolmentBinding {
        anchor: token.anchor,
        token_id: token.id.clone(),
        device: device.clone(),
        identity: keys.identity.public_key_raw().to_vec(),
    };
    let sealing = binding
        .seal(keys.sealing.public(), |message| keys.identity.sign(message))
        .map_err(IdentityError::Key)?;
    Ok(EnrolRequest {
        v: edge_protocol::v1::VERSION,
        token_id: token.id,
        token_secret: token.secret,
        device,
        csr: certificate_request(&keys.identity)?,
        sealing,
    })
}

fn accept(files: &IdentityFiles, answer: &[u8], keys: Keys) -> Result<Identity, IdentityError> {
    let answer: EnrolAnswer =
        serde_json::from_slice(answer).map_err(|error| IdentityError::BadAnswer(error.to_string()))?;
    let identity = files.store(answer, keys)?;
    let sealing_key = identity.answer.sealing_key.fingerprint();
    tracing::info!(%sealing_key, "the hub knows this device's sealing key");
    Ok(identity)
}

fn read_token(path: &Path) -> Result<EnrolmentToken, IdentityError> {
    let text = std::fs::read_to_string(path).map_err(|source| IdentityError::File {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|source| IdentityError::Token {
        path: path.to_owned(),
        source,
    })
}

/// Only the public key and the proof of its possession matter; the hub sets every name by its own policy.
fn certificate_request(key: &KeyPair) -> Result<String, IdentityError> {
    let request = CertificateParams::default()
        .serialize_request(key)
        .map_err(IdentityError::Key)?;
    request.pem().map_err(IdentityError::Key)
}

#[cfg(test)]
mod tests {
    use edge_protocol::Digest;

    use super::*;

    #[test]
    fn the_sealing_key_of_a_request_is_vouched_for() {
        let dir = tempfile::tempdir().unwrap();
        let keys = IdentityFiles::in_dir(dir.path()).ensure_keys().unwrap();
        let token = EnrolmentToken {
            id: "t1".into(),
            secret: "s3cret".into(),
            anchor: Digest::of("root"),
        };
        let device = Some(DeviceId::new("press-7").unwrap());
        let request = request(token.clone(), device.clone(), &keys).unwrap();
        // As the hub sees it: the key of the certificate request, its own anchor, the token that was shown.
        let asked = rcgen::CertificateSigningRequestParams::from_pem(&request.csr).unwrap();
        let binding = EnrolmentBinding {
            anchor: token.anchor,
            token_id: token.id,
            device,
            identity: rcgen::PublicKeyData::der_bytes(&asked.public_key).to_vec(),
        };
        assert_eq!(binding.open(&request.sealing), Ok(keys.sealing.public()));
    }
}
