//! What a measurement makes the device give up: images that nobody uses, and workloads that take too much or that there is no room for.

use edge_protocol::v1::Reason;
use edge_protocol::{Now, PodUid};

use crate::agent::{Agent, Reach};
use crate::eviction::{self, Eviction, Runs};
use crate::images::ObservedImage;
use crate::io::{Effect, Note};
use crate::plan::Mark;
use crate::record::Failed;
use crate::usage::Usage;
use crate::workload::Workload;

impl Agent {
    /// Takes a measurement in, in the order of the kubelet's `synchronize`: what breaks its own limits goes; for lack of disk images go
    /// first; only what is still lacking at a later measurement costs a workload, one at a time.
    pub(crate) fn shed(&mut self, now: &Now, usage: &Usage) {
        let before = self.pressure.conditions();
        self.pressure.measure(usage, &self.config.thresholds, now.mono_ms);
        let pressures = self.pressure.conditions();
        if before != pressures {
            self.note(Note::Pressure(pressures));
            self.claims.pressed(pressures);
        }
        let images = self.spare_images(now, usage);
        let freed = !images.is_empty();
        if freed {
            self.effects.push(Effect::RemoveImages(images));
        }
        if self.reach != Reach::Seen {
            return;
        }
        let runs = self.running(usage);
        let mut evictions = eviction::over_limit(&runs);
        if evictions.is_empty() && !(freed && self.pressure.wants_images_gone(usage)) {
            evictions.extend(eviction::for_lack(
                &self.pressure,
                usage,
                &self.config.thresholds,
                &runs,
            ));
        }
        for Eviction {
            uid,
            message,
            grace_s,
            disrupts,
        } in evictions
        {
            let failed = Failed {
                reason: Some(Reason::Evicted),
                message,
                grace_s: Some(grace_s),
                disrupted: disrupts,
            };
            self.mark(now, &uid, Mark::Failed(failed));
            self.note(Note::Evicted { uid });
        }
    }

    /// The workloads that have something running and are to go on.
    fn running<'a>(&'a self, usage: &'a Usage) -> Vec<Runs<'a>> {
        let goes_on = |workload: &Workload| {
            let record = &workload.record;
            workload.wants_run() && record.failed.is_none() && record.superseded.is_none()
        };
        let runs = |(uid, workload): (&'a PodUid, &'a Workload)| {
            let live = self
                .roster
                .pod(uid)
                .is_some_and(|pod| pod.live().next().is_some());
            let manifest = workload
                .manifest
                .as_deref()
                .filter(|_| live && goes_on(workload))?;
            Some(Runs {
                uid,
                manifest,
                usage: usage.workloads.as_ref().and_then(|all| all.get(uid)),
            })
        };
        self.roster.workloads().iter().filter_map(runs).collect()
    }

    /// Images to remove; those that a workload names, runs from, or had in its previous generation stay. Only lack of disk takes the
    /// latter, and not before the present generation is ready.
    fn spare_images(&mut self, now: &Now, usage: &Usage) -> Vec<String> {
        let Some(list) = &usage.images else {
            return Vec::new();
        };
        let lacking = self.pressure.wants_images_gone(usage);
        let wanted = self.roster.workloads().values().flat_map(|workload| {
            workload
                .every_container()
                .map(|container| container.image.as_str())
        });
        let previous = self
            .roster
            .workloads()
            .iter()
            .filter(|(uid, workload)| !(lacking && self.is_ready(uid, workload)))
            .flat_map(|(_, workload)| workload.record.previous_images.iter().map(String::as_str));
        let running = self
            .roster
            .pods()
            .values()
            .flat_map(|pod| &pod.containers)
            .flat_map(|container| [container.image.as_str(), container.image_id.as_str()]);
        let named: Vec<&str> = wanted
            .chain(previous)
            .chain(running)
            .filter(|name| !name.is_empty())
            .collect();
        let is_used = |image: &ObservedImage| named.iter().any(|name| image.is_called(name));
        self.writes.extend(self.provenance.keep(list));
        self.images.observe(list, is_used, now.mono_ms);
        let disk = usage.image_disk.unwrap_or_default();
        self.images
            .to_remove(list, disk.bytes, self.config.image_policy, (now.mono_ms, lacking))
    }

    fn is_ready(&self, uid: &PodUid, workload: &Workload) -> bool {
        self.roster.pod(uid).is_some_and(|pod| {
            workload.containers().iter().all(|spec| {
                pod.current(&spec.name)
                    .is_some_and(|current| workload.is_ready(spec, current))
            })
        })
    }
}
