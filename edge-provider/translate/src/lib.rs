//! A pod of the cluster as devices run it, and the devices' word as a pod shows it. Pure: no IO, no clock, no async.
//!
//! One way down and one way up:
//!
//! * [`references()`]: the raw JSON of a pod's `spec` → what must be looked for in the cluster before it can be translated; [`objects`]:
//!   what was found, as devices get it.
//! * [`translate()`]: the raw JSON of a pod → a [`Manifest`](edge_protocol::v1::Manifest), or [`Refusals`] that name every path
//!   that cannot be honoured, or what it waits for ([`NotYet`]). What is refused is decided by the tables of [`fields`], which classify
//!   each path of the Kubernetes 1.37 `PodSpec` for each [`NodeKind`].
//! * [`pod_status`]: the hub's roll-up of a deployment → the [`PodStatus`](k8s_openapi::api::core::v1::PodStatus) to patch, by the
//!   API's own rules.
//! * [`features`]: what a device's Node declares that it can.
//! * [`annotations`]: the annotations read here.
//!
//! It must not know of the hub, of targets and namespaces' rights, or of how a pod is watched and patched.

pub mod annotations;
mod api_access;
mod ephemeral;
pub mod events;
pub mod features;
pub mod fields;
mod node;
mod not_yet;
pub mod objects;
mod qos;
mod quantity;
pub mod references;
mod refusal;
mod status;
mod translate;

pub use annotations::Update;
pub use node::{Context, NodeKind};
pub use not_yet::{NotYet, Untranslated};
pub use objects::{Claim, Found, ObjectKey, Objects};
pub use references::{References, references};
pub use refusal::{Refusal, Refusals};
pub use status::{
    ANSWERS, APPLIED, HEALTHY, NO_DEVICES_TARGETED, Refused, SPEC_HONOURED, Shown, Speaker, Surroundings,
    TARGETED, pod_status,
};
pub use translate::{Note, Translated, document, translate};
