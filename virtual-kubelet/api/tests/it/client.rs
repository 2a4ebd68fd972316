//! A client that speaks TLS and HTTP, with or without a certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{Authority, Identity};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

/// A connection on which one request after the other is asked.
pub enum Connection {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

pub async fn tls(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Identity>,
    http: Http,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(Identity { certificate, key }) => config
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = match http {
        Http::One => vec![b"http/1.1".to_vec()],
        Http::Two => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap()
}

impl Connection {
    pub async fn open(io: TlsStream<TcpStream>, http: Http) -> Self {
        let io = TokioIo::new(io);
        match http {
            Http::One => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                tokio::spawn(connection.with_upgrades());
                Self::One(sender)
            }
            Http::Two => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                Self::Two(sender)
            }
        }
    }

    pub async fn send(&mut self, request: Request<Empty<Bytes>>) -> Response<Incoming> {
        match self {
            Self::One(sender) => sender.send_request(request).await.unwrap(),
            Self::Two(sender) => sender.send_request(request).await.unwrap(),
        }
    }

    /// Asks and reads the answer to its end.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Said {
        let answer = self.send(request(method, path, headers)).await;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Said {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let uri = format!("https://kubelet{path}");
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "kubelet");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}
