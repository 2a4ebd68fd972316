//! Enrolment: from a one-time token to a certificate.

use std::path::Path;
use std::sync::Arc;

use edge_protocol::DeviceId;
use edge_protocol::v1::{EnrolAnswer, EnrolRequest, EnrolmentToken};
use rcgen::{CertificateParams, KeyPair};

use super::{Identity, IdentityError, IdentityFiles};
use crate::device_api;
use crate::options::Endpoint;
use crate::tls::{self, TimeFloor};

/// Enrols this device and stores the identity. Repeating it with the same token is safe: the stored key is used again, and the hub
/// answers the same key with the same certificate.
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
    let key = files.ensure_key()?;
    let tls = Arc::new(tls::first_contact(token.anchor, floor).map_err(IdentityError::Tls)?);
    let request = EnrolRequest {
        v: edge_protocol::v1::VERSION,
        token_id: token.id,
        token_secret: token.secret,
        device,
        csr: certificate_request(&key)?,
    };
    let body = serde_json::to_vec(&request).map_err(|error| IdentityError::BadAnswer(error.to_string()))?;
    let mut last = None;
    for endpoint in endpoints {
        match device_api::call(endpoint, tls.clone(), "POST", "/enroll", body.clone()).await {
            Ok(answer) => return accept(files, &answer, &key),
            Err(error) if error.is_refusal() => return Err(IdentityError::Refused(error)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(IdentityError::NoToken, IdentityError::Unreachable))
}

fn accept(files: &IdentityFiles, answer: &[u8], key: &KeyPair) -> Result<Identity, IdentityError> {
    let answer: EnrolAnswer =
        serde_json::from_slice(answer).map_err(|error| IdentityError::BadAnswer(error.to_string()))?;
    files.store(answer, key)
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
