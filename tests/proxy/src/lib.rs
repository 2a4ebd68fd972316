//! A proxy that stands before a *real* server and lies about it, as told: how law 2 (silence never means delete) is tested.
//!
//! Everything passes unchanged, streams as streams, until a test tells a [`Lie`] about the requests of a [`Rule`]. A lie that was really
//! served is counted, so that a test can prove that its victim heard it.
//!
//! * [`rule`]: what may be told: the documents of the control endpoint.
//! * [`proxy`]: [`ProxyOptions`] → [`Bound`] → run. It forwards HTTP/1.1 over TLS under a certificate of an authority of its own.
//! * `ledger`: which lies are told, how often each was served, which streams are open.
//! * `relay`: one client connection; `upstream`: the connection behind it; `streams`: bodies that are cut or silenced;
//!   `answer`: invented answers; `socket`: connections that end in a reset; `authority`: the certificates.
//! * [`tap`]: something else, which lies about nothing: it keeps what passes between a hub and its clients, in clear.
//! * [`connect`]: something else again: a proxy that a device must go through, by `CONNECT`.
//! * `control`: the endpoint that a test talks to, and [`ControlClient`], which talks to it without any runtime.
//!
//! It knows the two servers' forms of lists, errors and watch events ([`Dialect`]) and nothing else of Outrigger. Clients prove who they
//! are by bearer tokens, which pass; client certificates end here, and upgrades (exec, port-forward) are not forwarded.
//!
//! Memory is bounded: bodies stream through, a rewritten list and an event of a silenced stream have a cap, and so have connections and lies.

mod answer;
mod authority;
mod client;
pub mod connect;
mod control;
mod ledger;
pub mod proxy;
mod relay;
pub mod rule;
mod socket;
mod streams;
pub mod tap;
mod upstream;

pub use client::{ControlClient, ControlError};
pub use proxy::{Addresses, Bound, ProxyError, ProxyOptions};
pub use rule::{Dialect, Interrupt, Interrupted, Ledger, Lie, Requests, Rule, Then, Told};
