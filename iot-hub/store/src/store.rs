//! The seam to the hub's durable memory.

use std::future::Future;

use edge_protocol::v1::DeviceEvent;
use edge_protocol::{DeviceId, EnrolmentSerial};
use iot_hub_core::Restored;

use crate::error::StoreError;
use crate::records::{
    ApiTokenRecord, AuditRecord, Claim, Claimed, EnrolmentRecord, EnrolmentTokenRecord, EventQuery, Job,
    LogEntry, LogPage,
};

/// Durable memory of one hub. What a future that returned `Ok` did survives a power cut; a dropped future did all or nothing.
pub trait HubStore: Clone + Send + Sync + 'static {
    /// All that the machine needs to begin.
    fn load(&self) -> impl Future<Output = Result<Restored, StoreError>> + Send;

    /// Writes the jobs in order in one transaction: all of them or none. Appends one log entry per change with the next
    /// revisions, and one audit row per cause. Returns each job's entries.
    ///
    /// # Errors
    /// Any error leaves the durable state unknown to the caller, which must then end (store loss).
    fn commit(&self, jobs: Vec<Job>) -> impl Future<Output = Result<Vec<Vec<LogEntry>>, StoreError>> + Send;

    /// The newest revision ever issued; 0 before the first.
    fn head(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// At most `limit` entries after `revision`.
    fn log_after(
        &self,
        revision: u64,
        limit: u32,
    ) -> impl Future<Output = Result<LogPage, StoreError>> + Send;

    /// Drops all but the newest `keep_log` log entries and the newest `keep_events` events of each device. Revisions go on rising.
    fn compact(&self, keep_log: u64, keep_events: u64)
    -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The newest first.
    fn events(
        &self,
        query: &EventQuery,
    ) -> impl Future<Output = Result<Vec<(DeviceId, DeviceEvent)>, StoreError>> + Send;

    /// One event, while it is kept.
    fn event(
        &self,
        device: &DeviceId,
        seq: u64,
    ) -> impl Future<Output = Result<Option<DeviceEvent>, StoreError>> + Send;

    fn put_api_token(&self, token: &ApiTokenRecord) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The token with this id; the caller compares the hash.
    fn api_token(&self, id: &str) -> impl Future<Output = Result<Option<ApiTokenRecord>, StoreError>> + Send;

    fn put_enrolment_token(
        &self,
        token: &EnrolmentTokenRecord,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn enrolment_token(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<EnrolmentTokenRecord>, StoreError>> + Send;

    /// In the order of their expiry.
    fn enrolment_tokens(&self) -> impl Future<Output = Result<Vec<EnrolmentTokenRecord>, StoreError>> + Send;

    /// Whether there was one. Enrolments made with it are kept.
    fn drop_enrolment_token(&self, id: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The certificate issued for a key under a token, if there is one.
    fn enrolment(
        &self,
        token: &str,
        key_fingerprint: &str,
    ) -> impl Future<Output = Result<Option<EnrolmentRecord>, StoreError>> + Send;

    /// The enrolment of a device that this certificate was issued in.
    fn device_enrolment(
        &self,
        device: &DeviceId,
        serial: &EnrolmentSerial,
    ) -> impl Future<Output = Result<Option<EnrolmentRecord>, StoreError>> + Send;

    /// Takes one use of a token and records the certificate issued for it; concurrent claims never take more uses than there are.
    fn claim(&self, claim: &Claim) -> impl Future<Output = Result<Claimed, StoreError>> + Send;

    /// Gives the use back, when the device could not be registered after all.
    fn unclaim(
        &self,
        token: &str,
        key_fingerprint: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn put_audit(&self, record: &AuditRecord) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The newest first.
    fn audit(&self, limit: u32) -> impl Future<Output = Result<Vec<AuditRecord>, StoreError>> + Send;
}
