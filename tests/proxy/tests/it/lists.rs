//! Lies about lists and single answers.

use std::io::ErrorKind;
use std::sync::Arc;

use fault_proxy::{Dialect, Lie, Requests, Rule};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Stage, empty_list, in_time, tls};

async fn json(stage: &Stage, path: &str) -> (u16, Value) {
    let answer = stage.get(path).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_is_of_the_same_kind_and_ends_with_its_count() {
    let stage = Stage::set(Dialect::Kubernetes).await;
    let empty = |version: &str| json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": [] });
    let lie = stage.tell(&empty_list(None).times(2));
    assert_eq!(json(&stage, "/api/v1/pods?limit=500").await, (200, empty("700")));
    let older = stage.tell(&empty_list(Some(3)).times(1));
    assert_eq!(json(&stage, "/api/v1/pods").await, (200, empty("3")));
    assert_eq!(json(&stage, "/api/v1/pods").await, (200, empty("700")));
    assert_eq!((stage.served(lie), stage.served(older)), (2, 1));
    assert_eq!(
        json(&stage, "/api/v1/pods").await.1["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // What is no list is no lie.
    let lie = stage.tell(&Rule::new("/", Lie::EmptyList { version: None }));
    assert_eq!(stage.get("/nowhere").send().await.unwrap().status(), 404);
    assert_eq!(stage.get("/echo").send().await.unwrap().status(), 202);
    assert_eq!(stage.served(lie), 0);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hubs_list_is_emptied_in_its_own_form() {
    let stage = Stage::set(Dialect::Hub).await;
    let lie = stage.tell(&Rule::new("/api/v1/devices", Lie::EmptyList { version: None }).times(1));
    assert_eq!(
        json(&stage, "/api/v1/devices").await,
        (200, json!({ "revision": 90, "items": [] }))
    );
    assert_eq!(stage.served(lie), 1);
    stage.tell(&Rule::new("/api/v1/devices", Lie::EmptyList { version: Some(4) }));
    assert_eq!(
        json(&stage, "/api/v1/devices").await,
        (200, json!({ "revision": 4, "items": [] }))
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_form_of_the_server() {
    let check = async |dialect, lie: Lie, code: u16, kind: &str, pointer: &str, expect: Value| {
        let stage = Stage::set(dialect).await;
        let id = stage.tell(&Rule::new("/api", lie).requests(Requests::Plain));
        let answer = stage.get("/api/v1/pods").send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (code, &kind.parse().unwrap())
        );
        assert_eq!(
            answer.json::<Value>().await.unwrap().pointer(pointer),
            Some(&expect)
        );
        assert_eq!(stage.served(id), 1);
        assert!(stage.upstream.seen().is_empty(), "the server never hears of it");
        stage.end().await;
    };
    let (kubernetes, hub) = (Dialect::Kubernetes, Dialect::Hub);
    let (json, problem) = ("application/json", "application/problem+json");
    check(
        kubernetes,
        Lie::Status { code: 500 },
        500,
        json,
        "/reason",
        "InternalError".into(),
    )
    .await;
    check(
        kubernetes,
        Lie::Status { code: 410 },
        410,
        json,
        "/reason",
        "Expired".into(),
    )
    .await;
    check(kubernetes, Lie::Expired, 410, json, "/kind", "Status".into()).await;
    check(
        hub,
        Lie::Status { code: 500 },
        500,
        problem,
        "/type",
        "urn:outrigger:problem:internal".into(),
    )
    .await;
    check(
        hub,
        Lie::Status { code: 410 },
        410,
        problem,
        "/status",
        410.into(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_reset() {
    let stage = Stage::set(Dialect::Kubernetes).await;
    let lie = stage.tell(&Rule::new("/api/v1/pods", Lie::Refuse).times(1));
    let stream = TcpStream::connect(stage.proxy).await.unwrap();
    let name = stage.proxy.ip().into();
    let mut stream = TlsConnector::from(Arc::new(tls(&stage.ca_pem)))
        .connect(name, stream)
        .await
        .unwrap();
    stream
        .write_all(b"GET /api/v1/pods HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let ended = in_time(stream.read(&mut [0; 100])).await;
    assert_eq!(
        ended.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    assert_eq!(stage.served(lie), 1);
    assert_eq!(stage.get("/api/v1/pods").send().await.unwrap().status(), 200);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_by_the_control_endpoint() {
    let stage = Stage::set(Dialect::Kubernetes).await;
    let refused =
        tokio::task::block_in_place(|| stage.control.tell(&Rule::new("/", Lie::Status { code: 200 })));
    assert!(refused.unwrap_err().to_string().contains("422"));
    assert!(tokio::task::block_in_place(|| stage.control.served(0)).is_err());
    stage.end().await;
}
