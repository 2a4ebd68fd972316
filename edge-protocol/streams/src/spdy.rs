//! SPDY/3.1, as far as Kubernetes and container runtimes speak it.
//!
//! * `id`: stream ids and reset codes. `headers`: the headers of a stream and their block.
//! * `zlib`: one deflate and one inflate stream per connection, bounded.
//! * [`Encoder`] and [`Decoder`]: frames ⇄ bytes, without IO.
//! * [`Session`]: streams over any connection, in both roles.
//!
//! The peer to agree with is moby/spdystream, which client-go, the API server, the kubelet and containerd share. It has no flow
//! control: WINDOW_UPDATE is neither sent nor heeded, or both sides would wait for ever.

mod decode;
mod encode;
mod headers;
mod id;
mod session;
mod zlib;

pub use decode::{Decoder, Event, Violation};
pub use encode::{Encoder, Frame};
pub use headers::{Headers, HeadersError};
pub use id::{ResetCode, StreamId};
pub use session::Session;
