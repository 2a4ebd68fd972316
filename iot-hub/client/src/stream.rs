//! Streams to devices: a WebSocket to the hub, and bytes both ways once the device has begun.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use edge_protocol::DeviceId;
use edge_protocol::v1::stream::TICKET_MS;
use edge_protocol::v1::{StreamAnswer, StreamRefusal};
use edge_streams::websocket::{Pipe, config};
use futures_util::{SinkExt as _, StreamExt as _};
use iot_hub_api::{STREAM_PROTOCOL, StreamCall};
use reqwest::{Method, StatusCode, Upgraded, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::client::{HubClient, accept};
use crate::error::ClientError;

/// A stream that has begun: what it carries is between the caller and the device. Shutting down ends the caller's direction, and the other goes on;
/// dropping it ends the stream. A link that is lost is an error of reading or writing, never an end in order.
pub struct StreamPipe(Pipe<Upgraded>);

/// Why a stream did not begin.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The hub was not reached, or refused before it looked at what is asked.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The hub or the device will not, or cannot; nothing began.
    #[error("{message}")]
    Refused { why: StreamRefusal, message: String },
    /// Whether the device began is not known.
    #[error("the connection to the hub was lost before the device {device} answered: {why}")]
    Lost { device: DeviceId, why: String },
}

pub(crate) async fn open(
    client: &HubClient,
    device: &DeviceId,
    call: &StreamCall,
) -> Result<StreamPipe, StreamError> {
    let mut socket = connect(client, device).await?;
    let patience = client.options.timeout + Duration::from_millis(TICKET_MS);
    let lost = |why: String| StreamError::Lost {
        device: device.clone(),
        why,
    };
    let answered = tokio::time::timeout(patience, ask(&mut socket, call)).await;
    let answer = answered
        .map_err(|_| lost(format!("no answer within {} s", patience.as_secs())))?
        .map_err(lost)?;
    match answer {
        StreamAnswer::Begun => Ok(StreamPipe(Pipe::new(socket))),
        StreamAnswer::Refused { why, message } => Err(StreamError::Refused { why, message }),
        StreamAnswer::Unknown => Err(StreamError::Refused {
            why: StreamRefusal::Unknown,
            message: "the hub answers in a way that this client does not know".to_owned(),
        }),
    }
}

/// The hub's route as a WebSocket, by the client's own TLS and token.
async fn connect(client: &HubClient, device: &DeviceId) -> Result<WebSocketStream<Upgraded>, ClientError> {
    let path = format!("/devices/{device}/streams");
    let key = generate_key();
    let request = client
        .request(Method::GET, &path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, STREAM_PROTOCOL);
    let transport = |source| ClientError::Transport {
        method: "GET",
        path: path.clone(),
        source,
    };
    let late = |_| ClientError::StreamLost {
        why: "no answer in time",
    };
    // The request's own timeout would cover the stream too.
    let sent = tokio::time::timeout(client.options.timeout, request.send()).await;
    let response = sent.map_err(late)?.map_err(transport)?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let refused = tokio::time::timeout(client.options.timeout, accept("GET", &path, response)).await;
        refused.map_err(late)??;
        return Err(not_the_hub(path, status));
    }
    let says = |name, value: &str| {
        let said = response.headers().get(name);
        said.is_some_and(|said: &header::HeaderValue| said.as_bytes() == value.as_bytes())
    };
    let is_hub = says(header::SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()))
        && says(header::SEC_WEBSOCKET_PROTOCOL, STREAM_PROTOCOL);
    if !is_hub {
        return Err(not_the_hub(path, status));
    }
    let upgraded = response.upgrade().await.map_err(transport)?;
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config())).await)
}

fn not_the_hub(path: String, status: StatusCode) -> ClientError {
    ClientError::NotTheHub {
        method: "GET",
        path,
        status: status.as_u16(),
    }
}

/// Says what is wanted and waits for the answer.
async fn ask(socket: &mut WebSocketStream<Upgraded>, call: &StreamCall) -> Result<StreamAnswer, String> {
    let text = serde_json::to_string(call).map_err(|error| error.to_string())?;
    let sent = socket.send(Message::text(text)).await;
    sent.map_err(|error| error.to_string())?;
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).map_err(|error| error.to_string());
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => return Err("the hub said something else".to_owned()),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the hub ended it".to_owned()),
        }
    }
}

impl fmt::Debug for StreamPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamPipe")
    }
}

impl AsyncRead for StreamPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for StreamPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
