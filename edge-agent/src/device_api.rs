//! The HTTPS half of the hub's one port: enrolment and blobs. One request per connection; answers are capped while they are read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::options::Endpoint;

/// One request, connection included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum DeviceApiError {
    #[error("cannot connect to {host}:{port}")]
    Connect {
        host: String,
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("{method} {path} failed")]
    Http {
        method: &'static str,
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{method} {path} was not answered in {} s", TIMEOUT.as_secs())]
    Timeout { method: &'static str, path: String },
    #[error("{method} {path} was answered with {status}: {detail}")]
    Status {
        method: &'static str,
        path: String,
        status: StatusCode,
        detail: String,
    },
}

impl DeviceApiError {
    /// Whether the hub understood the request and said no: asking again with the same words is pointless.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status, .. }
            if status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS)
    }
}

/// Sends one request and returns the body of a 2xx answer.
///
/// # Errors
/// [`DeviceApiError`]; a `Status` carries the start of the problem's text.
pub async fn call(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
    method: &'static str,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, DeviceApiError> {
    tokio::time::timeout(TIMEOUT, exchange(endpoint, tls, method, path, body))
        .await
        .unwrap_or_else(|_| {
            Err(DeviceApiError::Timeout {
                method,
                path: path.to_owned(),
            })
        })
}

async fn exchange(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
    method: &'static str,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, DeviceApiError> {
    let connect = |source| DeviceApiError::Connect {
        host: endpoint.host.clone(),
        port: endpoint.port,
        source,
    };
    let http = |source: Box<dyn std::error::Error + Send + Sync>| DeviceApiError::Http {
        method,
        path: path.to_owned(),
        source,
    };
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(connect)?;
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|error| connect(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
    let stream = TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| http(error.into()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", &endpoint.host)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| http(error.into()))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| http(error.into()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(&http)?
            .to_bytes();
        Ok((status, body))
    };
    // The connection is driven beside the request and dropped with it.
    let (status, body) = tokio::select! {
        answer = answer => answer?,
        ended = connection => match ended {
            Ok(()) => return Err(http("the hub closed the connection before it answered".into())),
            Err(error) => return Err(http(error.into())),
        },
    };
    if status.is_success() {
        return Ok(body);
    }
    let detail = edge_protocol::text::sanitise(&String::from_utf8_lossy(&body));
    Err(DeviceApiError::Status {
        method,
        path: path.to_owned(),
        status,
        detail,
    })
}
