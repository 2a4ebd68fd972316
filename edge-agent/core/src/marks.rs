//! What the marks of a plan change in memory and in the record.

use edge_protocol::v1::{EventLevel, Reason};
use edge_protocol::{Digest, Now, PodUid};

use crate::agent::Agent;
use crate::allocation::Allocation;
use crate::io::Note;
use crate::plan::Mark;
use crate::record::{Ended, Failed, Record, Rejection, Superseded};
use crate::roster::Touch;
use crate::status::{self, Saying};
use crate::transition::Rules;
use crate::words;

const NORMAL: EventLevel = EventLevel::Normal;
const WARNING: EventLevel = EventLevel::Warning;

impl Agent {
    pub(crate) fn mark(&mut self, now: &Now, uid: &PodUid, mark: Mark) {
        let ended = match &mark {
            Mark::Ended { containers } => self.ends(now, uid, containers),
            _ => Vec::new(),
        };
        let superseded = match &mark {
            Mark::Superseded { by } => Some(self.superseded(uid, by)),
            _ => None,
        };
        let Some(workload) = self.roster.get_mut(uid) else {
            return;
        };
        let only_memory = matches!(mark, Mark::BackingOff { .. } | Mark::Halting { .. });
        workload.disk.dirty |= !only_memory;
        let record = &mut workload.record;
        match mark {
            Mark::Admitted => {
                record.admitted = true;
                let asked = workload.asked.as_ref();
                record.allocated = asked.map(|asked| Allocation::of(&asked.workload));
            }
            Mark::Allocation(verdict) => self.weighed(now, uid, verdict),
            Mark::Rejected { reason, message } => self.rejected(now, uid, reason, message),
            Mark::Failed(failed) => self.failed(now, uid, failed),
            Mark::Superseded { .. } => {
                record.superseded = superseded;
                workload.stopped.clear();
            }
            Mark::SupersededForGood => {
                if let Some(superseded) = &mut record.superseded {
                    superseded.for_good = true;
                }
            }
            Mark::GoesOn => {
                record.superseded = None;
                record.ended.clear();
                // Its stop was no crash.
                workload.crashes.clear();
                workload.halt_ms = None;
                workload.volumes = None;
                workload.cleaned = false;
            }
            Mark::Replacing { container } => drop(record.replacing.insert(container)),
            Mark::Resetting => record.resetting = true,
            Mark::Reset => {
                record.resetting = false;
                for ended in record.ended.values_mut() {
                    ended.status.state = status::removed();
                }
                let all = workload.manifest.iter().flat_map(|m| m.workload.all_containers());
                record.replacing.extend(all.map(|spec| spec.name.clone()));
            }
            Mark::Halting { deadline_ms } => workload.halt_ms = Some(deadline_ms),
            Mark::Ended { .. } => record.ended.extend(ended),
            Mark::Fresh => self.refresh(now, uid),
            Mark::BackingOff { container, attempt } => self.back_off(now, uid, &container, attempt),
        }
    }

    /// How these containers ended.
    fn ends(&self, now: &Now, uid: &PodUid, containers: &[String]) -> Vec<(String, Ended)> {
        let saying = Saying {
            runtime: self.runtime(),
            now: self.device_time(now),
        };
        let Some(workload) = self.roster.get(uid) else {
            return Vec::new();
        };
        let given = self.world(now).given(uid, workload);
        let names = containers.iter();
        names
            .filter_map(|name| Some((name.clone(), status::ended(&given, name, saying)?)))
            .collect()
    }

    /// Who waited for the one that goes now waits for the one that takes its place.
    fn superseded(&mut self, uid: &PodUid, by: &PodUid) -> Superseded {
        let older = self.roster.get(uid).and_then(|older| older.manifest.clone());
        if let (Some(older), Some(successor)) = (older, self.roster.get_mut(by))
            && let Some(manifest) = &successor.manifest
        {
            successor.record.follows(&older, manifest);
            successor.disk.dirty = true;
        }
        let successor = self.roster.get(by);
        let superseded = Superseded {
            by: by.clone(),
            manifest: successor.and_then(|successor| successor.record.manifest),
            for_good: false,
        };
        self.roster.each(|_, heir, _| {
            let waits = heir.record.superseded.as_ref().is_some_and(|s| s.by == *uid);
            if waits {
                heir.record.superseded = Some(superseded.clone());
                heir.disk.dirty = true;
            }
            Touch::of(waits)
        });
        superseded
    }

    /// In the words of `rejectPod` of pkg/kubelet/kubelet.go.
    fn rejected(&mut self, now: &Now, uid: &PodUid, reason: Reason, message: String) {
        if let Some(workload) = self.roster.get_mut(uid) {
            workload.record.rejected = Some(Rejection {
                manifest: workload.record.manifest.unwrap_or_else(|| Digest::of("")),
                reason,
                message: format!("Pod was rejected: {message}"),
            });
        }
        self.event(now, uid, (WARNING, reason), None, &message);
        self.note(Note::Refused {
            uid: uid.clone(),
            why: message,
        });
    }

    fn failed(&mut self, now: &Now, uid: &PodUid, failed: Failed) {
        if let Some(reason) = failed.reason {
            let level = if reason == Reason::Evicted {
                WARNING
            } else {
                NORMAL
            };
            self.event(now, uid, (level, reason), None, &failed.message);
        }
        if let Some(workload) = self.roster.get_mut(uid) {
            workload.record.failed = Some(failed);
            workload.disk.dirty = true;
        }
    }

    /// Tells that a container waits in crash back-off.
    fn back_off(&mut self, now: &Now, uid: &PodUid, container: &str, attempt: u32) {
        let Some(workload) = self.roster.get_mut(uid) else {
            return;
        };
        if let Some(crash) = workload.crashes.get_mut(container) {
            crash.told(attempt);
        }
        if let Some(manifest) = &workload.manifest {
            let message = words::backing_off(manifest, container);
            self.event(now, uid, (WARNING, Reason::BackOff), Some(container), &message);
        }
    }

    /// A workload that ended and is desired again begins from nothing.
    fn refresh(&mut self, now: &Now, uid: &PodUid) {
        let rules = Rules {
            stored: &self.shelf,
            coming: None,
            features: &self.config.features,
            now,
        };
        let Some(workload) = self.roster.get_mut(uid) else {
            return;
        };
        let item = workload.item.clone();
        // What the former record named may be named by nothing now.
        self.sweep_due = true;
        workload.record = Record::default();
        workload.asked = None;
        workload.manifest = None;
        workload.images.clear();
        workload.missing.clear();
        workload.crashes.clear();
        workload.failures.clear();
        workload.stopped.clear();
        workload.halt_ms = None;
        workload.volumes = None;
        workload.ips.clear();
        workload.cleaned = false;
        let item = item.map(|item| (item, workload.quarantined));
        rules.settle(workload, None, item.as_ref());
        // The steps that follow are planned in another turn, when this is on disk.
        workload.disk.stored = false;
    }
}
