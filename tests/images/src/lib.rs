//! The container images that tests run, written by code, so that no test needs a registry on the internet.
//!
//! - [`Catalogue`] builds the three images — `busybox` (Debian's static busybox), `server` (the static binary of `server/`, whose modes its
//!   `main.rs` lists) and `pause` (the sandbox image) — each under the tags `v1` and `v2`.
//! - [`Image`] and [`Layer`] write an OCI image: layers, config and manifest. The same input gives the same digests on every machine.
//! - [`push`] sends an image to a registry by the distribution API; [`archive`] writes what `ctr images import` reads.
//!
//! This crate knows images and the registry's HTTP API. It starts no process except `cargo`, for the server's binary.

pub mod archive;
mod catalogue;
mod error;
mod http;
mod image;
mod layer;
mod push;
mod server;

pub use catalogue::{Catalogue, NAMES, TAGS};
pub use error::Error;
pub use image::{Blob, Image, ImageConfig, Platform};
pub use layer::Layer;
pub use push::push;
pub use server::build_server;
