//! End to end, on a real cluster with three devices: needs root, and what `make install` installs.
//!
//! Every test starts a site of its own, so tests run side by side and none sees another's pods. A site is up in seconds.

#![allow(clippy::unwrap_used, reason = "these helpers fail the test that calls them")]

mod apply;
mod changes;
mod controllers;
mod debug;
mod deletion;
mod device_nodes;
mod failures;
mod freshness;
mod lies;
mod neighbours;
mod node;
mod objects;
mod outages;
mod proxied;
mod refusals;
mod rollout;
mod secrecy;
mod services;
mod silence;
mod stateful;
mod streams;
mod support;
mod targets;
