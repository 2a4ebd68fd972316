//! GET as the kubelet's prober does it (pkg/probe/http): one connection per request, no proxy, any certificate, redirects only on the same
//! host, 10 KiB of the answer.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use edge_protocol::v1::Header;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{MAX_OUTPUT, Purpose, join};

const MAX_REDIRECTS: usize = 10;

/// One request to be.
#[derive(Debug, Clone)]
pub(super) struct Get {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// With its query, escaped; see [`request_path`].
    pub(super) path: String,
    pub(super) headers: Vec<Header>,
    pub(super) user_agent: &'static str,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// No answer, in the words of Go's client.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    #[error("Get {url:?}: dial tcp {address}: {}", dial_error(.source))]
    Dial {
        url: String,
        address: String,
        source: io::Error,
    },
    #[error("Get {url:?}: http: server gave HTTP response to HTTPS client")]
    NotTls { url: String },
    #[error("Get {url:?}: {why}")]
    Failed { url: String, why: String },
    #[error("Get {url:?}: stopped after 10 redirects")]
    Redirects { url: String },
}

/// The words of a refused connection, as Go prints system errors.
pub(in crate::runtime) fn dial_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// What goes into the request line: absolute, without fragment, with everything escaped that must be.
pub(super) fn request_path(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut escaped = String::from(if path.starts_with('/') { "" } else { "/" });
    let bytes = path.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let is_escape = || {
            let digits = bytes.get(index + 1..index + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        match byte {
            b'%' if is_escape() => escaped.push('%'),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'%' => {
                let _ = write!(escaped, "%{byte:02X}");
            }
            b'!'..=b'~' => escaped.push(char::from(*byte)),
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

impl Get {
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", join(&self.host, self.port), self.path)
    }

    /// Asks, and asks again where a redirect on the same host leads. A hook that finds no TLS where some should be goes without.
    pub(super) async fn follow(mut self, purpose: Purpose) -> Result<Answer, GetError> {
        for _ in 0..MAX_REDIRECTS {
            let (answer, location) = match self.once().await {
                Err(GetError::NotTls { .. }) if purpose == Purpose::Hook => {
                    self.tls = false;
                    self.headers
                        .retain(|header| !header.name.eq_ignore_ascii_case("authorization"));
                    self.once().await?
                }
                other => other?,
            };
            let redirects = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            match location.filter(|_| redirects).and_then(|to| self.moved(&to)) {
                Some(next) => self = next,
                None => return Ok(answer),
            }
        }
        Err(GetError::Redirects { url: self.url() })
    }

    /// The next request, if it is to the same host.
    fn moved(&self, location: &str) -> Option<Self> {
        let (tls, rest) = if let Some(rest) = location.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = location.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = location.strip_prefix("//") {
            (self.tls, rest)
        } else {
            let base = self.path.split('?').next().unwrap_or_default();
            let directory = base.rsplit_once('/').map_or("", |(directory, _)| directory);
            let path = match location {
                to if to.starts_with('/') => to.to_owned(),
                to if to.starts_with('?') => format!("{base}{to}"),
                to => format!("{directory}/{to}"),
            };
            return Some(Self {
                path: request_path(&path),
                ..self.clone()
            });
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (host == self.host).then(|| Self {
            tls,
            port,
            path: request_path(path),
            ..self.clone()
        })
    }

    async fn once(&self) -> Result<(Answer, Option<String>), GetError> {
        let address = join(&self.host, self.port);
        let stream = TcpStream::connect(&address)
            .await
            .map_err(|source| GetError::Dial {
                url: self.url(),
                address,
                source,
            })?;
        if !self.tls {
            return self.exchange(stream).await;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|error| self.failed(error))?;
        let connector = TlsConnector::from(any_certificate().map_err(|error| self.failed(error))?);
        match connector.connect(name, stream).await {
            Ok(stream) => self.exchange(stream).await,
            Err(error) if is_no_tls(&error) => Err(GetError::NotTls { url: self.url() }),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn exchange<S>(&self, stream: S) -> Result<(Answer, Option<String>), GetError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = self.request().map_err(|error| self.failed(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed(error))?;
        let asked = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let location = response.headers().get(LOCATION);
            let location = location.and_then(|to| to.to_str().ok()).map(str::to_owned);
            let body = start_of(response.into_body()).await?;
            Ok::<_, hyper::Error>((Answer { status, body }, location))
        };
        // The connection is driven here, and ends with the answer.
        tokio::pin!(connection, asked);
        tokio::select! {
            answer = &mut asked => answer.map_err(|error| self.failed(error)),
            ended = &mut connection => match ended {
                Ok(()) => asked.await.map_err(|error| self.failed(error)),
                Err(error) => Err(self.failed(error)),
            },
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
        let mut request = Request::get(&self.path).body(Empty::new())?;
        let headers = request.headers_mut();
        for Header { name, value } in &self.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        if !headers.contains_key(HOST) {
            headers.insert(HOST, HeaderValue::try_from(join(&self.host, self.port))?);
        }
        if !headers.contains_key(USER_AGENT) {
            headers.insert(USER_AGENT, HeaderValue::from_static(self.user_agent));
        }
        match headers.get(ACCEPT).map(HeaderValue::is_empty) {
            None => drop(headers.insert(ACCEPT, HeaderValue::from_static("*/*"))),
            Some(true) => drop(headers.remove(ACCEPT)),
            Some(false) => {}
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(request)
    }

    fn failed(&self, why: impl std::fmt::Display) -> GetError {
        GetError::Failed {
            url: self.url(),
            why: why.to_string(),
        }
    }
}

/// As much of a body as is kept.
pub(in crate::runtime) async fn start_of(mut body: Incoming) -> Result<String, hyper::Error> {
    let mut start = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            start.extend_from_slice(&data);
        }
        if start.len() >= MAX_OUTPUT {
            break;
        }
    }
    start.truncate(MAX_OUTPUT);
    Ok(String::from_utf8_lossy(&start).into_owned())
}

fn is_no_tls(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
}

/// A prober is no client of what it probes: it does not care who answers (`InsecureSkipVerify` in pkg/probe/http). So nothing is asked of a
/// certificate, not even that its key signed the handshake: that would tell nothing, as anybody may have made it, and the library would
/// not take what Go takes, certificates of version 1 and RSA keys below 2048 bits.
fn any_certificate() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        // Go offers it, and there is nothing to verify.
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}
