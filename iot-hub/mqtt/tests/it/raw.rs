//! A client that writes MQTT bytes by hand, well-formed or not.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::site::{DEADLINE, Site};

pub struct Raw {
    pub stream: TlsStream<TcpStream>,
}

pub async fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
}

impl Raw {
    /// A TLS connection, no CONNECT yet.
    pub async fn open(site: &Site, config: &Arc<ClientConfig>) -> Self {
        let stream = timeout(DEADLINE, tls(site.address, config))
            .await
            .expect("in time")
            .expect("handshake");
        Self { stream }
    }

    /// An accepted session.
    pub async fn session(site: &Site, name: &str, config: &Arc<ClientConfig>) -> Self {
        let mut raw = Self::open(site, config).await;
        raw.send(&Connect::of(name).bytes()).await;
        assert_eq!(raw.packet().await, [0x20, 2, 0, 0], "{name} is accepted");
        raw
    }

    /// A session subscribed to all its lanes with `QoS` 1.
    pub async fn subscribed(site: &Site, name: &str, config: &Arc<ClientConfig>) -> Self {
        let mut raw = Self::session(site, name, config).await;
        raw.send(&subscribe(1, &format!("dev/{name}/#"), 1)).await;
        assert_eq!(raw.packet().await, [0x90, 3, 0, 1, 1]);
        raw
    }

    /// Writes; the peer may have gone already, which reading will tell.
    pub async fn send(&mut self, bytes: &[u8]) {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let _ = timeout(DEADLINE, write).await.expect("the endpoint reads");
    }

    /// The next packet, whole.
    pub async fn packet(&mut self) -> Vec<u8> {
        self.try_packet()
            .await
            .expect("a packet, not the end of the stream")
    }

    /// The next packet, or nothing if the stream ended.
    pub async fn try_packet(&mut self) -> Option<Vec<u8>> {
        timeout(DEADLINE, self.read_packet()).await.expect("in time").ok()
    }

    async fn read_packet(&mut self) -> std::io::Result<Vec<u8>> {
        let mut packet = vec![self.stream.read_u8().await?];
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.stream.read_u8().await?;
            packet.push(byte);
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let head = packet.len();
        packet.resize(head + length, 0);
        self.stream.read_exact(&mut packet[head..]).await?;
        Ok(packet)
    }

    /// Waits for the end of the stream, whatever comes before it.
    pub async fn ended(&mut self) {
        let end = async { while self.read_packet().await.is_ok() {} };
        timeout(DEADLINE, end)
            .await
            .expect("the endpoint ends the stream");
    }
}

/// A CONNECT packet.
#[derive(Clone)]
pub struct Connect<'a> {
    pub protocol: &'a str,
    pub level: u8,
    pub client_id: &'a str,
    pub keep_alive: u16,
    pub clean: bool,
    pub will: Option<(&'a str, &'a str)>,
}

impl<'a> Connect<'a> {
    pub fn of(client_id: &'a str) -> Self {
        Self {
            protocol: "MQTT",
            level: 4,
            client_id,
            keep_alive: 60,
            clean: true,
            will: None,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let flags = if self.clean { 2 } else { 0 } | if self.will.is_some() { 0b0000_1100 } else { 0 };
        let mut body = string(self.protocol);
        body.extend([self.level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(string(self.client_id));
        if let Some((topic, message)) = self.will {
            body.extend(string(topic));
            body.extend(string(message));
        }
        packet(0x10, &body)
    }
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        bytes.push(u8::try_from(length & 0x7F).unwrap() | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

pub fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

pub fn subscribe(pkid: u16, filter: &str, qos: u8) -> Vec<u8> {
    packet(
        0x82,
        &[pkid.to_be_bytes().to_vec(), string(filter), vec![qos]].concat(),
    )
}

/// `first` carries quality and flags: 0x30 `QoS` 0, 0x32 `QoS` 1.
pub fn publish(first: u8, topic: &str, pkid: u16, payload: &[u8]) -> Vec<u8> {
    let id = if first & 0b0110 == 0 {
        Vec::new()
    } else {
        pkid.to_be_bytes().to_vec()
    };
    packet(first, &[string(topic), id, payload.to_vec()].concat())
}

pub fn puback(pkid: u16) -> Vec<u8> {
    packet(0x40, &pkid.to_be_bytes())
}
