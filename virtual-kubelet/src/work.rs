//! The pump of one node: facts in, effects out, at most one write per pod at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use virtual_kubelet_core::NodeAim;
use virtual_kubelet_core::events::{About, EventText};

use crate::error::Error;
use crate::events::EventsHandle;
use crate::leader::Left;
use crate::pod_writer::{PodWriter, Written};
use crate::provider::{Annotations, FinishOutcome, ObservedPod, PodEffect, PodInput, Provider};
use crate::successors::Look;

const RETRY_CAP: Duration = Duration::from_secs(30);

/// What all nodes of a process share.
#[derive(Clone)]
pub struct Shared {
    pub writer: PodWriter,
    /// Writes of different pods at the same time.
    pub permits: Arc<Semaphore>,
    pub ask: mpsc::Sender<()>,
    pub look: mpsc::Sender<Look>,
    pub memory: watch::Sender<Left>,
    /// The number of the newest memory that is kept.
    pub kept: watch::Receiver<u64>,
}

/// What is a node's own.
pub struct Own<P> {
    pub node: String,
    pub provider: P,
    /// The annotation of the leader lease that keeps its memory.
    pub memory: String,
    pub events: EventsHandle,
    pub aim: watch::Sender<Option<NodeAim>>,
    pub inputs: mpsc::Sender<PodInput>,
}

pub struct Work<P> {
    own: Own<P>,
    shared: Shared,
    /// The objects as last seen: what a status is compared with.
    pods: BTreeMap<String, Arc<ObservedPod>>,
    /// Those of them that the last list lacked.
    missed: BTreeSet<String>,
    slots: BTreeMap<String, Slot>,
    writes: JoinSet<WriteEnded>,
    /// Memories that are not kept yet: their number among all of the process, and the provider's own.
    left: VecDeque<(u64, u64)>,
}

/// What waits to be written to one pod, while one write is under way or not.
#[derive(Debug, Default)]
struct Slot {
    busy: bool,
    clear: bool,
    show: Option<(Value, Annotations)>,
    finish: Option<(u64, Option<Value>)>,
}

#[derive(Debug)]
enum Write {
    Clear,
    Show(Value, Annotations),
    Finish(u64, Option<Value>),
}

struct WriteEnded {
    uid: String,
    /// What it was made from.
    pod: Option<Arc<ObservedPod>>,
    write: Write,
    result: Result<Written, Error>,
    failures: u32,
}

impl<P: Provider> Work<P> {
    pub fn new(own: Own<P>, shared: Shared) -> Self {
        Self {
            own,
            shared,
            pods: BTreeMap::new(),
            missed: BTreeSet::new(),
            slots: BTreeMap::new(),
            writes: JoinSet::new(),
            left: VecDeque::new(),
        }
    }

    /// Runs until nobody feeds it.
    pub async fn run(mut self, mut inputs: mpsc::Receiver<PodInput>) {
        loop {
            let effects = tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                effects = self.own.provider.next() => effects,
                Ok(()) = self.shared.kept.changed() => self.kept(),
                Some(ended) = self.writes.join_next() => match ended {
                    Ok(ended) => self.ended(ended),
                    // Tasks are neither aborted nor do they panic; if one does, this loop must not go on without it.
                    Err(_) => return,
                },
            };
            for effect in effects {
                self.execute(effect);
            }
        }
    }

    fn remember(&mut self, seq: u64, text: String) {
        let mut number = 0;
        self.shared.memory.send_modify(|left| {
            left.seq += 1;
            number = left.seq;
            left.texts.insert(self.own.memory.clone(), Some(text));
        });
        self.left.push_back((number, seq));
    }

    /// Some memory of the process is kept; the provider hears of the newest of its own.
    fn kept(&mut self) -> Vec<PodEffect> {
        let kept = *self.shared.kept.borrow_and_update();
        let mut own = None;
        while let Some((_, seq)) = self.left.pop_front_if(|(number, _)| *number <= kept) {
            own = Some(seq);
        }
        match own {
            Some(seq) => self.own.provider.observe(PodInput::Remembered { seq }),
            None => Vec::new(),
        }
    }

    fn take(&mut self, input: PodInput) -> Vec<PodEffect> {
        let mut vanished = None;
        match &input {
            PodInput::Listed(snapshot) => self.keep_listed(&snapshot.pods),
            PodInput::Seen(pod) => {
                self.missed.remove(&pod.uid);
                self.keep_newer(pod);
            }
            PodInput::Vanished(pod) => vanished = Some(pod.uid.clone()),
            PodInput::WatchedTo { .. }
            | PodInput::Node { .. }
            | PodInput::NameTaken { .. }
            | PodInput::Finished { .. }
            | PodInput::Elsewhere(_)
            | PodInput::Remembered { .. } => {}
        }
        let effects = self.own.provider.observe(input);
        if let Some(uid) = vanished {
            self.missed.remove(&uid);
            self.pods.remove(&uid);
        }
        effects
    }

    /// One list without an object proves nothing; after a second one its object is forgotten here, and only here.
    fn keep_listed(&mut self, listed: &[Arc<ObservedPod>]) {
        let mut missed: BTreeSet<String> = self.pods.keys().cloned().collect();
        for pod in listed {
            missed.remove(&pod.uid);
            self.pods.insert(pod.uid.clone(), Arc::clone(pod));
        }
        for uid in self.missed.intersection(&missed) {
            self.pods.remove(uid);
        }
        self.missed = missed;
    }

    fn execute(&mut self, effect: PodEffect) {
        let uid = match effect {
            PodEffect::Show {
                uid,
                status,
                annotations,
            } => {
                self.slot(&uid).show = Some((status, annotations));
                uid
            }
            PodEffect::Finish { op, uid, status } => {
                self.slot(&uid).finish = Some((op, status));
                uid
            }
            PodEffect::ClearTolerationSeconds { uid } => {
                self.slot(&uid).clear = true;
                uid
            }
            PodEffect::PodEvent { uid, event } => return self.pod_event(&uid, event),
            PodEffect::NodeEvent { event } => return self.own.events.tell_of_node(event),
            PodEffect::Node(aim) => {
                self.own
                    .aim
                    .send_if_modified(|shown| shown.replace(aim.clone()) != Some(aim));
                return;
            }
            PodEffect::Remember { seq, text } => {
                return self.remember(seq, text);
            }
            PodEffect::LookElsewhere(line) => {
                let look = Look {
                    node: self.own.node.clone(),
                    line,
                    answer: self.own.inputs.clone(),
                };
                // Who asks does so again.
                let _ = self.shared.look.try_send(look);
                return;
            }
            PodEffect::ListPods => {
                // A wish that already waits is as good.
                let _ = self.shared.ask.try_send(());
                return;
            }
        };
        if self.slots.get(&uid).is_some_and(|slot| !slot.busy) {
            self.start(&uid);
        }
    }

    fn slot(&mut self, uid: &str) -> &mut Slot {
        self.slots.entry(uid.to_owned()).or_default()
    }

    /// Starts the next write of a pod, if there is one: a finish makes a status that waits superfluous.
    fn start(&mut self, uid: &str) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let write = if let Some((op, status)) = slot.finish.take() {
            slot.show = None;
            slot.clear = false;
            Write::Finish(op, status)
        } else if std::mem::take(&mut slot.clear) {
            Write::Clear
        } else if let Some((status, annotations)) = slot.show.take() {
            Write::Show(status, annotations)
        } else {
            self.slots.remove(uid);
            return;
        };
        slot.busy = true;
        self.spawn(uid.to_owned(), write, 0);
    }

    fn spawn(&mut self, uid: String, write: Write, failures: u32) {
        let pod = self.pods.get(&uid).cloned();
        let writer = self.shared.writer.clone();
        let permits = Arc::clone(&self.shared.permits);
        self.writes.spawn(async move {
            let result = execute(&writer, &permits, pod.as_deref(), &write).await;
            let failures = if result.is_err() { failures + 1 } else { 0 };
            if result.is_err() && !matches!(write, Write::Finish(..)) {
                let ceiling = Duration::from_millis(300)
                    .saturating_mul(1 << failures.min(10))
                    .min(RETRY_CAP);
                tokio::time::sleep(ceiling.mul_f64(rand::random::<f64>())).await;
            }
            WriteEnded {
                uid,
                pod,
                write,
                result,
                failures,
            }
        });
    }

    /// A failed status is repeated unless a newer one waits; a failed finish is the provider's to repeat.
    fn ended(&mut self, ended: WriteEnded) -> Vec<PodEffect> {
        let WriteEnded {
            uid,
            pod,
            write,
            result,
            failures,
        } = ended;
        self.keep_written(pod.as_ref(), result.as_ref());
        if let Err(error) = &result {
            tracing::warn!(uid, failures, error = error.chain(), "writing a pod failed");
        }
        let slot = self.slot(&uid);
        slot.busy = false;
        let mut effects = Vec::new();
        match (write, result) {
            (Write::Finish(op, _), result) => {
                let outcome = match result {
                    Ok(_) => FinishOutcome::Done,
                    Err(error) => FinishOutcome::Failed {
                        message: error.chain(),
                    },
                };
                effects = self.own.provider.observe(PodInput::Finished { op, outcome });
            }
            (write @ Write::Show(..), Err(_)) if slot.show.is_none() && slot.finish.is_none() => {
                slot.busy = true;
                self.spawn(uid.clone(), write, failures);
                return effects;
            }
            // Whoever moved these in between is seen soon, and then they are looked at again.
            (Write::Clear | Write::Show(..), _) => {}
        }
        self.start(&uid);
        effects
    }

    /// The next write shall not be made from what this one has changed.
    fn keep_written(&mut self, from: Option<&Arc<ObservedPod>>, result: Result<&Written, &Error>) {
        if let (Some(from), Ok(Written::Changed(raw))) = (from, result)
            && self.pods.contains_key(&from.uid)
        {
            self.keep_newer(&Arc::new(from.after(raw.clone())));
        }
    }

    /// A write's answer may be faster than the watch, and the watch then tells of older states. A list counts whatever it shows: a cluster
    /// that was restored counts from an older version on.
    fn keep_newer(&mut self, pod: &Arc<ObservedPod>) {
        let is_older = |kept: &Arc<ObservedPod>| pod.version() < kept.version();
        if !self.pods.get(&pod.uid).is_some_and(is_older) {
            self.pods.insert(pod.uid.clone(), Arc::clone(pod));
        }
    }

    fn pod_event(&mut self, uid: &str, event: EventText) {
        let Some(pod) = self.pods.get(uid) else { return };
        let about = About {
            kind: "Pod",
            namespace: Some(pod.namespace.clone()),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        };
        self.own.events.tell(&about, event);
    }
}

/// Executes one write on the object as last seen. An object that is not there needs none.
async fn execute(
    writer: &PodWriter,
    permits: &Semaphore,
    pod: Option<&ObservedPod>,
    write: &Write,
) -> Result<Written, Error> {
    let Some(pod) = pod else { return Ok(Written::Gone) };
    let _permit = permits.acquire().await.expect("the semaphore is never closed");
    match write {
        Write::Clear => writer.clear_toleration_seconds(pod).await,
        Write::Finish(_, status) => writer.finish(pod, status.as_ref()).await.map(|()| Written::Gone),
        Write::Show(status, annotations) => writer.show(pod, status, annotations).await,
    }
}
