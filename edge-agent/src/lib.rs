//! The agent's shell: it carries the decisions of [`edge_agent_core::Agent`] out on a real device.
//!
//! * [`options`]: the configuration file.
//! * [`identity`]: enrolment, key and certificate; [`dial`], [`tls`] and [`device_api`]: how the hub is reached over the one port.
//! * [`store`]: SQLite on a thread of its own. [`link`]: the MQTT connection. [`runtime`]: containers.
//! * [`objects`]: config maps and secrets, opened.
//! * [`host`]: clocks and what the machine is, which `facts` follows. `usage`: what device and workloads use; `logs`: when those of containers are rotated. [`local`]: health and metrics on a local socket.
//! * [`streams`]: commands, logs and connections for whoever asked the hub, over a tunnel of their own.
//! * [`pump`]: executes effects, feeds inputs. There is no second place that decides.
//!
//! [`build`] opens and binds everything, so that what is wrong is an error before anything runs; [`Bound::run`] runs until it is told
//! to stop. Workloads outlive both.

pub mod device_api;
pub mod dial;
pub mod host;
pub mod identity;
pub mod link;
pub mod local;
pub mod objects;
pub mod options;
pub mod process;
pub mod pump;
pub mod runtime;
pub mod store;
pub mod streams;
pub mod tls;

mod build;
mod facts;
mod logs;
#[cfg(test)]
mod test_tls;
mod usage;

pub use build::{Bound, BuildError, build, ensure_identity};
