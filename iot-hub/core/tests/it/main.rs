//! The Hub machine from outside: a store in memory, a wire, and devices that behave.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod bounds;
mod convergence;
mod enrolment;
mod facts;
mod keys;
mod objects;
mod quarantines;
mod rates;
mod reports;
mod restores;
mod rollups;
mod sessions;
mod stats;
mod streams;
mod support;
mod targets;
mod tombstones;
mod waiting;
