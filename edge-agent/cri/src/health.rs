//! One question of gRPC's health protocol, to a workload's own server: not CRI, but the same generated kind of client.

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::http::Uri;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

mod generated {
    #![allow(clippy::pedantic, missing_docs, reason = "generated")]
    tonic::include_proto!("grpc.health.v1");
}

use generated::HealthCheckRequest;
use generated::health_check_response::ServingStatus;
use generated::health_client::HealthClient;

/// The largest answer that is read, in bytes: it has one small number.
const MAX_ANSWER: usize = 4096;

/// What a server said of a service of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Serving,
    /// The status, as the protocol spells it.
    NotServing(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    #[error("cannot connect")]
    Connect,
    /// It speaks gRPC, and not this protocol.
    #[error("{0}")]
    Unimplemented(String),
    #[error("rpc error: code = {code} desc = {message}")]
    Rpc { code: String, message: String },
}

/// Asks `host:port` for the health of `service`. The caller bounds the time.
///
/// # Errors
/// [`HealthError`]
pub async fn check_health(
    address: &str,
    service: &str,
    user_agent: &'static str,
) -> Result<Health, HealthError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| HealthError::Connect)?;
    let endpoint = endpoint
        .user_agent(user_agent)
        .map_err(|_| HealthError::Connect)?;
    let target = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let target = target.clone();
        async move { TcpStream::connect(target).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connector).await;
    let mut client =
        HealthClient::new(channel.map_err(|_| HealthError::Connect)?).max_decoding_message_size(MAX_ANSWER);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = client
        .check(request)
        .await
        .map_err(|status| refused(&status))?
        .into_inner();
    Ok(match answer.status() {
        ServingStatus::Serving => Health::Serving,
        other => Health::NotServing(other.as_str_name()),
    })
}

fn refused(status: &Status) -> HealthError {
    let message: String = status.message().chars().take(512).collect();
    match status.code() {
        Code::Unimplemented => HealthError::Unimplemented(message),
        // The variants bear the names of the codes.
        code => HealthError::Rpc {
            code: format!("{code:?}"),
            message,
        },
    }
}
