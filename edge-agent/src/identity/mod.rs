//! Who this device is: its keys, its certificate, and the hub it belongs to.
//!
//! Three files in the state directory. `identity.key` and `sealing.key` are written before anything is asked of the hub, so that an
//! enrolment cut short is repeated with the same keys; `identity.json` is written once the hub has answered. Each is replaced by
//! rename, so it is whole.

mod enrol;
mod files;

use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use edge_protocol::SealingSecret;
use edge_protocol::digest::unhex;
use edge_protocol::sign::TrustedKeys;
use edge_protocol::v1::EnrolAnswer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use enrol::enrol;
pub use files::IdentityFiles;

use crate::device_api::DeviceApiError;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot {doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is damaged: {problem}")]
    Damaged { path: PathBuf, problem: String },
    #[error(
        "this device is not enrolled and no enrolment token is configured; set enrolment.token_file, or run `outrigger-agent enrol`"
    )]
    NoToken,
    #[error("the enrolment token in {path} is not usable")]
    Token {
        path: PathBuf,
        #[source]
        source: edge_protocol::v1::enrol::InvalidToken,
    },
    #[error("cannot make a key or a certificate request")]
    Key(#[source] rcgen::Error),
    #[error("the hub refused the enrolment; unless it names another remedy, ask for a new token")]
    Refused(#[source] DeviceApiError),
    #[error("the hub could not be asked at any endpoint")]
    Unreachable(#[source] DeviceApiError),
    #[error("the hub's answer is not usable: {0}")]
    BadAnswer(String),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// An enrolled device.
#[derive(Debug)]
pub struct Identity {
    pub answer: EnrolAnswer,
    pub chain: Vec<CertificateDer<'static>>,
    pub anchors: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// What is sealed to this device opens with it; the hub has the other half.
    pub sealing: Arc<SealingSecret>,
    pub trusted_keys: TrustedKeys,
}

impl Identity {
    /// Checks that everything in the hub's answer can be used.
    fn new(
        answer: EnrolAnswer,
        key: PrivateKeyDer<'static>,
        sealing: SealingSecret,
    ) -> Result<Self, IdentityError> {
        let bad = |problem: String| IdentityError::BadAnswer(problem);
        if answer.v != edge_protocol::v1::VERSION {
            return Err(bad(format!("version {} is not known", answer.v)));
        }
        let certificates = |what: &str, pem: &str| -> Result<Vec<CertificateDer<'static>>, IdentityError> {
            let list: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| bad(format!("{what}: {error}")))?;
            if list.is_empty() {
                Err(bad(format!("{what}: no certificate")))
            } else {
                Ok(list)
            }
        };
        let chain = certificates("certificate_chain", &answer.certificate_chain)?;
        let anchors = certificates("anchors", &answer.anchors)?;
        let keys: Vec<VerifyingKey> = answer
            .signing_keys
            .iter()
            .map(|hex| verifying_key(hex).ok_or_else(|| bad(format!("signing key {hex:?}"))))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(bad("it names no signing key".to_owned()));
        }
        Ok(Self {
            chain,
            anchors,
            key,
            sealing: Arc::new(sealing),
            trusted_keys: keys.into_iter().collect(),
            answer,
        })
    }
}

fn verifying_key(hex: &str) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&unhex(hex)?).ok()
}
