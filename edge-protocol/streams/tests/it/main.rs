//! Both sides against each other, against hand-made peers, and against the peers that Kubernetes is made of.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failure")]

mod commands;
mod ends;
mod forwards;
mod hostile;
mod http;
mod kubectl;
mod peer;
mod sessions;
mod wire;
