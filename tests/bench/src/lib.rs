//! Measurements of a whole Outrigger on one machine, beside a real kubelet on an equal container runtime.
//!
//! A figure alone says little on a shared machine, so what can be compared is measured in alternation, and the ratio is the result.
//!
//! * [`baseline`]: a real kubelet on a device of a lab, ready to be compared with. Differential tests use it too.
//! * [`side`]: what a contender is to the measurements: where its pods go and which processes are its own.
//! * [`pods`] and [`watch`]: the pods that are applied, and when the API server says what of them.
//! * [`round`]: one measurement: create, wait until Ready, delete, wait until gone.
//! * [`apply`]: many of them, in alternation.
//! * [`proc`]: CPU time and memory of a process, from `/proc`. [`statistics`]: quantiles.
//! * [`report`]: tables and JSON. [`stage`]: the directory, its lock, and leaving nothing behind.
//!
//! Nothing here decides whether a figure is good: goals are printed beside the figures, and people judge.

pub mod apply;
pub mod baseline;
mod error;
pub mod pods;
pub mod proc;
pub mod report;
pub mod round;
pub mod side;
pub mod stage;
pub mod statistics;
pub mod watch;

pub use error::BenchError;
