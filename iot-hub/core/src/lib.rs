//! The hub's decisions: which devices run what, what each of them is told, and what their answers add up to.
//!
//! One sans-io machine, [`Hub`], composed of two:
//!
//! * `fleet`: deployments, their targets and roll-ups. It knows nothing of sessions and frames.
//! * `device`: one per device: desired set, session, acknowledgements, liveness. It knows nothing of deployments.
//! * `hub`: puts them together: every call, frame and timer is one [`Hub::step`].
//! * [`condition`]: the language of target conditions.
//! * [`io`]: what goes in and what comes out.
//!
//! The crate must not know of MQTT, HTTP, SQL or any clock.
//!
//! # What the pump must obey
//! * One step at a time, with a `now` whose monotonic part never goes back. The first input is [`Input::Wake`].
//! * [`Effect::Commit`]s are committed in the order given, each whole, and reported by [`Input::Committed`] in that order. It may put
//!   several into one disk transaction. When the store fails, the process ends: memory is ahead of the disk and cannot go back.
//! * [`Effect::Send`] and [`Effect::Cut`] to a connection that is gone are dropped; losing any frame is harmless.
//! * [`Effect::WakeAt`] replaces the earlier one; waking early or twice is harmless.
//! * Views show memory, which may be ahead of the disk by the transactions under way. What must not be lost (replies,
//!   acknowledgements, statements) waits for the commit by itself.
//!
//! # Costs
//! n devices, m deployments, a = assignments of one device. A frame costs O(a log n); a tag or fact change of one device O(k a log n) for
//! the k deployments that read the attribute; a new device O(m); putting a deployment O(c log n) for the c devices that have one of
//! the keys its condition can be narrowed to, else O(n). Nothing else visits more than it changes.

pub mod condition;
mod device;
mod fleet;
mod hub;
pub mod io;

pub use device::{Rate, Rates};
pub use hub::{AssignmentView, Hub, HubConfig, Limits, WantedKey, WorkloadView};
pub use io::*;
