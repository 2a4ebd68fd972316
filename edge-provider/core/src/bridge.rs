//! The machine: takes facts in, then settles every UID that they touched.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::{EventLevel, Owner, Source};
use edge_protocol::{Now, PodUid};

use crate::backoff::{Backoff, Random};
use crate::brake::{Brake, BrakeState};
use crate::elsewhere::Looks;
use crate::entry::{Call, Entry, Finishing, RefusedPut};
use crate::evidence::Evidence;
use crate::inference::ABSENCE_MS;
use crate::io::{Effect, Input, Note, OpId, Outcome, PodRefusal};
use crate::memory::Memory;
use crate::successor;
use crate::wish::{self, FirstPut, HubWish};

mod intake;
mod orphans;

/// How long the machine waits for a list it asked for before it asks again.
const LIST_REPEAT_MS: u64 = 15_000;
/// How long a refusal of the hub stands before the same put is tried again.
const REFUSED_MS: u64 = 300_000;

#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// The name of the virtual node; with the cluster's UID it is the source of every deployment.
    pub node: String,
    /// The UID of `kube-system` to pin. `None` pins the cluster of the first list.
    pub cluster_uid: Option<String>,
    pub brake: Brake,
    pub backoff: Backoff,
    pub dark: Dark,
}

/// Whether a device that is silent past its deadline keeps a deleted pod from leaving the API server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dark {
    /// It is one of many: the hub keeps its tombstone, and the pod goes.
    #[default]
    LetsGo,
    /// It is what the Node stands for: only its own word says that the containers have stopped, as with a kubelet that does not answer.
    Holds,
}

impl BridgeConfig {
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            cluster_uid: None,
            brake: Brake::default(),
            backoff: Backoff::default(),
            dark: Dark::default(),
        }
    }
}

/// Pods wanted against deployments held; see the crate's invariants.
///
/// Of pods and deployments it restores nothing: both sides are read whole at start, and until both are known nothing is sent.
/// What it held against lists and removals it does restore: see [`Memory`].
#[derive(Debug)]
pub struct Bridge {
    config: BridgeConfig,
    evidence: Evidence,
    /// The Node's UID as last read.
    node_uid: Option<String>,
    deployments_known: bool,
    entries: BTreeMap<PodUid, Entry>,
    brake: BrakeState,
    /// An earlier process held removals back. Whose they were shows only as their absence counts again, so until then none passes.
    held_over: bool,
    /// As last told or restored.
    memory: Memory,
    /// The number of that, and of the last one that outlives the process.
    told: u64,
    kept: u64,
    /// UIDs whose end waits for that.
    ungrounded: BTreeSet<PodUid>,
    random: Random,
    last_op: u64,
    ops: BTreeMap<OpId, PodUid>,
    /// UIDs that the current input touched.
    dirty: BTreeSet<PodUid>,
    /// First puts that wait for the fate of a predecessor.
    waiting: BTreeSet<PodUid>,
    limbo: BTreeSet<PodUid>,
    /// Orphans whose pod is not there.
    left_behind: BTreeSet<PodUid>,
    looks: Looks,
    /// Controllers of which it was told that their pods multiply.
    told_owners: BTreeSet<String>,
    retries: BTreeSet<(u64, PodUid)>,
    list_due: Option<u64>,
    wake_told: Option<u64>,
}

impl Bridge {
    /// `restored` is what an earlier process remembered last; `seed` spreads the retries; it need not be secret.
    pub fn new(config: BridgeConfig, restored: Memory, seed: u64) -> Self {
        let restored = restored.of_cluster(config.cluster_uid.as_deref());
        let pinned = config
            .cluster_uid
            .clone()
            .or_else(|| restored.cluster_uid.clone());
        Self {
            evidence: Evidence::new(pinned, restored.resource_version),
            config,
            node_uid: None,
            deployments_known: false,
            entries: BTreeMap::new(),
            brake: BrakeState::restored(restored.removed.clone()),
            held_over: restored.holds,
            memory: restored,
            told: 0,
            kept: 0,
            ungrounded: BTreeSet::new(),
            random: Random::new(seed),
            last_op: 0,
            ops: BTreeMap::new(),
            dirty: BTreeSet::new(),
            waiting: BTreeSet::new(),
            limbo: BTreeSet::new(),
            left_behind: BTreeSet::new(),
            looks: Looks::default(),
            told_owners: BTreeSet::new(),
            retries: BTreeSet::new(),
            list_due: None,
            wake_told: None,
        }
    }

    /// Takes one fact and says what follows from all of them. Facts may come in any order and any number of times.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let now_ms = now.mono_ms;
        let mut out = Vec::new();
        if input == Input::Wake {
            self.wake_told = None;
        }
        self.absorb(now, input, &mut out);
        if self.is_ready() {
            self.end_overdue(now_ms, &mut out);
            self.remember(&mut out);
            self.settle(now, &mut out);
        }
        self.ask_for_wake(now_ms, &mut out);
        out
    }

    /// Whether both sides are known, so that the machine acts. A shell's readiness.
    pub fn is_ready(&self) -> bool {
        self.deployments_known && self.evidence.listed().is_some()
    }

    /// Whether there is no pod, no deployment, and nothing under way or held back.
    pub fn is_spent(&self) -> bool {
        self.is_ready() && self.entries.is_empty() && self.ops.is_empty() && !self.held_over
    }

    /// How many removals the brake holds back now.
    pub fn held_back(&self) -> usize {
        self.entries.values().filter(|entry| entry.braked).count()
    }

    /// Tells what the next process must know: for a new fate also the version on whose ground it was decided.
    fn remember(&mut self, out: &mut Vec<Effect>) {
        let memory = Memory {
            cluster_uid: self.evidence.cluster_uid().map(str::to_owned),
            resource_version: self.evidence.seen(),
            removed: self.brake.removed(),
            holds: self.held_over || self.held_back() > 0,
        };
        let fated: Vec<PodUid> = self
            .dirty
            .iter()
            .filter(|uid| self.entries.get(*uid).is_some_and(Entry::lacks_ground))
            .cloned()
            .collect();
        let outdated = self.memory.resource_version < self.evidence.listed()
            || self.memory.at_version(memory.resource_version) != memory;
        if outdated || (!fated.is_empty() && memory != self.memory) {
            self.told += 1;
            self.memory = memory.clone();
            out.push(Effect::Remember {
                seq: self.told,
                memory,
            });
        }
        for uid in fated {
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.grounded = Some(self.told);
            }
        }
    }

    fn source(&self) -> Source {
        Source {
            cluster_uid: self
                .evidence
                .cluster_uid()
                .expect("a list counted, so the cluster is pinned")
                .to_owned(),
            node: self.config.node.clone(),
        }
    }

    fn settle(&mut self, now: Now, out: &mut Vec<Effect>) {
        let now_ms = now.mono_ms;
        let due: Vec<_> = self
            .retries
            .iter()
            .take_while(|(at, _)| *at <= now_ms)
            .cloned()
            .collect();
        for retry in due {
            self.retries.remove(&retry);
            self.dirty.insert(retry.1);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for uid in &dirty {
            self.note_standing(now, uid);
        }
        dirty.extend(self.waiting.iter().cloned());
        for uid in dirty {
            let entry = self.entries.get(&uid);
            if entry.is_some_and(|entry| !entry.is_grounded(self.kept)) {
                self.ungrounded.insert(uid);
                continue;
            }
            self.settle_hub(now_ms, &uid, out);
            self.settle_api(now_ms, &uid, out);
            if self.entries.get(&uid).is_some_and(Entry::is_spent) {
                self.entries.remove(&uid);
            }
        }
    }

    fn settle_hub(&mut self, now_ms: u64, uid: &PodUid, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get(uid).filter(|entry| entry.at_hub.is_free(now_ms)) else {
            return;
        };
        let wish = wish::hub_wish(entry);
        if wish != HubWish::Put {
            self.waiting.remove(uid);
        }
        let call = match wish {
            HubWish::Nothing => return,
            HubWish::Delete { grace_period_s } => Call::Delete { grace_period_s },
            HubWish::Release => Call::Release,
            HubWish::Put => match self.put_call(now_ms, uid, out) {
                Some(call) => call,
                None => return,
            },
        };
        let op = self.begin(uid);
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        out.push(match &call {
            Call::Put(spec) => {
                entry.last_put = Some(spec.clone());
                Effect::Put {
                    op,
                    spec: spec.clone(),
                }
            }
            Call::Delete { grace_period_s } => Effect::Delete {
                op,
                uid: uid.clone(),
                grace_period_s: *grace_period_s,
            },
            Call::Release => Effect::Release { op, uid: uid.clone() },
        });
        entry.at_hub.flight = Some((op, call));
    }

    /// The put that the pod asks for, if the hub does not hold it yet and nothing stands against it.
    fn put_call(&mut self, now_ms: u64, uid: &PodUid, out: &mut Vec<Effect>) -> Option<Call> {
        let entry = self.entries.get(uid)?;
        let pod = entry.pod.as_ref()?;
        let plan = pod.plan.as_ref().ok()?;
        let fixed = wish::fixed_by_first_put(entry);
        if fixed.is_none()
            && let Some(missing) = successor::undecided_predecessor(&self.entries, pod)
        {
            if self.waiting.insert(uid.clone()) {
                out.push(Effect::Report(Note::PutWaits {
                    uid: uid.clone(),
                    missing: missing.clone(),
                }));
            }
            return None;
        }
        self.waiting.remove(uid);
        if fixed.is_none()
            && let Some(owner) = &pod.owner
            && successor::is_multiplied(&self.entries, pod, plan)
            && self.told_owners.insert(owner.uid.clone())
        {
            out.push(multiplied(pod.uid.clone(), owner));
        }
        let mut first = fixed.unwrap_or_else(|| FirstPut {
            node_uid: None,
            replaces: successor::replaces(&self.entries, pod, plan),
        });
        // Put while no Node was known, the pod has been seen alive under one since.
        first.node_uid = first.node_uid.or_else(|| entry.seen_under.clone());
        let spec = wish::compose(entry, pod, plan, self.source(), first);
        wish::needs_put(entry, &spec, now_ms).then(|| Call::Put(Box::new(spec)))
    }

    fn settle_api(&mut self, now_ms: u64, uid: &PodUid, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        let finish = wish::finish_wish(entry, self.config.dark);
        if let Some(view) = finish.filter(|_| entry.at_api.is_free(now_ms)) {
            entry.show = false;
            let op = self.begin(uid);
            let Some(entry) = self.entries.get_mut(uid) else {
                return;
            };
            entry.at_api.flight = Some((op, Finishing));
            out.push(Effect::Finish {
                op,
                uid: uid.clone(),
                view,
            });
        } else if std::mem::take(&mut entry.show)
            && let Some(view) = wish::show_wish(entry)
        {
            out.push(Effect::Show {
                uid: uid.clone(),
                view,
            });
        }
    }

    fn begin(&mut self, uid: &PodUid) -> OpId {
        self.last_op += 1;
        let op = OpId(self.last_op);
        self.ops.insert(op, uid.clone());
        op
    }

    /// An operation ended. Answers to operations that are not in flight are ignored.
    fn end(&mut self, now_ms: u64, op: OpId, outcome: Outcome, out: &mut Vec<Effect>) {
        let Some(uid) = self.ops.remove(&op) else { return };
        let Some(entry) = self.entries.get_mut(&uid) else {
            return;
        };
        self.dirty.insert(uid.clone());
        let delay_ms = |failures| self.config.backoff.delay_ms(failures, &mut self.random);
        let retry = if let Some(call) = entry.at_hub.land(op) {
            let result = called(entry, &uid, call, outcome, now_ms, out);
            entry.settle_last_put();
            match result {
                Called::Done => {
                    entry.at_hub.reset();
                    None
                }
                Called::Refused { until_ms } => {
                    entry.at_hub.reset();
                    self.retries.insert((until_ms, uid.clone()));
                    None
                }
                Called::Failed { message } => Some((entry.at_hub.fail(now_ms, delay_ms), message)),
            }
        } else if let Some(Finishing) = entry.at_api.land(op) {
            match outcome {
                Outcome::Done | Outcome::Missing => {
                    entry.finished = true;
                    entry.at_api.reset();
                    None
                }
                Outcome::Unavailable { message } | Outcome::Refused { message, .. } => {
                    Some((entry.at_api.fail(now_ms, delay_ms), message))
                }
            }
        } else {
            None
        };
        if let Some((in_ms, message)) = retry {
            self.retries.insert((now_ms + in_ms, uid));
            out.push(Effect::Report(Note::Retried { op, in_ms, message }));
        }
    }

    /// Emits one `WakeAt` when the next deadline changed, and the list request when that is due.
    fn ask_for_wake(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let next_list = self.limbo.iter().filter_map(|uid| {
            let entry = self.entries.get(uid)?;
            Some(entry.missing_since.map_or(now_ms, |since| since + ABSENCE_MS))
        });
        let next_list = if self.evidence.wants_list() {
            Some(now_ms + LIST_REPEAT_MS)
        } else {
            next_list.filter(|_| self.is_ready()).min()
        };
        if next_list.is_none() {
            self.list_due = None;
        } else if self.list_due.is_none() {
            self.list_due = next_list;
        }
        if self.list_due.is_some_and(|at| at <= now_ms) {
            out.push(Effect::ListPods);
            self.list_due = Some(now_ms + LIST_REPEAT_MS);
        }
        let waits = self.is_ready() && !self.left_behind.is_empty();
        self.looks.due(waits, now_ms);
        out.extend(
            self.looks
                .take(&self.entries, now_ms)
                .into_iter()
                .map(Effect::LookElsewhere),
        );
        let look = self.looks.due(waits, now_ms);
        let retry = self.retries.first().map(|(at, _)| *at);
        let next = [retry, self.list_due, look].into_iter().flatten().min();
        if next != self.wake_told {
            self.wake_told = next;
            out.extend(next.map(Effect::WakeAt));
        }
    }
}

/// What a call of the hub came to.
enum Called {
    Done,
    Refused { until_ms: u64 },
    Failed { message: String },
}

/// The hub answered `call`, or did not.
fn called(
    entry: &mut Entry,
    uid: &PodUid,
    call: Call,
    outcome: Outcome,
    now_ms: u64,
    out: &mut Vec<Effect>,
) -> Called {
    match (outcome, call) {
        (Outcome::Done, call) => {
            entry.confirmed = Some(call);
            entry.refused_put = None;
            Called::Done
        }
        (Outcome::Missing, Call::Delete { .. } | Call::Release) => {
            entry.release_hold();
            Called::Done
        }
        (Outcome::Refused { reason, message }, Call::Put(spec)) => {
            let refusal = PodRefusal { reason, message };
            let until_ms = now_ms + REFUSED_MS;
            if entry.held.is_none() {
                entry.last_put = None;
            }
            tell(entry, uid, &refusal, out);
            entry.refused_put = Some(RefusedPut {
                spec,
                refusal,
                until_ms,
            });
            entry.show = true;
            Called::Refused { until_ms }
        }
        (Outcome::Missing, Call::Put(_)) => Called::Failed {
            message: "the hub says that it has no such deployment".to_owned(),
        },
        (Outcome::Unavailable { message } | Outcome::Refused { message, .. }, _) => {
            Called::Failed { message }
        }
    }
}

/// One event per change of the refusal.
fn tell(entry: &mut Entry, uid: &PodUid, refusal: &PodRefusal, out: &mut Vec<Effect>) {
    if entry.told.as_ref() == Some(refusal) {
        return;
    }
    entry.told = Some(refusal.clone());
    out.push(Effect::Event {
        uid: uid.clone(),
        level: EventLevel::Warning,
        reason: refusal.reason,
        message: refusal.message.clone(),
    });
}

fn multiplied(uid: PodUid, owner: &Owner) -> Effect {
    Effect::Event {
        uid,
        level: EventLevel::Warning,
        reason: "MultipliedPerDevice",
        message: format!(
            "{} {} has more than one pod on this node, and each of them runs on every device that it targets: n replicas are n on \
             each device",
            owner.kind, owner.name
        ),
    }
}
