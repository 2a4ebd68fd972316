//! The crate from outside: every path of the schema, goldens, and refusals.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, and this is what they share"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read their fixtures; only the library is free of IO"
)]

mod determinism;
mod differences;
mod fields;
mod goldens;
mod heads;
mod honoured;
mod pods;
mod refusals;
mod schema;
