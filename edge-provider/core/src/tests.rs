//! What every test of the machine starts from: a bridge between a made-up API server and a made-up hub.

use std::collections::BTreeMap;

use edge_protocol::v1::{
    ContainerSpec, DeploymentSpec, DeploymentState, DeploymentStatus, LadderCounts, Manifest, Owner, Phase,
    ReadyPolicy, Source, TargetSpec, WorkloadSpec,
};
use edge_protocol::{BootId, DeploymentRevision, Now, PodUid};

use crate::{
    Bridge, BridgeConfig, Dark, Deletion, DeletionCause, Disconnect, Effect, HeldDeployment, Input, Memory,
    Note, Outcome, PodList, PodPlan, PodRefusal, PodView, UpdateStrategy, WantedPod,
};

mod deletion;
mod laws;
mod orphans;
mod properties;
mod puts;

pub const CLUSTER: &str = "cluster-a";
pub const NODE: &str = "node-1";

/// A bridge, the hub it speaks to, and the API server's answers.
pub struct Rig {
    pub bridge: Bridge,
    pub now_ms: u64,
    /// How far the wall clock is off.
    pub wall_offset_ms: i64,
    pub rv: u64,
    pub node_uid: Option<String>,
    pub pods: BTreeMap<PodUid, WantedPod>,
    pub hub: BTreeMap<PodUid, HeldDeployment>,
    /// While set, every call of the hub fails.
    pub hub_down: bool,
    /// While set, the hub refuses every put.
    pub hub_refuses: bool,
    /// How many online devices owe a tombstone when a deployment is deleted.
    pub owing: u32,
    /// What the bridge remembered last.
    pub memory: Memory,
    /// While set, memories are lost with the process.
    pub forgetful: bool,
    pub seen: Vec<Effect>,
}

impl Rig {
    /// Before either side is known.
    pub fn cold() -> Self {
        Self {
            bridge: Bridge::new(BridgeConfig::new("outrigger"), Memory::default(), 1),
            now_ms: 1_000,
            wall_offset_ms: 0,
            rv: 10,
            node_uid: Some(NODE.into()),
            pods: BTreeMap::new(),
            hub: BTreeMap::new(),
            hub_down: false,
            hub_refuses: false,
            owing: 0,
            memory: Memory::default(),
            forgetful: false,
            seen: Vec::new(),
        }
    }

    /// Both sides known, these pods running.
    pub fn with_pods(uids: &[&str]) -> Self {
        let mut rig = Self::cold();
        for uid in uids {
            rig.pods.insert(id(uid), pod(uid));
        }
        rig.list_deployments();
        rig.list();
        assert_eq!(rig.hub.len(), uids.len());
        rig.seen.clear();
        rig
    }

    /// A second life of the bridge, with what the first remembered.
    pub fn restart(&mut self) {
        self.bridge = Bridge::new(BridgeConfig::new("outrigger"), self.memory.clone(), 2);
        self.list_deployments();
        self.list();
    }

    /// Hands in one fact and executes what follows, until nothing does.
    pub fn input(&mut self, input: Input) -> Vec<Effect> {
        let first = self.seen.len();
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let input = inputs.remove(0);
            let now = Now {
                mono_ms: self.now_ms,
                wall_ms: i64::try_from(self.now_ms).unwrap() + self.wall_offset_ms,
                boot_id: BootId(uuid::Uuid::nil()),
            };
            let effects = self.bridge.step(now, input);
            for effect in &effects {
                inputs.extend(self.execute(effect));
            }
            self.seen.extend(effects);
        }
        self.seen[first..].to_vec()
    }

    fn execute(&mut self, effect: &Effect) -> Vec<Input> {
        let ended = |op: &_, outcome| vec![Input::Ended { op: *op, outcome }];
        if self.hub_down
            && let Effect::Put { op, .. } | Effect::Delete { op, .. } | Effect::Release { op, .. } = effect
        {
            let message = "down".into();
            return ended(op, Outcome::Unavailable { message });
        }
        if self.hub_refuses
            && let Effect::Put { op, .. } = effect
        {
            let (reason, message) = ("TargetNotAllowed", "no grant".into());
            return ended(op, Outcome::Refused { reason, message });
        }
        let (op, change, outcome) = match effect {
            Effect::Put { op, spec } => {
                let held = held(spec.as_ref().clone(), DeploymentState::Active);
                self.hub.insert(spec.uid.clone(), held.clone());
                (op, Some(held), Outcome::Done)
            }
            Effect::Delete {
                op,
                uid,
                grace_period_s,
            } => {
                let state = DeploymentState::Deleting {
                    since_ms: 0,
                    grace_period_s: *grace_period_s,
                };
                self.turn(op, uid, state)
            }
            Effect::Release { op, uid } => {
                let since_ms = i64::try_from(self.now_ms).unwrap();
                self.turn(op, uid, DeploymentState::Released { since_ms })
            }
            Effect::Finish { op, uid, .. } => {
                self.pods.remove(uid);
                (op, None, Outcome::Done)
            }
            Effect::Remember { .. } if self.forgetful => return Vec::new(),
            Effect::Remember { seq, memory } => {
                self.memory = memory.clone();
                return vec![Input::Remembered { seq: *seq }];
            }
            _ => return Vec::new(),
        };
        let changed = change.map(|held| Input::DeploymentChanged(Box::new(held)));
        changed.into_iter().chain(ended(op, outcome)).collect()
    }

    fn turn<'o>(
        &mut self,
        op: &'o crate::OpId,
        uid: &PodUid,
        state: DeploymentState,
    ) -> (&'o crate::OpId, Option<HeldDeployment>, Outcome) {
        let owing = self.owing;
        let held = self.hub.get_mut(uid).map(|held| {
            held.state = state;
            held.status.state = state;
            held.status.unconfirmed = false;
            held.status.stopping_online = owing;
            held.clone()
        });
        let outcome = if held.is_some() {
            Outcome::Done
        } else {
            Outcome::Missing
        };
        (op, held, outcome)
    }

    /// The hub says that it was restored from a backup, and that nobody has asked for this since.
    pub fn unconfirm(&mut self, uid: &str) -> Vec<Effect> {
        let held = self.hub.get_mut(&id(uid)).unwrap();
        held.status.unconfirmed = true;
        let held = held.clone();
        self.input(Input::DeploymentChanged(Box::new(held)))
    }

    /// A complete list of the pods as they are.
    pub fn list(&mut self) -> Vec<Effect> {
        let list = self.pod_list();
        self.input(Input::PodsListed(list))
    }

    pub fn pod_list(&mut self) -> PodList {
        self.rv += 1;
        PodList {
            cluster_uid: CLUSTER.into(),
            resource_version: self.rv,
            node_uid: self.node_uid.clone(),
            pods: self.pods.values().cloned().collect(),
        }
    }

    /// Two complete lists, far enough apart to count.
    pub fn list_twice(&mut self) -> Vec<Effect> {
        let mut effects = self.list();
        self.now_ms += 60_000;
        effects.extend(self.list());
        effects
    }

    pub fn list_deployments(&mut self) -> Vec<Effect> {
        let all = self.hub.values().cloned().collect();
        self.input(Input::DeploymentsListed(all))
    }

    pub fn see(&mut self, pod: WantedPod) -> Vec<Effect> {
        self.pods.insert(pod.uid.clone(), pod.clone());
        self.watch(Input::PodSeen(Box::new(pod)))
    }

    /// The watch tells a change of now.
    pub fn watch(&mut self, change: Input) -> Vec<Effect> {
        self.rv += 1;
        let resource_version = self.rv;
        let first = self.seen.len();
        self.input(Input::WatchedTo { resource_version });
        self.input(change);
        self.seen[first..].to_vec()
    }

    /// The API server accepts a deletion and the watch tells.
    pub fn delete(&mut self, uid: &str, cause: DeletionCause, grace_period_s: Option<u32>) -> Vec<Effect> {
        let mut pod = self.pods.get(&id(uid)).cloned().unwrap_or_else(|| pod(uid));
        pod.deletion = Some(Deletion {
            grace_period_s,
            cause,
        });
        self.see(pod)
    }

    /// Kubernetes gives the pod up, and its object goes.
    pub fn react(&mut self, uid: &str) {
        self.delete(uid, DeletionCause::Reaction, Some(30));
        self.vanish(uid, DeletionCause::Reaction);
    }

    pub fn vanish(&mut self, uid: &str, cause: DeletionCause) -> Vec<Effect> {
        self.pods.remove(&id(uid));
        self.watch(Input::PodVanished { uid: id(uid), cause })
    }

    pub fn wake_in(&mut self, ms: u64) -> Vec<Effect> {
        self.now_ms += ms;
        self.input(Input::Wake)
    }

    pub fn state(&self, uid: &str) -> Option<DeploymentState> {
        self.hub.get(&id(uid)).map(|held| held.state)
    }
}

pub fn id(uid: &str) -> PodUid {
    PodUid::new(uid).unwrap()
}

pub fn pod(uid: &str) -> WantedPod {
    WantedPod {
        uid: id(uid),
        namespace: "shop".into(),
        name: format!("pod-{uid}"),
        owner: None,
        plan: Ok(plan(uid)),
        deletion: None,
        terminal: false,
        disconnect: Disconnect::Run,
    }
}

/// A pod of the Deployment `web` at one revision.
pub fn pod_of(uid: &str, revision: &str, update: UpdateStrategy) -> WantedPod {
    let mut pod = pod(uid);
    pod.owner = Some(Owner {
        kind: "Deployment".into(),
        name: "web".into(),
        uid: "web-uid".into(),
    });
    let plan = pod.plan.as_mut().unwrap();
    plan.manifest
        .labels
        .insert("pod-template-hash".into(), revision.into());
    plan.update = update;
    pod
}

pub fn refused(uid: &str, message: &str) -> WantedPod {
    WantedPod {
        plan: Err(PodRefusal {
            reason: "UnsupportedField",
            message: message.into(),
        }),
        ..pod(uid)
    }
}

fn plan(uid: &str) -> PodPlan {
    PodPlan {
        manifest: Manifest {
            v: 1,
            uid: id(uid),
            namespace: "shop".into(),
            name: format!("pod-{uid}"),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            workload: WorkloadSpec::new(
                format!("pod-{uid}"),
                vec![ContainerSpec::new("main", "shop/web:1")],
            ),
            objects: vec![],
            requires: vec![],
            replaces: vec![],
        },
        target: TargetSpec {
            condition: "*".into(),
            scope: "*".into(),
        },
        ready_policy: ReadyPolicy::All,
        update: UpdateStrategy::Surge,
    }
}

pub fn held(spec: DeploymentSpec, state: DeploymentState) -> HeldDeployment {
    let status = DeploymentStatus {
        uid: spec.uid.clone(),
        revision: DeploymentRevision(1),
        state,
        counts: LadderCounts::default(),
        ready: false,
        phase: Phase::Running,
        containers: vec![],
        failing: vec![],
        stopping_online: 0,
        stopping_offline: vec![],
        as_of_ms: None,
        unconfirmed: false,
        waiting_for_keys: 0,
        answers: None,
        workload: None,
    };
    HeldDeployment {
        spec,
        revision: DeploymentRevision(1),
        state,
        status,
    }
}

pub fn puts(effects: &[Effect]) -> Vec<DeploymentSpec> {
    let put = |effect: &Effect| match effect {
        Effect::Put { spec, .. } => Some(spec.as_ref().clone()),
        _ => None,
    };
    effects.iter().filter_map(put).collect()
}

pub fn deletes(effects: &[Effect]) -> Vec<&str> {
    let delete = |effect: &'_ Effect| matches!(effect, Effect::Delete { .. });
    uids(effects, delete)
}

pub fn releases(effects: &[Effect]) -> Vec<&str> {
    uids(effects, |effect| matches!(effect, Effect::Release { .. }))
}

pub fn finishes(effects: &[Effect]) -> Vec<&str> {
    uids(effects, |effect| matches!(effect, Effect::Finish { .. }))
}

fn uids(effects: &[Effect], is: fn(&Effect) -> bool) -> Vec<&str> {
    let mut found = Vec::new();
    for effect in effects.iter().filter(|effect| is(effect)) {
        if let Effect::Delete { uid, .. } | Effect::Release { uid, .. } | Effect::Finish { uid, .. } = effect
        {
            found.push(uid.as_str());
        }
    }
    found
}

/// Nothing that could stop a workload.
pub fn removals(effects: &[Effect]) -> Vec<&str> {
    [deletes(effects), releases(effects), finishes(effects)].concat()
}

pub fn replaced(spec: &DeploymentSpec) -> Vec<String> {
    let manifest: Manifest = serde_json::from_str(&spec.manifest).unwrap();
    manifest.replaces.iter().map(ToString::to_string).collect()
}

pub fn notes(effects: &[Effect]) -> Vec<Note> {
    let note = |effect: &Effect| match effect {
        Effect::Report(note) => Some(note.clone()),
        _ => None,
    };
    effects.iter().filter_map(note).collect()
}

pub fn last_view(effects: &[Effect], of: &str) -> Option<PodView> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Show { uid, view } | Effect::Finish { uid, view, .. } if uid.as_str() == of => {
            Some(view.clone())
        }
        _ => None,
    })
}

pub fn source() -> Source {
    Source {
        cluster_uid: CLUSTER.into(),
        node: "outrigger".into(),
    }
}

/// The document a plain pod is put as.
pub fn spec_of(uid: &str) -> DeploymentSpec {
    let plan = plan(uid);
    DeploymentSpec {
        uid: id(uid),
        source: source(),
        node_uid: Some(NODE.into()),
        namespace: "shop".into(),
        name: format!("pod-{uid}"),
        owner: None,
        target: plan.target,
        ready_policy: plan.ready_policy,
        manifest: serde_json::to_string(&plan.manifest).unwrap(),
    }
}
