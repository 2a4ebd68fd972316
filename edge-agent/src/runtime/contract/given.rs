//! Workloads to run the contract with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use edge_agent_core::step::{SandboxSpec, StartContainer, Step};
use edge_protocol::v1::{ContainerSpec, Manifest, QosClass, Resources, VERSION, WorkloadSpec};
use edge_protocol::{Digest, PodUid};

/// Present in every runtime that the contract is run on.
pub const IMAGE: &str = super::containerd::BUSYBOX;

pub fn restart_digest() -> Digest {
    Digest::of("the container's specification")
}

/// A pod of namespace `default`; tests change what they are about.
pub struct Workload {
    pub sandbox: SandboxSpec,
    pub resources: Resources,
}

impl Workload {
    pub fn new(name: &str) -> Self {
        let uid: PodUid = format!("uid-{name}")
            .parse()
            .expect("names in tests make good uids");
        let sandbox = SandboxSpec {
            uid: uid.clone(),
            namespace: "default".into(),
            name: name.into(),
            attempt: 0,
            hostname: name.into(),
            qos: QosClass::BestEffort,
            labels: BTreeMap::from([("app".into(), name.into())]),
            annotations: BTreeMap::new(),
            ports: Vec::new(),
            manifest: std::sync::Arc::new(Manifest {
                v: VERSION,
                uid,
                namespace: "default".into(),
                name: name.into(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                workload: WorkloadSpec::new(name, Vec::new()),
                objects: Vec::new(),
                requires: Vec::new(),
                replaces: Vec::new(),
            }),
            cpu_request_milli: 0,
            cpu_limit_milli: None,
            memory_limit_bytes: None,
        };
        Self {
            sandbox,
            resources: Resources::default(),
        }
    }

    pub fn uid(&self) -> PodUid {
        self.sandbox.uid.clone()
    }

    pub fn run_sandbox(&self, attempt: u32) -> Step {
        Step::RunSandbox(Box::new(SandboxSpec {
            attempt,
            ..self.sandbox.clone()
        }))
    }

    /// The log of one attempt of a container below the runtime's log root.
    pub fn log(&self, root: &Path, container: &str, attempt: u32) -> PathBuf {
        let SandboxSpec {
            namespace, name, uid, ..
        } = &self.sandbox;
        root.join(format!("{namespace}_{name}_{uid}/{container}/{attempt}.log"))
    }

    /// A container that runs `script` in a shell.
    pub fn start(&self, sandbox_id: &str, name: &str, attempt: u32, script: &str) -> Step {
        let container = ContainerSpec {
            command: vec!["sh".into(), "-c".into()],
            args: vec![script.into()],
            resources: self.resources.clone(),
            restart_digest: restart_digest(),
            ..ContainerSpec::new(name, IMAGE)
        };
        let Step::StartContainer(start) = self.start_as(sandbox_id, Vec::new(), container) else {
            unreachable!("it starts a container")
        };
        Step::StartContainer(Box::new(StartContainer { attempt, ..*start }))
    }

    /// A container of this very description.
    pub fn start_as(&self, sandbox_id: &str, pod_ips: Vec<IpAddr>, container: ContainerSpec) -> Step {
        Step::StartContainer(Box::new(StartContainer {
            sandbox_id: sandbox_id.into(),
            sandbox: self.sandbox.clone(),
            attempt: 0,
            container,
            target: None,
            pod_ips,
        }))
    }
}
