//! One deployment on one device.

use edge_protocol::v1::{Rung, TombstoneReason, WorkloadStatus};
use edge_protocol::{DeviceId, PodUid};

use super::rollup::Contribution;
use crate::io::AssignmentRecord;

#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) since_ms: i64,
    pub(crate) role: Role,
    pub(crate) counted: bool,
    pub(crate) superseded: bool,
    pub(crate) status: Option<Box<WorkloadStatus>>,
    /// What of it stands in the roll-up.
    pub(super) contribution: Contribution,
    /// The device's last word as the roll-up has it.
    pub(super) word_ms: Option<i64>,
}

/// What the device's set asks of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Run,
    /// Nothing yet: the device runs as many workloads as it may, and this one waits until one of them ends.
    Waiting,
    Orphan,
    Stop {
        reason: TombstoneReason,
        grace_period_s: Option<u32>,
    },
    /// Nothing any more: a successor took its place and the device has confirmed it.
    Left,
}

impl Role {
    /// Whether the workload is to run.
    pub(crate) fn runs(self) -> bool {
        matches!(self, Self::Run | Self::Orphan)
    }

    pub(crate) fn stops(self) -> bool {
        matches!(self, Self::Stop { .. })
    }
}

/// What the device's own machine says about an assignment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) online: bool,
    pub(crate) rung: Rung,
    pub(crate) word_ms: Option<i64>,
    /// Whether a key of the deployment's sealed objects is not there for it.
    pub(crate) keyless: bool,
}

impl Assignment {
    pub(crate) fn new(since_ms: i64, counted: bool) -> Self {
        Self {
            since_ms,
            role: Role::Run,
            counted,
            superseded: false,
            status: None,
            contribution: Contribution::default(),
            word_ms: None,
        }
    }

    pub(crate) fn restored(record: AssignmentRecord, role: Role) -> Self {
        Self {
            since_ms: record.since_ms,
            role,
            counted: record.counted,
            superseded: record.superseded,
            status: record.status.map(Box::new),
            contribution: Contribution::default(),
            word_ms: None,
        }
    }

    pub(crate) fn record(&self, uid: &PodUid, device: &DeviceId) -> AssignmentRecord {
        AssignmentRecord {
            uid: uid.clone(),
            device: device.clone(),
            since_ms: self.since_ms,
            status: self.status.as_deref().cloned(),
            counted: self.counted,
            superseded: self.superseded,
            waiting: self.role == Role::Waiting,
        }
    }
}
