//! Users by client certificate.

use std::fmt::Write as _;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

use crate::user::User;

/// Where a certificate's subject has the user's UID (`asn1util.X509UID` of k8s.io/apiserver).
const UID: &str = "1.3.6.1.4.1.57683.2";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Why a certificate makes nobody known.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("it does not verify")]
    Verify(#[source] rustls::Error),
    #[error("it cannot be read")]
    Malformed(#[source] x509_parser::nom::Err<x509_parser::error::X509Error>),
    #[error("its subject holds {what} that is no text")]
    NoText { what: &'static str },
    #[error("its subject holds {0} UIDs")]
    Uids(usize),
}

/// The user that the certificate is for, as `CommonNameUserConversion` reads it; `None` when it has no common name.
pub(super) fn user(
    roots: &dyn ClientCertVerifier,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<Option<User>, CertificateError> {
    roots
        .verify_client_cert(end_entity, intermediates, UnixTime::now())
        .map_err(CertificateError::Verify)?;
    let (_, certificate) = X509Certificate::from_der(end_entity).map_err(CertificateError::Malformed)?;
    let subject = certificate.subject();
    // The last of several, as Go's pkix.Name has it.
    let Some(name) = subject.iter_common_name().last() else {
        return Ok(None);
    };
    let name = text(name, "a common name")?;
    if name.is_empty() {
        return Ok(None);
    }
    let groups = subject.iter_organization().map(|group| text(group, "a group"));
    let uids: Vec<_> = subject
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == UID)
        .collect();
    let uid = match uids.as_slice() {
        [] => String::new(),
        [uid] => text(uid, "a UID")?,
        several => return Err(CertificateError::Uids(several.len())),
    };
    let credential = [(CREDENTIAL_ID.to_owned(), vec![credential_id(end_entity)])];
    Ok(Some(User {
        name,
        uid,
        groups: groups.collect::<Result<_, _>>()?,
        extra: credential.into(),
    }))
}

fn text(attribute: &AttributeTypeAndValue<'_>, what: &'static str) -> Result<String, CertificateError> {
    let text = attribute
        .as_str()
        .map_err(|_| CertificateError::NoText { what })?;
    Ok(text.to_owned())
}

fn credential_id(certificate: &CertificateDer<'_>) -> String {
    let mut id = String::from("X509SHA256=");
    for byte in Sha256::digest(certificate) {
        let _ = write!(id, "{byte:02x}");
    }
    id
}
