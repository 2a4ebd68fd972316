//! Upgrades to a `WebSocket` as browsers, kube-rs and old clients ask for them; `kubectl`'s are in `cluster`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_streams::Limits;
use edge_streams::spdy::{Headers, Session};
use edge_streams::websocket::Tunnel;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::client::{Http, request};
use crate::world::World;

const SOON: Duration = Duration::from_secs(30);
const FORWARD: &str = "/portForward/shop/web";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn upgrade(world: &World, path: &str, protocol: &str) -> Response<Incoming> {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    let mut connection = world.connect(Some(&world.admin), Http::One).await;
    connection.send(request("GET", path, &headers)).await
}

async fn socket(world: &World, path: &str, protocol: &str) -> Socket {
    let answer = upgrade(world, path, protocol).await;
    assert_eq!(answer.status().as_u16(), 101, "{path}");
    assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
    let io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

/// The next message that says something on a channel.
async fn next(socket: &mut Socket) -> Vec<u8> {
    loop {
        let message = timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
        if (message.is_binary() || message.is_text()) && message.len() > 1 {
            return message.into_data().to_vec();
        }
    }
}

#[tokio::test]
async fn a_browser_runs_a_command_in_base64() {
    let world = World::start().await;
    let path =
        "/exec/shop/web/main?command=sh&command=-c&command=head%20-c%205;exit%204&input=1&output=1&error=1";
    let mut socket = socket(&world, path, "v4.base64.channel.k8s.io").await;
    let said = |channel: char, text: &str| format!("{channel}{}", STANDARD.encode(text));
    socket.send(Message::text(said('0', "hello"))).await.unwrap();
    assert_eq!(next(&mut socket).await, said('1', "hello").into_bytes());
    let outcome = next(&mut socket).await;
    assert_eq!(outcome[0], b'3');
    let status = String::from_utf8(STANDARD.decode(&outcome[1..]).unwrap()).unwrap();
    assert!(
        status.contains(r#"{"reason":"ExitCode","message":"4"}"#),
        "{status}"
    );
}

#[tokio::test]
async fn ports_are_forwarded_by_channels_as_kube_rs_asks() {
    let world = World::start().await;
    let mut pod = world.pods.pipe();
    let mut socket = socket(&world, &format!("{FORWARD}?ports=8080"), "v4.channel.k8s.io").await;
    for channel in [0, 1] {
        assert_eq!(
            next(&mut socket).await,
            [&[channel], &8080_u16.to_le_bytes()[..]].concat()
        );
    }
    socket.send(Message::binary(b"\0ping".to_vec())).await.unwrap();
    let mut told = [0; 4];
    timeout(SOON, pod.read_exact(&mut told)).await.unwrap().unwrap();
    pod.write_all(b"pong").await.unwrap();
    assert_eq!(
        (&told, next(&mut socket).await.as_slice()),
        (b"ping", b"\0pong".as_slice())
    );
}

#[tokio::test]
async fn a_tunnel_carries_forwarded_ports() {
    let world = World::start().await;
    let mut pod = world.pods.pipe();
    let socket = socket(&world, FORWARD, "SPDY/3.1+portforward.k8s.io").await;
    let session = Session::client(Tunnel::new(socket), Limits::default());
    let headers = |kind| Headers::new([("streamtype", kind), ("port", "80")]).unwrap();
    let _error = session.open(headers("error")).await.unwrap();
    let mut data = session.open(headers("data")).await.unwrap();
    data.write_all(b"ping").await.unwrap();
    let mut told = [0; 4];
    timeout(SOON, pod.read_exact(&mut told)).await.unwrap().unwrap();
    assert_eq!(&told, b"ping");
}

#[tokio::test]
async fn what_are_no_ports_is_refused_in_the_kubelets_words() {
    let world = World::start().await;
    let table = [
        ("", "query parameter \"port\" is required"),
        ("?port=", "query parameter \"port\" cannot be empty"),
        ("?port=0", "port \"0\" must be > 0"),
        ("?port=53/UDP", "unable to parse \"53/UDP\" as a port"),
        ("?port=80,65536", "unable to parse \"80,65536\" as a port"),
    ];
    for (query, words) in table {
        let answer = upgrade(&world, &format!("{FORWARD}{query}"), "v4.channel.k8s.io").await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(
            status == 400 && body.starts_with(words),
            "{query}: {status} {body}"
        );
    }
    let answer = upgrade(&world, FORWARD, "v5.channel.k8s.io").await;
    assert_eq!(answer.status().as_u16(), 403);
    assert!(world.pods.asked().is_empty());
}

/// What a request may hold before anybody is asked whose it is.
#[tokio::test]
async fn heads_are_bounded() {
    let world = World::start().await;
    let long = |length| "x".repeat(length);
    // HTTP/1's bound is looked at between reads, each of which may be as long.
    for (http, too_long) in [(Http::One, 400_000), (Http::Two, 200_000)] {
        for (length, status) in [(60_000, 401), (too_long, 431)] {
            let mut connection = world.connect(None, http).await;
            let said = connection.ask("GET", "/pods", &[("x", &long(length))]).await;
            assert_eq!(said.status.as_u16(), status, "{length}");
        }
    }
}
