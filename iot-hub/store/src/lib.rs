//! What the hub keeps: the rows of its machine, the revisioned log, tokens, events and audit.
//!
//! * [`store`]: the trait [`HubStore`], with the contract that every implementation must hold; `tests/it` is its suite.
//! * [`records`]: the rows that are not the machine's: tokens, enrolments, audit, log entries.
//! * [`sqlite`]: the implementation for one hub process.
//! * [`secret`]: random secrets and the hashes that are kept in their place.
//! * [`error`]: why an operation did not happen.
//!
//! It maps [`iot_hub_core::Write`]s to tables and knows nothing of their meaning. The SQL is written so that PostgreSQL can
//! run it too: numbered parameters, `ON CONFLICT`, text and 64-bit integers only, revisions that are not the database's own.

pub mod error;
pub mod records;
pub mod secret;
pub mod sqlite;
pub mod store;

pub use error::StoreError;
pub use records::{
    ApiTokenRecord, AuditRecord, Claim, Claimed, EnrolmentRecord, EnrolmentTokenRecord, EventQuery, Job,
    LogEntry, LogPage,
};
pub use sqlite::SqliteStore;
pub use store::HubStore;
