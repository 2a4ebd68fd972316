//! The OpenAPI document: served as it is, and changed only on purpose.

use crate::site::Site;

#[test]
fn the_document_is_the_golden_one() {
    insta::assert_json_snapshot!(iot_hub::rest::openapi());
}

#[tokio::test]
async fn it_is_served() {
    let site = Site::start().await;
    let anchor = reqwest::Certificate::from_pem(site.anchors.as_bytes()).unwrap();
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder()
        .tls_certs_only([anchor])
        .build()
        .unwrap();
    let url = format!("{}/api/v1/openapi.json", site.rest_url());
    let served: serde_json::Value = http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(served, serde_json::to_value(iot_hub::rest::openapi()).unwrap());
    assert!(served["paths"]["/api/v1/watch"]["get"].is_object());
}
