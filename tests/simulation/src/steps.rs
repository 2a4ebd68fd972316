//! Steps in a device's runtime: they take time, may fail, and may be done although they seem to have failed.

use edge_agent_core::step::Finding;
use edge_agent_core::{Step, StepId, StepOutcome};
use edge_protocol::v1::Reason;

use crate::coverage::Path;
use crate::event::{AgentEvent, At, DeviceEvent, Event};
use crate::pods::Behaviour;
use crate::runtime::failed;
use crate::trace::say;
use crate::world::World;

impl World {
    pub(crate) fn run_step(&mut self, at: At, id: StepId, step: Step) {
        say!(self, self.devices[at].id, "step {}: {}", id.0, name(&step));
        self.judge_turn(at, &step);
        self.condemn(at, &step);
        let (low, high) = match step {
            Step::PullImage { .. } => (30, 3_000),
            Step::RunSandbox(_) | Step::StartContainer(_) => (20, 500),
            _ => (5, 120),
        };
        let delay = self.rng.within(low, high);
        let (boot, life) = (self.devices[at].boot, self.devices[at].life);
        let step = Box::new(step);
        self.push(
            delay,
            Event::Device(at, DeviceEvent::Acts { boot, life, id, step }),
        );
    }

    /// The moment a step takes effect. One of a dead agent may or may not still get through.
    pub(crate) fn act(&mut self, at: At, life: u64, id: StepId, step: &Step) {
        if self.devices[at].life != life {
            if self.rng.flip() {
                return;
            }
            self.coverage.met(Path::StepOfTheDead);
        }
        let outcome = if self.devices[at].runtime.down {
            Some(failed(Reason::Failed, "connection refused"))
        } else if self.strikes(Path::StepFails, self.weather.step_fails) {
            if self.rng.flip() {
                self.coverage.met(Path::StepFailsLate);
                self.perform(at, step);
            }
            Some(failed(Reason::Failed, "deadline exceeded"))
        } else if let Step::StopContainer {
            container_id,
            grace_s,
            pre_stop: _,
        } = step
        {
            self.stop_container(at, container_id, *grace_s, Some((id, life)))
        } else {
            Some(self.perform(at, step))
        };
        if let Some(outcome) = outcome {
            self.push(0, Event::Agent(at, life, AgentEvent::StepEnded(id, outcome)));
        }
    }

    fn perform(&mut self, at: At, step: &Step) -> StepOutcome {
        let wall = self.devices[at].wall(self.now);
        match step {
            Step::FindImage { image } => self.devices[at].runtime.find_image(image),
            Step::PullImage { image, .. } => {
                let can_pull = !self.broken_images.contains(image) && self.devices[at].link.network;
                let outcome = self.devices[at].runtime.pull_image(image, can_pull);
                if matches!(outcome, StepOutcome::Failed { .. }) {
                    self.coverage.met(Path::PullFails);
                }
                outcome
            }
            Step::RunSandbox(spec) => self.devices[at].runtime.run_sandbox(spec, wall),
            Step::StartContainer(start) => {
                let winds_down = self.rng.within(10, 4_000);
                let (outcome, began) = self.devices[at].runtime.start(start, wall, winds_down);
                if let Some(container) = began {
                    self.container_began(at, &container);
                }
                outcome
            }
            Step::StopContainer {
                container_id,
                grace_s,
                pre_stop: _,
            } => {
                self.stop_container(at, container_id, *grace_s, None);
                StepOutcome::Done
            }
            Step::RemoveContainer { container_id } => {
                self.judge_end(at, container_id, "removed");
                self.devices[at]
                    .runtime
                    .containers
                    .retain(|c| c.seen.id != *container_id);
                StepOutcome::Done
            }
            Step::StopSandbox { sandbox_id } => {
                self.judge_sandbox(at, sandbox_id);
                let now = self.now;
                self.devices[at].runtime.kill_sandbox(sandbox_id, now, wall);
                StepOutcome::Done
            }
            Step::RemoveSandbox { sandbox_id, .. } => {
                self.judge_sandbox(at, sandbox_id);
                let runtime = &mut self.devices[at].runtime;
                runtime.containers.retain(|c| c.seen.sandbox_id != *sandbox_id);
                runtime.sandboxes.retain(|s| s.id != *sandbox_id);
                StepOutcome::Done
            }
            Step::SyncVolumes { manifest, .. } => self.sync_volumes(at, manifest),
            Step::PostStart(_) | Step::Resize { .. } => StepOutcome::Done,
            Step::Probe { target, .. } => {
                let sick = self.strikes(Path::ContainerSick, self.weather.step_fails / 20);
                let container = self.devices[at].runtime.get_mut(&target.container_id);
                let success = container.is_some_and(|container| {
                    container.sick |= sick;
                    container.runs() && !container.sick
                });
                StepOutcome::Probed {
                    finding: if success {
                        Finding::Success
                    } else {
                        Finding::Failure
                    },
                    output: String::new(),
                }
            }
            Step::RemoveWorkload { uid } => {
                let runtime = &self.devices[at].runtime;
                if runtime.of(uid).next().is_some() || runtime.sandboxes.iter().any(|s| s.uid == *uid) {
                    self.fail(format!("{uid} is forgotten while something of it is there"));
                }
                self.devices[at].runtime.volumes.remove(uid);
                StepOutcome::Done
            }
        }
    }

    fn container_began(&mut self, at: At, id: &str) {
        self.judge_start(at, id);
        let Some(container) = self.devices[at].runtime.get(id) else {
            return;
        };
        say!(
            self,
            self.devices[at].id,
            "RUNS {} {}/{} #{}",
            id,
            container.seen.uid,
            container.seen.name,
            container.seen.attempt
        );
        if let Behaviour::Ends(after, code) = Behaviour::read(&container.command) {
            let boot = self.devices[at].boot;
            let container = id.to_owned();
            self.push(
                after,
                Event::Device(
                    at,
                    DeviceEvent::Exits {
                        boot,
                        container,
                        code,
                    },
                ),
            );
        }
        self.hint(at);
    }

    /// `None` while it winds down: then the step ends with the container.
    fn stop_container(
        &mut self,
        at: At,
        id: &str,
        grace_s: u32,
        step: Option<(StepId, u64)>,
    ) -> Option<StepOutcome> {
        self.judge_end(at, id, "stopped");
        let now = self.now;
        let boot = self.devices[at].boot;
        let Some(container) = self.devices[at].runtime.get_mut(id).filter(|c| c.runs()) else {
            return Some(StepOutcome::Done);
        };
        let takes = container.winds_down_ms.min(u64::from(grace_s) * 1_000);
        let code = if takes == container.winds_down_ms {
            143
        } else {
            137
        };
        let due = now + takes;
        if container.ends_at.is_none_or(|ends| due < ends) {
            container.ends_at = Some(due);
            if code == 137 {
                self.coverage.met(Path::StoppedHard);
            }
            let container = id.to_owned();
            self.queue.push(
                due,
                Event::Device(
                    at,
                    DeviceEvent::Exits {
                        boot,
                        container,
                        code,
                    },
                ),
            );
        }
        if let Some((step, life)) = step {
            self.devices[at].stops.push((id.to_owned(), step, life));
        }
        None
    }

    pub(crate) fn exit(&mut self, at: At, id: &str, code: i32) {
        let now = self.now;
        let wall = self.devices[at].wall(now);
        if self.devices[at].runtime.end(id, code, now, wall) {
            say!(self, self.devices[at].id, "ENDS {id} with {code}");
            self.hint(at);
        }
        let (ended, others) = std::mem::take(&mut self.devices[at].stops)
            .into_iter()
            .partition(|(container, ..)| container == id);
        self.devices[at].stops = others;
        let ended: Vec<(String, StepId, u64)> = ended;
        for (_, step, life) in ended {
            let event = AgentEvent::StepEnded(step, StepOutcome::Done);
            self.push(0, Event::Agent(at, life, event));
        }
    }
}

fn name(step: &Step) -> String {
    match step {
        Step::FindImage { image } => format!("find image {image}"),
        Step::PullImage { image, .. } => format!("pull image {image}"),
        Step::RunSandbox(spec) => format!("sandbox {} #{}", spec.uid, spec.attempt),
        Step::StartContainer(start) => format!(
            "start {}/{} #{}",
            start.sandbox.uid, start.container.name, start.attempt
        ),
        Step::StopContainer {
            container_id,
            grace_s,
            pre_stop: _,
        } => format!("stop {container_id} within {grace_s} s"),
        Step::RemoveContainer { container_id } => format!("remove {container_id}"),
        Step::StopSandbox { sandbox_id } => format!("stop sandbox {sandbox_id}"),
        Step::RemoveSandbox { sandbox_id, .. } => format!("remove sandbox {sandbox_id}"),
        Step::RemoveWorkload { uid } => format!("forget {uid}"),
        Step::SyncVolumes { manifest, .. } => format!("volumes {}", manifest.uid),
        Step::PostStart(hook) => format!("post-start {}", hook.container_id),
        Step::Probe { kind, target, .. } => format!("{kind:?} probe {}", target.container_id),
        Step::Resize { sandbox, .. } => format!("resize {}", sandbox.uid),
    }
}
