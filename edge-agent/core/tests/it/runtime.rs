//! A container runtime in memory.

use std::collections::BTreeSet;

use edge_agent_core::{
    Observed, ObservedContainer, ObservedSandbox, ObservedState, StartContainer, Step, StepOutcome,
};
use edge_protocol::PodUid;
use edge_protocol::v1::Reason;

/// A runtime that also keeps the accounts by which the machine is judged.
#[derive(Default)]
pub struct Runtime {
    pub sandboxes: Vec<ObservedSandbox>,
    pub containers: Vec<ObservedContainer>,
    pub images: BTreeSet<String>,
    /// Images that no registry has.
    pub bad_images: BTreeSet<String>,
    pub logs: BTreeSet<PodUid>,
    next_id: u32,
    /// Workloads that must have left before the first starts.
    pub not_beside: Vec<(PodUid, PodUid)>,
    pub started: Vec<(PodUid, String)>,
    pub stopped: Vec<(PodUid, String)>,
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

    pub fn kill_sandbox(&mut self, uid: &PodUid) {
        self.sandboxes
            .iter_mut()
            .filter(|s| s.uid == *uid)
            .for_each(|s| s.ready = false);
    }

    pub fn apply(&mut self, step: &Step, wall_ms: i64) -> StepOutcome {
        match step {
            Step::EnsureImage { image, .. } if self.bad_images.contains(image) => StepOutcome::Failed {
                reason: Reason::ErrImagePull,
                message: "not found".to_owned(),
            },
            Step::EnsureImage { image, .. } => {
                self.images.insert(image.clone());
                StepOutcome::Image {
                    image_id: format!("id of {image}"),
                }
            }
            Step::RunSandbox(spec) => {
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
                        ip: Some("10.1.0.9".to_owned()),
                        created_at_ms: wall_ms,
                    });
                    id
                });
                StepOutcome::Sandbox {
                    sandbox_id,
                    ip: Some("10.1.0.9".to_owned()),
                }
            }
            Step::StartContainer(start) => self.start(start, wall_ms),
            Step::StopContainer { container_id, .. } => {
                for container in self.containers.iter_mut().filter(|c| c.id == *container_id) {
                    if container.state != ObservedState::Created {
                        self.stopped.push((container.uid.clone(), container.name.clone()));
                        end(container, 143, wall_ms);
                    }
                }
                StepOutcome::Done
            }
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
            Step::SyncVolumes { .. } | Step::PostStart(_) | Step::Resize { .. } => StepOutcome::Done,
            Step::Probe { .. } => StepOutcome::Probed {
                success: true,
                output: String::new(),
            },
            Step::RemoveWorkload { uid } => {
                assert!(
                    !self.sandboxes.iter().any(|s| s.uid == *uid),
                    "logs of {uid} removed under its sandbox"
                );
                self.logs.remove(uid);
                StepOutcome::Done
            }
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
                skipped_variables: Vec::new(),
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
            resources: None,
            user: None,
        });
        self.started.push((uid.clone(), name.clone()));
        StepOutcome::Started {
            container_id: id,
            skipped_variables: Vec::new(),
        }
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
