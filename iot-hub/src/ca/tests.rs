//! Policy of the authority: what is in a certificate, and what a request cannot put there.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::*;

fn authority() -> (tempfile::TempDir, Authority) {
    let directory = tempfile::tempdir().unwrap();
    CaFiles::init(directory.path()).unwrap();
    let authority = Authority::new(&CaFiles::load(directory.path()).unwrap()).unwrap();
    (directory, authority)
}

fn first_certificate(pem: &str) -> Vec<u8> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    block.contents
}

#[test]
fn a_request_decides_nothing_but_the_key() {
    let (_directory, authority) = authority();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut wishes = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    wishes.distinguished_name.push(DnType::CommonName, "other");
    wishes.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = wishes.serialize_request(&key).unwrap().pem().unwrap();

    let device = DeviceId::new("press-7").unwrap();
    let issued = authority
        .device(&device, &DeviceRequest::parse(&csr).unwrap(), 30)
        .unwrap();
    let der = first_certificate(&issued.chain);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names: Vec<_> = certificate
        .subject()
        .iter_common_name()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(names, ["press-7"]);
    let alternative = certificate.subject_alternative_name().unwrap().unwrap();
    let uri = format!("spiffe://{}/device/press-7", hub_server_name(authority.hub()));
    assert_eq!(alternative.value.general_names, [GeneralName::URI(&uri)]);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!certificate.is_ca());
    assert_eq!(
        edge_protocol::digest::hex(certificate.raw_serial()),
        issued.serial.as_str()
    );
}

#[test]
fn only_p256_requests_with_a_good_signature_pass() {
    let request = |key: &KeyPair| CertificateParams::default().serialize_request(key).unwrap();
    let good = request(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
    assert!(DeviceRequest::parse(&good.pem().unwrap()).is_ok());
    for other in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let csr = request(&KeyPair::generate_for(other).unwrap());
        assert!(matches!(
            DeviceRequest::parse(&csr.pem().unwrap()),
            Err(CsrError::WrongKey)
        ));
    }
    let mut forged = good.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let body = base64::engine::general_purpose::STANDARD.encode(&forged);
    let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    assert!(matches!(DeviceRequest::parse(&forged), Err(CsrError::Invalid(_))));
    assert!(DeviceRequest::parse("").is_err());
}

#[test]
fn a_device_whose_clock_stands_at_the_day_of_its_build_finds_every_certificate_valid() {
    let (_directory, authority) = authority();
    // The earliest that an agent takes for now (`BUILT_UNIX_S` there).
    let built = x509_parser::time::ASN1Time::from_timestamp(1_795_219_200).unwrap();
    let port = authority.device_port().unwrap();
    assert_eq!(port.chain.len(), 3);
    for der in &port.chain {
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        assert!(
            certificate.validity().is_valid_at(built),
            "{}",
            certificate.subject()
        );
        assert!(
            certificate.validity().not_before.timestamp() < built.timestamp() - 180 * 86_400,
            "however long after the build the hub began"
        );
    }
}

#[test]
fn keys_are_private_and_never_replaced() {
    let (directory, authority) = authority();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        assert_eq!(
            entry.unwrap().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert!(matches!(
        CaFiles::init(directory.path()),
        Err(CaError::Write { .. })
    ));
    std::fs::remove_file(directory.path().join("root.key")).unwrap();
    assert_eq!(CaFiles::load(directory.path()).unwrap().hub, authority.hub());
}
