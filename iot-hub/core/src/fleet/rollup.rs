//! A deployment's figures, kept by adding and taking away one assignment's contribution at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::DeviceId;
use edge_protocol::v1::{LadderCounts, Phase, RestartPolicy, Rung, WorkloadStatus};

use super::deployment::{Outline, find_container};
use super::severity::{Failure, Place, failure, place};

/// Failing devices that are named.
pub(crate) const MAX_FAILING: usize = 10;

/// What one assignment adds. Equal contributions look the same to every reader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own: any combination of them occurs"
)]
pub(crate) struct Contribution {
    pub(super) targeted: bool,
    pub(super) online: bool,
    pub(super) joining: bool,
    pub(super) superseded: bool,
    pub(super) waiting: bool,
    /// A key of its sealed objects is not there for the device.
    pub(super) keyless: bool,
    /// A tombstone is not yet acknowledged.
    pub(super) owes: bool,
    pub(super) rung: Option<Rung>,
    pub(super) spoken: bool,
    pub(super) started: bool,
    /// How the workload ended, if it did.
    pub(super) ended: Option<Ended>,
    pub(super) failing: Option<u8>,
    pub(super) containers: Vec<(Place, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    Badly,
}

impl Contribution {
    /// Whether it is part of readiness' denominator: targeted less offline less joining.
    pub(super) fn is_counted(&self) -> bool {
        self.targeted && self.online && !self.joining
    }

    /// Adds what the device said of the workload.
    pub(super) fn observe(&mut self, status: Option<&WorkloadStatus>, outline: &Outline) {
        let policy = outline.restart_policy;
        let place_of = |name: &String| {
            let container = status.and_then(|status| find_container(status, name));
            (
                place(container, policy),
                container.map_or(0, |container| container.restart_count),
            )
        };
        self.containers = outline
            .containers
            .iter()
            .map(|(name, _)| place_of(name))
            .collect();
        self.started = self.rung >= Some(Rung::Applied);
        let Some(status) = status else {
            return;
        };
        self.spoken = true;
        self.ended = match status.phase {
            Phase::Succeeded => Some(Ended::Well),
            Phase::Failed => Some(Ended::Badly),
            _ => None,
        };
        self.started |= self.ended.is_some() || status.phase == Phase::Running;
        if self.online {
            self.failing = failure(status, policy).map(|failure| failure.rank);
        }
    }

    fn ability(&self) -> Ability {
        (self.online, self.rung)
    }

    fn failing(&self) -> Option<u8> {
        if self.superseded {
            Some(Failure::SUPERSEDED)
        } else if self.waiting {
            Some(Failure::NO_ROOM)
        } else {
            self.failing
        }
    }
}

/// All contributions of one deployment, summed and sorted.
#[derive(Debug)]
pub(crate) struct Rollup {
    counts: LadderCounts,
    started: u32,
    spoken: u32,
    keyless: u32,
    superseded: u32,
    ended_well: u32,
    ended_badly: u32,
    /// Per container of the manifest, over the counted devices.
    places: Vec<BTreeSet<(Reverse<Place>, DeviceId)>>,
    /// Per container, how many targeted devices have this restart count.
    restarts: Vec<BTreeMap<u32, u32>>,
    failing: BTreeSet<(Reverse<u8>, DeviceId)>,
    owing_online: u32,
    owing_offline: BTreeSet<DeviceId>,
    /// The last words of the counted devices.
    words: BTreeSet<(i64, DeviceId)>,
    /// Who could answer for all, the best first.
    able: BTreeSet<(Reverse<Ability>, DeviceId)>,
    answers: Option<(Ability, DeviceId)>,
}

/// How well a device can answer for all: whether it is connected, how far it is on the ladder.
type Ability = (bool, Option<Rung>);

impl Rollup {
    pub(super) fn new(containers: usize) -> Self {
        Self {
            counts: LadderCounts::default(),
            started: 0,
            spoken: 0,
            keyless: 0,
            superseded: 0,
            ended_well: 0,
            ended_badly: 0,
            places: vec![BTreeSet::new(); containers],
            restarts: vec![BTreeMap::new(); containers],
            failing: BTreeSet::new(),
            owing_online: 0,
            owing_offline: BTreeSet::new(),
            words: BTreeSet::new(),
            able: BTreeSet::new(),
            answers: None,
        }
    }

    /// Puts a device's contribution in the place of its former one.
    pub(super) fn replace(&mut self, device: &DeviceId, before: &Contribution, after: &Contribution) {
        self.count(before, |figure| *figure -= 1);
        self.count(after, |figure| *figure += 1);
        self.sort_out(device, before);
        self.sort_in(device, after);
        self.choose();
    }

    /// Who answers stays while it is as able as the best: people look twice at the same device.
    fn choose(&mut self) {
        let best = self.able.first();
        let stays = self.answers.take().filter(|(ability, device)| {
            let present = (Reverse(*ability), device.clone());
            self.able.contains(&present) && best.is_some_and(|(Reverse(best), _)| best == ability)
        });
        self.answers = stays.or_else(|| best.map(|(Reverse(ability), device)| (*ability, device.clone())));
    }

    /// Applies `step` to every figure that the contribution is part of.
    fn count(&mut self, of: &Contribution, step: impl Fn(&mut u32)) {
        let counted = of.is_counted();
        let rung = |rung| of.targeted && of.rung >= Some(rung);
        let figures = [
            (of.targeted, &mut self.counts.targeted),
            (of.targeted && !of.online, &mut self.counts.offline),
            (of.targeted && of.online && of.joining, &mut self.counts.joining),
            (counted, &mut self.counts.counted),
            (rung(Rung::Received), &mut self.counts.received),
            (rung(Rung::Persisted), &mut self.counts.persisted),
            (rung(Rung::Applied), &mut self.counts.applied),
            (counted && rung(Rung::Healthy), &mut self.counts.healthy),
            (of.targeted && of.started, &mut self.started),
            (of.targeted && of.spoken, &mut self.spoken),
            (of.keyless, &mut self.keyless),
            (of.superseded, &mut self.superseded),
            (counted && of.ended == Some(Ended::Well), &mut self.ended_well),
            (counted && of.ended == Some(Ended::Badly), &mut self.ended_badly),
            (of.owes && of.online, &mut self.owing_online),
        ];
        for (part, figure) in figures {
            if part {
                step(figure);
            }
        }
    }

    fn sort_out(&mut self, device: &DeviceId, of: &Contribution) {
        for (index, (place, restarts)) in of.containers.iter().enumerate() {
            self.places[index].remove(&(Reverse(*place), device.clone()));
            if let Some(devices) = self.restarts[index].get_mut(restarts) {
                *devices -= 1;
                if *devices == 0 {
                    self.restarts[index].remove(restarts);
                }
            }
        }
        if let Some(rank) = of.failing() {
            self.failing.remove(&(Reverse(rank), device.clone()));
        }
        self.owing_offline.remove(device);
        self.able.remove(&(Reverse(of.ability()), device.clone()));
    }

    fn sort_in(&mut self, device: &DeviceId, of: &Contribution) {
        for (index, (place, restarts)) in of.containers.iter().enumerate() {
            if of.is_counted() {
                self.places[index].insert((Reverse(*place), device.clone()));
            }
            *self.restarts[index].entry(*restarts).or_default() += 1;
        }
        if let Some(rank) = of.failing() {
            self.failing.insert((Reverse(rank), device.clone()));
        }
        if of.owes && !of.online {
            self.owing_offline.insert(device.clone());
        }
        if (of.targeted && !of.waiting) || of.owes {
            self.able.insert((Reverse(of.ability()), device.clone()));
        }
    }

    /// Moves a counted device's last word.
    pub(super) fn word(&mut self, device: &DeviceId, before: Option<i64>, after: Option<i64>) {
        if before != after {
            before.map(|at| self.words.remove(&(at, device.clone())));
            after.map(|at| self.words.insert((at, device.clone())));
        }
    }

    pub(super) fn counts(&self) -> LadderCounts {
        self.counts
    }

    /// The rule of the restart policy (k8s.io/kubernetes `pkg/kubelet/kubelet_pods.go`, `getPhase`), with devices for containers.
    pub(super) fn phase(&self, policy: RestartPolicy) -> Phase {
        let ended = self.ended_well + self.ended_badly;
        if policy != RestartPolicy::Always && ended > 0 && ended == self.counts.counted {
            if self.ended_badly > 0 {
                Phase::Failed
            } else {
                Phase::Succeeded
            }
        } else if self.started > 0 {
            Phase::Running
        } else {
            Phase::Pending
        }
    }

    pub(super) fn is_owed(&self) -> bool {
        self.owing_online > 0 || !self.owing_offline.is_empty()
    }

    pub(super) fn is_wholly_superseded(&self) -> bool {
        self.superseded > 0 && self.counts.targeted == 0
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.spoken > 0
    }

    /// Devices for which a key is not there.
    pub(super) fn keyless(&self) -> u32 {
        self.keyless
    }

    pub(super) fn worst(&self, container: usize) -> Option<&DeviceId> {
        self.places[container].first().map(|(_, device)| device)
    }

    /// The most restarts of any targeted device: offline ones too, for the figure must not fall because a link did.
    pub(super) fn restarts(&self, container: usize) -> u32 {
        self.restarts[container]
            .last_key_value()
            .map_or(0, |(restarts, _)| *restarts)
    }

    pub(super) fn failing(&self) -> impl Iterator<Item = &DeviceId> {
        self.failing.iter().map(|(_, device)| device)
    }

    pub(super) fn stopping_online(&self) -> u32 {
        self.owing_online
    }

    pub(super) fn stopping_offline(&self) -> impl Iterator<Item = &DeviceId> {
        self.owing_offline.iter()
    }

    /// Who answers for all, if anybody can.
    pub(super) fn answers(&self) -> Option<&DeviceId> {
        self.answers.as_ref().map(|(_, device)| device)
    }

    pub(super) fn as_of_ms(&self) -> Option<i64> {
        self.words.first().map(|(at, _)| *at)
    }
}
