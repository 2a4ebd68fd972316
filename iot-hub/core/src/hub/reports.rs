//! What devices report of their workloads: status, history, and that something is gone.

use std::collections::BTreeSet;

use edge_protocol::text::{sanitise, words};
use edge_protocol::v1::{
    ContainerState, ContainerStatus, EventReport, MAX_REPORT_EVENTS, MAX_REPORT_SEQ, Phase, Rung,
    StatusReport, WorkloadStatus,
};
use edge_protocol::{DeploymentRevision, DeviceId, PodUid};

use super::timers::Timer;
use super::{Hub, Turn};
use crate::fleet::Outline;
use crate::io::Note;

impl Hub {
    pub(super) fn status(&mut self, turn: &mut Turn, id: &DeviceId, seq: u64, report: StatusReport) {
        if report.upto > MAX_REPORT_SEQ {
            return self.refuse(
                turn,
                id,
                format!("status up to {}, which is too high", report.upto),
            );
        }
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        if !device.allowance.status(&self.config.limits.rates, &turn.now) {
            // Not acknowledged: what it says comes again.
            return turn.surplus(id, "statuses");
        }
        turn.acks.insert(id.clone());
        if !device.takes_status(seq) {
            return;
        }
        device.record.status_upto = report.upto;
        turn.devices.insert(id.clone());
        let unlisted: BTreeSet<PodUid> = if report.complete {
            device.items().iter().map(|item| item.uid.clone()).collect()
        } else {
            BTreeSet::new()
        };
        let listed: BTreeSet<PodUid> = report.workloads.iter().map(|status| status.uid.clone()).collect();
        if report.complete && device.quarantine.retain(&listed) {
            turn.announce_device(id);
        }
        let mut strangers = Vec::new();
        for status in report.workloads {
            let (uid, revision) = (status.uid.clone(), status.revision);
            if !self.workload(turn, id, status) {
                self.stranger(id, uid, revision, &mut strangers);
            }
        }
        if let Some(uid) = strangers.first().cloned() {
            let (device, count) = (id.clone(), strangers.len());
            self.tell(turn, id, Note::Strangers { device, count, uid });
        }
        for uid in unlisted.difference(&listed) {
            self.absent(turn, uid, id);
        }
    }

    /// A workload that is none of the device's. One that it keeps in quarantine is known by that.
    fn stranger(
        &mut self,
        id: &DeviceId,
        uid: PodUid,
        revision: DeploymentRevision,
        strangers: &mut Vec<PodUid>,
    ) {
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        if !device.quarantine.contains(&uid) {
            strangers.push(uid.clone());
        }
        device.quarantine.note_stranger(uid, revision);
    }

    /// Whether the workload is one of the device's.
    fn workload(&mut self, turn: &mut Turn, id: &DeviceId, status: WorkloadStatus) -> bool {
        let uid = status.uid.clone();
        if let Some(device) = self.devices.get_mut(id)
            && device.quarantine.note(&status, turn.now.wall_ms)
        {
            turn.announce_device(id);
        }
        let Some(deployment) = self.fleet.get_mut(&uid) else {
            return false;
        };
        let status = Box::new(cleaned(status, &deployment.outline));
        let healthy = status.rung == Rung::Healthy && status.manifest == deployment.record.manifest;
        let Some(assignment) = deployment.assignment_mut(id) else {
            return false;
        };
        if assignment.status.as_ref() != Some(&status) {
            assignment.status = Some(status);
            turn.assignment_changed(&uid, id);
        }
        if healthy && !assignment.counted {
            assignment.counted = true;
            self.timers.cancel(&Timer::Join(uid.clone(), id.clone()));
            turn.assignment_changed(&uid, id);
        }
        self.refresh(turn, &uid, id);
        if healthy {
            self.supersede(turn, &uid, id);
        }
        self.settle(turn, &uid, id);
        self.overrule(turn, &uid, id);
        true
    }

    /// The device has listed all it has, without this one.
    fn absent(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let Some(role) = self.fleet.get(uid).and_then(|deployment| deployment.role(id)) else {
            return;
        };
        if role.stops() {
            if self
                .devices
                .get(id)
                .is_some_and(|device| device.has_persisted(uid))
            {
                self.forget_item(turn, uid, id);
                self.leave(turn, uid, id);
            }
            return;
        }
        let assignment = self
            .fleet
            .get_mut(uid)
            .and_then(|deployment| deployment.assignment_mut(id));
        if assignment.is_some_and(|assignment| assignment.status.take().is_some()) {
            turn.assignment_changed(uid, id);
            self.refresh(turn, uid, id);
        }
    }

    pub(super) fn settle_all(&mut self, turn: &mut Turn, id: &DeviceId) {
        let Some(device) = self.devices.get(id) else {
            return;
        };
        let uids: Vec<PodUid> = device.items().iter().map(|item| item.uid.clone()).collect();
        for uid in uids {
            self.settle(turn, &uid, id);
        }
    }

    /// Forgets a tombstone once the device has it on disk and has said that the workload is gone. Before that, `Gone` may speak of an
    /// earlier tombstone.
    fn settle(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let assignment = self
            .fleet
            .get(uid)
            .and_then(|deployment| deployment.assignment(id));
        let gone = assignment.is_some_and(|assignment| {
            let status = assignment.status.as_ref();
            assignment.role.stops() && status.is_some_and(|status| status.phase == Phase::Gone)
        });
        if gone
            && self
                .devices
                .get(id)
                .is_some_and(|device| device.has_persisted(uid))
        {
            self.forget_item(turn, uid, id);
            self.leave(turn, uid, id);
        }
    }

    /// Takes the first of a report's events, at most [`MAX_REPORT_EVENTS`]; the rest is not acknowledged and comes again. A number that
    /// no store can hold is refused before anything is written: a failed commit ends the process.
    pub(super) fn events(&mut self, turn: &mut Turn, id: &DeviceId, seq: u64, report: EventReport) {
        if let Some(event) = report.events.iter().find(|event| event.seq > MAX_REPORT_SEQ) {
            return self.refuse(turn, id, format!("event {}, whose number is too high", event.seq));
        }
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        turn.acks.insert(id.clone());
        let Some(first) = report.events.first() else {
            return;
        };
        if !device.takes_events(first.seq, seq) {
            return;
        }
        let known = device.record.event_seq;
        let mut news = report.events;
        news.truncate(MAX_REPORT_EVENTS);
        news.retain(|event| event.seq > known);
        let taken = device
            .allowance
            .events(&self.config.limits.rates, &turn.now, news.len());
        if taken < news.len() {
            turn.surplus(id, "events");
        }
        for mut event in news.into_iter().take(taken) {
            if event.seq <= device.record.event_seq {
                continue;
            }
            device.record.event_seq = event.seq;
            turn.devices.insert(id.clone());
            let assigned = self
                .fleet
                .get(&event.uid)
                .is_some_and(|deployment| deployment.assignment(id).is_some());
            if !assigned {
                // Of a workload whose tombstone is acknowledged, or someone else's: in no case for others to read (law 9).
                continue;
            }
            event.message = sanitise(&event.message);
            event.container = event.container.as_deref().map(sanitise);
            turn.events.push((id.clone(), event));
        }
    }
}

/// A workload has one address of each family.
const MAX_FURTHER_POD_IPS: usize = 1;

/// Only what the manifest names, and only bounded text (law 8).
fn cleaned(mut status: WorkloadStatus, outline: &Outline) -> WorkloadStatus {
    let main = |name: &str| outline.containers.iter().any(|(known, _)| known == name);
    clean_containers(&mut status.containers, main);
    let initial = |name: &str| outline.init_containers.iter().any(|known| known == name);
    clean_containers(&mut status.init_containers, initial);
    let ephemeral = |name: &str| outline.ephemeral_containers.iter().any(|known| known == name);
    clean_containers(&mut status.ephemeral_containers, ephemeral);
    status.message = sanitise(&status.message);
    if let Some(deferred) = &mut status.deferred {
        deferred.message = sanitise(&deferred.message);
    }
    if let Some(failure) = status
        .resizing
        .as_mut()
        .and_then(|resizing| resizing.failure.as_mut())
    {
        failure.message = sanitise(&failure.message);
    }
    status.pod_ip = status.pod_ip.as_deref().map(sanitise);
    status.further_pod_ips.truncate(MAX_FURTHER_POD_IPS);
    for ip in &mut status.further_pod_ips {
        *ip = sanitise(ip);
    }
    status
}

/// Each that is known, once.
fn clean_containers(containers: &mut Vec<ContainerStatus>, known: impl Fn(&str) -> bool) {
    let mut seen = BTreeSet::new();
    containers.retain(|container| known(&container.name) && seen.insert(container.name.clone()));
    containers.iter_mut().for_each(clean_container);
}

fn clean_container(container: &mut ContainerStatus) {
    for text in [
        &mut container.image,
        &mut container.image_id,
        &mut container.container_id,
    ] {
        *text = sanitise(text);
    }
    for state in [Some(&mut container.state), container.last.as_mut()]
        .into_iter()
        .flatten()
    {
        match state {
            ContainerState::Waiting { message, .. } => *message = sanitise(message),
            ContainerState::Terminated { message, .. } => *message = words(message),
            ContainerState::Running { .. } => {}
        }
    }
}
