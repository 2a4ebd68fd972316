//! What one step has found to do so far.

use std::collections::BTreeSet;

use edge_protocol::v1::DeviceEvent;
use edge_protocol::{DeviceId, Digest, Now, PodUid};

use crate::io::{CallError, Change, Effect, Note, RequestId};

/// Rows are named, not copied: the end of the step writes each once, as it is then, or drops it if it is gone.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Now,
    /// Whether the hub's incarnation is to be written.
    pub(super) incarnation: bool,
    /// The deployment that is being made: its first devices are no late joiners.
    pub(super) founding: Option<PodUid>,
    pub(super) devices: BTreeSet<DeviceId>,
    /// Sets of which only the acknowledged side changed.
    pub(super) sets: BTreeSet<DeviceId>,
    /// Sets that were edited: they get their next generation at the end.
    pub(super) edited: BTreeSet<DeviceId>,
    pub(super) deployments: BTreeSet<PodUid>,
    pub(super) assignments: BTreeSet<(PodUid, DeviceId)>,
    pub(super) blobs: BTreeSet<Digest>,
    /// Wraps by their key and the device's sealing key.
    pub(super) wraps: BTreeSet<(Digest, Digest)>,
    pub(super) events: Vec<(DeviceId, DeviceEvent)>,
    pub(super) changes: BTreeSet<Change>,
    /// What changed in memory only.
    pub(super) announced: BTreeSet<Change>,
    /// Deployments whose own life may go on: ended, final, wholly superseded.
    pub(super) checks: BTreeSet<PodUid>,
    /// Devices to which something may be said now.
    pub(super) offers: BTreeSet<DeviceId>,
    /// Devices whose reports are to be acknowledged.
    pub(super) acks: BTreeSet<DeviceId>,
    /// Somebody asked for something that writes nothing else, and must be on record.
    pub(super) audited: bool,
    /// Seen at once.
    pub(super) effects: Vec<Effect>,
    /// Seen once all that is written up to now is on disk.
    pub(super) after: Vec<Effect>,
}

impl Turn {
    pub(super) fn new(now: Now) -> Self {
        Self {
            now,
            incarnation: false,
            founding: None,
            devices: BTreeSet::new(),
            sets: BTreeSet::new(),
            edited: BTreeSet::new(),
            deployments: BTreeSet::new(),
            assignments: BTreeSet::new(),
            blobs: BTreeSet::new(),
            wraps: BTreeSet::new(),
            events: Vec::new(),
            changes: BTreeSet::new(),
            announced: BTreeSet::new(),
            checks: BTreeSet::new(),
            offers: BTreeSet::new(),
            acks: BTreeSet::new(),
            audited: false,
            effects: Vec::new(),
            after: Vec::new(),
        }
    }

    pub(super) fn reply(&mut self, request: RequestId, result: Result<(), CallError>) {
        self.after.push(Effect::Reply { request, result });
    }

    pub(super) fn note(&mut self, note: Note) {
        self.effects.push(Effect::Report(note));
    }

    /// Counted, and no news to watchers: each would be woken as often as the device likes.
    pub(super) fn surplus(&mut self, device: &DeviceId, what: &'static str) {
        self.note(Note::Surplus {
            device: device.clone(),
            what,
        });
    }

    /// The device's record changed in a way that readers see.
    pub(super) fn device_changed(&mut self, device: &DeviceId) {
        self.devices.insert(device.clone());
        self.changes.insert(Change::Device {
            device: device.clone(),
        });
    }

    pub(super) fn deployment_changed(&mut self, uid: &PodUid) {
        self.deployments.insert(uid.clone());
        self.roll_up_changed(uid);
    }

    /// The assignment's row changed, and with it what readers see of the deployment.
    pub(super) fn assignment_changed(&mut self, uid: &PodUid, device: &DeviceId) {
        self.assignments.insert((uid.clone(), device.clone()));
        self.roll_up_changed(uid);
    }

    fn roll_up_changed(&mut self, uid: &PodUid) {
        self.changes.insert(Change::Deployment { uid: uid.clone() });
        self.checks.insert(uid.clone());
    }

    pub(super) fn announce_device(&mut self, device: &DeviceId) {
        self.announced.insert(Change::Device {
            device: device.clone(),
        });
    }

    pub(super) fn announce_deployment(&mut self, uid: &PodUid) {
        self.announced.insert(Change::Deployment { uid: uid.clone() });
        self.checks.insert(uid.clone());
    }
}
