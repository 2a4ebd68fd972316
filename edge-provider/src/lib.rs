//! `outrigger-kubelet`: pods of a virtual node become deployments of the hub, and the devices' word becomes their status.
//!
//! * [`options`]: the configuration file. [`cli`]: the command line. [`build`] → [`Bound`]: everything that can fail at start has.
//! * [`wanted`]: a pod as the API server shows it → a `WantedPod`: taint acknowledged, target allowed, translated; or refused by name.
//! * [`provider`]: the pump of the `Bridge` machine. It feeds it what the cluster and the hub say, executes its effects, decides nothing.
//! * [`hub`]: the hub's side of that pump: lists and watches in, calls out. [`switchboard`]: which node hears what of it.
//!   [`place`]: how far its log was heard, left to the next process.
//! * [`notices`]: what people read: events of devices, refusals, notes.
//! * [`reading`]: what pods refer to, asked for at the cluster and made into what devices get.
//! * [`rbac`]: the rights that the process needs, for the names in its configuration.
//! * [`capacity`]: the fleet's sum for the Node. [`device_nodes`]: which devices are Nodes of their own, and [`device_view`]: what those show.
//! * [`kubelet_api`]: where the kubelet API answers for which Node, and by what certificate.
//!   [`streams`]: how it reaches containers.
//! * `providers`: what each node of the process gets of its own.
//! * `adoption`: device nodes that are there already, served before the hub has answered.
//! * [`sealer`]: secrets sealed to the devices that run them.
//!
//! What to do is decided in `edge-provider-core`, what a pod means in `edge-provider-translate`, what a Node is in
//! `virtual-kubelet-core`; this crate only joins them.

mod adoption;
mod bound;
mod brake;
pub mod capacity;
pub mod cli;
pub mod device_nodes;
pub mod device_view;
mod health;
pub mod hub;
pub mod kubelet_api;
mod metrics;
mod notices;
pub mod options;
pub mod place;
pub mod provider;
mod providers;
pub mod rbac;
pub mod reading;
pub mod sealer;
pub mod streams;
pub mod switchboard;
pub mod wanted;

pub use bound::{Bound, RunError, build};
pub use options::Options;
