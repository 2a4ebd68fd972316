//! The Agent machine in a tiny world: a store that forgets what was not committed, a runtime, and a hub that signs.

#![allow(
    clippy::unwrap_used,
    reason = "all of this binary is test code, helpers included"
)]

mod admission;
mod bounds;
mod chaos;
mod conversation;
mod ephemeral;
mod hub;
mod incarnation;
mod lifecycle;
mod objects;
mod order;
mod probes;
mod pulls;
mod resize;
mod runtime;
mod shed;
mod stats;
mod streams;
mod succession;
mod telling;
mod whole;
mod world;
