//! Against servers of the test's own.

use std::net::Ipv4Addr;
use std::sync::Arc;

use edge_agent_cri::CriOptions;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Serves each answer to one connection, and gives the requests.
async fn serve(answers: Vec<String>, tls: Option<TlsAcceptor>) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            requests.push(match &tls {
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => reply(stream, &answer).await,
                    Err(_) => String::new(),
                },
                None => reply(stream, &answer).await,
            });
        }
        requests
    });
    (port, serving)
}

async fn reply(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        match stream.read(&mut part).await {
            Ok(count) if count > 0 => request.extend_from_slice(&part[..count]),
            _ => break,
        }
        // A client that wants TLS sends no headers.
        if request.first() == Some(&0x16) {
            break;
        }
    }
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    String::from_utf8_lossy(&request).into_owned()
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

fn get(port: u16, path: &str, tls: bool, headers: &[(&str, &str)]) -> Action {
    let headers = headers.iter().map(|(name, value)| Header {
        name: name.to_string(),
        value: value.to_string(),
    });
    Action::HttpGet {
        path: path.into(),
        port,
        host: None,
        tls,
        headers: headers.collect(),
    }
}

async fn perform_here(action: Action, purpose: Purpose) -> Outcome {
    perform_within(5 * SECOND, action, purpose).await
}

async fn perform_within(limit: Duration, action: Action, purpose: Purpose) -> Outcome {
    let client = CriClient::new(CriOptions::new("/nowhere"));
    let target = Target {
        container_id: "c",
        pod_ip: Some(Ipv4Addr::LOCALHOST.into()),
        purpose,
        limit: Some(limit),
    };
    perform(&client, target, &action).await.unwrap()
}

fn acceptor() -> TlsAcceptor {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["x.example".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    std::sync::Arc::new(config).into()
}

/// Shows a certificate, and signs with nothing in particular.
#[derive(Debug, Clone)]
struct Shown(&'static [u8], SignatureScheme);

impl Shown {
    fn acceptor(self, version: &'static SupportedProtocolVersion) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self));
        config.send_tls13_tickets = 0;
        Arc::new(config).into()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = CertifiedKey::new(vec![self.0.into()], Arc::new(self.clone()));
        Some(Arc::new(key))
    }
}

impl SigningKey for Shown {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let known = offered.contains(&self.1);
        known.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.1 {
            SignatureScheme::RSA_PSS_SHA256 => SignatureAlgorithm::RSA,
            _ => SignatureAlgorithm::ECDSA,
        }
    }
}

impl Signer for Shown {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![0; 128])
    }

    fn scheme(&self) -> SignatureScheme {
        self.1
    }
}

#[tokio::test]
async fn nothing_is_asked_of_a_certificate() {
    let version_1: &[u8] = include_bytes!("fixtures/version-1.der");
    let rsa_1024: &[u8] = include_bytes!("fixtures/rsa-1024.der");
    let shown = [
        Shown(version_1, SignatureScheme::ECDSA_NISTP256_SHA256),
        Shown(version_1, SignatureScheme::ECDSA_NISTP521_SHA512),
        Shown(rsa_1024, SignatureScheme::RSA_PSS_SHA256),
    ];
    for shown in shown {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let acceptor = shown.clone().acceptor(version);
            let (port, serving) = serve(vec![answer("200 OK", "", "fine")], Some(acceptor)).await;
            let probed = perform_here(get(port, "/", true, &[]), Purpose::Probe).await;
            assert_eq!(probed, succeeded("fine".into()), "{:?} {version:?}", shown.1);
            serving.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_is_the_kubelets() {
    let (port, serving) = serve(vec![answer("200 OK", "", "fine"); 2], None).await;
    let plain = perform_here(
        get(port, "ready now?deep=1#x", false, &[("X-A", "1"), ("X-A", "2")]),
        Purpose::Probe,
    )
    .await;
    assert_eq!(plain, succeeded("fine".into()));
    let changed = [("Host", "shop.example"), ("User-Agent", "mine"), ("Accept", "")];
    perform_here(get(port, "/", false, &changed), Purpose::Hook).await;
    let requests = serving.await.unwrap();
    assert!(
        requests[0].starts_with("GET /ready%20now?deep=1 HTTP/1.1\r\n"),
        "{}",
        requests[0]
    );
    let lines = |request: &str| -> Vec<String> {
        let mut lines: Vec<_> = request
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty())
            .map(str::to_lowercase)
            .collect();
        lines.sort();
        lines
    };
    let host = format!("host: 127.0.0.1:{port}");
    assert_eq!(
        lines(&requests[0]),
        [
            "accept: */*",
            "connection: close",
            &host,
            "user-agent: kube-probe/1.37",
            "x-a: 1",
            "x-a: 2"
        ]
    );
    assert_eq!(
        lines(&requests[1]),
        ["connection: close", "host: shop.example", "user-agent: mine"]
    );
}

#[tokio::test]
async fn the_status_decides_and_the_body_is_bounded() {
    let statuses = ["204 No Content", "400 Bad Request", "500 Oh"].map(|status| answer(status, "", ""));
    let (port, _serving) = serve(statuses.to_vec(), None).await;
    let probe = || perform_here(get(port, "/", false, &[]), Purpose::Probe);
    assert_eq!(probe().await.finding, Finding::Success);
    assert_eq!(
        probe().await,
        failed("HTTP probe failed with statuscode: 400".into())
    );
    assert_eq!(
        probe().await,
        failed("HTTP probe failed with statuscode: 500".into())
    );
    let (port, _serving) = serve(vec![answer("200 OK", "", &"x".repeat(100_000))], None).await;
    let long = perform_here(get(port, "/", false, &[]), Purpose::Probe).await;
    assert_eq!(long.output.len(), MAX_OUTPUT);
    // A hook is done when it was answered.
    let (port, _serving) = serve(vec![answer("500 Oh", "", "")], None).await;
    let hook = perform_here(get(port, "/", false, &[]), Purpose::Hook).await;
    assert_eq!(hook.finding, Finding::Success);
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let moved = |to: &str| answer("302 Found", &format!("location: {to}\r\n"), "gone");
    let (port, serving) = serve(vec![moved("next?a=1"), answer("200 OK", "", "here")], None).await;
    let outcome = perform_here(get(port, "/a/b", false, &[]), Purpose::Probe).await;
    assert_eq!(outcome, succeeded("here".into()));
    assert!(serving.await.unwrap()[1].starts_with("GET /a/next?a=1 "));

    let (port, _serving) = serve(vec![moved("http://elsewhere.example/")], None).await;
    let outcome = perform_here(get(port, "/", false, &[]), Purpose::Probe).await;
    let warning = Outcome {
        finding: Finding::Warning,
        output: "Probe terminated redirects, Response body: gone".into(),
    };
    assert_eq!(outcome, warning);

    let (port, _serving) = serve(vec![moved("/"); 12], None).await;
    let outcome = perform_here(get(port, "/", false, &[]), Purpose::Probe).await;
    assert!(
        outcome.finding == Finding::Failure && outcome.output.ends_with("stopped after 10 redirects"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn any_certificate_will_do_and_a_hook_even_goes_without() {
    let (port, serving) = serve(vec![answer("200 OK", "", "private")], Some(acceptor())).await;
    let outcome = perform_here(get(port, "/", true, &[]), Purpose::Probe).await;
    assert_eq!(outcome, succeeded("private".into()));
    serving.await.unwrap();

    let plain = vec![answer("400 Bad Request", "", ""), answer("200 OK", "", "")];
    let (port, serving) = serve(plain.clone(), None).await;
    let outcome = perform_here(get(port, "/", true, &[("Authorization", "x")]), Purpose::Hook).await;
    assert!(outcome.finding == Finding::Success, "{outcome:?}");
    let requests = serving.await.unwrap();
    assert!(
        requests[1].starts_with("GET / ") && !requests[1].contains("uthorization"),
        "{}",
        requests[1]
    );

    let (port, _serving) = serve(plain, None).await;
    let outcome = perform_here(get(port, "/", true, &[]), Purpose::Probe).await;
    assert!(
        outcome
            .output
            .ends_with("http: server gave HTTP response to HTTPS client"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_closed_port_is_a_failure_in_the_kubelets_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = || Action::TcpSocket { port, host: None };
    assert_eq!(
        perform_here(tcp(), Purpose::Probe).await.finding,
        Finding::Success
    );
    drop(listener);
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(perform_here(tcp(), Purpose::Probe).await, failed(refused.clone()));
    let outcome = perform_here(get(port, "/x", false, &[]), Purpose::Probe).await;
    assert_eq!(
        outcome,
        failed(format!("Get \"http://127.0.0.1:{port}/x\": {refused}"))
    );
    let grpc = Action::Grpc {
        port,
        service: String::new(),
    };
    let outcome = perform_here(grpc, Purpose::Probe).await;
    let words = format!(
        "timeout: failed to connect service \"127.0.0.1:{port}\" within 5s: context deadline exceeded"
    );
    assert_eq!(outcome, failed(words));
}

#[tokio::test]
async fn what_does_not_answer_in_time_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let short = Duration::from_millis(50);
    let outcome = perform_within(short, get(port, "/", false, &[]), Purpose::Probe).await;
    let words = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert!(
        outcome.finding == Finding::Failure && outcome.output.ends_with(words),
        "{outcome:?}"
    );
    let grpc = Action::Grpc {
        port,
        service: String::new(),
    };
    let outcome = perform_within(short, grpc, Purpose::Probe).await;
    assert!(
        outcome.finding == Finding::Failure && outcome.output.starts_with("timeout: "),
        "{outcome:?}"
    );
    let sleep = Action::Sleep { seconds: 0 };
    assert_eq!(perform_here(sleep, Purpose::Hook).await.finding, Finding::Success);
}

/// One HTTP/2 frame (RFC 9113, section 4.1) of the first stream, or of the connection.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Fields as literals without indexing (RFC 7541, section 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let field = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// A gRPC server that gives one answer: a message, or the code of a refusal.
async fn serve_grpc(message: Option<&'static [u8]>, code: &'static str) -> u16 {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            stream.read_exact(&mut vec![0; length]).await.unwrap();
            // The request is whole with the flag END_STREAM of a DATA frame.
            if (head[3], head[4] & 1) == (0, 1) {
                break;
            }
        }
        let ok = [
            &[0x88],
            fields(&[("content-type", "application/grpc")]).as_slice(),
        ]
        .concat();
        let mut answer = frame(SETTINGS, 1, 0, &[]);
        answer.extend(frame(HEADERS, 4, 1, &ok));
        if let Some(message) = message {
            let length = u8::try_from(message.len()).unwrap();
            answer.extend(frame(0, 0, 1, &[&[0, 0, 0, 0, length], message].concat()));
        }
        let trailers = fields(&[("grpc-status", code), ("grpc-message", "why")]);
        answer.extend(frame(HEADERS, 5, 1, &trailers));
        stream.write_all(&answer).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    port
}

#[tokio::test]
async fn a_grpc_server_is_as_healthy_as_it_says() {
    let ask = async |message, code| {
        let port = serve_grpc(message, code).await;
        let service = "shop".to_owned();
        perform_here(Action::Grpc { port, service }, Purpose::Probe).await
    };
    assert_eq!(ask(Some(&[8, 1]), "0").await, succeeded("service healthy".into()));
    let unhealthy = "service unhealthy (responded with \"NOT_SERVING\")";
    assert_eq!(ask(Some(&[8, 2]), "0").await, failed(unhealthy.into()));
    let unknown = "error: health rpc probe failed: rpc error: code = NotFound desc = why";
    assert_eq!(ask(None, "5").await, failed(unknown.into()));
    let other = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): why";
    assert_eq!(ask(None, "12").await, failed(other.into()));
}

#[test]
fn paths_are_escaped_as_go_does() {
    for (path, expect) in [
        ("", "/"),
        ("healthz", "/healthz"),
        ("/a b", "/a%20b"),
        ("/a%20b%zz", "/a%20b%25zz"),
        ("/é?q=\"x\"#frag", "/%C3%A9?q=%22x%22"),
    ] {
        assert_eq!(http::request_path(path), expect, "{path}");
    }
    assert_eq!(join("::1", 80), "[::1]:80");
    assert_eq!(duration(Duration::from_secs(90)), "1m30s");
}
