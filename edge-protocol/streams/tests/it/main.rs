//! Both sides against each other, against hand-made peers, and against the peers that Kubernetes is made of.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failure")]

mod commands;
mod forwards;
mod hostile;
mod http;
mod peer;
mod sessions;
mod wire;
