//! The kubelet's API over real TLS: against an API server that says what the test wants, and on a real cluster through `kubectl`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
mod admission;
mod authority;
mod client;
mod cluster;
mod fake;
mod logs;
mod node;
mod reviews;
mod streams;
mod websockets;
mod world;
