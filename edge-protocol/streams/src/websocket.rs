//! The WebSocket subprotocols of Kubernetes.
//!
//! * [`ChannelProtocol`]: messages that begin with the number of a channel (`v5.channel.k8s.io` and its elders). Pure.
//! * `channels`: a connection that speaks one of them, in the server's role; each channel is a [`Stream`](crate::Stream). Commands and
//!   forwarded ports are made of these.
//! * [`Tunnel`]: binary messages as a stream of bytes, which carries SPDY for port-forwarding. With [`Liveness`] it tells a silent peer from one that
//!   is gone.
//! * [`Pipe`]: the same with an end for each direction, which is nobody's protocol but ours. `binary`: what both share.
//!
//! The HTTP upgrade is the caller's: a connection comes as a `WebSocketStream`, made with [`config`].

mod binary;
mod channels;
mod liveness;
mod pipe;
mod protocol;
mod tunnel;

pub(crate) use channels::{Channels, Opening};
pub use liveness::Liveness;
pub use pipe::{Pipe, PipeError};
pub use protocol::{ChannelProtocol, Message, Violation};
pub use tunnel::Tunnel;

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The largest message that is read, in bytes. It is in memory as a whole; clients of Go send up to 32 KiB, others what they are given.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// What a `WebSocketStream` for channels, a [`Tunnel`] or a [`Pipe`] is to be made with: messages of up to [`MAX_MESSAGE`], small buffers.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}
