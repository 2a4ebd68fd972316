//! [`FakeRuntime`]: a runtime in memory that keeps the same contract as the real one.
//!
//! It reads what its containers do from their last argument, a shell script, as far as tests need it: `exit N` ends at
//! once, `trap 'exit N' TERM` ends with N when asked to, and everything else runs until it is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_agent_core::step::{
    Finding, Observed, ObservedContainer, ObservedSandbox, ObservedState, SandboxSpec, StartContainer, Step,
    StepOutcome,
};
use edge_protocol::v1::Reason;
use tokio::sync::Notify;

use super::{ContainerRuntime, ObserveError};

const KILLED: i32 = 137;

/// A model of a container runtime. Clones are handles to the same one.
#[derive(Debug, Clone, Default)]
pub struct FakeRuntime {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct World {
    images: BTreeSet<String>,
    now: Observed,
    /// The exit code that a container gives to SIGTERM, by id; the others need killing.
    on_term: BTreeMap<String, i32>,
    /// Counts ids and milliseconds: every use is a later one.
    clock: i64,
    down: bool,
    /// What was last observed; `None` when that failed.
    observed: Option<Observed>,
}

impl FakeRuntime {
    /// A runtime for which these images are present or can be pulled; no others can.
    pub fn new<'a>(images: impl IntoIterator<Item = &'a str>) -> Self {
        let this = Self::default();
        this.world().images = images.into_iter().map(str::to_owned).collect();
        this
    }

    /// Ends a running container as if by itself.
    pub fn exit(&self, container_id: &str, exit_code: i32, reason: Reason) {
        self.change(|world| world.end(|container| container.id == container_id, exit_code, reason));
    }

    /// The runtime stops answering; what runs there goes on.
    pub fn go_down(&self) {
        self.change(|world| world.down = true);
    }

    pub fn come_back(&self) {
        self.change(|world| world.down = false);
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world());
        self.changed.notify_waiters();
        result
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ContainerRuntime for FakeRuntime {
    async fn run(&self, step: Step) -> StepOutcome {
        self.change(|world| world.run(&step))
    }

    async fn observe(&self) -> Result<Observed, ObserveError> {
        let mut world = self.world();
        world.observed = (!world.down).then(|| world.now.clone());
        world
            .observed
            .clone()
            .ok_or_else(|| ObserveError::new("the fake runtime is down"))
    }

    async fn remove_image(&self, id: &str) -> Result<(), ObserveError> {
        self.world().images.retain(|name| format!("sha256:{name}") != id);
        Ok(())
    }

    async fn changed(&self) {
        loop {
            // Made before the comparison, so that a change right after it is not missed.
            let notified = self.changed.notified();
            if self.world().differs() {
                return;
            }
            notified.await;
        }
    }
}

impl World {
    fn differs(&self) -> bool {
        self.observed.as_ref() != (!self.down).then_some(&self.now)
    }

    fn run(&mut self, step: &Step) -> StepOutcome {
        if self.down {
            return failed(Reason::Failed, "the fake runtime is down");
        }
        match step {
            Step::FindImage { image } => return self.image(image, StepOutcome::NoImage),
            Step::PullImage { image, .. } => {
                return self.image(image, failed(Reason::ErrImagePull, image));
            }
            Step::RunSandbox(spec) => return self.run_sandbox(spec),
            Step::StartContainer(start) => return self.start(start),
            Step::StopContainer {
                container_id,
                grace_s,
                pre_stop: _,
            } => {
                let polite = self.on_term.get(container_id).filter(|_| *grace_s > 0);
                let exit_code = *polite.unwrap_or(&KILLED);
                self.end(
                    |container| container.id == *container_id,
                    exit_code,
                    Reason::Error,
                );
            }
            Step::RemoveContainer { container_id } => {
                self.now
                    .containers
                    .retain(|container| container.id != *container_id);
            }
            Step::StopSandbox { sandbox_id } => {
                self.end(
                    |container| container.sandbox_id == *sandbox_id,
                    KILLED,
                    Reason::Error,
                );
                for sandbox in self.now.sandboxes.iter_mut().filter(|s| s.id == *sandbox_id) {
                    (sandbox.ready, sandbox.ips) = (false, Vec::new());
                }
            }
            Step::RemoveSandbox { sandbox_id, .. } => {
                self.now.sandboxes.retain(|sandbox| sandbox.id != *sandbox_id);
                self.now
                    .containers
                    .retain(|container| container.sandbox_id != *sandbox_id);
            }
            // Its containers have no network, no shell and no files: what is asked of one that runs succeeds.
            Step::Probe { target, .. } => {
                let mut containers = self.now.containers.iter();
                let success = containers.any(|container| {
                    container.id == target.container_id
                        && matches!(container.state, ObservedState::Running { .. })
                });
                return StepOutcome::Probed {
                    finding: if success {
                        Finding::Success
                    } else {
                        Finding::Failure
                    },
                    output: String::new(),
                };
            }
            Step::Resize { containers, .. } => {
                for wanted in containers {
                    let mut containers = self.now.containers.iter_mut();
                    if let Some(container) = containers.find(|container| container.id == wanted.container_id)
                    {
                        container.resources = Some(wanted.resources.clone());
                    }
                }
            }
            Step::RemoveWorkload { .. } | Step::SyncVolumes { .. } | Step::PostStart(_) => {}
        }
        StepOutcome::Done
    }

    /// All images that there are, are here.
    fn image(&self, image: &str, otherwise: StepOutcome) -> StepOutcome {
        match self.images.contains(image) {
            true => StepOutcome::Image {
                image_id: format!("sha256:{image}"),
                size_bytes: 1,
                secret: None,
            },
            false if image.contains(' ') => failed(Reason::InvalidImageName, image),
            false => otherwise,
        }
    }

    fn run_sandbox(&mut self, spec: &SandboxSpec) -> StepOutcome {
        let same = |s: &ObservedSandbox| (&s.uid, s.attempt) == (&spec.uid, spec.attempt);
        if let Some(ObservedSandbox { id, ips, ready, .. }) = self.now.sandboxes.iter().find(|s| same(s)) {
            if *ready {
                return StepOutcome::Sandbox {
                    sandbox_id: id.clone(),
                    ips: ips.clone(),
                    left_out: Vec::new(),
                };
            }
            if self
                .now
                .containers
                .iter()
                .any(|container| container.sandbox_id == *id)
            {
                return failed(
                    Reason::FailedCreatePodSandBox,
                    "the attempt's sandbox holds containers",
                );
            }
        }
        self.now.sandboxes.retain(|s| !same(s));
        let created_at_ms = self.tick();
        let id = format!("sandbox-{created_at_ms}");
        let ips = vec![Ipv4Addr::new(10, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()];
        let (uid, attempt) = (spec.uid.clone(), spec.attempt);
        let outcome = StepOutcome::Sandbox {
            sandbox_id: id.clone(),
            ips: ips.clone(),
            left_out: Vec::new(),
        };
        self.now.sandboxes.push(ObservedSandbox {
            id,
            uid,
            attempt,
            ready: true,
            ips,
            created_at_ms,
        });
        outcome
    }

    fn start(
        &mut self,
        StartContainer {
            sandbox_id,
            sandbox,
            attempt,
            container,
            target: _,
            pod_ips: _,
        }: &StartContainer,
    ) -> StepOutcome {
        let same = |c: &&ObservedContainer| {
            (&c.sandbox_id, &c.name, c.attempt) == (sandbox_id, &container.name, *attempt)
        };
        if let Some(found) = self.now.containers.iter().find(same) {
            return StepOutcome::Started {
                container_id: found.id.clone(),
            };
        }
        if !self.now.sandboxes.iter().any(|s| s.id == *sandbox_id && s.ready) {
            return failed(Reason::CreateContainerError, "no such sandbox");
        }
        let started_at_ms = self.tick();
        let container_id = format!("container-{started_at_ms}");
        self.now.containers.push(ObservedContainer {
            id: container_id.clone(),
            sandbox_id: sandbox_id.clone(),
            uid: sandbox.uid.clone(),
            name: container.name.clone(),
            attempt: *attempt,
            image: container.image.clone(),
            image_id: format!("sha256:{}", container.image),
            restart_digest: container.restart_digest,
            state: ObservedState::Running { started_at_ms },
            resources: None,
            user: None,
        });
        let script = container
            .command
            .iter()
            .chain(&container.args)
            .next_back()
            .map_or("", String::as_str);
        if let Some(code) = script.strip_prefix("exit ").and_then(number) {
            let reason = if code == 0 {
                Reason::Completed
            } else {
                Reason::Error
            };
            self.end(|container| container.id == container_id, code, reason);
        } else if let Some(code) = script.strip_prefix("trap 'exit ").and_then(number) {
            self.on_term.insert(container_id.clone(), code);
        }
        StepOutcome::Started { container_id }
    }

    fn end(&mut self, which: impl Fn(&ObservedContainer) -> bool, exit_code: i32, reason: Reason) {
        let finished_at_ms = self.tick();
        for container in self
            .now
            .containers
            .iter_mut()
            .filter(|container| which(container))
        {
            if let ObservedState::Running { started_at_ms } = container.state {
                let message = String::new();
                container.state = ObservedState::Exited {
                    exit_code,
                    reason,
                    message,
                    started_at_ms,
                    finished_at_ms,
                };
            }
        }
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }
}

/// The number that a text begins with.
fn number(text: &str) -> Option<i32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn failed(reason: Reason, message: &str) -> StepOutcome {
    StepOutcome::Failed {
        reason,
        message: message.to_owned(),
    }
}
