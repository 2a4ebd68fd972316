//! A device with streams, as the hub sees it: orders over MQTT, and a tunnel that it dials. No agent.

use std::future::poll_fn;
use std::sync::Arc;

use edge_protocol::sign::Binding;
use edge_protocol::v1::ability::STREAMS;
use edge_protocol::v1::enrol::hub_server_name;
use edge_protocol::v1::{Down, DownFrame, StreamAnswer, StreamOpening, StreamOrder, Ticket, Up, VERSION};
use edge_protocol::{DeviceId, frame};
use edge_streams::websocket::{Tunnel, config};
use iot_hub_client::api::CreateEnrolmentToken;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Error;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Connection, Mode, Stream};

use crate::device::{Device, HubPort};
use crate::mqtt::{begin_with, binding, trusted};
use crate::site::{Site, within};

pub type Pipe = Compat<Stream>;

/// A device in session; dropping it ends the session.
pub struct Streamer {
    pub device: Device,
    orders: mpsc::UnboundedReceiver<StreamOrder>,
    session: JoinHandle<()>,
}

impl Drop for Streamer {
    fn drop(&mut self) {
        self.session.abort();
    }
}

impl Streamer {
    /// Enrols a device and lets it say hello with streams among its abilities.
    pub async fn start(site: &Site, id: &str) -> Self {
        let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
        Self::of(site, Device::enrol(site, &token, id).await, &[STREAMS]).await
    }

    /// Lets an enrolled device say hello with these abilities.
    pub async fn of(site: &Site, device: Device, features: &[&str]) -> Self {
        let (mut session, statement, _) = begin_with(site, &device, features).await;
        let id = device.answer.device.to_string();
        // The hub trusts a device to know its session once it has said something in it.
        session.say(&id, Some(statement.session), Up::Heartbeat).await;
        let keys = trusted(&device);
        let binding = Binding {
            session: Some(statement.session),
            ..binding(&device)
        };
        let (heartbeat, heard) = oneshot::channel();
        let (sender, orders) = mpsc::unbounded_channel();
        let session = tokio::spawn(async move {
            let mut heartbeat = Some(heartbeat);
            loop {
                let bytes = session.message().await;
                match frame::decode::<DownFrame>(&bytes).unwrap().body {
                    Down::Stream { envelope } => {
                        let order = keys.open_stream_order(&envelope, &binding).unwrap();
                        sender.send(order).unwrap();
                    }
                    Down::Ack(_) => drop(heartbeat.take().map(|heartbeat| heartbeat.send(()))),
                    _ => {}
                }
            }
        });
        within("the hub's answer to a heartbeat", heard).await.unwrap();
        Self {
            device,
            orders,
            session,
        }
    }

    pub fn id(&self) -> &DeviceId {
        &self.device.answer.device
    }

    pub async fn order(&mut self) -> StreamOrder {
        within("an order", self.orders.recv()).await.unwrap()
    }
}

/// A tunnel of a device.
pub struct Dialled {
    streams: mpsc::Sender<oneshot::Sender<Stream>>,
    pub carried: JoinHandle<()>,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.carried.abort();
    }
}

impl Dialled {
    pub async fn dial(site: &Site, device: &Device) -> Self {
        Self::try_dial(site, device).await.unwrap()
    }

    pub async fn try_dial(site: &Site, device: &Device) -> Result<Self, Error> {
        let port = HubPort::of(site);
        let tcp = TcpStream::connect(port.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let tls = TlsConnector::from(Arc::new(port.tls(Some(device), b"http/1.1")));
        let name = hub_server_name(port.hub).try_into().unwrap();
        let tls = tls.connect(name, tcp).await?;
        let url = format!("wss://{}/tunnel", hub_server_name(port.hub));
        let (socket, _) = tokio_tungstenite::client_async_with_config(url, tls, Some(config())).await?;
        let socket = Tunnel::new(socket).compat();
        let mut connection = Connection::new(socket, yamux::Config::default(), Mode::Client);
        let (streams, mut wanted) = mpsc::channel::<oneshot::Sender<Stream>>(1);
        let carried = tokio::spawn(async move {
            loop {
                tokio::select! {
                    inbound = poll_fn(|context| connection.poll_next_inbound(context)) => {
                        assert!(!matches!(inbound, Some(Ok(_))), "the hub begins no streams");
                        return;
                    }
                    Some(give) = wanted.recv() => {
                        let Ok(stream) = poll_fn(|context| connection.poll_new_outbound(context)).await else {
                            return;
                        };
                        drop(give.send(stream));
                    }
                }
            }
        });
        Ok(Self { streams, carried })
    }

    /// A stream that says nothing yet.
    pub async fn blank(&self) -> Pipe {
        let (give, stream) = oneshot::channel();
        self.streams.send(give).await.unwrap();
        within("a stream", stream).await.unwrap().compat()
    }

    /// A stream that comes with this ticket.
    pub async fn open(&self, ticket: Ticket, answer: StreamAnswer) -> Pipe {
        let opening = StreamOpening {
            v: VERSION,
            ticket,
            answer,
        };
        let document = serde_json::to_vec(&opening).unwrap();
        let mut stream = self.blank().await;
        stream
            .write_u32(document.len().try_into().unwrap())
            .await
            .unwrap();
        stream.write_all(&document).await.unwrap();
        stream
    }
}
