//! The client against a real containerd of its own, and against sockets that misbehave.

#![allow(
    clippy::unwrap_used,
    reason = "clippy exempts only functions marked as tests, and these files are nothing else"
)]

mod archive;
mod containerd;
mod containers;
mod images;
mod pods;
mod sockets;
