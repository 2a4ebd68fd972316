//! A device as the hub sees it: a key, a certificate, HTTPS and MQTT. No agent.

use std::net::SocketAddr;
use std::sync::Arc;

use edge_protocol::sealing::EnrolmentBinding;
use edge_protocol::v1::enrol::hub_server_name;
use edge_protocol::v1::{EnrolAnswer, EnrolRequest, EnrolmentToken, VERSION};
use edge_protocol::{DeviceId, Digest, HubId, SealingKey};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::site::Site;

/// Where a hub's device port is, and what proves that it is this hub.
#[derive(Debug, Clone)]
pub struct HubPort {
    pub address: SocketAddr,
    pub hub: HubId,
    pub anchors: String,
}

impl HubPort {
    pub fn of(site: &Site) -> Self {
        Self {
            address: site.addresses.device,
            hub: site.ca().hub,
            anchors: site.anchors.clone(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!(
            "https://{}:{}{path}",
            hub_server_name(self.hub),
            self.address.port()
        )
    }

    /// HTTPS that checks the hub's own name, whatever address it has.
    pub fn http(&self, identity: Option<&Device>) -> reqwest::Client {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls(identity, b"http/1.1"))
            .resolve(&hub_server_name(self.hub), self.address)
            .build()
            .unwrap()
    }

    /// A connection without a certificate, to say anything over.
    pub async fn stream(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = hub_server_name(self.hub).try_into().unwrap();
        let tls = TlsConnector::from(Arc::new(self.tls(None, b"http/1.1")));
        tls.connect(name, tcp).await.unwrap()
    }

    pub fn tls(&self, identity: Option<&Device>, alpn: &[u8]) -> ClientConfig {
        let verifier = HubVerifier::new(self);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(device) => {
                let chain = CertificateDer::pem_slice_iter(device.answer.certificate_chain.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(device.key.serialize_pem().as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key)
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    pub async fn enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, iot_hub_client::api::Problem> {
        let response = self
            .http(None)
            .post(self.url("/enroll"))
            .json(request)
            .send()
            .await
            .unwrap();
        if response.status().is_success() {
            Ok(response.json().await.unwrap())
        } else {
            Err(response.json().await.unwrap())
        }
    }
}

/// The usual verifier, asked for the hub's name instead of the address that was dialled.
#[derive(Debug)]
struct HubVerifier {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl HubVerifier {
    fn new(port: &HubPort) -> Self {
        let mut roots = RootCertStore::empty();
        for anchor in CertificateDer::pem_slice_iter(port.anchors.as_bytes()) {
            roots.add(anchor.unwrap()).unwrap();
        }
        let provider = Arc::new(ring::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        Self {
            inner,
            name: hub_server_name(port.hub).try_into().unwrap(),
        }
    }
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// An enrolled device.
pub struct Device {
    pub key: KeyPair,
    pub answer: EnrolAnswer,
}

pub fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A request whose sealing key goes with the identity key: the same for every try.
pub fn request(token: &EnrolmentToken, key: &KeyPair, device: Option<&str>) -> EnrolRequest {
    let sealing = SealingKey::new(*Digest::of(key.public_key_raw()).as_bytes()).unwrap();
    request_with(token, key, device, sealing)
}

pub fn request_with(
    token: &EnrolmentToken,
    key: &KeyPair,
    device: Option<&str>,
    sealing: SealingKey,
) -> EnrolRequest {
    let device = device.map(|id| DeviceId::new(id).unwrap());
    let binding = EnrolmentBinding {
        anchor: token.anchor,
        token_id: token.id.clone(),
        device: device.clone(),
        identity: key.public_key_raw().to_vec(),
    };
    EnrolRequest {
        v: VERSION,
        token_id: token.id.clone(),
        token_secret: token.secret.clone(),
        device,
        sealing: binding.seal(sealing, |message| key.sign(message)).unwrap(),
        csr: CertificateParams::default()
            .serialize_request(key)
            .unwrap()
            .pem()
            .unwrap(),
    }
}

impl Device {
    pub async fn enrol(site: &Site, token: &EnrolmentToken, id: &str) -> Self {
        let key = new_key();
        let answer = HubPort::of(site)
            .enrol(&request(token, &key, Some(id)))
            .await
            .unwrap();
        assert_eq!(answer.device.as_str(), id);
        Self { key, answer }
    }
}
