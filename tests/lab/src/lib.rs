//! Real parts to test against, on one Linux machine, as root: a Kubernetes control plane, a registry and devices with a containerd each.
//!
//! ```no_run
//! use lab::{ControlPlaneOptions, DeviceOptions, Lab, LabOptions};
//!
//! # fn main() -> Result<(), lab::Error> {
//! let lab = Lab::start(LabOptions {
//!     control_plane: Some(ControlPlaneOptions::default()),
//!     devices: DeviceOptions::numbered(3),
//!     ..LabOptions::in_directory("target/outrigger/lab")
//! })?;
//! let nodes = lab.control_plane()?.kubectl(["get", "nodes"])?;
//! let device = lab.device("device-1")?;
//! device.spawn("agent", &lab::Program::new("/usr/bin/outrigger-agent"))?;
//! lab::down("target/outrigger/lab")?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Lab`] owns a directory with a state file. Its processes outlive the handle and the process that started them; [`Lab::open`] takes hold of
//!   them again, [`down`] ends them and removes every trace, also after a crash in the middle of [`Lab::start`]. [`TemporaryLab`] does that on drop.
//! - [`ControlPlane`], [`Registry`] and [`Device`] are views of a lab's parts; [`Process`] is one recorded process, which can be killed and started again.
//! - [`Program`] is a command line as data; [`until`] waits for a predicate with a deadline.
//!
//! Labs run side by side: each claims a network number of the machine, and every name, address and path follows from it. What belongs to a lab
//! is found again by marks that the kernel keeps (an environment variable, a cgroup, a network namespace), so that nothing else is ever killed.
//!
//! The lab knows nothing of Outrigger's own binaries: others start them through [`Lab::spawn`] and [`Device::spawn`].
//! All calls block; call them from `spawn_blocking` in asynchronous tests.

mod control_plane;
mod device;
mod error;
mod leftovers;
mod network;
mod options;
mod process;
mod program;
mod registry;
mod start;
mod state;
mod sweep;
mod wait;

pub use control_plane::{ControlPlane, Credential, ensure_binaries};
pub use device::Device;
pub use error::Error;
pub use options::{AlwaysReadyNode, ControlPlaneOptions, DeviceOptions, LabOptions, Paths, PodSubnet, Times};
pub use process::Process;
pub use program::{Output, Program};
pub use registry::{IMAGES_HOST, PRIVATE_HOST, PRIVATE_PASSWORD, PRIVATE_USER, Registry};
pub use start::{Lab, TemporaryLab, down};
pub use wait::until;
