//! What goes over the wire to an API server, and what its answers are taken for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
mod api;
mod events;
mod leader;
mod node;
mod objects;
mod serving;
mod watch;
mod work;
mod writes;
