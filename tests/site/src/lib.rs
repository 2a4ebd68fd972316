//! A whole Outrigger on one machine: a lab with a hub, a kubelet and an agent on every device.
//!
//! [`Site::start`] goes the way an operator goes: it makes a certificate authority, writes configuration files, creates tokens and starts
//! the released programs. It decides nothing for them and reaches into none of them.
//!
//! * [`options`]: what a site consists of. [`programs`]: where the binaries are.
//! * `hub`, `kubelet`, `agents`: one part each: files, start, readiness. `detour`: a proxy that lies to the kubelet.
//!   `tap`: one that keeps what passes to and from the hub.
//!
//! A site's processes outlive the handle, as the lab's do; [`lab::down`] ends them.

mod agents;
mod cluster;
mod detour;
mod error;
mod files;
mod hub;
mod kubelet;
pub mod options;
pub mod programs;
mod start;
mod tap;

pub use cluster::Cluster;
pub use detour::Detour;
pub use error::SiteError;
pub use hub::HubAccess;
pub use options::{DeviceNodes, DeviceSpec, NamespaceRule, ProxySpec, Scrutiny, Server, SiteOptions};
pub use programs::Programs;
pub use start::Site;
