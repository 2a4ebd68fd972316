//! The hub's own MQTT 3.1.1 endpoint: TLS, identities, sessions and bounded queues; no router, no twins.
//!
//! Hub and devices exchange messages on four fixed topics, so nothing is routed: a message from a device becomes an
//! [`Event`], a message to a device goes through [`EndpointHandle::send`] into that device's own queue.
//!
//! # Map
//! - `acceptor` — TCP accept loop, bounded TLS handshakes, dispatch by ALPN. One port serves MQTT and the device API.
//! - `tls` — the server's TLS configuration and the certificates that a peer showed.
//! - `gate` — who a certificate belongs to; asked after every handshake, resumed ones too.
//! - `endpoint` — serves one accepted stream: gate, CONNECT, session; hands events to the hub in fair order.
//! - `admission` — the way from a stream to a session: gate, CONNECT, claim of the device's slot.
//! - `codec` — rumqttd's v4 codec behind size and flag checks that run before anything is allocated.
//! - `connect` — the verdict on a CONNECT packet, pure.
//! - `topics` — the topics of one device and what it may do with them, pure.
//! - `session` — one session: a core without IO (subscriptions, window, acknowledgements) and its pump.
//! - `table` — device → session. One session per device, takeover in sequence, ids never reused.
//! - `intake` — messages from all devices, one fair turn each.
//! - `lanes` — a bounded pair of queues, urgent before bulk without starving it.
//!
//! # What this crate promises
//! 1. A device reaches its own topics only, for publish, subscribe and will alike.
//! 2. A session begins only after the session before it has ended and its `Disconnected` has been handed over.
//! 3. No peer decides how much is allocated; [`Options::device_memory_bound`] is the figure per device. An idle session takes
//!    about 22 KiB with TLS (`benches/idle_memory.rs`).
//! 4. A silent, slow or flooding device delays nobody but itself.
//! 5. It is a lossy pipe: PUBACK to a device says "queued in the hub's memory", nothing more; messages to a device
//!    that were not acknowledged when the connection ended are gone.

mod acceptor;
mod admission;
mod codec;
mod connect;
mod endpoint;
mod gate;
mod ids;
mod intake;
mod lanes;
mod metrics;
mod options;
mod reason;
mod session;
mod table;
mod tls;
mod topics;

pub use acceptor::{Accepted, AcceptorOptions, BindError, Bound, OtherHandler};
pub use endpoint::{Endpoint, EndpointError, EndpointHandle, Event, SendError, SessionInfo};
pub use gate::{Gate, Identity, Refusal};
pub use ids::{ConnectionId, DeviceId, IdError, Serial};
pub use metrics::Metrics;
pub use options::{LaneLimits, Options, OptionsError};
pub use reason::{CutReason, DisconnectReason, RefuseReason};
pub use table::CutTarget;
pub use tls::{PeerCertificates, ServerTls, TlsError};
pub use topics::{DownLane, UpLane, Will};
