//! A container runtime in memory.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edge_agent_core::step::Finding;
use edge_agent_core::{
    ContainerResize, InContainer, Observed, ObservedContainer, ObservedSandbox, ObservedState, ProbeKind,
    StartContainer, Step, StepOutcome,
};
use edge_protocol::PodUid;
use edge_protocol::v1::{ContainerSpec, Manifest, Reason};

/// What every sandbox has: the other family's first, and more than one of a family.
pub const POD_IPS: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9)),
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 9)),
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 10)),
];

/// A runtime that also keeps the accounts by which the machine is judged.
#[derive(Default)]
pub struct Runtime {
    pub sandboxes: Vec<ObservedSandbox>,
    pub containers: Vec<ObservedContainer>,
    pub images: BTreeSet<String>,
    /// Images that no registry has.
    pub bad_images: BTreeSet<String>,
    /// What opens the registry, where it is not open to all.
    pub secret: Option<String>,
    pub logs: BTreeSet<PodUid>,
    next_id: u32,
    /// Workloads that must have left before the first starts.
    pub not_beside: Vec<(PodUid, PodUid)>,
    pub started: Vec<(PodUid, String)>,
    pub stopped: Vec<(PodUid, String)>,
    /// Containers whose probe of this kind fails, by name.
    pub failing: BTreeSet<(String, ProbeKind)>,
    pub probes_warn: bool,
    /// What is left out of resolvers.
    pub left_out: Vec<String>,
    /// Containers whose hooks fail, by name.
    pub bad_hooks: BTreeSet<String>,
    /// Workloads whose volumes cannot be had.
    pub bad_volumes: BTreeSet<PodUid>,
    /// Those with a secret whose key has not come.
    pub unsealed: BTreeSet<PodUid>,
    /// Those that the device's policy forbids.
    pub forbidden: BTreeSet<PodUid>,
    pub volumes: BTreeSet<PodUid>,
    /// Workloads of which some volume may be on the disk, or in memory with a secret.
    pub leftovers: BTreeSet<PodUid>,
    /// Initial containers that are no sidecars end by themselves, by workload and name.
    pub ends: BTreeSet<(PodUid, String)>,
    pub init_ends: bool,
    /// Memory limits that were lowered, by container.
    pub lowered: Vec<(String, u64)>,
    /// What was done, in order: `run c0`, `hook c0`, `stop c0 30s`, `volumes`, `Liveness c0`.
    pub acts: Vec<String>,
}

impl Runtime {
    fn id(&mut self, kind: &str) -> String {
        self.next_id += 1;
        format!("{kind}{}", self.next_id)
    }

    pub fn observed(&self) -> Observed {
        Observed {
            sandboxes: self.sandboxes.clone(),
            containers: self.containers.clone(),
        }
    }

    pub fn running(&self, uid: &PodUid) -> usize {
        let running =
            |c: &&ObservedContainer| matches!(c.state, ObservedState::Running { .. }) && c.uid == *uid;
        self.containers.iter().filter(running).count()
    }

    pub fn exit(&mut self, uid: &PodUid, name: &str, exit_code: i32, wall_ms: i64) {
        for container in self
            .containers
            .iter_mut()
            .filter(|c| c.uid == *uid && c.name == name)
        {
            end(container, exit_code, wall_ms);
        }
    }

    /// Time for what ends by itself.
    pub fn end_what_ends(&mut self, wall_ms: i64) {
        for container in &mut self.containers {
            let key = (container.uid.clone(), container.name.clone());
            if self.init_ends && self.ends.contains(&key) {
                end(container, 0, wall_ms);
            }
        }
    }

    pub fn kill_sandbox(&mut self, uid: &PodUid) {
        self.sandboxes
            .iter_mut()
            .filter(|s| s.uid == *uid)
            .for_each(|s| s.ready = false);
    }

    fn found(&self, container: String, kind: ProbeKind) -> Finding {
        if self.failing.contains(&(container, kind)) {
            Finding::Failure
        } else if self.probes_warn {
            Finding::Warning
        } else {
            Finding::Success
        }
    }

    fn is_forbidden(&self, step: &Step) -> bool {
        let uid = match step {
            Step::SyncVolumes { manifest, .. } => &manifest.uid,
            Step::RunSandbox(spec) => &spec.uid,
            Step::StartContainer(start) => &start.sandbox.uid,
            _ => return false,
        };
        self.forbidden.contains(uid)
    }

    fn resize(&mut self, wanted: &[ContainerResize]) -> StepOutcome {
        let names: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
        self.acts
            .push(format!("resize pod {}", names.join(" ")).trim_end().to_owned());
        for one in wanted {
            self.lowered
                .extend(one.lowered_memory_bytes.map(|bytes| (one.name.clone(), bytes)));
            let mut containers = self.containers.iter_mut();
            let container = containers.find(|c| c.id == one.container_id).unwrap();
            assert_eq!(container.name, one.name);
            container.resources = Some(one.resources.clone());
        }
        StepOutcome::Done
    }

    pub fn apply(&mut self, step: &Step, wall_ms: i64) -> StepOutcome {
        match step {
            step if self.is_forbidden(step) => StepOutcome::Failed {
                reason: Reason::DevicePolicy,
                message: "forbid_privileged".to_owned(),
            },
            Step::FindImage { image } if !self.images.contains(image) => StepOutcome::NoImage,
            Step::PullImage { image, .. } if self.bad_images.contains(image) => StepOutcome::Failed {
                reason: Reason::ErrImagePull,
                message: "not found".to_owned(),
            },
            Step::FindImage { image } | Step::PullImage { image, .. } => {
                self.images.insert(image.clone());
                StepOutcome::Image {
                    image_id: format!("id of {image}"),
                    size_bytes: 7,
                    secret: self.secret.clone(),
                }
            }
            Step::RunSandbox(spec) => {
                let volumes = spec.manifest.workload.volumes.is_empty() || self.volumes.contains(&spec.uid);
                assert!(volumes, "a sandbox of {} without its volumes", spec.uid);
                self.logs.insert(spec.uid.clone());
                let same = self
                    .sandboxes
                    .iter()
                    .find(|s| s.uid == spec.uid && s.attempt == spec.attempt && s.ready);
                let sandbox_id = same.map(|s| s.id.clone());
                let sandbox_id = sandbox_id.unwrap_or_else(|| {
                    let id = self.id("s");
                    self.sandboxes.push(ObservedSandbox {
                        id: id.clone(),
                        uid: spec.uid.clone(),
                        attempt: spec.attempt,
                        ready: true,
                        ips: POD_IPS.to_vec(),
                        created_at_ms: wall_ms,
                    });
                    id
                });
                StepOutcome::Sandbox {
                    sandbox_id,
                    ips: POD_IPS.to_vec(),
                    left_out: self.left_out.clone(),
                }
            }
            Step::StartContainer(start) => self.start(start, wall_ms),
            Step::StopContainer {
                container_id,
                grace_s,
                pre_stop,
            } => self.stop(container_id, *grace_s, pre_stop.is_some(), wall_ms),
            Step::RemoveContainer { container_id } => {
                self.containers.retain(|c| c.id != *container_id);
                StepOutcome::Done
            }
            Step::StopSandbox { sandbox_id } => {
                for container in self.containers.iter_mut().filter(|c| c.sandbox_id == *sandbox_id) {
                    end(container, 137, wall_ms);
                }
                self.sandboxes
                    .iter_mut()
                    .filter(|s| s.id == *sandbox_id)
                    .for_each(|s| s.ready = false);
                StepOutcome::Done
            }
            Step::RemoveSandbox { sandbox_id, .. } => {
                self.containers.retain(|c| c.sandbox_id != *sandbox_id);
                self.sandboxes.retain(|s| s.id != *sandbox_id);
                StepOutcome::Done
            }
            Step::SyncVolumes { manifest, .. } => self.sync(manifest),
            Step::PostStart(target) => self.hook(target),
            Step::Resize { containers, .. } => self.resize(containers),
            Step::Probe { kind, target, .. } => {
                let name = self.name(&target.container_id);
                self.acts.push(format!("{kind:?} {name}"));
                StepOutcome::Probed {
                    finding: self.found(name, *kind),
                    output: "out\u{7}put".to_owned(),
                }
            }
            Step::RemoveWorkload { uid } => {
                assert!(
                    !self.sandboxes.iter().any(|s| s.uid == *uid),
                    "logs of {uid} removed under its sandbox"
                );
                self.logs.remove(uid);
                self.volumes.remove(uid);
                self.leftovers.remove(uid);
                StepOutcome::Done
            }
        }
    }

    fn stop(&mut self, id: &str, grace_s: u32, hook: bool, wall_ms: i64) -> StepOutcome {
        let name = self.name(id);
        self.acts.push(format!("stop {name} {grace_s}s"));
        for container in self.containers.iter_mut().filter(|c| c.id == id) {
            if container.state != ObservedState::Created {
                self.stopped.push((container.uid.clone(), container.name.clone()));
                end(container, 143, wall_ms);
            }
        }
        if hook && self.bad_hooks.contains(&name) {
            let message = "no".to_owned();
            return StepOutcome::HookFailed { message };
        }
        StepOutcome::Done
    }

    fn name(&self, id: &str) -> String {
        let container = self.containers.iter().find(|c| c.id == id);
        container.map_or("?", |container| &container.name).to_owned()
    }

    fn sync(&mut self, manifest: &Manifest) -> StepOutcome {
        self.acts.push("volumes".to_owned());
        self.leftovers.insert(manifest.uid.clone());
        if self.bad_volumes.contains(&manifest.uid) {
            return StepOutcome::Failed {
                reason: Reason::FailedMount,
                message: "MountVolume.SetUp failed for volume \"v\"".to_owned(),
            };
        }
        if self.unsealed.contains(&manifest.uid) {
            return StepOutcome::Failed {
                reason: Reason::SecretNotSealed,
                message: "it waits for its key".to_owned(),
            };
        }
        self.volumes.insert(manifest.uid.clone());
        StepOutcome::Done
    }

    fn hook(&mut self, target: &InContainer) -> StepOutcome {
        let name = self.name(&target.container_id);
        self.acts.push(format!("hook {name}"));
        if self.bad_hooks.contains(&name) {
            return StepOutcome::Failed {
                reason: Reason::PostStartHookError,
                message: "a secret".to_owned(),
            };
        }
        StepOutcome::Done
    }

    /// Whether each of these has an instance in the sandbox in which this container starts that ended well, or runs.
    fn has(&self, start: &StartContainer, spec: &ContainerSpec) -> bool {
        let mut mine = self.containers.iter().filter(|c| {
            c.uid == start.sandbox.uid && c.name == spec.name && c.sandbox_id == start.sandbox_id
        });
        mine.any(|c| match c.state {
            ObservedState::Running { .. } => spec.is_sidecar(),
            ObservedState::Exited { exit_code, .. } => spec.is_sidecar() || exit_code == 0,
            _ => false,
        })
    }

    /// Initial containers before it are past, each in its order; but once a main container ran in this sandbox, all are.
    fn judge_order(&self, start: &StartContainer) {
        let workload = &start.sandbox.manifest.workload;
        let initial = &workload.init_containers;
        // These are in no order.
        let is_ephemeral = |spec: &ContainerSpec| spec.name == start.container.name;
        if workload.ephemeral_containers.iter().any(is_ephemeral) {
            return;
        }
        let is_main = |name: &str| workload.containers.iter().any(|spec| spec.name == name);
        let mut inside = self
            .containers
            .iter()
            .filter(|c| c.sandbox_id == start.sandbox_id);
        if inside.any(|c| is_main(&c.name)) {
            return;
        }
        let before = initial
            .iter()
            .take_while(|spec| spec.name != start.container.name);
        for spec in before {
            let (uid, name) = (&start.sandbox.uid, &start.container.name);
            assert!(
                self.has(start, spec),
                "{name} of {uid} starts before {}",
                spec.name
            );
        }
    }

    fn start(&mut self, start: &StartContainer, wall_ms: i64) -> StepOutcome {
        let (uid, name) = (&start.sandbox.uid, &start.container.name);
        assert!(
            self.images.contains(&start.container.image),
            "{name} started without its image"
        );
        let mine = |c: &&mut ObservedContainer| c.uid == *uid && c.name == *name;
        if let Some(same) = self
            .containers
            .iter_mut()
            .filter(mine)
            .find(|c| c.attempt == start.attempt)
        {
            if same.state == ObservedState::Created {
                same.state = ObservedState::Running {
                    started_at_ms: wall_ms,
                };
                self.started.push((uid.clone(), name.clone()));
            }
            return StepOutcome::Started {
                container_id: same.id.clone(),
            };
        }
        if !self.sandboxes.iter().any(|s| s.id == start.sandbox_id && s.ready) {
            return StepOutcome::Failed {
                reason: Reason::CreateContainerError,
                message: "no sandbox".to_owned(),
            };
        }
        for (_, older) in self.not_beside.iter().filter(|(newer, _)| newer == uid) {
            assert_eq!(self.running(older), 0, "{uid} started beside {older}");
        }
        self.judge_order(start);
        let mut initial = start.sandbox.manifest.workload.init_containers.iter();
        if initial.any(|spec| spec.name == *name && !spec.is_sidecar()) {
            self.ends.insert((uid.clone(), name.clone()));
        }
        // Law 5, judged where it matters.
        let live = self
            .containers
            .iter()
            .any(|c| c.uid == *uid && c.name == *name && !matches!(c.state, ObservedState::Exited { .. }));
        assert!(!live, "two instances of {uid} {name}");
        let id = self.id("c");
        self.containers.push(ObservedContainer {
            id: id.clone(),
            sandbox_id: start.sandbox_id.clone(),
            uid: uid.clone(),
            name: name.clone(),
            attempt: start.attempt,
            image: start.container.image.clone(),
            image_id: format!("id of {}", start.container.image),
            restart_digest: start.container.restart_digest,
            state: ObservedState::Running {
                started_at_ms: wall_ms,
            },
            resources: Some(start.container.resources.clone()),
            user: None,
        });
        self.started.push((uid.clone(), name.clone()));
        let target = start.target.as_deref().map(|target| self.name(target));
        let among = target.map_or_else(String::new, |target| format!(" among {target}"));
        self.acts.push(format!("run {name}{among}"));
        StepOutcome::Started { container_id: id }
    }
}

pub fn end(container: &mut ObservedContainer, exit_code: i32, wall_ms: i64) {
    if !matches!(container.state, ObservedState::Exited { .. }) {
        let reason = if exit_code == 0 {
            Reason::Completed
        } else {
            Reason::Error
        };
        let state = ObservedState::Exited {
            exit_code,
            reason,
            message: String::new(),
            started_at_ms: wall_ms - 1,
            finished_at_ms: wall_ms,
        };
        container.state = state;
    }
}
