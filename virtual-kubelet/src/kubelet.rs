//! Joins the sources, which all nodes of a process share, with the pumps of its nodes: nodes come and go, the sources stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use virtual_kubelet_core::leader::{MEMORY, PROCESS, memory_of};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::events::{EventsQueue, EventsTask};
use crate::leader::{self, LeaderOptions, LeaderTask, Left, ProcessMemory, Restored};
use crate::node_task::{NodeIdentity, NodeTask};
use crate::node_watch::{NodeRoutes, NodeWatch, Seen};
use crate::pod_watch::{PodWatch, Route, Routes, Selection};
use crate::pod_writer::PodWriter;
use crate::provider::{PodInput, Provider};
use crate::successors::SuccessorTask;
use crate::work::{Own, Shared, Work};

/// Facts that wait for a provider.
const INPUTS: usize = 256;
/// Writes of different pods at the same time.
const WRITERS: usize = 32;
/// Events of all nodes that wait to be written, of a KiB or so each: what many devices tell at once after an outage.
const EVENTS: usize = 8_192;
/// So many events of a node are known when they are told again. The kubelet keeps 4096, for one node with more memory.
const TOLD: usize = 1_024;
/// On the first node a pod may be thousands, and each tells of its own.
const TOLD_OF_FIRST: usize = 32_768;

#[derive(Debug, Clone)]
pub struct KubeletOptions {
    /// The node that is always served, and whose memory is the lease's first.
    pub node: String,
    /// Which pods are asked for: all that are bound, if there may be other nodes beside that one.
    pub selection: Selection,
    /// `None` leads without asking: for a cluster where only one process can be.
    pub leader: Option<LeaderOptions>,
}

/// Names of nodes with their provider ids, by which a Node of the same name is known to be ours.
pub type FurtherNodes = BTreeMap<String, String>;

/// The virtual nodes of one process.
pub struct VirtualKubelet<F> {
    cluster: Cluster,
    leases: Cluster,
    options: KubeletOptions,
    nodes: watch::Receiver<FurtherNodes>,
    providers: F,
    left: watch::Sender<Left>,
    restored: watch::Sender<Restored>,
}

impl<P: Provider, F: FnMut(&str, Option<&str>) -> P> VirtualKubelet<F> {
    /// `leases` is the same cluster by connections of its own, on which the leader lease waits for nothing else. `nodes` are further
    /// nodes to serve; one that is taken out of them is left as it is, and what was remembered of it is forgotten. `providers` makes the provider of a node once this process leads,
    /// from what the one before it remembered last, if anything.
    pub fn new(
        cluster: Cluster,
        leases: Cluster,
        options: KubeletOptions,
        nodes: watch::Receiver<FurtherNodes>,
        providers: F,
    ) -> Self {
        Self {
            cluster,
            leases,
            options,
            nodes,
            providers,
            left: watch::Sender::default(),
            restored: watch::Sender::default(),
        }
    }

    /// What the process leaves beside what its nodes do.
    pub fn memory(&self) -> ProcessMemory {
        ProcessMemory::new(self.left.clone(), self.restored.subscribe())
    }

    /// Stands by until this process leads, then runs until `token` is cancelled. Nodes and their pods stay as they are: stopping
    /// a bridge is no one's intent (law 1). `leads` turns true when the standby ends.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when another process may lead; the process must end and may start again.
    pub async fn run(self, leads: watch::Sender<bool>, token: CancellationToken) -> Result<(), Error> {
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        // Cancelled only once nothing writes any more, so that the lease outlives the last write.
        let lease = CancellationToken::new();
        let (memory, remembered) = (self.left.clone(), self.left.subscribe());
        let (keep, kept) = watch::channel(0);
        let mut restored = BTreeMap::new();
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
        self.restored
            .send_replace(Restored::Leads(restored.remove(PROCESS)));
        // Nobody need listen.
        let _ = leads.send(true);
        let (routes, routed) = watch::channel(Routes::new());
        let (sights, sighted) = watch::channel(NodeRoutes::new());
        let (ask, asked) = mpsc::channel(1);
        let (events, events_task) = EventsTask::new(self.cluster.clone(), EVENTS);
        let (look, successors) = SuccessorTask::new(self.cluster.clone());
        let seen = NodeWatch::new(self.cluster.clone(), self.options.selection.clone(), sighted);
        let pods = PodWatch::new(self.cluster.clone(), self.options.selection, routed, asked);
        let shared = Shared {
            writer: PodWriter::new(self.cluster.clone()),
            permits: Arc::new(Semaphore::new(WRITERS)),
            ask,
            look,
            memory,
            kept,
        };
        let nodes = Nodes {
            cluster: self.cluster,
            first: self.options.node,
            providers: self.providers,
            restored,
            routes,
            sights,
            events,
            shared,
            served: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        tasks.spawn(ended("nodes", seen.run()));
        tasks.spawn(ended("pods", pods.run()));
        tasks.spawn(ended("events", events_task.run()));
        tasks.spawn(ended("successors", successors.run()));
        let result = tokio::select! {
            error = nodes.run(self.nodes) => Err(error),
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

/// The nodes that are served now.
struct Nodes<F> {
    cluster: Cluster,
    first: String,
    providers: F,
    /// What the process before this one remembered, by annotation.
    restored: BTreeMap<String, String>,
    routes: watch::Sender<Routes>,
    sights: watch::Sender<NodeRoutes>,
    events: EventsQueue,
    shared: Shared,
    served: BTreeMap<String, CancellationToken>,
    /// A node that ended because it was told so is a result; any other end is one for all.
    tasks: JoinSet<Result<(), Error>>,
}

impl<P: Provider, F: FnMut(&str, Option<&str>) -> P> Nodes<F> {
    async fn run(mut self, mut wanted: watch::Receiver<FurtherNodes>) -> Error {
        let mut fixed = false;
        loop {
            let further = wanted.borrow_and_update().clone();
            self.serve(&further);
            tokio::select! {
                changed = wanted.changed(), if !fixed => fixed = changed.is_err(),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return Error::TaskEnded { task: "a node that panicked" },
                },
            }
        }
    }

    fn serve(&mut self, further: &FurtherNodes) {
        let wanted = |name: &String| *name == self.first || further.contains_key(name);
        let gone: Vec<String> = self.served.keys().filter(|name| !wanted(name)).cloned().collect();
        for name in &gone {
            tracing::info!(node = name, "no longer served");
            if let Some(token) = self.served.remove(name) {
                token.cancel();
            }
            self.forget(name);
        }
        let first = NodeIdentity {
            name: self.first.clone(),
            provider_id: None,
        };
        let further = further.iter().map(|(name, provider_id)| NodeIdentity {
            name: name.clone(),
            provider_id: Some(provider_id.clone()),
        });
        let new: Vec<NodeIdentity> = std::iter::once(first)
            .chain(further)
            .filter(|identity| !self.served.contains_key(&identity.name))
            .collect();
        if gone.is_empty() && new.is_empty() {
            return;
        }
        let mut routes = self.routes.borrow().clone();
        let mut sights = self.sights.borrow().clone();
        routes.retain(|name, _| !gone.contains(name));
        sights.retain(|name, _| !gone.contains(name));
        for identity in new {
            if self.served.contains_key(&identity.name) {
                continue;
            }
            let name = identity.name.clone();
            let (inputs, received) = mpsc::channel(INPUTS);
            let (sight, seen) = watch::channel(None);
            let route = Route {
                inputs,
                provider_id: identity.provider_id.clone(),
            };
            self.begin(identity, route.inputs.clone(), received, seen);
            routes.insert(name.clone(), route);
            sights.insert(name, sight);
        }
        self.routes.send_replace(routes);
        self.sights.send_replace(sights);
    }

    /// Nothing of this node is left to the next process, nor to the next time that this one serves it.
    fn forget(&mut self, name: &str) {
        let memory = memory_of(name);
        self.restored.remove(&memory);
        self.shared.memory.send_modify(|left| {
            left.seq += 1;
            left.texts.insert(memory, None);
        });
    }

    fn begin(
        &mut self,
        identity: NodeIdentity,
        inputs: mpsc::Sender<PodInput>,
        received: mpsc::Receiver<PodInput>,
        seen: watch::Receiver<Option<Seen>>,
    ) {
        let name = identity.name.clone();
        let memory = if name == self.first {
            MEMORY.to_owned()
        } else {
            memory_of(&name)
        };
        let (aim, aimed) = watch::channel(None);
        let ask = self.shared.ask.clone();
        let node = NodeTask::new(self.cluster.clone(), identity, aimed, seen, inputs.clone(), ask);
        let kept = if name == self.first { TOLD_OF_FIRST } else { TOLD };
        let own = Own {
            provider: (self.providers)(&name, self.restored.get(&memory).map(String::as_str)),
            memory,
            events: self.events.of_node(&name, kept),
            aim,
            inputs,
            node: name.clone(),
        };
        let work = Work::new(own, self.shared.clone());
        let token = CancellationToken::new();
        self.served.insert(name, token.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                // First: what is told to end loses its channels too, and ends by that as well.
                biased;
                () = token.cancelled() => Ok(()),
                () = work.run(received) => Err(Error::TaskEnded { task: "pump" }),
                () = node.run() => Err(Error::TaskEnded { task: "node" }),
            }
        });
    }
}
