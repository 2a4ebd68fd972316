//! Both sides against each other, against hand-made peers, and against the peers that Kubernetes is made of.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failure")]

mod bridges;
mod commands;
mod ends;
mod forwards;
mod garbage;
mod hostile;
mod http;
mod kubectl;
mod peer;
mod pipes;
mod roles;
mod sessions;
mod survive;
mod wire;
