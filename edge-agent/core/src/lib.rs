//! The Agent machine: everything an edge device decides, and nothing it does.
//!
//! Inputs go in, effects come out; the pump in `edge-agent` executes them and decides nothing. Reading order:
//!
//! * [`io`]: the seam to the pump: what goes in, what comes out, what the store must keep.
//! * [`step`]: the seam to a container runtime: what may be asked of it and what is seen there.
//! * [`agent`]: the machine, its bounds, and the one transaction that ends each step; `restore` reads the store.
//! * `session`: hello, binding, heartbeat, watchdog. `intake` takes frames; `desired` holds the set, assembles the next and keeps a
//!   restored hub from changing what it contradicts; `transition` says what a new set makes of a record; `shelf` knows which blobs are here, `fetch` gets the others, `keys` what opens the sealed ones.
//! * `claims`: what the device says of itself. `workload` and `record`: one workload in memory and on disk. `roster`: all of them, and which
//!   must be attended to, by `ties` between them; `proof`: that the others need not.
//! * `plan`: the total function from desired and observed to steps. `succession` and `admission` say who has a place, `allocation` what of the device is whose, `lifecycle` what a
//!   workload that is to run needs next, `tidy` what is in its way, `teardown` what one that is to go needs next, `backoff` when. `sums`
//!   is what a workload as a whole asks for. `pulls`: images on their way here; `provenance`: whose credentials brought them.
//! * `health`: hooks and probes of what runs; `probe`: one probe as a state machine; `checkup`: what they tell.
//! * [`usage`]: what the device and its workloads use, as measured; `shed` makes of it what has to go: workloads by `eviction`, images by `images`. `stats`: what is told of it while somebody asks.
//! * `outcome` and `failure`: what steps and looks tell. `upkeep` and `marks`: execute plans on paper and tell the hub. `status`, `phase`, `reports`, `history`: what
//!   it is told; `words`: how.
//! * `streams`: which streams that the hub orders are opened, and to what.
//!
//! It must not know of MQTT, HTTP, SQL, CRI or the clock.
//!
//! # The contract with the pump
//! * Effects are executed in the order given. Sends of one lane stay in order; steps run at the same time.
//! * Every [`Effect::Run`] is answered by one [`Input::StepEnded`], every [`Effect::Fetch`] by one [`Input::Blob`], every [`Effect::Sample`] by one
//!   [`Input::Sampled`], every [`Effect::Commit`] by one [`Input::Committed`], in order; a commit that fails ends the process.
//! * The pump looks at the runtime at start, after every ended step but a pull, at every event of the runtime, and from time to time. It
//!   hands a look in with the number of [`Input::StepEnded`] that it had handed in when the look began. A workload whose step failed or
//!   stopped something is left alone until a look that began after that.
//! * After [`Effect::Reconnect`] the next word about the link is [`Input::LinkDown`] or [`Input::LinkUp`].

mod admission;
pub mod agent;
mod allocation;
mod backoff;
mod checkup;
mod claims;
mod desired;
mod eviction;
mod failure;
mod fetch;
mod health;
mod history;
mod images;
mod intake;
pub mod io;
mod keys;
mod lifecycle;
mod marks;
mod outcome;
mod phase;
mod plan;
mod probe;
#[cfg(debug_assertions)]
mod proof;
mod provenance;
mod pulls;
mod record;
mod reports;
mod restore;
mod roster;
mod session;
mod shed;
mod shelf;
mod stats;
mod status;
pub mod step;
mod streams;
mod succession;
mod sums;
mod sysctls;
mod teardown;
mod tidy;
mod ties;
mod transition;
mod upkeep;
pub mod usage;
mod words;
mod workload;

pub use agent::{Agent, AgentConfig, Limits};
pub use edge_protocol::Now;
pub use eviction::{Threshold, Thresholds};
pub use images::{ImagePolicy, ObservedImage};
pub use io::{Effect, Input, Note, Restored, TrustedSet, Tx, Write};
pub use stats::{Sample, SampleContainer, SampleTarget};
pub use step::{
    ContainerResize, InContainer, Observed, ObservedContainer, ObservedSandbox, ObservedState, ProbeKind,
    SandboxSpec, StartContainer, Step, StepId, StepOutcome,
};
pub use streams::{StreamPod, StreamRefused, StreamTask, StreamWork};
