//! TLS of the ports, and the endpoint's limits.

use std::path::Path;
use std::sync::Arc;

use edge_protocol::frame::MAX_WIRE;
use iot_hub_mqtt::{LaneLimits, ServerTls};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

use super::BuildError;
use crate::ca::{Authority, ServerIdentity};
use crate::options::RestOptions;

/// TLS of the device port with a fresh certificate.
pub(super) fn device(authority: &Authority) -> Result<ServerTls, BuildError> {
    let ServerIdentity { chain, key } = authority.device_port()?;
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.root().clone())
        .map_err(|error| BuildError::DeviceTls(iot_hub_mqtt::TlsError::Server(error)))?;
    Ok(ServerTls::new(chain, key, roots)?)
}

/// TLS of the REST port: the configured certificate, or one of the hub's own authority.
pub(super) fn rest(options: &RestOptions, authority: &Authority) -> Result<Arc<ServerConfig>, BuildError> {
    let ServerIdentity { chain, key } = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => configured(certificate, key)?,
        _ => authority.rest_port(&options.names)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| BuildError::RestTls(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn configured(certificate: &Path, key: &Path) -> Result<ServerIdentity, BuildError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: rustls::pki_types::pem::Error| BuildError::RestTls(format!("{path}: {error}"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .map_err(failed(certificate))?
        .collect();
    Ok(ServerIdentity {
        chain: chain.map_err(failed(certificate))?,
        key: PrivateKeyDer::from_pem_file(key).map_err(failed(key))?,
    })
}

/// The largest frame must pass in one packet, with its topic.
pub(super) fn endpoint_options(max_sessions: usize) -> iot_hub_mqtt::Options {
    let max_packet = MAX_WIRE + 256;
    let lane = |messages| LaneLimits {
        messages,
        bytes: 2 * max_packet,
    };
    iot_hub_mqtt::Options {
        max_sessions,
        max_packet,
        status: lane(32),
        bulk: lane(32),
        desired: lane(64),
        command: LaneLimits {
            messages: 64,
            bytes: max_packet,
        },
        ..iot_hub_mqtt::Options::default()
    }
}
