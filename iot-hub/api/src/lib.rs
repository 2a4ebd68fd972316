//! The hub's REST interface as types: what `/api/v1` reads and writes, and how it says no.
//!
//! * [`v1`]: the documents, append-only like every `vN` module. A [`List`] is always complete and names the revision it was
//!   read at; a [`WatchEvent`] carries the present state of its subject (level-triggered), so that a doubled or skipped
//!   event changes nothing in the end.
//! * [`problem`]: RFC 9457 problems with a closed set of codes.
//!
//! It must not know how either side moves bytes; `iot-hub` serves these types, `iot-hub-client` asks for them. Device
//! enrolment has its documents in `edge_protocol::v1`, because agents speak them too.

pub mod problem;
pub mod v1;

pub use problem::{Problem, ProblemCode};
pub use v1::{
    Assignment, AuditEntry, Change, CreateEnrolmentToken, Deployment, Device, DeviceEventRecord, DeviceState,
    DeviceStats, DeviceWorkload, EnrolmentTokenCreated, EnrolmentTokenInfo, ForgetDevice, KeyWraps,
    LinkUpdate, List, MAX_STREAM_CALL, PutDeployment, Quarantined, RefusedSet, Revision, STREAM_PROTOCOL,
    StateUpdate, StreamCall, Surplus, TagsUpdate, WantedKey, WantedKeys, WatchEvent, WorkloadDesired,
};
