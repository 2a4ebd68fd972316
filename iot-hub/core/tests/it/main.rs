//! The Hub machine from outside: a store in memory, a wire, and devices that behave.

mod rollups;
mod sessions;
mod support;
mod targets;
mod tombstones;
