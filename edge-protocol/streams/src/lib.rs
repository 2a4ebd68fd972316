//! The streams of `kubectl exec`, `attach` and `port-forward`, as far as they are bytes: SPDY/3.1 and WebSocket channels, both sides.
//!
//! The kubelet's API (server) and the agent (client towards a container runtime) bring connections that HTTP has upgraded; this crate makes
//! streams of them, and of streams commands and forwarded connections, which look the same whatever carries them. Reading order:
//!
//! * [`negotiate`]: which protocol an upgrade agrees on. Pure.
//! * [`spdy`]: frames ⇄ bytes, and [`spdy::Session`], streams over any connection.
//! * [`websocket`]: the channel protocols, [`websocket::Tunnel`], which carries SPDY, and [`websocket::Pipe`], which carries any bytes.
//! * `mux`: what both share. [`Stream`]s with buffers of their own, turns, resets, ends; bounded by [`Limits`].
//! * [`remote_command`]: a [`Command`](remote_command::Command) with stdin, stdout, stderr, sizes and an outcome; a
//!   [`Running`](remote_command::Running) one from the other side; [`bridge`](remote_command::bridge) joins the two.
//! * [`port_forward`]: [`PortForwards`](port_forward::PortForwards), pairs of data and error streams.
//! * [`splice`]: two pipes of bytes made one.
//!
//! # What this crate promises
//! 1. No byte is dropped as long as a connection and a stream's reader live: what is full makes its other side wait.
//! 2. No peer decides how much is allocated; [`Limits::memory_bound`] is the figure per connection, headers and one message aside.
//! 3. One stream's writer does not starve another's: they take turns. One stream's *reader* does hold up the others, since SPDY between
//!    Go's peers has no flow control and channels never had: read each stream, or drop its reading half.
//! 4. Nothing outlives its owner: dropping a session, an [`Ending`](remote_command::Ending) or the like ends its tasks and streams.
//! 5. Garbage ends a connection with a typed error, never with a panic.
//! 6. It has no time limits, except where it is given one. What may wait for ever says so; [`Activity`] and [`Gone`] tell the rest.
//!
//! It must not know of Kubernetes' API types, HTTP servers, pods or runtimes.

mod error;
mod limits;
mod mux;
pub mod negotiate;
pub mod port_forward;
pub mod remote_command;
pub mod spdy;
mod splice;
pub mod websocket;

pub use error::{ConnectionError, OpenError, StreamError};
pub use limits::Limits;
pub use mux::{Activity, Gone, ReadHalf, Stream, WriteHalf};
pub use splice::{Spliced, splice};
