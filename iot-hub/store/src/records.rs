//! Rows that are not the machine's own.

use std::collections::BTreeMap;

use edge_protocol::sign::Envelope;
use edge_protocol::v1::LinkClass;
use edge_protocol::{DeviceId, EnrolmentSerial, PodUid, SealingKey};
use iot_hub_core::{Change, Tx};

use crate::secret::SecretHash;

/// One transaction of the machine, with who caused it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub tx: Tx,
    /// The hub's wall clock, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub cause: Option<AuditRecord>,
}

/// One entry of the revisioned log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub revision: u64,
    pub at_ms: i64,
    pub change: Change,
}

/// What the log can say about everything after a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPage {
    /// Consecutive entries, oldest first; fewer than asked for means that these are all.
    Entries(Vec<LogEntry>),
    /// Entries after that revision were compacted away, or the revision was never issued by this store.
    Unknown,
}

/// Who asked for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Given by the store; 0 before.
    pub id: u64,
    pub at_ms: i64,
    pub principal: String,
    pub action: String,
    pub subject: String,
}

/// A token of the REST API. The secret itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenRecord {
    pub id: String,
    pub hash: SecretHash,
    pub principal: String,
    /// What the principal may do, as JSON; opaque here.
    pub scope: String,
    pub created_ms: i64,
}

/// A token that lets devices enrol. The secret itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentTokenRecord {
    pub id: String,
    pub hash: SecretHash,
    pub group: String,
    pub tags: BTreeMap<String, String>,
    pub link: LinkClass,
    pub uses: u32,
    pub used: u32,
    pub expires_ms: i64,
    pub device: Option<DeviceId>,
}

/// A certificate that was issued for one key under one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRecord {
    pub token: String,
    /// The SHA-256 of the device's public key, as [`Digest`](edge_protocol::Digest) writes it.
    pub key_fingerprint: String,
    pub device: DeviceId,
    pub serial: EnrolmentSerial,
    /// PEM, leaf first.
    pub certificate_chain: String,
    pub sealing_key: SealingKey,
    /// The device's identity key vouches for the sealing key: for those who seal, and need not believe the hub.
    pub sealing_proof: Envelope,
    /// The enrolment that the device had when this one was begun: only over that is it registered, however late.
    pub previous: Option<EnrolmentSerial>,
    pub at_ms: i64,
}

/// An attempt to use a token for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub enrolment: EnrolmentRecord,
    pub now_ms: i64,
    /// A use of the same token and key that is younger than this is repeated, not counted again. Milliseconds.
    pub repeat_within_ms: i64,
}

/// What became of a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Recorded; one use is taken.
    New,
    /// This identity key enrolled with this token before: the record of then, and nothing was changed.
    Again(Box<EnrolmentRecord>),
    /// Expired, used up or gone.
    Refused,
}

/// Which device events to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only of these; absent: of all.
    pub devices: Option<Vec<DeviceId>>,
    pub uid: Option<PodUid>,
    /// At most so many of those that fit.
    pub limit: u32,
}
