//! [`FakeRuntime`]: a runtime in memory that keeps the same contract as the real one.
//!
//! It reads what its containers do from their last argument, a shell script, as far as tests need it: `exit N` ends at
//! once, `trap 'exit N' TERM` ends with N when asked to, and everything else runs until it is killed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_agent_core::step::{
    Observed, ObservedContainer, ObservedSandbox, ObservedState, SandboxSpec, StartContainer, Step,
    StepOutcome,
};
use edge_protocol::v1::{ContainerSpec, PullPolicy, Reason};
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
    /// The exit code that each container, in the order of `now.containers`, gives to SIGTERM.
    on_term: Vec<Option<i32>>,
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
        self.change(|world| world.end(container_id, exit_code, reason));
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

    async fn changed(&self) {
        loop {
            let notified = self.changed.notified();
            let differs = {
                let world = self.world();
                world.observed.as_ref() != (!world.down).then_some(&world.now)
            };
            if differs {
                return;
            }
            notified.await;
        }
    }
}

impl World {
    fn run(&mut self, step: &Step) -> StepOutcome {
        if self.down {
            return failed(Reason::Failed, "the fake runtime is down");
        }
        match step {
            Step::EnsureImage { image, policy } => self.ensure_image(image, *policy),
            Step::RunSandbox(spec) => self.run_sandbox(spec),
            Step::StartContainer(start) => self.start(start),
            Step::StopContainer {
                container_id,
                grace_s,
            } => {
                let code = self.position(container_id).and_then(|at| *self.on_term.get(at)?);
                self.end(
                    container_id,
                    code.filter(|_| *grace_s > 0).unwrap_or(KILLED),
                    Reason::Error,
                );
                StepOutcome::Done
            }
            Step::RemoveContainer { container_id } => self.remove(|container| container.id == *container_id),
            Step::StopSandbox { sandbox_id } => {
                let inside = self
                    .now
                    .containers
                    .iter()
                    .filter(|container| container.sandbox_id == *sandbox_id);
                for id in inside.map(|container| container.id.clone()).collect::<Vec<_>>() {
                    self.end(&id, KILLED, Reason::Error);
                }
                for sandbox in self
                    .now
                    .sandboxes
                    .iter_mut()
                    .filter(|sandbox| sandbox.id == *sandbox_id)
                {
                    (sandbox.ready, sandbox.ip) = (false, None);
                }
                StepOutcome::Done
            }
            Step::RemoveSandbox { sandbox_id, .. } => {
                self.now.sandboxes.retain(|sandbox| sandbox.id != *sandbox_id);
                self.remove(|container| container.sandbox_id == *sandbox_id)
            }
            Step::RemoveWorkload { .. } => StepOutcome::Done,
        }
    }

    fn ensure_image(&self, image: &str, policy: PullPolicy) -> StepOutcome {
        if image.chars().any(char::is_uppercase) {
            failed(Reason::InvalidImageName, image)
        } else if self.images.contains(image) {
            StepOutcome::Image {
                image_id: format!("sha256:{image}"),
            }
        } else if policy == PullPolicy::Never {
            failed(Reason::ErrImageNeverPull, image)
        } else {
            failed(Reason::ErrImagePull, image)
        }
    }

    fn run_sandbox(&mut self, spec: &SandboxSpec) -> StepOutcome {
        let same = |sandbox: &&ObservedSandbox| (&sandbox.uid, sandbox.attempt) == (&spec.uid, spec.attempt);
        if let Some(ObservedSandbox { id, ip, .. }) = self.now.sandboxes.iter().find(same) {
            return StepOutcome::Sandbox {
                sandbox_id: id.clone(),
                ip: ip.clone(),
            };
        }
        let created_at_ms = self.tick();
        let (id, ip) = (format!("sandbox-{created_at_ms}"), Some("10.0.0.1".to_owned()));
        let (uid, attempt) = (spec.uid.clone(), spec.attempt);
        let sandbox = ObservedSandbox {
            id: id.clone(),
            uid,
            attempt,
            ready: true,
            ip: ip.clone(),
            created_at_ms,
        };
        self.now.sandboxes.push(sandbox);
        StepOutcome::Sandbox { sandbox_id: id, ip }
    }

    fn start(&mut self, start: &StartContainer) -> StepOutcome {
        let StartContainer {
            sandbox_id,
            sandbox,
            attempt,
            container,
        } = start;
        let ContainerSpec {
            name,
            image,
            command,
            args,
            restart_digest,
            ..
        } = container;
        let same =
            |c: &&ObservedContainer| (&c.sandbox_id, &c.name, c.attempt) == (sandbox_id, name, *attempt);
        if let Some(found) = self.now.containers.iter().find(same) {
            return StepOutcome::Started {
                container_id: found.id.clone(),
            };
        }
        if !self
            .now
            .sandboxes
            .iter()
            .any(|sandbox| sandbox.id == *sandbox_id && sandbox.ready)
        {
            return failed(Reason::CreateContainerError, "no such sandbox");
        }
        let started_at_ms = self.tick();
        let id = format!("container-{started_at_ms}");
        self.now.containers.push(ObservedContainer {
            id: id.clone(),
            sandbox_id: sandbox_id.clone(),
            uid: sandbox.uid.clone(),
            name: name.clone(),
            attempt: *attempt,
            image: image.clone(),
            image_id: format!("sha256:{image}"),
            restart_digest: *restart_digest,
            state: ObservedState::Running { started_at_ms },
        });
        let script = command.iter().chain(args).next_back().map_or("", String::as_str);
        self.on_term.push(code_in(script, "trap 'exit "));
        if let Some(code) = code_in(script, "exit ").filter(|_| script.starts_with("exit ")) {
            self.end(
                &id,
                code,
                if code == 0 {
                    Reason::Completed
                } else {
                    Reason::Error
                },
            );
        }
        StepOutcome::Started { container_id: id }
    }

    fn end(&mut self, id: &str, exit_code: i32, reason: Reason) {
        let finished_at_ms = self.tick();
        if let Some(container) = self.position(id).and_then(|at| self.now.containers.get_mut(at))
            && let ObservedState::Running { started_at_ms } = container.state
        {
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

    fn remove(&mut self, goes: impl Fn(&ObservedContainer) -> bool) -> StepOutcome {
        let mut stays = self
            .now
            .containers
            .iter()
            .map(|container| !goes(container))
            .collect::<Vec<_>>()
            .into_iter();
        let mut stays_too = stays.clone();
        self.now.containers.retain(|_| stays.next().unwrap_or(true));
        self.on_term.retain(|_| stays_too.next().unwrap_or(true));
        StepOutcome::Done
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.now
            .containers
            .iter()
            .position(|container| container.id == id)
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }
}

/// The number after `mark` in a script.
fn code_in(script: &str, mark: &str) -> Option<i32> {
    let (_, after) = script.split_once(mark)?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn failed(reason: Reason, message: &str) -> StepOutcome {
    StepOutcome::Failed {
        reason,
        message: message.to_owned(),
    }
}
