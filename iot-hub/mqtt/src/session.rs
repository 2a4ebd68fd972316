//! One session, from CONNACK to the end of the stream.
//!
//! `core` decides and does no IO; `wire` moves bytes; `outbox` holds what waits for the device, `acks` the PUBACKs that do; `pump` joins them.

mod acks;
mod core;
mod outbox;
mod pump;
mod wire;

pub(crate) use outbox::{Outbox, Refused};
pub(crate) use pump::Session;
pub(crate) use wire::{Moved, Wire};
