//! Turning a request into a connection that carries streams: SPDY or WebSocket, by the rules and words of `k8s.io/streaming`.

use edge_streams::negotiate::{self, NegotiationError, PortForwardProtocol};
use edge_streams::websocket::{self, ChannelProtocol};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::answer::{self, Answer, Refusal};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";

/// What carries a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandCarrier {
    Spdy,
    WebSocket(ChannelProtocol),
}

/// What carries forwarded ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortCarrier {
    Spdy,
    WebSocket(PortForwardProtocol),
}

/// An agreed upgrade. The answer goes first, then the connection can be had.
pub(super) struct Upgrade {
    headers: Vec<(HeaderName, HeaderValue)>,
}

pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    is_upgrade(headers) && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    texts(headers, &header::CONNECTION).any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
}

pub(super) fn command<B>(request: &Request<B>) -> Result<(CommandCarrier, Upgrade), Refusal> {
    let headers = upgradable(request)?;
    if !is_websocket(headers) {
        return Ok((CommandCarrier::Spdy, spdy(headers, negotiate::REMOTE_COMMAND)?));
    }
    let offered = texts(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let protocol = negotiate::websocket_remote_command(offered).map_err(|error| refused(&error))?;
    let upgrade = self::websocket(headers, protocol.name())?;
    Ok((CommandCarrier::WebSocket(protocol), upgrade))
}

pub(super) fn ports<B>(request: &Request<B>) -> Result<(PortCarrier, Upgrade), Refusal> {
    let headers = upgradable(request)?;
    if !is_websocket(headers) {
        return Ok((PortCarrier::Spdy, spdy(headers, negotiate::PORT_FORWARD)?));
    }
    let offered = texts(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let protocol = negotiate::websocket_port_forward(offered).map_err(|error| refused(&error))?;
    let upgrade = self::websocket(headers, protocol.name())?;
    Ok((PortCarrier::WebSocket(protocol), upgrade))
}

fn upgradable<B>(request: &Request<B>) -> Result<&HeaderMap, Refusal> {
    let bad = |words: &str| Refusal::new(StatusCode::BAD_REQUEST, words);
    if request.version() != Version::HTTP_11 {
        return Err(bad("Upgrade request required, which takes HTTP/1.1"));
    }
    let headers = request.headers();
    is_upgrade(headers)
        .then_some(headers)
        .ok_or_else(|| bad("Upgrade request required"))
}

fn spdy(headers: &HeaderMap, spoken: &'static str) -> Result<Upgrade, Refusal> {
    let protocol =
        negotiate::spdy(texts(headers, &STREAM_PROTOCOL), spoken).map_err(|error| refused(&error))?;
    let wanted =
        texts(headers, &header::UPGRADE).any(|value| value.to_ascii_lowercase().contains("spdy/3.1"));
    if !wanted {
        let words = "unable to upgrade: missing upgrade headers in request";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, words));
    }
    let headers = vec![
        (header::UPGRADE, HeaderValue::from_static(SPDY)),
        (STREAM_PROTOCOL, HeaderValue::from_static(protocol)),
    ];
    Ok(Upgrade { headers })
}

fn websocket(headers: &HeaderMap, protocol: Option<&'static str>) -> Result<Upgrade, Refusal> {
    let bad = |words: &str| Refusal::new(StatusCode::BAD_REQUEST, words);
    if !texts(headers, &header::SEC_WEBSOCKET_VERSION).any(|version| version == "13") {
        let refused = bad("a WebSocket of version 13 is needed");
        return Err(refused.with(header::SEC_WEBSOCKET_VERSION, "13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    let accept = accept.and_then(|accept| HeaderValue::try_from(accept).ok());
    let mut headers = vec![
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (
            header::SEC_WEBSOCKET_ACCEPT,
            accept.ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?,
        ),
    ];
    if let Some(protocol) = protocol {
        headers.push((header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol)));
    }
    Ok(Upgrade { headers })
}

fn refused(error: &NegotiationError) -> Refusal {
    let words = format!("unable to upgrade: {error}");
    match error {
        NegotiationError::NothingOffered => Refusal::new(StatusCode::BAD_REQUEST, words),
        NegotiationError::NothingInCommon { accepted } => {
            let refused = Refusal::new(StatusCode::FORBIDDEN, words);
            let named = |refused: Refusal, name| refused.with(ACCEPTED_PROTOCOLS, name);
            accepted.iter().copied().fold(refused, named)
        }
    }
}

impl Upgrade {
    pub(super) fn answer(&self) -> Answer {
        answer::switching(&self.headers)
    }
}

/// What becomes the connection once the answer is written.
pub(super) fn connection(request: &mut Request<Incoming>) -> OnUpgrade {
    hyper::upgrade::on(request)
}

pub(super) async fn upgraded(connection: OnUpgrade) -> Result<TokioIo<Upgraded>, hyper::Error> {
    connection.await.map(TokioIo::new)
}

pub(super) async fn socket(io: TokioIo<Upgraded>) -> WebSocketStream<TokioIo<Upgraded>> {
    WebSocketStream::from_raw_socket(io, Role::Server, Some(websocket::config())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    const SOCKET: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn an_upgrade_is_answered_with_what_was_agreed() {
        let offer = [("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io")];
        let (carrier, upgrade) = command(&request(&[&SOCKET[..], &offer].concat())).unwrap();
        assert_eq!(carrier, CommandCarrier::WebSocket(ChannelProtocol::V5));
        let answer = upgrade.answer();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        // The example of RFC 6455.
        assert_eq!(
            answer.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");

        let spdy = [
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ];
        let (carrier, upgrade) = command(&request(&spdy)).unwrap();
        assert_eq!(carrier, CommandCarrier::Spdy);
        assert_eq!(
            upgrade.answer().headers()["x-stream-protocol-version"],
            "v4.channel.k8s.io"
        );
    }

    fn check(headers: &[(&str, &str)], expected: StatusCode) -> Refusal {
        let refused = command(&request(headers)).err().expect("it is refused");
        assert_eq!(refused.status, expected, "{headers:?}");
        refused
    }

    #[test]
    fn what_cannot_be_upgraded_hears_why() {
        let connection = ("connection", "Upgrade");
        check(&[], StatusCode::BAD_REQUEST);
        check(&[("upgrade", "SPDY/3.1")], StatusCode::BAD_REQUEST);
        check(&[connection, ("upgrade", "SPDY/3.1")], StatusCode::BAD_REQUEST);
        let protocol = ("x-stream-protocol-version", "v4.channel.k8s.io");
        check(&[connection, protocol], StatusCode::BAD_REQUEST);
        let old = ("x-stream-protocol-version", "v2.channel.k8s.io");
        let refused = check(&[connection, ("upgrade", "SPDY/3.1"), old], StatusCode::FORBIDDEN);
        assert_eq!(refused.headers, [(ACCEPTED_PROTOCOLS, "v4.channel.k8s.io")]);
        check(&SOCKET[..2], StatusCode::BAD_REQUEST);
        check(&SOCKET[..3], StatusCode::BAD_REQUEST);
        let foreign = [("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")];
        check(&[&SOCKET[..], &foreign].concat(), StatusCode::FORBIDDEN);
    }
}
