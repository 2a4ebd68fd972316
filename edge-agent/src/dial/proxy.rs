//! An HTTP proxy on the way to the hub, and what it is told of who asks.

use std::fmt::{self, Display};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::{Authority, DialError, Endpoint};

/// The largest file with credentials, in bytes.
const MAX_CREDENTIALS: usize = 1024;

/// What is spoken with the proxy itself is not encrypted: that is so with nearly all of them, and the hub's TLS is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    pub credentials: Credentials,
}

/// Who the proxy is told is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    None,
    /// `user:password` in a file, which is read anew with every connection: a password can be changed while the agent runs.
    File(PathBuf),
    /// Those of the URL in the environment. The value is marked, so that nothing prints it.
    Environment(HeaderValue),
}

impl Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Authority(&self.host, self.port).fmt(f)
    }
}

impl Proxy {
    /// A connection through which the endpoint is reached.
    pub(super) async fn connect(&self, endpoint: &Endpoint) -> Result<TcpStream, DialError> {
        let not_a_proxy = |source: Box<dyn std::error::Error + Send + Sync>| DialError::NotAProxy {
            proxy: self.to_string(),
            source,
        };
        let authorization = self.credentials.header()?;
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|source| DialError::NoProxy {
                proxy: self.to_string(),
                source,
            })?;
        let (mut sender, mut connection) = http1::Builder::new()
            .max_buf_size(16 << 10)
            .handshake(TokioIo::new(tcp))
            .await
            .map_err(|error| not_a_proxy(error.into()))?;
        let target = endpoint.authority();
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(&target)
            .header(HOST, &target);
        if let Some(value) = authorization {
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| not_a_proxy(error.into()))?;
        let status = {
            let answer = sender.send_request(request);
            tokio::pin!(answer);
            tokio::select! {
                // An answer and the end of the connection may come at once.
                biased;
                answer = &mut answer => answer.map(|answer| answer.status()),
                ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => match ended {
                    Ok(()) => answer.await.map(|answer| answer.status()),
                    Err(error) => Err(error),
                },
            }
        }
        .map_err(|error| not_a_proxy(error.into()))?;
        if !status.is_success() {
            return Err(self.declined(target, status));
        }
        let parts = connection.into_parts();
        if !parts.read_buf.is_empty() {
            return Err(not_a_proxy("it speaks before the hub is spoken to".into()));
        }
        Ok(parts.io.into_inner())
    }

    fn declined(&self, target: String, status: StatusCode) -> DialError {
        let proxy = self.to_string();
        match (status, &self.credentials) {
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Credentials::None) => {
                DialError::CredentialsWanted { proxy }
            }
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Credentials::File(path)) => {
                DialError::CredentialsDeclined {
                    proxy,
                    of: path.display().to_string(),
                }
            }
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Credentials::Environment(_)) => {
                DialError::CredentialsDeclined {
                    proxy,
                    of: "HTTPS_PROXY".to_owned(),
                }
            }
            _ => DialError::Declined {
                proxy,
                target,
                status,
            },
        }
    }
}

impl Credentials {
    fn header(&self) -> Result<Option<HeaderValue>, DialError> {
        match self {
            Self::None => Ok(None),
            Self::Environment(value) => Ok(Some(value.clone())),
            Self::File(path) => read(path).map(Some).map_err(|problem| DialError::Credentials {
                path: path.clone(),
                problem,
            }),
        }
    }
}

/// The header (RFC 7617) of what a file says.
fn read(path: &Path) -> Result<HeaderValue, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "can be read by others than its owner (mode {:03o}); chmod 600 it",
            mode & 0o777
        ));
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_CREDENTIALS + 1));
    file.take(MAX_CREDENTIALS as u64 + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    let pair = text.trim_end_matches(['\r', '\n']);
    if text.len() > MAX_CREDENTIALS || !pair.contains(':') || pair.contains(char::is_control) {
        return Err("is not one line `user:password`".to_owned());
    }
    let value = Zeroizing::new(format!("Basic {}", *Zeroizing::new(BASE64_STANDARD.encode(pair))));
    let mut value = HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}
