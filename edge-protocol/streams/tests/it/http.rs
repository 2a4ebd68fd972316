//! As much of HTTP/1.1 as an upgrade takes.

use edge_streams::websocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The head of a request or an answer.
pub struct Head(String);

impl Head {
    /// Byte by byte, since what follows belongs to the upgraded connection.
    async fn read(io: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(io.read_u8().await.unwrap());
            assert!(bytes.len() < 16 * 1024);
        }
        Self(String::from_utf8(bytes).unwrap())
    }

    pub fn first_line(&self) -> &str {
        self.0.lines().next().unwrap()
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.0.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(at, _)| at.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

/// A request that wants its connection upgraded.
pub struct Upgrade {
    pub head: Head,
    io: TcpStream,
}

impl Upgrade {
    pub async fn accept(mut io: TcpStream) -> Self {
        io.set_nodelay(true).unwrap();
        let head = Head::read(&mut io).await;
        Self { head, io }
    }

    async fn switch(&mut self, lines: &[(&str, &str)]) {
        let mut answer = String::from("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
        for (name, value) in lines {
            answer.extend([name, ": ", value, "\r\n"]);
        }
        answer += "\r\n";
        self.io.write_all(answer.as_bytes()).await.unwrap();
    }

    pub async fn spdy(mut self, protocol: &str) -> TcpStream {
        assert_eq!(self.head.values("Upgrade"), ["SPDY/3.1"]);
        self.switch(&[("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", protocol)])
            .await;
        self.io
    }

    pub async fn websocket(mut self, protocol: Option<&str>) -> WebSocketStream<TcpStream> {
        let key = derive_accept_key(self.head.values("Sec-WebSocket-Key")[0].as_bytes());
        let mut lines = vec![("Upgrade", "websocket"), ("Sec-WebSocket-Accept", &key)];
        lines.extend(protocol.map(|protocol| ("Sec-WebSocket-Protocol", protocol)));
        self.switch(&lines).await;
        WebSocketStream::from_raw_socket(self.io, Role::Server, Some(websocket::config())).await
    }
}

/// Asks a server for SPDY.
pub async fn request_spdy(address: &str, path: &str, protocol: &str) -> TcpStream {
    let mut io = TcpStream::connect(address).await.unwrap();
    io.set_nodelay(true).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {protocol}\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await.unwrap();
    let head = Head::read(&mut io).await;
    assert!(
        head.first_line().starts_with("HTTP/1.1 101 "),
        "{}",
        head.first_line()
    );
    assert_eq!(head.values("X-Stream-Protocol-Version"), [protocol]);
    io
}
