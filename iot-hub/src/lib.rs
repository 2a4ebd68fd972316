//! The hub: registry of devices, desired sets, roll-up; REST for people and providers, one port for devices.
//!
//! The decisions are [`iot_hub_core::Hub`]'s. This crate is the shell around it:
//!
//! * [`options`]: the configuration file. [`cli`]: the command line of `outrigger-hub`.
//! * [`build`](fn@build) → [`Bound`] → [`Bound::run`]: start, with real addresses, and clean stop.
//! * [`pump`]: sole owner of the machine; executes effects, groups commits. `feed`: how watchers learn of changes.
//! * [`ca`]: the certificate authority. [`token`]: random secrets.
//! * [`grant`]: principals and their scopes (law 12).
//! * [`rest`]: the REST API. `device_port`: enrolment, blobs and the gate of MQTT. `health`: probes and metrics. `serve`: HTTP.
//! * `tunnel`: streams of devices, over connections that they dial; `rest` gives them to callers. `watched`: how a pipe fares.
//!
//! A request reaches the machine as a [`Call`](iot_hub_core::Call) through [`pump::PumpHandle`] and is answered once it is on
//! disk. Readers run a closure between two steps. Nothing here decides about devices or deployments.

mod bound;
pub mod ca;
pub mod cli;
mod clock;
mod device_port;
pub mod fail;
mod feed;
pub mod grant;
mod health;
mod metrics;
pub mod options;
pub mod pump;
pub mod rest;
mod serve;
pub mod token;
mod tunnel;
mod watched;

pub use bound::{Addresses, Bound, BuildError, RunError, build};
pub use options::Options;

/// The store of this build. PostgreSQL will make it an enumeration.
pub(crate) type Store = iot_hub_store::SqliteStore;
