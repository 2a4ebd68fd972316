//! The hub over real TLS: REST by the real client, devices by `reqwest` and `rumqttc`, and the real binary killed.
#![allow(
    clippy::unwrap_used,
    reason = "this crate is tests; the lint sees only functions that are marked as such"
)]

mod blobs;
mod device;
mod enrol;
mod keys;
mod kill;
mod mqtt;
mod openapi;
mod rest;
mod site;
mod stats;
mod streams;
mod tunnel;
mod watch;
