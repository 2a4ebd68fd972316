//! Measurements of a whole Outrigger on one machine, beside a real kubelet on an equal container runtime.
//!
//! A figure alone says little on a shared machine, so what can be compared is measured in alternation, and the ratio is the result.
//!
//! * [`baseline`]: a real kubelet on a device of a lab, ready to be compared with. Differential tests use it too.
//! * [`ours`]: a whole Outrigger with one device, as the other contender.
//! * [`side`]: what a contender is to the measurements: where its pods go and which processes are its own.
//! * [`pods`] and [`watch`]: the pods that are applied, and when the API server says what of them.
//! * [`round`]: one measurement: create, wait until Ready, delete, wait until gone.
//! * [`apply`]: many of them, in alternation. [`memory`]: what an agent keeps. [`idle`]: what it sends when there is nothing to say.
//! * [`nodes`]: what device nodes cost, by devices that are [`simulated`].
//! * [`streams`]: exec, logs and port-forward, in alternation.
//! * [`step`]: what the device's machine alone costs.
//! * [`traffic`]: bytes between a device and its hub, counted by the kernel.
//! * [`proc`]: CPU time and memory of a process, from `/proc`. [`statistics`]: quantiles.
//! * [`programs`]: which build of which program. [`report`]: tables and JSON. [`stage`]: the directory, its lock, and leaving nothing behind.
//!
//! Nothing here decides whether a figure is good: goals are printed beside the figures, and people judge.

pub mod apply;
pub mod baseline;
mod error;
pub mod idle;
pub mod memory;
pub mod nodes;
pub mod ours;
pub mod pods;
pub mod proc;
pub mod programs;
pub mod report;
pub mod round;
pub mod side;
pub mod simulated;
pub mod stage;
pub mod statistics;
pub mod step;
pub mod streams;
pub mod traffic;
pub mod watch;

pub use error::BenchError;
