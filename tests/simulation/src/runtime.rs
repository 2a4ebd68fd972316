//! A container runtime as its steps are documented: idempotent, outliving the agent, ended by a reboot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use edge_agent_core::{
    Observed, ObservedContainer, ObservedSandbox, ObservedState, SandboxSpec, StartContainer, StepOutcome,
};
use edge_protocol::v1::Reason;
use edge_protocol::{Digest, PodUid};

#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) seen: ObservedContainer,
    pub(crate) command: Vec<String>,
    /// Milliseconds from SIGTERM to its end; more than any grace for one that ignores it.
    pub(crate) winds_down_ms: u64,
    /// It runs and answers no probe any more.
    pub(crate) sick: bool,
    /// An end that is coming: when.
    pub(crate) ends_at: Option<u64>,
}

impl Container {
    pub(crate) fn runs(&self) -> bool {
        matches!(self.seen.state, ObservedState::Running { .. })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Runtime {
    pub(crate) images: BTreeSet<String>,
    pub(crate) sandboxes: Vec<ObservedSandbox>,
    pub(crate) containers: Vec<Container>,
    pub(crate) down: bool,
    /// When containers ended, by id.
    pub(crate) ended: BTreeMap<String, u64>,
    /// The objects whose files are in a workload's volumes, in the order of these; on a tmpfs.
    pub(crate) volumes: BTreeMap<PodUid, Vec<Digest>>,
    next: u64,
}

pub(crate) fn failed(reason: Reason, message: &str) -> StepOutcome {
    StepOutcome::Failed {
        reason,
        message: message.to_owned(),
    }
}

impl Runtime {
    pub(crate) fn observe(&self) -> Observed {
        Observed {
            sandboxes: self.sandboxes.clone(),
            containers: self.containers.iter().map(|c| c.seen.clone()).collect(),
        }
    }

    pub(crate) fn of<'a>(&'a self, uid: &'a PodUid) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().filter(move |c| c.seen.uid == *uid)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.seen.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|c| c.seen.id == id)
    }

    pub(crate) fn find_image(&self, image: &str) -> StepOutcome {
        if !self.images.contains(image) {
            return StepOutcome::NoImage;
        }
        StepOutcome::Image {
            image_id: format!("sha256:{image}"),
            size_bytes: 1,
            secret: None,
        }
    }

    pub(crate) fn pull_image(&mut self, image: &str, can_pull: bool) -> StepOutcome {
        if !can_pull {
            return failed(Reason::ErrImagePull, "not found");
        }
        self.images.insert(image.to_owned());
        self.find_image(image)
    }

    pub(crate) fn run_sandbox(&mut self, spec: &SandboxSpec, wall_ms: i64) -> StepOutcome {
        let same = |s: &&ObservedSandbox| s.ready && (&s.uid, s.attempt) == (&spec.uid, spec.attempt);
        if let Some(found) = self.sandboxes.iter().find(same) {
            return StepOutcome::Sandbox {
                sandbox_id: found.id.clone(),
                ips: found.ips.clone(),
                left_out: Vec::new(),
            };
        }
        self.next += 1;
        let sandbox = ObservedSandbox {
            id: format!("s{}", self.next),
            uid: spec.uid.clone(),
            attempt: spec.attempt,
            ready: true,
            ips: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
            created_at_ms: wall_ms,
        };
        let outcome = StepOutcome::Sandbox {
            sandbox_id: sandbox.id.clone(),
            ips: sandbox.ips.clone(),
            left_out: Vec::new(),
        };
        self.sandboxes.push(sandbox);
        outcome
    }

    /// The outcome, and the id of a container that began to run by it.
    pub(crate) fn start(
        &mut self,
        start: &StartContainer,
        wall_ms: i64,
        winds_down_ms: u64,
    ) -> (StepOutcome, Option<String>) {
        let spec = &start.container;
        let same = |c: &&mut Container| {
            (&c.seen.uid, &c.seen.name, c.seen.attempt) == (&start.sandbox.uid, &spec.name, start.attempt)
        };
        if let Some(found) = self.containers.iter_mut().find(same) {
            let id = found.seen.id.clone();
            let begins = found.seen.state == ObservedState::Created;
            if begins {
                found.seen.state = ObservedState::Running {
                    started_at_ms: wall_ms,
                };
            }
            let outcome = StepOutcome::Started {
                container_id: id.clone(),
            };
            return (outcome, begins.then_some(id));
        }
        if !self.images.contains(&spec.image) {
            return (failed(Reason::CreateContainerError, "no such image"), None);
        }
        if !self.sandboxes.iter().any(|s| s.id == start.sandbox_id && s.ready) {
            return (failed(Reason::CreateContainerError, "no such sandbox"), None);
        }
        self.next += 1;
        let id = format!("c{}", self.next);
        self.containers.push(Container {
            seen: ObservedContainer {
                id: id.clone(),
                sandbox_id: start.sandbox_id.clone(),
                uid: start.sandbox.uid.clone(),
                name: spec.name.clone(),
                attempt: start.attempt,
                image: spec.image.clone(),
                image_id: format!("sha256:{}", spec.image),
                restart_digest: spec.restart_digest,
                state: ObservedState::Running {
                    started_at_ms: wall_ms,
                },
                resources: None,
                user: None,
            },
            command: spec.command.clone(),
            winds_down_ms,
            sick: false,
            ends_at: None,
        });
        let outcome = StepOutcome::Started {
            container_id: id.clone(),
        };
        (outcome, Some(id))
    }

    /// Whether it was running until now.
    pub(crate) fn end(&mut self, id: &str, code: i32, now: u64, wall_ms: i64) -> bool {
        let Some(container) = self.get_mut(id) else {
            return false;
        };
        let ObservedState::Running { started_at_ms } = container.seen.state else {
            return false;
        };
        container.seen.state = ObservedState::Exited {
            exit_code: code,
            reason: if code == 0 {
                Reason::Completed
            } else {
                Reason::Error
            },
            message: String::new(),
            started_at_ms,
            finished_at_ms: wall_ms,
        };
        self.ended.insert(id.to_owned(), now);
        true
    }

    pub(crate) fn kill_sandbox(&mut self, id: &str, now: u64, wall_ms: i64) {
        let inside: Vec<String> = self
            .containers
            .iter()
            .filter(|c| c.seen.sandbox_id == id)
            .map(|c| c.seen.id.clone())
            .collect();
        for container in inside {
            self.end(&container, 137, now, wall_ms);
        }
        for sandbox in self.sandboxes.iter_mut().filter(|s| s.id == id) {
            (sandbox.ready, sandbox.ips) = (false, Vec::new());
        }
    }

    /// The machine lost power: nothing runs, all that was created is still listed.
    pub(crate) fn lose_power(&mut self, now: u64, wall_ms: i64) {
        for id in self.sandboxes.iter().map(|s| s.id.clone()).collect::<Vec<_>>() {
            self.kill_sandbox(&id, now, wall_ms);
        }
        self.volumes.clear();
        self.down = false;
    }
}
