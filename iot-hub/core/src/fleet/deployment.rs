//! A deployment in memory: its record, what was parsed from it, and its assignments.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::{
    ContainerRollup, ContainerSpec, ContainerStatus, DeploymentSpec, DeploymentState, DeploymentStatus,
    FailingDevice, Manifest, ObjectRef, Phase, Reason, RestartPolicy, Rung, TargetSpec, TombstoneReason,
    VERSION, WorkloadStatus,
};
use edge_protocol::{DeviceId, Digest, Incarnation};

use super::assignment::{Assignment, Role, Standing};
use super::rollup::{Contribution, MAX_FAILING, Rollup};
use super::severity::{Failure, failure};
use crate::condition::{Attribute, Condition, Key, Subject, Truth};
use crate::io::{CallError, DeploymentRecord};

#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) record: DeploymentRecord,
    pub(crate) target: Target,
    pub(crate) outline: Outline,
    /// The content keys of its sealed objects.
    pub(crate) keys: BTreeSet<Digest>,
    /// The manifest before this one, and its objects: a device that holds it has them.
    former: Option<(Digest, BTreeSet<Digest>)>,
    assignments: BTreeMap<DeviceId, Assignment>,
    rollup: Rollup,
}

/// Condition and scope, both of which must hold.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    condition: Condition,
    scope: Condition,
}

/// The few things of a manifest that the hub reads.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    /// Name and image, in the manifest's order.
    pub(crate) containers: Vec<(String, String)>,
    pub(crate) init_containers: Vec<String>,
    pub(crate) ephemeral_containers: Vec<String>,
    pub(crate) restart_policy: RestartPolicy,
    pub(crate) grace_period_s: u32,
    pub(crate) replaces: Vec<edge_protocol::PodUid>,
    pub(crate) objects: Vec<ObjectRef>,
}

impl Target {
    pub(crate) fn parse(spec: &TargetSpec) -> Result<Self, CallError> {
        let parse = |field, text: &str| {
            text.parse().map_err(
                |error: crate::condition::ConditionError| CallError::BadCondition {
                    field,
                    position: error.position,
                    message: format!("expected {}", error.expected),
                },
            )
        };
        Ok(Self {
            condition: parse("condition", &spec.condition)?,
            scope: parse("scope", &spec.scope)?,
        })
    }

    /// For a stored target that this build cannot read: it gains no device and loses none.
    pub(crate) fn unreadable() -> Self {
        let undecided: Condition = "facts.pods < 0".parse().expect("this condition is valid");
        Self {
            condition: undecided.clone(),
            scope: undecided,
        }
    }

    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        self.scope.matches(subject) && self.condition.matches(subject)
    }

    /// Whether no claim could make the device match.
    pub(crate) fn excludes(&self, subject: &Subject<'_>) -> bool {
        self.scope
            .authority(subject)
            .min(self.condition.authority(subject))
            == Truth::False
    }

    pub(crate) fn attributes(&self) -> BTreeSet<Attribute> {
        let mut attributes = self.condition.attributes();
        attributes.extend(self.scope.attributes());
        attributes
    }

    pub(crate) fn keys(&self) -> Option<Vec<Key>> {
        let sides = [self.condition.keys(), self.scope.keys()];
        sides.into_iter().flatten().min_by_key(Vec::len)
    }

    /// Law 12: who receives secrets is never decided by claims alone.
    pub(crate) fn check_secrets(&self, outline: &Outline) -> Result<(), CallError> {
        let attributes = self.attributes();
        let claims_alone = !attributes.is_empty() && !attributes.iter().any(Attribute::is_authoritative);
        if claims_alone && outline.objects.iter().any(|object| object.sealed) {
            return Err(CallError::BadCondition {
                field: "condition",
                position: 1,
                message: "a deployment that carries secrets needs a term over deviceId, group or tags"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

impl Outline {
    /// # Errors
    /// [`CallError::BadManifest`] when the document is no manifest of this version or speaks of another pod.
    pub(crate) fn parse(spec: &DeploymentSpec, max_bytes: usize) -> Result<Self, CallError> {
        let bad = |why: String| Err(CallError::BadManifest(why));
        if spec.manifest.len() > max_bytes {
            return bad(format!("{} bytes exceed {max_bytes}", spec.manifest.len()));
        }
        let manifest: Manifest = match serde_json::from_str(&spec.manifest) {
            Ok(manifest) => manifest,
            Err(error) => return bad(error.to_string()),
        };
        if manifest.v != VERSION {
            return bad(format!("version {} is not {VERSION}", manifest.v));
        }
        if manifest.uid != spec.uid {
            return bad(format!("its uid {} is not the deployment's", manifest.uid));
        }
        if manifest.workload.containers.is_empty() {
            return bad("it has no container".to_owned());
        }
        if manifest.replaces.contains(&spec.uid) {
            return bad("it replaces itself".to_owned());
        }
        let workload = manifest.workload;
        let names = |containers: Vec<ContainerSpec>| containers.into_iter().map(|c| c.name).collect();
        Ok(Self {
            containers: workload
                .containers
                .into_iter()
                .map(|c| (c.name, c.image))
                .collect(),
            init_containers: names(workload.init_containers),
            ephemeral_containers: names(workload.ephemeral_containers),
            restart_policy: workload.restart_policy,
            grace_period_s: workload.termination_grace_period_s,
            replaces: manifest.replaces,
            objects: manifest.objects,
        })
    }

    /// For a stored manifest that this build cannot read.
    pub(crate) fn unreadable() -> Self {
        Self {
            containers: Vec::new(),
            init_containers: Vec::new(),
            ephemeral_containers: Vec::new(),
            restart_policy: RestartPolicy::Always,
            grace_period_s: 30,
            replaces: Vec::new(),
            objects: Vec::new(),
        }
    }
}

impl Deployment {
    pub(crate) fn new(record: DeploymentRecord, target: Target, outline: Outline) -> Self {
        let rollup = Rollup::new(outline.containers.len());
        Self {
            record,
            target,
            outline,
            keys: BTreeSet::new(),
            former: None,
            assignments: BTreeMap::new(),
            rollup,
        }
    }

    /// The digests of the objects that the manifest names, each once.
    pub(crate) fn objects(&self) -> BTreeSet<Digest> {
        self.outline.objects.iter().map(|object| object.digest).collect()
    }

    /// The manifest and its objects: the blobs that the deployment holds.
    pub(crate) fn blobs(&self) -> BTreeSet<Digest> {
        let mut blobs = self.objects();
        blobs.insert(self.record.manifest);
        blobs
    }

    /// The objects that a device needs for the present manifest if it holds another, as far as that is known.
    pub(crate) fn objects_beyond(&self, held: Option<Digest>) -> BTreeSet<Digest> {
        let mut objects = self.objects();
        if let Some((_, known)) = self.former.as_ref().filter(|(former, _)| Some(*former) == held) {
            objects.retain(|object| !known.contains(object));
        }
        objects
    }

    /// The same assignments under a new record. Every assignment must be refreshed afterwards.
    pub(crate) fn renewed(self, record: DeploymentRecord, target: Target, outline: Outline) -> Self {
        let mut next = Self::new(record, target, outline);
        next.former = if next.record.manifest == self.record.manifest {
            self.former
        } else {
            Some((self.record.manifest, self.objects()))
        };
        next.assignments = self.assignments;
        for assignment in next.assignments.values_mut() {
            assignment.contribution = Contribution::default();
            assignment.word_ms = None;
        }
        next
    }

    /// Whether this one may take the other's place on a device.
    pub(crate) fn may_replace(&self, other: &Self) -> bool {
        may_replace(&self.record.spec, &other.record.spec)
    }

    pub(crate) fn is_deleting(&self) -> bool {
        matches!(self.record.state, DeploymentState::Deleting { .. })
    }

    pub(crate) fn is_released(&self) -> bool {
        matches!(self.record.state, DeploymentState::Released { .. })
    }

    pub(crate) fn assignments(&self) -> impl ExactSizeIterator<Item = (&DeviceId, &Assignment)> {
        self.assignments.iter()
    }

    pub(crate) fn devices(&self) -> Vec<DeviceId> {
        self.assignments.keys().cloned().collect()
    }

    pub(crate) fn assignment(&self, device: &DeviceId) -> Option<&Assignment> {
        self.assignments.get(device)
    }

    /// For changes; call [`refresh`](Self::refresh) afterwards.
    pub(crate) fn assignment_mut(&mut self, device: &DeviceId) -> Option<&mut Assignment> {
        self.assignments.get_mut(device)
    }

    pub(crate) fn role(&self, device: &DeviceId) -> Option<Role> {
        self.assignments.get(device).map(|assignment| assignment.role)
    }

    pub(crate) fn assign(&mut self, device: DeviceId, assignment: Assignment) {
        self.assignments.insert(device, assignment);
    }

    pub(crate) fn unassign(&mut self, device: &DeviceId) -> Option<Assignment> {
        let assignment = self.assignments.remove(device)?;
        self.rollup
            .replace(device, &assignment.contribution, &Contribution::default());
        self.rollup.word(device, assignment.word_ms, None);
        Some(assignment)
    }

    /// Brings the roll-up up to date with one assignment; whether anything but the age of the words changed.
    pub(crate) fn refresh(&mut self, device: &DeviceId, standing: Standing) -> bool {
        let Some(assignment) = self.assignments.get(device) else {
            return false;
        };
        let next = self.contribution(assignment, standing);
        let Some(assignment) = self.assignments.get_mut(device) else {
            return false;
        };
        let word_ms = standing.word_ms.filter(|_| next.is_counted());
        self.rollup.word(device, assignment.word_ms, word_ms);
        assignment.word_ms = word_ms;
        let before = std::mem::replace(&mut assignment.contribution, next);
        if before == assignment.contribution {
            return false;
        }
        self.rollup.replace(device, &before, &assignment.contribution);
        true
    }

    /// The device's word is newer; nothing else changed.
    pub(crate) fn hear(&mut self, device: &DeviceId, word_ms: i64) {
        if let Some(assignment) = self.assignments.get_mut(device)
            && assignment.contribution.is_counted()
        {
            self.rollup.word(device, assignment.word_ms, Some(word_ms));
            assignment.word_ms = Some(word_ms);
        }
    }

    /// The rung of an assignment: what the device acknowledged, or said of this very manifest.
    pub(crate) fn rung(&self, assignment: &Assignment, acknowledged: Rung) -> Rung {
        let said = assignment
            .status
            .as_ref()
            .filter(|status| status.manifest == self.record.manifest)
            .filter(|status| !matches!(status.phase, Phase::Gone | Phase::Refused));
        said.map_or(acknowledged, |status| status.rung.max(acknowledged))
    }

    /// Whether the device takes part in the roll-up: it is to run the workload, or the whole deployment is being stopped on it.
    fn is_targeted(&self, assignment: &Assignment) -> bool {
        match assignment.role {
            Role::Run | Role::Waiting | Role::Orphan => true,
            Role::Stop { reason, .. } => {
                self.is_deleting() && !assignment.superseded && reason != TombstoneReason::Untargeted
            }
            Role::Left => false,
        }
    }

    fn contribution(&self, assignment: &Assignment, standing: Standing) -> Contribution {
        let targeted = self.is_targeted(assignment);
        let mut contribution = Contribution {
            targeted,
            online: standing.online,
            joining: !assignment.counted,
            superseded: assignment.superseded,
            waiting: assignment.role == Role::Waiting,
            keyless: assignment.role.runs() && standing.keyless,
            owes: assignment.role.stops(),
            ..Contribution::default()
        };
        if targeted {
            contribution.rung = Some(self.rung(assignment, standing.rung));
            contribution.observe(assignment.status.as_deref(), &self.outline);
        }
        contribution
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.rollup.is_owed()
    }

    /// Whether a healthy successor took its place on every device that had it, the offline ones too: those run it on.
    pub(crate) fn is_wholly_superseded(&self) -> bool {
        self.rollup.is_wholly_superseded()
    }

    /// The phase that follows from the devices; a terminal one is final.
    pub(crate) fn phase(&self) -> Phase {
        self.record
            .ended
            .unwrap_or_else(|| self.rollup.phase(self.outline.restart_policy))
    }

    /// Whether it came with a backup, and nobody has asked for it since the hub began this incarnation.
    pub(crate) fn is_unconfirmed(&self, incarnation: Incarnation) -> bool {
        self.record.asked < incarnation
    }

    pub(crate) fn status(&self, incarnation: Incarnation) -> DeploymentStatus {
        let counts = self.rollup.counts();
        DeploymentStatus {
            uid: self.record.spec.uid.clone(),
            revision: self.record.revision,
            state: self.record.state,
            ready: self
                .record
                .spec
                .ready_policy
                .is_met(counts.healthy, counts.counted),
            counts,
            phase: self.phase(),
            containers: (0..self.outline.containers.len())
                .map(|index| self.container(index))
                .collect(),
            failing: self
                .rollup
                .failing()
                .take(MAX_FAILING)
                .filter_map(|id| self.failing(id))
                .collect(),
            stopping_online: self.rollup.stopping_online(),
            stopping_offline: self.rollup.stopping_offline().cloned().collect(),
            as_of_ms: self.rollup.as_of_ms(),
            unconfirmed: self.is_unconfirmed(incarnation),
            waiting_for_keys: self.rollup.keyless(),
            answers: self.rollup.answers().cloned(),
            workload: self.only_word(),
        }
    }

    fn only_word(&self) -> Option<Box<WorkloadStatus>> {
        let mut assignments = self.assignments.values();
        let only = assignments.next().filter(|_| assignments.next().is_none())?;
        only.status.as_deref().cloned().map(Box::new)
    }

    fn container(&self, index: usize) -> ContainerRollup {
        let (name, image) = &self.outline.containers[index];
        let device = self.rollup.worst(index);
        let said = device
            .and_then(|id| self.assignments.get(id)?.status.as_deref())
            .and_then(|status| find_container(status, name));
        let mut status = said
            .cloned()
            .unwrap_or_else(|| ContainerStatus::waiting(name, image, Reason::ContainerCreating));
        status.restart_count = self.rollup.restarts(index);
        ContainerRollup {
            device: device.filter(|_| self.rollup.has_spoken()).cloned(),
            status,
        }
    }

    fn failing(&self, device: &DeviceId) -> Option<FailingDevice> {
        let assignment = self.assignments.get(device)?;
        let status = assignment.status.as_deref();
        let Failure { reason, message, .. } = if assignment.superseded {
            Failure::superseded()
        } else if assignment.role == Role::Waiting {
            Failure::no_room()
        } else {
            failure(status?, self.outline.restart_policy)?
        };
        Some(FailingDevice {
            device: device.clone(),
            reason,
            message,
        })
    }
}

/// Only the same provider's, in the same namespace, may take another's place.
pub(crate) fn may_replace(next: &DeploymentSpec, replaced: &DeploymentSpec) -> bool {
    next.source == replaced.source && next.namespace == replaced.namespace
}

pub(super) fn find_container<'a>(status: &'a WorkloadStatus, name: &str) -> Option<&'a ContainerStatus> {
    status.containers.iter().find(|container| container.name == name)
}
