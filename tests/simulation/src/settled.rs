//! What must be true once the storm is over and time has passed, and that then nobody has anything left to say.

use edge_protocol::v1::DeploymentState;
use edge_protocol::{Digest, ItemState, PodUid};
use edge_provider_core::{Bridge, Input, PodView};

use crate::coverage::Path;
use crate::event::{At, Event};
use crate::pods::{Gone, Pod};
use crate::runtime::Container;
use crate::trace::say;
use crate::world::World;

/// How long everything stays as it should before a seed counts as passed.
const QUIET_MS: u64 = 300_000;
/// What the storm lost may still be made good for so long, such as a frame that only a watchdog misses.
const TAIL_MS: u64 = 60_000;
/// Frames per device and minute in that time: heartbeats, their answers and a rare history.
const FRAMES_PER_MINUTE: u64 = 8;
/// What one late call makes devices and hub say.
const FRAMES_PER_CALL: u64 = 60;
/// Late inferences, such as that a pod which was force-deleted is gone.
const FEW_CALLS: u64 = 3;
/// What waits for a person is let pass this long after the storm.
const PERSON_MS: u64 = 150_000;

impl World {
    /// Looks every ten seconds.
    pub(crate) fn settle(&mut self) {
        let calm = self.calm_at.unwrap_or(self.now);
        let waits = self.bridge.bridge.as_ref().map_or(0, Bridge::held_back);
        if waits > 0 && self.now > calm + PERSON_MS {
            self.coverage.met(Path::BrakeReleased);
            say!(self, "user", "lets {waits} removals pass");
            self.step_bridge(Input::BrakeReleased);
        }
        if self.now > calm + PERSON_MS {
            self.scale_down();
        }
        match (self.unsettled(), self.settled_at) {
            (Some(why), _) => {
                say!(self, "JUDGE", "not settled: {why}");
                self.settled_at = None;
            }
            (None, None) => {
                say!(self, "JUDGE", "settled");
                self.settled_at = Some(self.now);
            }
            (None, Some(since)) if self.now >= since + TAIL_MS + QUIET_MS => self.judge_quiet(),
            (None, Some(since)) if self.now < since + TAIL_MS => {
                (self.ledger.frames, self.ledger.calls, self.ledger.reconnects) = (0, 0, 0);
            }
            (None, Some(_)) => {}
        }
        self.push(10_000, Event::Settle);
    }

    fn judge_quiet(&mut self) {
        self.coverage.met(Path::QuietJudged);
        let devices = self.devices.len() as u64;
        let (frames, calls, reconnects) = (self.ledger.frames, self.ledger.calls, self.ledger.reconnects);
        let allowed = devices * FRAMES_PER_MINUTE * QUIET_MS / 60_000 + calls * FRAMES_PER_CALL;
        if frames > allowed || calls > FEW_CALLS || reconnects > 0 {
            let why = format!(
                "not quiet: {frames} frames of {devices} devices, {calls} calls, {reconnects} reconnects in five minutes"
            );
            return self.fail(why);
        }
        self.done = true;
    }

    /// The first thing that is not as it should be.
    pub(crate) fn unsettled(&self) -> Option<String> {
        if self.hub.hub.is_none() || self.bridge.bridge.is_none() || self.api.node.is_none() {
            return Some("a process is away".to_owned());
        }
        (0..self.devices.len())
            .find_map(|at| self.unsettled_device(at))
            .or_else(|| self.api.pods.values().find_map(|pod| self.unsettled_pod(pod)))
            .or_else(|| {
                self.api
                    .gone
                    .iter()
                    .find_map(|(uid, gone)| self.unsettled_end(uid, *gone))
            })
            .or_else(|| self.leftover())
    }

    fn unsettled_device(&self, at: At) -> Option<String> {
        let device = &self.devices[at];
        let id = &device.id;
        if device.agent.is_none() || device.link.connection.is_none() {
            return Some(format!("{id} is away"));
        }
        for uid in self.wanted_on(at) {
            let pod = &self.api.pods[uid];
            if self.waits_for_person(at, uid) {
                continue;
            }
            if let Some(why) = self.stale_files(at, uid) {
                return Some(why);
            }
            let workload = pod.manifest().workload;
            let sidecars = workload.init_containers.iter().filter(|spec| spec.is_sidecar());
            for spec in workload.containers.iter().chain(sidecars) {
                let right: Vec<&Container> = device
                    .runtime
                    .of(uid)
                    .filter(|c| c.runs() && c.seen.name == spec.name)
                    .collect();
                match right.as_slice() {
                    [one] if one.seen.restart_digest == spec.restart_digest => {}
                    [_] => return Some(format!("{id} runs an old {uid}/{}", spec.name)),
                    _ => return Some(format!("{id} runs {uid}/{} {} times", spec.name, right.len())),
                }
            }
        }
        let stray = device
            .runtime
            .containers
            .iter()
            .filter(|c| c.runs())
            .find(|c| !self.may_run(at, &c.seen.uid) && !self.waits_for_person(at, &c.seen.uid));
        if let Some(stray) = stray {
            return Some(format!("{id} still runs {}", stray.seen.uid));
        }
        self.unsettled_disk(at)
    }

    fn unsettled_disk(&self, at: At) -> Option<String> {
        let device = &self.devices[at];
        let id = &device.id;
        let wants = self.hub.disk.sets.get(id)?;
        let held = device.disk.set.as_ref();
        if held.is_none_or(|held| (held.generation, held.items != wants.items) != (wants.generation, false)) {
            return Some(format!("{id} does not hold its set {}", wants.generation));
        }
        if wants.acknowledged.as_ref().map(|(generation, _)| *generation) != Some(wants.generation) {
            return Some(format!(
                "the hub does not know that {id} holds {}",
                wants.generation
            ));
        }
        if self.hub.disk.devices.get(id).map(|record| &record.facts) != Some(&device.facts()) {
            return Some(format!("the hub does not know what {id} is now"));
        }
        let stale = device
            .disk
            .workloads
            .keys()
            .find(|uid| wants.items.get(uid).is_none() && !self.waits_for_person(at, uid));
        if let Some(stale) = stale {
            return Some(format!("{id} still remembers {stale}"));
        }
        let remains = device
            .runtime
            .sandboxes
            .iter()
            .find(|s| wants.items.get(&s.uid).is_none() && !self.waits_for_person(at, &s.uid));
        if let Some(remains) = remains {
            return Some(format!("{id} still has a sandbox of {}", remains.uid));
        }
        (!device.disk.events.is_empty()).then(|| format!("{id} still has untold events"))
    }

    fn may_run(&self, at: At, uid: &PodUid) -> bool {
        let wanted = self.wanted_on(at).any(|wanted| wanted == uid);
        wanted || self.is_kept_orphan(at, uid)
    }

    /// An orphan in the device's set whose place nobody took.
    fn is_kept_orphan(&self, at: At, uid: &PodUid) -> bool {
        let Some(set) = self.hub.disk.sets.get(&self.devices[at].id) else {
            return false;
        };
        let orphan = set
            .items
            .get(uid)
            .is_some_and(|item| item.state == ItemState::Orphan);
        orphan
            && !set
                .items
                .iter()
                .any(|item| item.state == ItemState::Run && self.replaces(&item.uid, uid))
    }

    fn unsettled_pod(&self, pod: &Pod) -> Option<String> {
        let uid = &pod.uid;
        if pod.deletion.is_some() {
            let waits = self.waits_for_person_anywhere(uid);
            return (!waits).then(|| format!("{uid} is still being deleted"));
        }
        let devices = self
            .devices
            .iter()
            .filter(|device| pod.is_for(device.zone))
            .count();
        let Some(PodView::Deployed(status)) = &pod.shown else {
            return Some(format!("{uid} shows no deployment"));
        };
        if pod.is_job() {
            let runs = self
                .devices
                .iter()
                .any(|device| device.runtime.of(uid).any(Container::runs));
            let ended = pod.is_terminal() || devices == 0;
            let waits = self.waits_for_person_anywhere(uid);
            return ((runs || !ended) && !waits)
                .then(|| format!("job {uid} has not ended: {:?}", status.phase));
        }
        let record = self.hub.disk.deployments.get(uid)?;
        let manifest = pod.manifest();
        let told: Option<edge_protocol::v1::Manifest> = serde_json::from_str(&record.spec.manifest).ok();
        if told.is_none_or(|told| (told.workload, told.objects) != (manifest.workload, manifest.objects))
            || Digest::of(&record.spec.manifest) != record.manifest
        {
            return Some(format!("the hub has an old {uid}"));
        }
        let expected = u32::try_from(devices).unwrap_or(u32::MAX);
        let counts = status.counts;
        let told = (counts.targeted, counts.counted, counts.healthy, status.ready);
        let right = told == (expected, expected, expected, expected > 0);
        (!right && !self.waits_for_person_anywhere(uid)).then(|| {
            format!(
                "{uid} shows ready={} {counts:?}, {devices} devices run it, and the hub has: {}",
                status.ready,
                self.hub_has(uid)
            )
        })
    }

    /// The words of the devices on a workload, as the hub's disk has them.
    fn hub_has(&self, uid: &PodUid) -> String {
        let all = self.hub.disk.assignments.iter();
        let words: Vec<String> = all
            .filter(|((of, _), _)| of == uid)
            .map(|((_, device), record)| {
                let word = record.status.as_ref();
                format!(
                    "{device} {:?}",
                    word.map(|word| (word.phase, word.rung, word.revision))
                )
            })
            .collect();
        words.join(", ")
    }

    fn unsettled_end(&self, uid: &PodUid, gone: Gone) -> Option<String> {
        let record = self.hub.disk.deployments.get(uid)?;
        if self.waits_for_person_anywhere(uid) {
            return None;
        }
        match record.state {
            DeploymentState::Active => Some(format!("the hub still wants {uid}, whose pod is gone")),
            DeploymentState::Deleting { .. } => Some(format!("the hub still deletes {uid}")),
            DeploymentState::Released { .. } => {
                let inferred = self.api.collected.contains(uid) || record.spec.node_uid != self.api.node;
                if gone.intended && !inferred {
                    return Some(format!("{uid} is kept as an orphan, though someone deleted it"));
                }
                self.coverage.met(Path::OrphanJudged);
                let lost = (0..self.devices.len()).find(|at| {
                    !gone.job
                        && self.is_kept_orphan(*at, uid)
                        && !self.devices[*at].runtime.of(uid).any(Container::runs)
                        && !self.lost_its_place(*at, uid)
                        && !self.lacks_objects(uid)
                });
                lost.map(|at| format!("{} no longer runs the orphan {uid}", self.devices[at].id))
            }
        }
    }

    fn leftover(&self) -> Option<String> {
        let orphaned = |uid: &PodUid| !self.hub.disk.deployments.contains_key(uid);
        let assignment = self.hub.disk.assignments.keys().find(|(uid, _)| orphaned(uid));
        assignment.map(|(uid, device)| format!("the hub still assigns {uid} to {device}"))
    }
}
