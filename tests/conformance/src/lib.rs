//! The same pod on a real kubelet and on a device node of an equal container runtime, and what can be seen of both compared.
//!
//! A case is a file of `cases/`: what it is about, manifests, and steps. Both sides play it in the same run and the same cluster, each in a
//! namespace of its own; then every fact that can be seen of either is compared: the whole status of its pods, what their containers
//! printed, the reasons of their events. A fact that differs fails the case, unless `differences.yaml` names it.
//!
//! * [`case`]: a case as its file says it. [`side`]: where a case is played.
//! * [`cluster`]: the API server: what is applied, and the pods as they are now. [`play`]: the steps of one case on one side.
//! * [`facts`]: what can be seen, with what differs by nature (names, addresses, times) masked. [`order`]: what of it came first. [`difference`]: what is compared, and what may differ.
//! * [`coverage`]: which paths of a pod the cases set. [`stage`]: the real parts. [`run`]: all cases, several at a time. [`table`]: the result.
//! * [`upstream`]: the suite that virtual-kubelet gives its providers, which has nothing to do with the cases.
//! * [`faults`]: what the suite itself is judged by: rules that are broken on purpose, and paths that are forgotten.

pub mod case;
pub mod cluster;
pub mod coverage;
pub mod difference;
mod error;
pub mod facts;
pub mod faults;
pub mod order;
pub mod play;
pub mod run;
pub mod side;
pub mod stage;
pub mod table;
pub mod upstream;

pub use error::ConformanceError;
