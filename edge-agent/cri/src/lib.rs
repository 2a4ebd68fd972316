//! Client of the part of the Container Runtime Interface (CRI v1) that the agent uses.
//!
//! This crate turns calls into gRPC on a unix socket and failures into [`CriError`]. It knows nothing of workloads,
//! desired state or labels: what to run and whose it is, is decided above.
//!
//! - [`CriClient`]: one cheap, cloneable handle per runtime socket. It connects when first used and again after the
//!   runtime was restarted, so it can be built before the runtime is up.
//! - [`CriOptions`] and [`Deadlines`]: the socket, and how long each class of call may take. Every call has a
//!   deadline; the only exception is [`ContainerEvents`], a subscription.
//! - [`CriError`]: what failed ([`Operation`]), on what (the id), how ([`CriErrorKind`]), and what to do about it
//!   ([`Disposition`]).
//! - [`check_health`]: the one other gRPC question that an agent asks, of a workload's own server.
//! - [`v1`]: the messages, generated from `proto/v1.proto`.
//!
//! All calls are cancel safe in the sense of gRPC: dropping the future abandons the wait, while the runtime may still
//! carry out the call. Callers therefore look at the runtime's lists again instead of trusting that a call they gave
//! up did nothing.

mod client;
mod containers;
mod error;
mod events;
mod health;
mod images;
mod options;
mod redact;
mod sandboxes;
mod stats;
mod streaming;
pub mod v1;

pub use client::CriClient;
pub use error::{CriError, CriErrorKind, Disposition, Operation};
pub use events::ContainerEvents;
pub use health::{Health, HealthError, check_health};
pub use options::{CriOptions, Deadlines};
