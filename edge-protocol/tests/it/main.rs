//! The wire documents against golden files: what an earlier release wrote must be read, what it refused must stay refused.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "test code: golden files are read, and a panic is a failure"
)]

mod documents;
mod fixture;
mod frames;
mod manifests;
mod refusals;
mod sealed;
mod sealing;
mod stats;
mod streams;
