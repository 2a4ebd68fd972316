//! The way to the hub through a real proxy; directly, there is none.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use fault_proxy::connect::{ConnectOptions, ConnectProxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::test_tls;

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// `Aladdin:open sesame`
const BASIC: &str = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";

/// A port where nobody listens.
async fn nobody() -> u16 {
    let listener = TcpListener::bind(ANYWHERE).await.unwrap();
    listener.local_addr().unwrap().port()
}

/// A hub that says one word to whoever comes by TLS, and how it is verified.
async fn hub() -> (SocketAddr, Arc<ClientConfig>) {
    let (acceptor, tls) = test_tls::pair();
    let listener = TcpListener::bind(ANYWHERE).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(greet(listener, acceptor));
    (address, tls)
}

async fn greet(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((socket, _)) = listener.accept().await {
        if let Ok(mut stream) = acceptor.accept(socket).await {
            stream.write_all(b"hub").await.unwrap();
        }
    }
}

fn write(path: &Path, mode: u32, text: &str) {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(mode))
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// What the hub says to who dials it at a port where nobody listens, by this proxy.
async fn heard(
    proxy: SocketAddr,
    credentials: Credentials,
    tls: Arc<ClientConfig>,
) -> Result<String, String> {
    let proxy = Proxy {
        host: proxy.ip().to_string(),
        port: proxy.port(),
        credentials,
    };
    let endpoint = Endpoint {
        proxy: Some(Arc::new(proxy)),
        ..Endpoint::direct("localhost", nobody().await)
    };
    let dialled = dial(&endpoint, tls).await;
    let mut stream = dialled.map_err(|error| DialError::whole(&error))?;
    let mut word = [0; 3];
    stream.read_exact(&mut word).await.unwrap();
    Ok(String::from_utf8_lossy(&word).into_owned())
}

#[track_caller]
fn check(found: &Result<String, String>, expect: Result<&str, &str>) {
    match (found, expect) {
        (Ok(found), Ok(expect)) => assert_eq!(found, expect),
        (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
        _ => panic!("{found:?}, not {expect:?}"),
    }
}

#[tokio::test]
async fn the_hub_is_reached_by_name_through_a_proxy_with_a_password() {
    let (hub, tls) = hub().await;
    let endpoint = Endpoint::direct("localhost", nobody().await);
    let alone = dial(&endpoint, tls.clone()).await;
    assert!(matches!(alone, Err(DialError::Tcp { .. })), "{alone:?}");

    let proxy = ConnectProxy::start(ConnectOptions {
        leads_to: Some(hub),
        authorization: Some(BASIC.to_owned()),
        ..ConnectOptions::at(ANYWHERE)
    });
    let proxy = proxy.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let with = || Credentials::File(file.clone());
    let at = proxy.address();
    check(
        &heard(at, Credentials::None, tls.clone()).await,
        Err("hub.proxy_credentials_file"),
    );
    check(&heard(at, with(), tls.clone()).await, Err("cannot be read"));
    write(&file, 0o644, "Aladdin:open sesame\n");
    check(&heard(at, with(), tls.clone()).await, Err("chmod 600"));
    write(&file, 0o600, "Aladdin");
    check(&heard(at, with(), tls.clone()).await, Err("is not one line"));
    write(&file, 0o600, &format!("a:{}", "b".repeat(2000)));
    check(&heard(at, with(), tls.clone()).await, Err("is not one line"));
    write(&file, 0o600, "Aladdin:swordfish\n");
    let declined = heard(at, with(), tls.clone()).await;
    check(&declined, Err("does not accept the user and password of "));
    assert!(!declined.unwrap_err().contains("swordfish"));
    assert_eq!(proxy.asked(), [""; 0]);
    // Read anew with every connection.
    write(&file, 0o600, "Aladdin:open sesame\n");
    check(&heard(at, with(), tls).await, Ok("hub"));
    assert!(proxy.asked()[0].starts_with("localhost:"), "{:?}", proxy.asked());
}

#[tokio::test]
async fn a_proxy_that_leads_nowhere_is_named_with_what_to_do() {
    let (hub, tls) = hub().await;
    let declines = ConnectProxy::start(ConnectOptions {
        declines: Some(StatusCode::FORBIDDEN),
        ..ConnectOptions::at(ANYWHERE)
    });
    let at = declines.unwrap();
    let found = heard(at.address(), Credentials::None, tls.clone()).await;
    check(
        &found,
        Err("answers 403 Forbidden; ask whoever runs it to allow CONNECT to localhost:"),
    );

    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, nobody().await));
    check(
        &heard(gone, Credentials::None, tls.clone()).await,
        Err("see hub.proxy"),
    );
    // The hub itself speaks TLS, not as a proxy.
    check(
        &heard(hub, Credentials::None, tls).await,
        Err("as an HTTP proxy does"),
    );
}

#[tokio::test]
async fn a_proxy_that_is_silent_gets_the_blame() {
    let listener = TcpListener::bind(ANYWHERE).await.unwrap();
    let proxy = Proxy {
        host: "localhost".to_owned(),
        port: listener.local_addr().unwrap().port(),
        credentials: Credentials::None,
    };
    let endpoint = Endpoint::direct("hub.example", 443);
    let found = through(&proxy, &endpoint, Duration::from_millis(50)).await;
    assert!(matches!(found, Err(DialError::SilentProxy { .. })), "{found:?}");
}
