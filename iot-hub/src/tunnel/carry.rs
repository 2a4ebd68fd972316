//! One tunnel: carries streams until the device leaves, falls silent or is cut.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use edge_protocol::DeviceId;
use edge_protocol::EnrolmentSerial;
use edge_protocol::text::sanitise;
use edge_protocol::v1::{StreamAnswer, StreamOpening};
use edge_streams::websocket::Tunnel;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tokio_util::sync::CancellationToken;
use yamux::{Connection, Mode};

use super::{DeviceStream, Place};
use crate::pump::{Brought, PumpHandle};
use crate::serve::upgrade::{Duplex, Socket};
use crate::watched::Watched;

/// From the beginning of a stream to the end of its opening.
const OPENING: Duration = Duration::from_secs(10);
/// Streams of one tunnel: twice what a device may have open by default, for those that are on their way out.
const STREAMS: usize = 128;
/// Streams that have not said their opening yet; more are reset.
const OPENINGS: usize = 64;
/// What yamux gives every stream, and what all of a tunnel may have above that to fill a long way.
const WINDOW: usize = 256 << 10;
const SPARE: usize = 8 << 20;
/// A message of the WebSocket, in memory as a whole; agents send 32 KiB.
const MESSAGE: usize = 128 << 10;

/// What the WebSocket of a tunnel is made with.
pub(crate) fn config() -> WebSocketConfig {
    edge_streams::websocket::config()
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE))
}

/// Whose tunnel it is, and how long that device may be silent.
pub(crate) struct Carrier {
    pub(crate) pump: PumpHandle,
    pub(crate) device: DeviceId,
    pub(crate) enrolment: EnrolmentSerial,
    pub(crate) deadline: Duration,
    pub(crate) place: Place,
    pub(crate) stop: CancellationToken,
}

/// Why a tunnel turned.
enum Turn {
    Stream(yamux::Stream),
    Look,
    Over(&'static str),
}

impl Carrier {
    /// Carries the device's streams; all that are left are reset at the end.
    pub(crate) async fn carry(self: Arc<Self>, socket: Socket) {
        tracing::info!(device = %self.device, "a tunnel began");
        let socket = Watched::new(Tunnel::new(socket));
        let activity = socket.activity();
        let over = async {
            tokio::select! {
                () = self.stop.cancelled() => "the hub stops",
                () = self.place.cut.cancelled() => "cut",
            }
        };
        let why = drive(socket, self.deadline, over, |stream| {
            Arc::clone(&self).open(stream)
        })
        .await;
        let (received, sent) = activity.bytes();
        tracing::info!(device = %self.device, why, received, sent, "a tunnel ended");
    }

    async fn open(self: Arc<Self>, mut stream: DeviceStream) {
        let device = &self.device;
        let StreamOpening { ticket, answer, .. } = match tokio::time::timeout(OPENING, stream.opening()).await
        {
            Ok(Ok(opening)) => opening,
            Ok(Err(error)) => return tracing::debug!(%device, %error, "a stream is reset"),
            Err(_) => return tracing::debug!(%device, "a stream did not say its opening and is reset"),
        };
        let brought = Brought {
            answer: cleaned(answer),
            stream,
        };
        let identity = (device.clone(), self.enrolment.clone());
        // A hub that stops drops it, and with that resets it.
        let _ = self.pump.present(identity, ticket, brought).await;
    }
}

/// Gives every stream to `open`, until the tunnel is `over`, ends, or nothing was heard for `deadline`; says why.
async fn drive<R>(
    socket: Watched<Tunnel<Box<dyn Duplex>>>,
    deadline: Duration,
    over: impl Future<Output = &'static str>,
    open: impl Fn(DeviceStream) -> R,
) -> &'static str
where
    R: Future<Output = ()> + Send + 'static,
{
    let activity = socket.activity();
    let mut connection = Connection::new(socket.compat(), limits(), Mode::Server);
    let mut openings = JoinSet::new();
    // yamux asks for an answer every ten seconds, as long as it is woken.
    let mut look = tokio::time::interval(deadline / 6);
    let mut over = pin!(over);
    let why = loop {
        let turn = tokio::select! {
            why = &mut over => Turn::Over(why),
            next = poll_fn(|context| connection.poll_next_inbound(context)) => match next {
                Some(Ok(stream)) => Turn::Stream(stream),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a tunnel failed");
                    Turn::Over("failed")
                }
                None => Turn::Over("the device left"),
            },
            _ = look.tick() => Turn::Look,
            Some(_) = openings.join_next() => Turn::Look,
        };
        match turn {
            Turn::Over(why) => break why,
            Turn::Look if activity.silence() > deadline => break "silence",
            Turn::Look => {}
            Turn::Stream(stream) if openings.len() < OPENINGS => {
                openings.spawn(open(DeviceStream::new(stream, Arc::clone(&activity))));
            }
            Turn::Stream(_) => tracing::debug!("too many streams begin at once; one is reset"),
        }
    };
    // Before the streams end: so that none of them takes it for its own end in order.
    activity.end();
    why
}

/// The device's words, bounded and without control characters.
fn cleaned(answer: StreamAnswer) -> StreamAnswer {
    match answer {
        StreamAnswer::Refused { why, message } => StreamAnswer::Refused {
            why,
            message: sanitise(&message),
        },
        other => other,
    }
}

fn limits() -> yamux::Config {
    let mut limits = yamux::Config::default();
    // In this order: each setter checks itself against the other's value.
    limits
        .set_max_num_streams(STREAMS)
        .set_max_connection_receive_window(Some(STREAMS * WINDOW + SPARE));
    limits
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A tunnel, and what a device would have of it.
    async fn tunnel() -> (Watched<Tunnel<Box<dyn Duplex>>>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let near: Box<dyn Duplex> = Box::new(near);
        let socket = WebSocketStream::from_raw_socket(near, Role::Server, Some(config())).await;
        (Watched::new(Tunnel::new(socket)), far)
    }

    #[tokio::test]
    async fn a_device_that_falls_silent_loses_its_tunnel() {
        let (socket, _far) = tunnel().await;
        let activity = socket.activity();
        let deadline = Duration::from_millis(60);
        let driven = drive(socket, deadline, std::future::pending(), |_| async {});
        assert_eq!(tokio::time::timeout(LIMIT, driven).await, Ok("silence"));
        assert!(activity.is_over(), "its streams know");
    }
}
