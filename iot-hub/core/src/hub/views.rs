//! What readers see. Views show memory, which may be ahead of the disk by the transactions under way.

use edge_protocol::v1::Rung;
use edge_protocol::{DeviceId, Digest, Incarnation, ItemState, PodUid};

use super::Hub;
use crate::device::Device;
use crate::fleet::{Assignment, Deployment};
use crate::io::{AssignmentRecord, DeploymentView, DeviceView, QuarantinedWorkload};

/// One assignment, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentView {
    pub record: AssignmentRecord,
    pub rung: Rung,
    /// What the device's set asks of it; nothing once a successor took its place and the device has confirmed it.
    pub desired: Option<ItemState>,
    pub online: bool,
    /// What the device keeps of it against the hub's word.
    pub quarantined: Option<QuarantinedWorkload>,
}

/// A workload that may run on a device, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadView {
    pub uid: PodUid,
    /// What the device's set asks of it; nothing if it was taken from the set since the device acknowledged it.
    pub desired: Option<ItemState>,
    /// The pod's namespace and name, while its deployment is known.
    pub name: Option<(String, String)>,
}

impl Hub {
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// In the order of their ids.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = DeviceView> {
        self.devices.values().map(Device::view)
    }

    pub fn device(&self, id: &DeviceId) -> Option<DeviceView> {
        self.devices.get(id).map(Device::view)
    }

    /// What may run on the device by the last that it acknowledged and all that it was told since, also once it is decommissioned;
    /// in the order of the uids. None if there is no such device.
    pub fn workloads(&self, id: &DeviceId) -> Option<Vec<WorkloadView>> {
        let held = self.devices.get(id)?.may_run();
        let view = |(uid, desired)| {
            let spec = self.fleet.get(&uid).map(|deployment| &deployment.record.spec);
            WorkloadView {
                desired,
                name: spec.map(|spec| (spec.namespace.clone(), spec.name.clone())),
                uid,
            }
        };
        Some(held.into_iter().map(view).collect())
    }

    /// In the order of their uids; the cost of each does not grow with its devices.
    pub fn deployments(&self) -> impl ExactSizeIterator<Item = DeploymentView> {
        self.fleet.iter().map(|deployment| self.view(deployment))
    }

    pub fn deployment(&self, uid: &PodUid) -> Option<DeploymentView> {
        self.fleet.get(uid).map(|deployment| self.view(deployment))
    }

    /// The deployment's assignments in the order of the device ids; none for a deployment that does not exist.
    pub fn assignments(&self, uid: &PodUid) -> Vec<AssignmentView> {
        let Some(deployment) = self.fleet.get(uid) else {
            return Vec::new();
        };
        deployment
            .assignments()
            .map(|(id, assignment)| self.assignment(deployment, id, assignment))
            .collect()
    }

    fn view(&self, deployment: &Deployment) -> DeploymentView {
        DeploymentView {
            record: deployment.record.clone(),
            status: deployment.status(self.incarnation),
        }
    }

    fn assignment(&self, deployment: &Deployment, id: &DeviceId, assignment: &Assignment) -> AssignmentView {
        let uid = &deployment.record.spec.uid;
        let device = self.devices.get(id);
        let acknowledged = device.map_or(Rung::Targeted, |device| device.acknowledged_rung(uid));
        AssignmentView {
            record: assignment.record(uid, id),
            rung: deployment.rung(assignment, acknowledged),
            desired: device
                .and_then(|device| device.items().get(uid))
                .map(|item| item.state),
            online: device.is_some_and(Device::is_online),
            quarantined: device.and_then(|device| device.quarantine.get(uid)).cloned(),
        }
    }

    /// A blob that a present assignment of this device names, or that the manifest named there names as an object; no other is served
    /// to it (law 9).
    pub fn blob(&self, device: &DeviceId, digest: &Digest) -> Option<&str> {
        let items = self.devices.get(device)?.items();
        items
            .iter()
            .find(|item| item.digest == *digest || self.objects_beyond(item, None).contains(digest))?;
        self.blobs.get(digest)
    }
}
