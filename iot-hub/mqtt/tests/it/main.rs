//! The endpoint over real TLS: real `rumqttc` clients and clients that write raw bytes.

#![allow(
    clippy::unwrap_used,
    reason = "clippy's allowance for tests does not reach the helpers of a test binary"
)]

mod clients;
mod isolation;
mod killers;
mod limits;
mod port;
mod raw;
mod sessions;
#[allow(dead_code, reason = "a bench uses the rest of the harness")]
mod site;
mod storm;
