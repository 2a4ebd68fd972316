//! One port for two protocols, told apart by ALPN.

use iot_hub_mqtt::{AcceptorOptions, BindError, Bound};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::raw::tls;
use crate::site::{DEADLINE, Site};

#[tokio::test]
async fn what_is_not_mqtt_goes_to_the_other_handler_with_its_certificates() {
    let site = Site::start();
    let certificate = || vec![site.ca.issue("a")];
    let cases = [
        (site.ca.client(Vec::new(), &[b"http/1.1"]), "anonymous\n"),
        (site.ca.client(certificate(), &[b"http/1.1"]), "known\n"),
        (site.ca.client(certificate(), &[]), "known\n"),
        (site.ca.client(certificate(), &[b"http/1.1", b"h2"]), "known\n"),
    ];
    for (config, expect) in cases {
        let mut stream = tls(site.address, &config).await.unwrap();
        let mut shown = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut shown))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(shown, expect);
    }
    assert!(
        tls(site.address, &site.ca.client(certificate(), &[b"h2"]))
            .await
            .is_err(),
        "no common protocol"
    );
    assert_eq!(site.registry.asked(), 0, "the gate is for MQTT");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let site = Site::start();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(site.ca.roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    assert!(tls(site.address, &config.into()).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let site = Site::start();
    let again = Bound::new(site.address, AcceptorOptions::default());
    assert!(matches!(again, Err(BindError { address, .. }) if address == site.address));
}
