//! The one client of the hub's REST API; provider, command line and tests all use it.
//!
//! * [`options`]: where the hub is, whom to trust, which token.
//! * [`client`]: one method per route. Every call has a timeout and changes at most what its document says; all are idempotent.
//! * [`watch`]: server-sent events as a stream that reconnects by itself and says so.
//! * [`stream`]: what a device does while the caller looks on, as a pipe of bytes.
//! * [`logs`]: a container's log, over cut links.
//! * [`error`]: what went wrong, and whether to try again.
//! * `sse`, `backoff`: a parser with a size cap, and delays with full jitter.
//!
//! It must not know what a caller does with an answer: an error is never turned into an empty list.

mod backoff;
pub mod client;
pub mod error;
pub mod logs;
pub mod options;
mod sse;
pub mod stream;
pub mod watch;

pub use client::{EventFilter, HubClient};
pub use error::{ClientError, Disposition};
pub use iot_hub_api as api;
pub use logs::{LogError, LogPart, LogReader, LogTarget};
pub use options::{ApiToken, ClientOptions};
pub use stream::{StreamError, StreamPipe};
pub use watch::Watch;
