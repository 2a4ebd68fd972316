//! Secrets at the hub: it carries what it cannot open.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use edge_protocol::Digest;
use edge_protocol::sealing::{RootSecret, vouched_key};
use iot_hub::grant::{Grant, Role, SourceRule};
use iot_hub_client::ClientError;
use iot_hub_client::api::{CreateEnrolmentToken, ProblemCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::device::Device;
use crate::site::{Site, deployment, uid, with_config, with_secret};

fn code(error: &ClientError) -> ProblemCode {
    error.problem().unwrap().code
}

#[tokio::test]
async fn whoever_seals_is_told_for_whom_with_proof_and_brings_the_keys() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
    let one = Device::enrol(&site, &token, "d1").await;
    let stranger = site
        .client(Grant {
            sources: vec![SourceRule {
                cluster_uid: Some("cluster-2".into()),
                node: None,
            }],
            ..Grant::unrestricted(Role::Provider)
        })
        .await;
    let root = RootSecret::from_bytes([9; 32]);
    let (put, key) = with_secret(deployment("u1", "deviceId = 'd1'"), &root, "hunter2-in-no-clear");
    admin.put_deployment_with(&put).await.unwrap();
    assert_eq!(
        admin
            .deployment(&uid("u1"))
            .await
            .unwrap()
            .status
            .waiting_for_keys,
        1
    );

    let wanted = admin.wanted_keys().await.unwrap().items;
    assert_eq!(wanted.len(), 1);
    assert_eq!(
        (wanted[0].device.as_str(), wanted[0].keys[0].key),
        ("d1", key.digest())
    );
    assert!(stranger.wanted_keys().await.unwrap().items.is_empty());
    // The proof holds against the certificate that names the device, by the root alone.
    let anchor = Digest::of(CertificateDer::from_pem_slice(site.anchors.as_bytes()).unwrap());
    let leaf = CertificateDer::from_pem_slice(wanted[0].certificate_chain.as_bytes()).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let identity = leaf.public_key().subject_public_key.data.as_ref();
    let sealing_key = vouched_key(&wanted[0].sealing_proof, anchor, identity).unwrap();
    assert_eq!(sealing_key, one.answer.sealing_key);

    let wrap = root.wrap(&key, &sealing_key);
    let refused = stranger
        .put_keys(&uid("u1"), vec![wrap.clone()])
        .await
        .unwrap_err();
    assert_eq!(code(&refused), ProblemCode::NotYours);
    let mut odd = wrap.clone();
    odd.enc.0.clear();
    let refused = admin.put_keys(&uid("u1"), vec![odd]).await.unwrap_err();
    assert_eq!(code(&refused), ProblemCode::BadKeyWrap);
    admin.put_keys(&uid("u1"), vec![wrap]).await.unwrap();
    assert!(admin.wanted_keys().await.unwrap().items.is_empty());
    assert_eq!(
        admin
            .deployment(&uid("u1"))
            .await
            .unwrap()
            .status
            .waiting_for_keys,
        0
    );
}

/// Everything that the hub has on disk, with what is in it as base64 or compressed besides.
fn disk(site: &Site) -> Vec<Vec<u8>> {
    let state = crate::site::state_dir(site.directory());
    let files = std::fs::read_dir(state).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

/// Whether a text is there raw, JSON-escaped (which leaves it as it is), or in base64 at any of the three places it may begin at.
fn holds(bytes: &[u8], marker: &str) -> bool {
    let base64 = |shift: usize| {
        let padded = [&vec![b' '; shift], marker.as_bytes()].concat();
        let text = BASE64.encode(padded);
        // Without what depends on its neighbours.
        let (from, to) = ([0, 2, 3][shift], text.trim_end_matches('=').len() - 2);
        text[from..to].to_owned()
    };
    let forms = [marker.to_owned(), base64(0), base64(1), base64(2)];
    forms
        .iter()
        .any(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

#[tokio::test]
async fn a_secret_is_nowhere_in_clear_where_a_config_map_is_found() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let root = RootSecret::from_bytes([9; 32]);
    let (secret, _) = with_secret(deployment("u1", "*"), &root, "hunter2-in-no-clear");
    let mut put = with_config(secret.spec, "settings", "config-map-marker");
    put.objects.extend(secret.objects);
    admin.put_deployment_with(&put).await.unwrap();
    let disk = disk(&site);
    assert!(
        disk.iter().any(|file| holds(file, "config-map-marker")),
        "the search finds nothing"
    );
    assert!(disk.iter().all(|file| !holds(file, "hunter2-in-no-clear")));
    assert!(holds(
        BASE64.encode("..hunter2-in-no-clear").as_bytes(),
        "hunter2-in-no-clear"
    ));
}
