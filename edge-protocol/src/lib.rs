//! What hub, provider and agent say to each other, and the few rules all of them must share.
//!
//! The crate is pure: no clock, no IO, no async. Reading order:
//!
//! * [`ids`] and [`digest`]: validated names and content addresses. A value of these types is known to be well formed.
//! * [`time`] and [`machine`]: the vocabulary of the sans-io machines ([`Now`], [`Lane`], [`AfterCommit`]).
//! * [`generation`]: [`judge`], the one implementation of the generation law.
//! * [`set`]: a device's desired set, its digest, and what a delta or a snapshot makes of it.
//! * [`v1`]: the wire and disk documents. Append-only; a new meaning is a new version.
//! * [`frame`]: bytes on an MQTT topic ⇄ a document, with every size capped before it is allocated.
//! * [`sign`]: DSSE envelopes. Nothing that changes a device has an unsigned form.
//! * [`sealing`]: a device's sealing key, and how its identity key vouches for it.
//! * [`expand`]: the `$(VAR)` rule, of whoever resolves a variable: the writer of a manifest, or the device.
//! * [`address`]: which of many addresses are shown.
//! * [`text`]: what a device's strings go through before a person or an API server sees them.
//!
//! It must not know of MQTT, HTTP, SQL, Kubernetes' API types or any runtime.

pub mod address;
pub mod digest;
pub mod expand;
pub mod frame;
pub mod generation;
pub mod ids;
pub mod machine;
pub mod sealing;
pub mod set;
pub mod sign;
pub mod text;
pub mod time;
pub mod v1;

pub use digest::Digest;
pub use generation::{Verdict, judge};
pub use ids::{
    BootId, DeploymentRevision, DeviceId, EnrolmentSerial, HubId, Incarnation, Nonce, PodUid, SessionEpoch,
    SetGeneration,
};
pub use machine::{AfterCommit, Lane, Now, TxId};
pub use sealing::{SealingKey, SealingSecret};
pub use set::{DesiredSet, ItemState, SetItem};
pub use time::DeviceTime;
