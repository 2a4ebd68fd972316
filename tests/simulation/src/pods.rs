//! The pods that people ask for, and the API server that holds them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use edge_protocol::v1::{
    Action, ContainerSpec, Manifest, ObjectRef, Owner, Phase, Probe, ReadyPolicy, RestartPolicy, TargetSpec,
    VERSION, WorkloadSpec,
};
use edge_protocol::{Digest, PodUid};
use edge_provider_core::{
    Deletion, DeletionCause, Disconnect, PodList, PodPlan, PodView, UpdateStrategy, WantedPod,
};

use crate::objects::{Objects, Volumes};

pub(crate) const CLUSTER: &str = "cluster-1";
pub(crate) const NODE: &str = "outrigger";

/// What a container does, told to the runtime in its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Runs until it is told to end.
    Serves,
    /// Ends after so many milliseconds with this code.
    Ends(u64, i32),
}

impl Behaviour {
    fn command(self) -> Vec<String> {
        match self {
            Self::Serves => vec!["serve".to_owned()],
            Self::Ends(after, code) => vec!["end".to_owned(), after.to_string(), code.to_string()],
        }
    }

    pub(crate) fn read(command: &[String]) -> Self {
        match command {
            [word, after, code] if word == "end" => {
                Self::Ends(after.parse().unwrap_or(0), code.parse().unwrap_or(1))
            }
            _ => Self::Serves,
        }
    }
}

/// What runs in a pod beside its main containers, and who asks after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    None,
    /// An initial container that ends soon, and then a sidecar.
    Sidecar,
    /// Probes of the first main container.
    Probes,
}

impl Company {
    /// In turn, so that it costs no chance.
    pub(crate) fn of(count: u32) -> Self {
        match count % 3 {
            0 => Self::Sidecar,
            1 => Self::None,
            _ => Self::Probes,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) uid: PodUid,
    pub(crate) name: String,
    pub(crate) owner: Option<Owner>,
    pub(crate) images: Vec<String>,
    pub(crate) behaviour: Behaviour,
    pub(crate) company: Company,
    pub(crate) volumes: Volumes,
    /// Of those that its volumes show, what there is, in their order.
    pub(crate) objects: Vec<ObjectRef>,
    pub(crate) restart: RestartPolicy,
    pub(crate) zone: Option<&'static str>,
    pub(crate) grace_s: u32,
    pub(crate) template: u32,
    pub(crate) update: UpdateStrategy,
    pub(crate) disconnect: Disconnect,
    pub(crate) deletion: Option<Deletion>,
    pub(crate) finalizer: bool,
    /// Bytes in its manifest that nobody reads.
    pub(crate) ballast: usize,
    /// The last DELETE was accepted: the object goes with its last finalizer.
    pub(crate) finished: bool,
    pub(crate) shown: Option<PodView>,
}

impl Pod {
    pub(crate) fn is_for(&self, zone: &str) -> bool {
        self.zone.is_none_or(|wanted| wanted == zone)
    }

    pub(crate) fn is_job(&self) -> bool {
        self.restart == RestartPolicy::Never
    }

    pub(crate) fn is_terminal(&self) -> bool {
        matches!(&self.shown, Some(PodView::Deployed(status) | PodView::Stopped(Some(status)))
            if matches!(status.phase, Phase::Succeeded | Phase::Failed))
    }

    /// Why the object goes, as its last state tells.
    pub(crate) fn cause(&self) -> DeletionCause {
        self.deletion
            .map_or(DeletionCause::Intent, |deletion| deletion.cause)
    }

    fn container(&self, name: &str, image: &str, behaviour: Behaviour) -> ContainerSpec {
        let command = behaviour.command();
        ContainerSpec {
            restart_digest: Digest::of(format!("{name} {image} {command:?}")),
            command,
            args: vec!["-".repeat(self.ballast)],
            ..ContainerSpec::new(name, image)
        }
    }

    fn initial(&self) -> Vec<ContainerSpec> {
        let image = self.images.first().map_or("", String::as_str);
        let sidecar = ContainerSpec {
            restart_policy: Some(RestartPolicy::Always),
            ..self.container("side", image, Behaviour::Serves)
        };
        match self.company {
            Company::Sidecar => vec![self.container("setup", image, Behaviour::Ends(300, 0)), sidecar],
            Company::None | Company::Probes => Vec::new(),
        }
    }

    fn workload(&self) -> WorkloadSpec {
        let images = self.images.iter().enumerate();
        let mut containers: Vec<ContainerSpec> = images
            .map(|(index, image)| self.container(&format!("c{index}"), image, self.behaviour))
            .collect();
        if let (Company::Probes, Some(first)) = (self.company, containers.first_mut()) {
            let probe = |period_s| Probe {
                action: Action::TcpSocket { port: 80, host: None },
                initial_delay_s: 1,
                timeout_s: 1,
                period_s,
                success_threshold: 1,
                failure_threshold: 2,
                termination_grace_period_s: None,
            };
            first.probes.startup = Some(probe(1));
            first.probes.liveness = Some(probe(5));
            first.probes.readiness = Some(probe(7));
        }
        WorkloadSpec {
            restart_policy: self.restart,
            termination_grace_period_s: self.grace_s,
            init_containers: self.initial(),
            volumes: self.volumes.specs(),
            ..WorkloadSpec::new(self.name.clone(), containers)
        }
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let labels = [("pod-template-hash".to_owned(), self.template.to_string())];
        let kept = match self.disconnect {
            Disconnect::Run => None,
            Disconnect::Replace => Some("replace".to_owned()),
            Disconnect::StopAfter { ms } => Some(format!("stop-after={}s", ms / 1_000)),
        };
        Manifest {
            v: VERSION,
            uid: self.uid.clone(),
            namespace: "default".to_owned(),
            name: self.name.clone(),
            labels: labels.into(),
            annotations: kept
                .map(|kept| ("outrigger.io/disconnect".to_owned(), kept))
                .into_iter()
                .collect(),
            workload: self.workload(),
            objects: self.objects.clone(),
            requires: Vec::new(),
            replaces: Vec::new(),
        }
    }

    pub(crate) fn wanted(&self) -> WantedPod {
        let condition = match self.zone {
            Some(zone) => format!("tags.zone = '{zone}'"),
            None => "*".to_owned(),
        };
        let plan = PodPlan {
            manifest: self.manifest(),
            target: TargetSpec {
                condition,
                scope: "*".to_owned(),
            },
            ready_policy: ReadyPolicy::All,
            update: self.update,
        };
        WantedPod {
            uid: self.uid.clone(),
            namespace: "default".to_owned(),
            name: self.name.clone(),
            owner: self.owner.clone(),
            plan: Ok(plan),
            deletion: self.deletion,
            terminal: self.is_terminal(),
            disconnect: self.disconnect,
        }
    }
}

/// What became of a pod object that is there no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone {
    /// Someone wanted it gone. Else only Kubernetes gave it up.
    pub(crate) intended: bool,
    pub(crate) job: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) resource_version: u64,
    pub(crate) node: Option<String>,
    pub(crate) pods: BTreeMap<PodUid, Pod>,
    pub(crate) objects: Objects,
    pub(crate) gone: BTreeMap<PodUid, Gone>,
    /// UIDs whose workload someone wants stopped.
    pub(crate) intended: BTreeSet<PodUid>,
    /// Pods that the garbage collector removed.
    pub(crate) collected: BTreeSet<PodUid>,
    /// Pods that were given up, as they were: their controllers make new ones.
    pub(crate) copies: BTreeMap<PodUid, Pod>,
    /// Earlier answers, for a proxy that gives one of them again.
    pub(crate) past: VecDeque<PodList>,
    nodes: u32,
}

impl Api {
    /// Something changed.
    pub(crate) fn bump(&mut self) {
        self.resource_version += 1;
        if self.resource_version.is_multiple_of(7) {
            self.past.push_back(self.list());
            self.past.drain(..self.past.len().saturating_sub(4));
        }
    }

    pub(crate) fn list(&self) -> PodList {
        PodList {
            cluster_uid: CLUSTER.to_owned(),
            resource_version: self.resource_version,
            node_uid: self.node.clone(),
            pods: self.pods.values().map(Pod::wanted).collect(),
        }
    }

    pub(crate) fn create_node(&mut self) -> bool {
        if self.node.is_some() {
            return false;
        }
        self.nodes += 1;
        self.node = Some(format!("node-{}", self.nodes));
        self.bump();
        true
    }

    pub(crate) fn remove(&mut self, uid: &PodUid) -> Option<Pod> {
        let pod = self.pods.remove(uid)?;
        let intended = self.intended.contains(uid);
        self.gone.insert(
            uid.clone(),
            Gone {
                intended,
                job: pod.is_job(),
            },
        );
        self.bump();
        Some(pod)
    }
}
