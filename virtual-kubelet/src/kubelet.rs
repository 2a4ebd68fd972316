//! Wires the tasks to one provider: facts go to it in order, its effects go out, at most one write per pod at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use virtual_kubelet_core::{NodeSpec, NodeState};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::events::{EventsHandle, EventsTask};
use crate::leader::{self, LeaderOptions, LeaderTask, Left};
use crate::node_task::NodeTask;
use crate::pod_watch::PodWatch;
use crate::pod_writer::{PodWriter, Written};
use crate::provider::{EventText, FinishOutcome, ObservedPod, PodEffect, PodInput, PodLine, Provider};
use crate::successors::SuccessorTask;

/// Facts that wait for the provider.
const INPUTS: usize = 256;
/// Writes of different pods at the same time.
const WRITERS: usize = 32;
const RETRY_CAP: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct KubeletOptions {
    pub node: NodeSpec,
    /// `None` leads without asking: for a cluster where only one process can be.
    pub leader: Option<LeaderOptions>,
}

/// One virtual node.
pub struct VirtualKubelet<F> {
    cluster: Cluster,
    leases: Cluster,
    options: KubeletOptions,
    provider: F,
}

impl<P: Provider, F: FnOnce(Option<String>) -> P> VirtualKubelet<F> {
    /// `provider` is made once this process leads, from what the leader before it remembered last, if anything. `leases` is the same
    /// cluster by connections of its own, on which the leader lease waits for nothing else.
    pub fn new(cluster: Cluster, leases: Cluster, options: KubeletOptions, provider: F) -> Self {
        Self {
            cluster,
            leases,
            options,
            provider,
        }
    }

    /// Stands by until this process leads, then runs until `token` is cancelled. The Node and its pods stay as they are: stopping
    /// a bridge is no one's intent (law 1). `leads` turns true when the standby ends.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when another process may lead; the process must end and may start again.
    pub async fn run(self, leads: watch::Sender<bool>, token: CancellationToken) -> Result<(), Error> {
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        // Cancelled only once nothing writes any more, so that the lease outlives the last write.
        let lease = CancellationToken::new();
        let (memory, remembered) = watch::channel(None);
        let (keep, kept) = watch::channel(0);
        let mut restored = None;
        if let Some(options) = self.options.leader.clone() {
            let mut leader = LeaderTask::new(self.leases.clone(), options);
            tokio::select! {
                memory = leader.lead() => restored = memory,
                () = token.cancelled() => return Ok(()),
            }
            tasks.spawn(leader.hold(remembered, keep, lease.clone()));
        } else {
            tasks.spawn(ended("memory", leader::keep_nothing(remembered, keep)));
        }
        // Nobody need listen.
        let _ = leads.send(true);
        let (inputs, received) = mpsc::channel(INPUTS);
        let (state, shown) = watch::channel(None);
        let (ask, asked) = mpsc::channel(1);
        let (events, events_task) = EventsTask::new(&self.cluster, &self.options.node.name);
        let node = NodeTask::new(
            self.cluster.clone(),
            self.options.node.clone(),
            shown,
            inputs.clone(),
        );
        let (look, successors) =
            SuccessorTask::new(self.cluster.clone(), &self.options.node.name, inputs.clone());
        let pods = PodWatch::new(self.cluster.clone(), &self.options.node.name, inputs, asked);
        tasks.spawn(ended("node", node.run()));
        tasks.spawn(ended("pods", pods.run()));
        tasks.spawn(ended("events", events_task.run()));
        tasks.spawn(ended("successors", successors.run()));
        let work = Work {
            provider: (self.provider)(restored),
            node: self.options.node.name,
            pods: BTreeMap::new(),
            missed: BTreeSet::new(),
            slots: BTreeMap::new(),
            writes: JoinSet::new(),
            permits: Arc::new(Semaphore::new(WRITERS)),
            writer: PodWriter::new(self.cluster),
            events,
            state,
            ask,
            look,
            memory,
            kept,
        };
        let result = tokio::select! {
            () = work.run(received) => Err(Error::TaskEnded { task: "pump" }),
            Some(ended) = tasks.join_next() => match ended {
                Ok(result) => result,
                Err(_) => Err(Error::TaskEnded { task: "a task that panicked" }),
            },
            () = token.cancelled() => Ok(()),
        };
        lease.cancel();
        if result.is_ok() {
            // The other tasks end with their channels; only the lease has something left to say.
            while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(3), tasks.join_next()).await {}
        }
        tasks.abort_all();
        result
    }
}

/// A task that ends by itself takes the process with it.
async fn ended(task: &'static str, run: impl Future<Output = ()>) -> Result<(), Error> {
    run.await;
    Err(Error::TaskEnded { task })
}

struct Work<P> {
    provider: P,
    node: String,
    /// The objects as last seen: what a status is compared with.
    pods: BTreeMap<String, Arc<ObservedPod>>,
    /// Those of them that the last list lacked.
    missed: BTreeSet<String>,
    slots: BTreeMap<String, Slot>,
    writes: JoinSet<WriteEnded>,
    permits: Arc<Semaphore>,
    writer: PodWriter,
    events: EventsHandle,
    state: watch::Sender<Option<NodeState>>,
    ask: mpsc::Sender<()>,
    look: mpsc::Sender<PodLine>,
    memory: watch::Sender<Option<Left>>,
    /// The number of the newest memory that is kept.
    kept: watch::Receiver<u64>,
}

/// What waits to be written to one pod, while one write is under way or not.
#[derive(Debug, Default)]
struct Slot {
    busy: bool,
    clear: bool,
    show: Option<Value>,
    finish: Option<(u64, Option<Value>)>,
}

#[derive(Debug)]
enum Write {
    Clear,
    Show(Value),
    Finish(u64, Option<Value>),
}

struct WriteEnded {
    uid: String,
    write: Write,
    result: Result<Written, Error>,
    failures: u32,
}

impl<P: Provider> Work<P> {
    async fn run(mut self, mut inputs: mpsc::Receiver<PodInput>) {
        loop {
            let effects = tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                effects = self.provider.next() => effects,
                Ok(()) = self.kept.changed() => {
                    let seq = *self.kept.borrow_and_update();
                    self.provider.observe(PodInput::Remembered { seq })
                }
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

    fn take(&mut self, input: PodInput) -> Vec<PodEffect> {
        let mut vanished = None;
        match &input {
            PodInput::Listed(snapshot) => self.keep_listed(&snapshot.pods),
            PodInput::Seen(pod) => {
                self.missed.remove(&pod.uid);
                self.pods.insert(pod.uid.clone(), Arc::clone(pod));
            }
            PodInput::Vanished(pod) => vanished = Some(pod.uid.clone()),
            PodInput::WatchedTo { .. }
            | PodInput::Node { .. }
            | PodInput::Finished { .. }
            | PodInput::Elsewhere(_)
            | PodInput::Remembered { .. } => {}
        }
        let effects = self.provider.observe(input);
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
            PodEffect::Show { uid, status } => {
                self.slot(&uid).show = Some(status);
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
            PodEffect::NodeEvent { event } => return self.events.tell(self.node_reference(), event),
            PodEffect::Node(state) => {
                self.state
                    .send_if_modified(|shown| shown.replace(state.clone()) != Some(state));
                return;
            }
            PodEffect::Remember { seq, text } => {
                self.memory.send_replace(Some(Left { seq, text }));
                return;
            }
            PodEffect::LookElsewhere(line) => {
                // Who asks does so again.
                let _ = self.look.try_send(line);
                return;
            }
            PodEffect::ListPods => {
                // A wish that already waits is as good.
                let _ = self.ask.try_send(());
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
        } else if let Some(status) = slot.show.take() {
            Write::Show(status)
        } else {
            self.slots.remove(uid);
            return;
        };
        slot.busy = true;
        self.spawn(uid.to_owned(), write, 0);
    }

    fn spawn(&mut self, uid: String, write: Write, failures: u32) {
        let pod = self.pods.get(&uid).cloned();
        let writer = self.writer.clone();
        let permits = Arc::clone(&self.permits);
        self.writes.spawn(async move {
            let result = execute(&writer, &permits, pod, &write).await;
            let failures = if result.is_err() { failures + 1 } else { 0 };
            if result.is_err() && !matches!(write, Write::Finish(..)) {
                let ceiling = Duration::from_millis(300)
                    .saturating_mul(1 << failures.min(10))
                    .min(RETRY_CAP);
                tokio::time::sleep(ceiling.mul_f64(rand::random::<f64>())).await;
            }
            WriteEnded {
                uid,
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
            write,
            result,
            failures,
        } = ended;
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
                effects = self.provider.observe(PodInput::Finished { op, outcome });
            }
            (write @ Write::Show(_), Err(_)) if slot.show.is_none() && slot.finish.is_none() => {
                slot.busy = true;
                self.spawn(uid.clone(), write, failures);
                return effects;
            }
            // Whoever moved the tolerations in between is seen soon, and then they are looked at again.
            (Write::Clear | Write::Show(_), _) => {}
        }
        self.start(&uid);
        effects
    }

    fn pod_event(&self, uid: &str, event: EventText) {
        let Some(pod) = self.pods.get(uid) else { return };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        };
        self.events.tell(about, event);
    }

    /// The kubelet too names a Node by its name in place of the UID, and `kubectl describe node` asks for that.
    fn node_reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        }
    }
}

/// Executes one write on the object as last seen. An object that is not there needs none.
async fn execute(
    writer: &PodWriter,
    permits: &Semaphore,
    pod: Option<Arc<ObservedPod>>,
    write: &Write,
) -> Result<Written, Error> {
    let Some(pod) = pod else { return Ok(Written::Gone) };
    let _permit = permits.acquire().await.expect("the semaphore is never closed");
    match write {
        Write::Clear => writer.clear_toleration_seconds(&pod).await,
        Write::Finish(_, status) => writer.finish(&pod, status.as_ref()).await,
        Write::Show(status) => writer.show(&pod, status).await,
    }
}
