//! A tap passes everything as it is, says to either side that it is the other, and keeps what it saw.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use fault_proxy::tap::{Tap, TapOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

/// Resolves nowhere; both sides know each other by it.
const NAME: &str = "it.hub.outrigger.internal";
const ALPN: &[u8] = b"mqtt";

/// A hub's authority as it lies on disk.
struct Authority {
    root: CertificateDer<'static>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn create(directory: &Path) -> Self {
        let params = |depth| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
            params
        };
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(params(1), key()).unwrap();
        let intermediate = CertifiedIssuer::signed_by(params(0), key(), &root).unwrap();
        std::fs::create_dir_all(directory).unwrap();
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        write("root.crt", root.pem());
        write("intermediate.crt", intermediate.pem());
        write("intermediate.key", intermediate.key().serialize_pem());
        Self {
            root: root.der().clone(),
            intermediate,
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        roots
    }

    fn leaf(&self, name: &str) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        (vec![leaf.der().clone(), self.intermediate.der().clone()], key)
    }
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// Answers each connection with the leaf that its client showed, then with what it sends, until it sends no more.
async fn hub(authority: &Authority) -> SocketAddr {
    let verifier = WebPkiClientVerifier::builder(Arc::new(authority.roots()))
        .build()
        .unwrap();
    let (chain, key) = authority.leaf(NAME);
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, der(&key))
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.alpn_protocol(), Some(ALPN));
            let shown = session.peer_certificates().unwrap()[0].to_vec();
            stream.write_all(&shown).await.unwrap();
            let (mut from, mut to) = tokio::io::split(stream);
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_tap_keeps_what_passes_and_is_not_noticed() {
    // Fails only when it was installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(&dir.path().join("ca"));
    let (chain, key) = authority.leaf("device");
    let key_file = dir.path().join("identity.key");
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let kept = dir.path().join("kept");
    let tap = Tap::bind(TapOptions {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        upstream: hub(&authority).await,
        name: NAME.to_owned(),
        ca_dir: dir.path().join("ca"),
        client_key: Some(key_file),
        directory: kept.clone(),
    });
    let tap = tap.await.unwrap();
    let (address, stop) = (tap.address(), CancellationToken::new());
    let running = tokio::spawn(tap.run(stop.clone()));

    let config = ClientConfig::builder().with_root_certificates(authority.roots());
    let mut config = config.with_client_auth_cert(chain.clone(), der(&key)).unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let said = b"hello ".repeat(50_000);
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let say = async {
        to.write_all(&said).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let ((), length) = tokio::join!(say, from.read_to_end(&mut heard));
    length.unwrap();
    let expected = [chain[0].to_vec(), said.clone()].concat();
    assert!(heard == expected, "{} of {} bytes", heard.len(), expected.len());
    stop.cancel();
    running.await.unwrap();
    assert!(std::fs::read(kept.join("0000-mqtt-up")).unwrap() == said);
    assert!(std::fs::read(kept.join("0000-mqtt-down")).unwrap() == expected);
}
