//! Everything known about one pod UID.

use edge_protocol::v1::{DeploymentSpec, DeploymentState, DeploymentStatus, Manifest, Owner};

use crate::disconnect::{DISCONNECT_ANNOTATION, Disconnect};
use crate::io::{HeldDeployment, OpId, PodRefusal, WantedPod};

#[derive(Debug, Default)]
pub struct Entry {
    /// The pod object as last seen. It stays while the object is only missing.
    pub pod: Option<WantedPod>,
    /// The Node's UID when the pod was last seen alive. What was seen under no Node may have gone with it before the next was made.
    pub seen_under: Option<String>,
    /// The deployment as the hub last told.
    pub held: Option<Held>,
    pub fate: Option<Fate>,
    /// When a released workload ends by its author's own `stop-after`.
    pub stop_at: Option<u64>,
    /// The memory with which the fate's ground outlives the process; absent until that is told.
    pub grounded: Option<u64>,
    /// Since which complete list the pod has been absent from all of them.
    pub missing_since: Option<u64>,
    /// Counted as deleted, but held back by the brake until a person lets it pass.
    pub braked: bool,
    /// The last put that may have reached the hub. Until `held` shows it, the deployment may or may not exist.
    pub last_put: Option<Box<DeploymentSpec>>,
    /// What the hub confirmed since it last told the deployment's state.
    pub confirmed: Option<Call>,
    /// The hub would not take this spec.
    pub refused_put: Option<RefusedPut>,
    pub at_hub: Line<Call>,
    pub at_api: Line<Finishing>,
    /// The final DELETE was accepted; only finalizers may still keep the object.
    pub finished: bool,
    /// Survives the deployment's end, for the last status of the pod.
    pub last_status: Option<Box<DeploymentStatus>>,
    /// The refusal that was last told in an event.
    pub told: Option<PodRefusal>,
    /// The pod object or the deployment changed since the last show.
    pub show: bool,
}

/// A refusal stands until whoever can change the hub's mind may have done so: a grant, a limit, another's deployment.
#[derive(Debug)]
pub struct RefusedPut {
    pub spec: Box<DeploymentSpec>,
    pub refusal: PodRefusal,
    /// From then on the same spec is put again. The refusal is shown until the hub answers.
    pub until_ms: u64,
}

/// One side of a UID: at most one operation in flight, and when the next may start.
#[derive(Debug)]
pub struct Line<C> {
    pub flight: Option<(OpId, C)>,
    pub failures: u32,
    pub not_before: Option<u64>,
}

impl<C> Default for Line<C> {
    fn default() -> Self {
        Self {
            flight: None,
            failures: 0,
            not_before: None,
        }
    }
}

impl<C> Line<C> {
    pub fn is_free(&self, now_ms: u64) -> bool {
        self.flight.is_none() && self.not_before.is_none_or(|at| at <= now_ms)
    }

    pub fn reset(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    /// What ended with `op`, if that is what is in flight.
    pub fn land(&mut self, op: OpId) -> Option<C> {
        self.flight
            .take_if(|(flying, _)| *flying == op)
            .map(|(_, call)| call)
    }

    /// A call failed. `delay_ms` of the failures so far is the wait until the next.
    pub fn fail(&mut self, now_ms: u64, delay_ms: impl FnOnce(u32) -> u64) -> u64 {
        self.failures = self.failures.saturating_add(1);
        let in_ms = delay_ms(self.failures);
        self.not_before = Some(now_ms + in_ms);
        in_ms
    }
}

/// The only call of the API server that is answered.
#[derive(Debug)]
pub struct Finishing;

/// A call of the hub.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Put(Box<DeploymentSpec>),
    Delete { grace_period_s: Option<u32> },
    Release,
}

/// What was decided for a UID. An explicit fate is final, but that intent may follow a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    pub end: End,
    /// Decided from absence: it is taken back when the pod is seen alive.
    pub inferred: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Delete { grace_period_s: Option<u32> },
    Release,
}

/// A held deployment with its manifest read once.
#[derive(Debug)]
pub struct Held {
    pub spec: DeploymentSpec,
    pub state: DeploymentState,
    pub status: DeploymentStatus,
    /// Absent when the bytes are not a manifest that this build can read.
    pub manifest: Option<Manifest>,
}

impl From<HeldDeployment> for Held {
    fn from(held: HeldDeployment) -> Self {
        let manifest = serde_json::from_str(&held.spec.manifest).ok();
        Self {
            spec: held.spec,
            state: held.state,
            status: held.status,
            manifest,
        }
    }
}

impl Entry {
    /// Where the hub's deployment stands, if that is what somebody asked of it: one that came with a backup is to be asked for again.
    pub fn asked_state(&self) -> Option<DeploymentState> {
        let held = self.held.as_ref().filter(|held| !held.status.unconfirmed);
        held.map(|held| held.state)
    }

    pub fn is_active(&self) -> bool {
        matches!(&self.held, Some(held) if held.state == DeploymentState::Active)
    }

    /// Whether the hub may know this UID: it says so, or a put may have reached it.
    pub fn may_exist(&self) -> bool {
        self.held.is_some() || self.last_put.is_some()
    }

    /// An active workload whose pod is neither seen alive nor decided upon.
    pub fn is_in_limbo(&self) -> bool {
        self.is_active() && self.fate.is_none() && !self.braked && !self.is_seen()
    }

    /// Whether the pod object exists by the last complete list and the changes since.
    pub fn is_seen(&self) -> bool {
        self.pod.is_some() && self.missing_since.is_none()
    }

    /// Decided on a ground that no memory was told of yet.
    pub fn lacks_ground(&self) -> bool {
        self.fate.is_some() && self.grounded.is_none()
    }

    /// Whether its end may be carried out, when memories up to `kept` outlive the process.
    pub fn is_grounded(&self, kept: u64) -> bool {
        self.fate.is_none() || self.grounded.is_some_and(|seq| seq <= kept)
    }

    /// An orphan, or about to be one.
    pub fn is_orphan(&self) -> bool {
        match (&self.held, &self.fate) {
            (Some(held), _) if matches!(held.state, DeploymentState::Released { .. }) => true,
            (Some(held), Some(fate)) => held.state == DeploymentState::Active && fate.end == End::Release,
            _ => false,
        }
    }

    /// Since when the hub has it as released, by its wall clock.
    pub fn released_ms(&self) -> Option<i64> {
        match self.held.as_ref()?.state {
            DeploymentState::Released { since_ms } => Some(since_ms),
            _ => None,
        }
    }

    /// Released for good: the hub says so, its pod is not there, and nothing else was decided since.
    pub fn is_left_behind(&self) -> bool {
        let ends = matches!(self.fate.map(|fate| fate.end), Some(End::Delete { .. }));
        self.released_ms().is_some() && !ends && !self.is_seen()
    }

    pub fn namespace(&self) -> Option<&str> {
        match (&self.held, &self.pod) {
            (Some(held), _) => Some(&held.spec.namespace),
            (None, Some(pod)) => Some(&pod.namespace),
            (None, None) => None,
        }
    }

    pub fn owner(&self) -> Option<&Owner> {
        match (&self.held, &self.pod) {
            (Some(held), _) => held.spec.owner.as_ref(),
            (None, Some(pod)) => pod.owner.as_ref(),
            (None, None) => None,
        }
    }

    pub fn disconnect(&self) -> Disconnect {
        if let Some(pod) = &self.pod {
            return pod.disconnect;
        }
        let annotated = self
            .held
            .as_ref()
            .and_then(|held| held.manifest.as_ref())
            .and_then(|manifest| manifest.annotations.get(DISCONNECT_ANNOTATION));
        Disconnect::read(annotated.map(String::as_str)).unwrap_or_default()
    }

    /// Nothing of it exists anywhere and nothing is under way.
    pub fn is_spent(&self) -> bool {
        self.pod.is_none()
            && !self.may_exist()
            && self.at_hub.flight.is_none()
            && self.at_api.flight.is_none()
    }

    /// Takes what the hub says of the deployment now.
    pub fn hold(&mut self, held: Held) {
        self.last_status = Some(Box::new(held.status.clone()));
        self.held = Some(held);
        self.confirmed = None;
        self.show = true;
        self.settle_last_put();
    }

    /// The deployment is gone from the hub, by the hub's own word.
    pub fn release_hold(&mut self) {
        self.held = None;
        self.confirmed = None;
        self.show = true;
        if !matches!(self.at_hub.flight, Some((_, Call::Put(_)))) {
            self.last_put = None;
        }
    }

    /// Once the hub told the deployment, it is known to exist and the last put is only history.
    pub fn settle_last_put(&mut self) {
        if self.held.is_some() && !matches!(self.at_hub.flight, Some((_, Call::Put(_)))) {
            self.last_put = None;
        }
    }

    /// Takes an explicit end. Intent is stronger than a reaction and is never taken back; a shorter grace replaces a longer one.
    pub fn decide(&mut self, end: End) {
        self.braked = false;
        if self.fate.is_none() {
            self.grounded = None;
        }
        let merged = match (self.fate.map(|fate| fate.end), end) {
            (Some(End::Delete { grace_period_s }), End::Release) => End::Delete { grace_period_s },
            (
                Some(End::Delete {
                    grace_period_s: Some(before),
                }),
                End::Delete { grace_period_s },
            ) => End::Delete {
                grace_period_s: Some(grace_period_s.map_or(before, |now| now.min(before))),
            },
            (_, end) => end,
        };
        self.fate = Some(Fate {
            end: merged,
            inferred: false,
        });
    }

    /// The seconds that a grace means here: absent is the manifest's own.
    pub fn effective_grace(&self, grace_period_s: Option<u32>) -> u32 {
        let own = || {
            self.held
                .as_ref()
                .and_then(|held| held.manifest.as_ref())
                .map_or(30, |manifest| manifest.workload.termination_grace_period_s)
        };
        grace_period_s.unwrap_or_else(own)
    }
}
