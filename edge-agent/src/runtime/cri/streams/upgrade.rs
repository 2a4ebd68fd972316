//! From a URL of the runtime to a connection that speaks SPDY: what client-go's `SPDYExecutor` and apimachinery's `SpdyRoundTripper` do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use edge_streams::negotiate::REMOTE_COMMAND;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::StreamFault;
use crate::runtime::actions::start_of;

const DIAL: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
/// Of the answer's head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const SPDY: &str = "SPDY/3.1";
const PROTOCOL: &str = "x-stream-protocol-version";

/// Dials `url`, which is good for one attempt, and has the connection upgraded. Only the device itself is dialled: a runtime that serves
/// streams to a whole network offers every container on it.
pub(super) async fn upgrade(url: &str) -> Result<TokioIo<Upgraded>, StreamFault> {
    let endpoint = Endpoint::of(url).ok_or_else(|| StreamFault::Elsewhere { url: url.to_owned() })?;
    let dialled = timeout(DIAL, TcpStream::connect(endpoint.address)).await;
    let dialled = dialled.map_err(|_| late("dialling the runtime's server of streams", DIAL))?;
    let stream = dialled.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    let stream = stream.map_err(|source| StreamFault::Dial {
        address: endpoint.address.to_string(),
        source,
    })?;
    let answered = timeout(ANSWER, endpoint.ask(stream)).await;
    answered.map_err(|_| late("the runtime's answer to an upgrade", ANSWER))?
}

fn late(what: &'static str, limit: Duration) -> StreamFault {
    StreamFault::Late { what, limit }
}

#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    address: SocketAddr,
    /// With its query.
    path: String,
}

impl Endpoint {
    fn of(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let host = url.host()?.trim_matches(['[', ']']);
        let ip = match host {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            numeric => numeric.parse::<IpAddr>().ok()?,
        };
        let is_local = url.scheme_str() == Some("http") && ip.is_loopback();
        is_local.then(|| Self {
            address: SocketAddr::new(ip, url.port_u16().unwrap_or(80)),
            path: url.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }

    async fn ask(&self, stream: TcpStream) -> Result<TokioIo<Upgraded>, StreamFault> {
        let failed = |source| StreamFault::Http {
            address: self.address.to_string(),
            source,
        };
        let mut http = hyper::client::conn::http1::Builder::new();
        let handshake = http.max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(failed)?;
        let asked = async {
            let answer = sender.send_request(self.request()).await.map_err(failed)?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                let status = answer.status().as_u16();
                let body = start_of(answer.into_body()).await.map_err(failed)?;
                let body = body.trim().to_owned();
                return Err(StreamFault::Refused { status, body });
            }
            agreed(&answer)?;
            let upgraded = hyper::upgrade::on(answer).await.map_err(failed)?;
            Ok(TokioIo::new(upgraded))
        };
        // The connection is driven here, and has ended when it is upgraded.
        let connection = connection.with_upgrades();
        tokio::pin!(connection, asked);
        tokio::select! {
            answer = &mut asked => answer,
            ended = &mut connection => match ended {
                Ok(()) => asked.await,
                Err(source) => Err(failed(source)),
            },
        }
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        Request::post(&self.path)
            .header(HOST, self.address.to_string())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, SPDY)
            .header(PROTOCOL, REMOTE_COMMAND)
            .body(Empty::new())
            .expect("a path that was part of a URL, and plain headers")
    }
}

/// The runtime repeats what it chose of the one protocol that it was offered.
fn agreed(answer: &Response<Incoming>) -> Result<(), StreamFault> {
    for (name, wanted) in [(UPGRADE.as_str(), SPDY), (PROTOCOL, REMOTE_COMMAND)] {
        let chosen = answer
            .headers()
            .get(name)
            .map_or(&[][..], |value| value.as_bytes());
        if !chosen.eq_ignore_ascii_case(wanted.as_bytes()) {
            let chosen = String::from_utf8_lossy(chosen).into_owned();
            return Err(StreamFault::Protocol(chosen));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these very bytes.
    async fn answering(answer: &str) -> String {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let answer = answer.to_owned();
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            // One who does not wait for all of it is right.
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        format!("http://{address}/exec/token")
    }

    #[tokio::test]
    async fn what_is_no_upgrade_is_told() {
        let check = async |answer: &str, expect: &str| {
            let fault = upgrade(&answering(answer).await).await.err().unwrap();
            let message = fault.message();
            assert!(message.starts_with(expect) && message.len() <= 1024, "{message}");
        };
        let refused = "unable to upgrade connection: ";
        let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n";
        check(gone, &format!("{refused}404 page not found")).await;
        let endless = format!("HTTP/1.1 500 No\r\n\r\n{}", "no ".repeat(1 << 20));
        check(&endless, &format!("{refused}no no no")).await;
        let other = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
        check(
            &format!("{other}X-Stream-Protocol-Version: v3.channel.k8s.io\r\n\r\n"),
            "the runtime answers in the protocol \"v3.channel.k8s.io\"",
        )
        .await;
        check(
            &format!("{other}\r\n"),
            "the runtime answers in the protocol \"\"",
        )
        .await;
        check(
            "SSH-2.0-OpenSSH_9.2\r\n",
            "the runtime's server of streams at 127.0.0.1:",
        )
        .await;
        check("", "the runtime's server of streams at 127.0.0.1:").await;
        let long = format!("HTTP/1.1 101 Yes\r\nX: {}\r\n\r\n", "x".repeat(2 * MAX_HEAD));
        check(&long, "the runtime's server of streams at 127.0.0.1:").await;
        // Nobody listens on port 1.
        let fault = upgrade("http://127.0.0.1:1/exec/token").await.err().unwrap();
        assert!(matches!(fault, StreamFault::Dial { .. }), "{fault}");
    }

    /// What the runtime says at once, behind its answer, is not lost.
    #[tokio::test]
    async fn an_upgraded_connection_has_all_that_came() {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                      X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nfirst";
        let mut upgraded = upgrade(&answering(answer).await).await.unwrap();
        let mut rest = String::new();
        upgraded.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "first");
    }

    #[test]
    fn only_the_device_itself_is_dialled() {
        #[track_caller]
        fn check(url: &str, expect: Option<(&str, &str)>) {
            let endpoint = Endpoint::of(url).map(|endpoint| (endpoint.address.to_string(), endpoint.path));
            let expect = expect.map(|(address, path)| (address.to_owned(), path.to_owned()));
            assert_eq!(endpoint, expect, "{url}");
        }
        // containerd, CRI-O and cri-dockerd.
        check(
            "http://127.0.0.1:35533/exec/sAm3t0k_",
            Some(("127.0.0.1:35533", "/exec/sAm3t0k_")),
        );
        check("http://[::1]:1/attach/x", Some(("[::1]:1", "/attach/x")));
        check(
            "http://localhost:10010/exec/x?a=b",
            Some(("127.0.0.1:10010", "/exec/x?a=b")),
        );
        check("http://127.0.0.1", Some(("127.0.0.1:80", "/")));
        for elsewhere in [
            "http://192.0.2.1:35533/exec/x",
            "http://0.0.0.0:35533/exec/x",
            "http://localhost.example:80/exec/x",
            "http://127.0.0.1.example:80/exec/x",
            "http://127.0.0.1@192.0.2.1:80/exec/x",
            "https://127.0.0.1:35533/exec/x",
            "unix:///run/x.sock",
            "/exec/x",
            "",
        ] {
            check(elsewhere, None);
        }
    }
}
