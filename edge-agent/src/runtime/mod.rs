//! The container runtime as the pump sees it: steps go in, outcomes and observations come out.
//!
//! This module executes; it decides nothing. What to run, when to try again and what an observation means is the
//! `Agent` machine's business (`edge-agent-core`), and the store, the link and the clock of the pump are unknown here.
//!
//! - [`ContainerRuntime`]: the seam. [`CriRuntime`] is the real one, [`FakeRuntime`] a model of it in memory; one
//!   contract suite (`contract.rs`) runs on both.
//! - [`StreamRuntime`]: the other half of it, for what somebody looks on at.
//! - `actions`: probes and hooks, each carried out once.
//! - [`policy`]: what this device refuses to run.
//! - [`resources`]: the kubelet's formulas from requests and limits to shares, quota and OOM score.
//! - `reference`: the names of images. [`keyring`]: which pull credentials fit an image.
//! - [`cgroup`]: the cgroup of each pod, on cgroup v1 and v2.
//! - [`sources`]: objects, fields and resources, of which `environment` makes variables.
//! - [`logs`]: what containers log, told and rotated.
//! - [`names`]: hostname, `/etc/hosts` and `/etc/resolv.conf`.
//! - [`volumes`]: directories and files that containers see through mounts.

use std::error::Error;
use std::future::Future;

use edge_agent_core::step::{Observed, Step, StepOutcome};

mod actions;
pub mod cgroup;
#[cfg(test)]
mod contract;
mod cri;
mod environment;
#[cfg(any(test, feature = "fake"))]
mod fake;
#[cfg(test)]
mod fixture;
pub(crate) mod host_address;
pub mod keyring;
pub mod logs;
pub mod names;
pub mod policy;
mod reference;
pub mod resources;
pub mod sources;
mod streams;
pub mod volumes;

pub use cri::{
    CriRuntime, CriRuntimeOptions, Disks, LogTarget, OpenLog, RuntimeError, StreamFault, Taken, WorkloadDisks,
};
#[cfg(any(test, feature = "fake"))]
pub use fake::FakeRuntime;
pub(crate) use streams::with_cause;
pub use streams::{Log, StreamRuntime, Unserved};

/// What executes steps and tells what runs. Clones are handles to the same runtime.
///
/// Everything is about this agent's own sandboxes and containers: nobody else's are listed, stopped or removed, even
/// when asked for by id.
pub trait ContainerRuntime: Clone + Send + Sync + 'static {
    /// Carries one step to its end. Steps are idempotent (see [`Step`]), so one that was interrupted, by dropping the
    /// future or by a crash, is simply run again. Any number may run at the same time. There is no error beside
    /// [`StepOutcome::Failed`]: a failed step is data for the next plan.
    fn run(&self, step: Step) -> impl Future<Output = StepOutcome> + Send;

    /// Looks at everything of ours. The look begins after this call and ends before it returns; what changes meanwhile
    /// may be in it or not.
    ///
    /// # Errors
    /// A look that is not complete is an error, never a shorter list.
    fn observe(&self) -> impl Future<Output = Result<Observed, ObserveError>> + Send;

    /// Removes an image by its id. One that is gone is removed; one that a container is made from may stay.
    ///
    /// # Errors
    /// The runtime refuses or does not answer.
    fn remove_image(&self, id: &str) -> impl Future<Output = Result<(), ObserveError>> + Send;

    /// Waits until the runtime may differ from what [`observe`](Self::observe) last gave, or can be looked at again
    /// after it could not. May wake for nothing; never stays silent for ever about a change. Cancel safe. Hold one
    /// such future across turns of the pump and ask anew after it fired: a fresh one costs a look at the lists.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// The runtime could not be looked at. What runs there goes on.
#[derive(Debug, thiserror::Error)]
#[error("the container runtime cannot be looked at")]
pub struct ObserveError(#[source] Box<dyn Error + Send + Sync>);

impl ObserveError {
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}
