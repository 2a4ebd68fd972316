//! The order of a pod's containers, judged in the runtime.

use edge_agent_core::{ObservedState, Step};
use edge_protocol::PodUid;
use edge_protocol::v1::{ContainerSpec, Manifest, RestartPolicy};

use crate::coverage::Path;
use crate::event::At;
use crate::runtime::Container;
use crate::world::World;

impl World {
    pub(crate) fn manifest_of(&self, at: At, uid: &PodUid) -> Option<Manifest> {
        let mut all = self.manifests(at);
        all.find(|(item, _)| item == uid).map(|(_, manifest)| manifest)
    }

    /// All that is in the sandbox of this container, by name.
    fn beside<'a>(
        &'a self,
        at: At,
        container: &'a Container,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Container> {
        let all = self.devices[at].runtime.of(&container.seen.uid);
        all.filter(move |c| c.seen.sandbox_id == container.seen.sandbox_id && c.seen.name == name)
    }

    /// An initial container starts when those before it are past, and a main one when all of them are: ended well, or, of sidecars, begun.
    /// Once a main one has run in a sandbox, all were.
    pub(crate) fn out_of_order(&self, at: At, started: &Container) -> Option<String> {
        let manifest = self.manifest_of(at, &started.seen.uid)?;
        let initial = &manifest.workload.init_containers;
        if initial.is_empty() {
            return None;
        }
        self.coverage.met(Path::OrderJudged);
        let others = |spec: &ContainerSpec| {
            let mut beside = self.beside(at, started, &spec.name);
            beside.any(|c| c.seen.id != started.seen.id)
        };
        if manifest.workload.containers.iter().any(others) {
            return None;
        }
        let past = |spec: &ContainerSpec| {
            self.beside(at, started, &spec.name).any(|c| match c.seen.state {
                ObservedState::Exited { exit_code, .. } => spec.is_sidecar() || exit_code == 0,
                _ => spec.is_sidecar(),
            })
        };
        let mut before = initial.iter().take_while(|spec| spec.name != started.seen.name);
        before.find(|spec| !past(spec)).map(|spec| {
            let seen = &started.seen;
            format!(
                "{} starts {}/{} before {}",
                self.devices[at].id, seen.uid, seen.name, spec.name
            )
        })
    }

    /// A sidecar is asked to stop, with some grace, only when no main container runs beside it: but for its own sake.
    pub(crate) fn judge_turn(&mut self, at: At, step: &Step) {
        let Step::StopContainer {
            container_id,
            grace_s: 1..,
            ..
        } = step
        else {
            return;
        };
        let device = &self.devices[at];
        let Some(container) = device.runtime.get(container_id).filter(|c| c.runs() && !c.sick) else {
            return;
        };
        let sandbox = &container.seen.sandbox_id;
        let ready = device
            .runtime
            .sandboxes
            .iter()
            .any(|s| s.id == *sandbox && s.ready);
        let Some(manifest) = self.manifest_of(at, &container.seen.uid).filter(|_| ready) else {
            return;
        };
        let mut sidecars = manifest
            .workload
            .init_containers
            .iter()
            .filter(|spec| spec.is_sidecar());
        let same = |spec: &ContainerSpec| {
            spec.name == container.seen.name && spec.restart_digest == container.seen.restart_digest
        };
        if !sidecars.any(same) {
            return;
        }
        self.coverage.met(Path::TurnJudged);
        let mains = manifest.workload.containers.iter();
        let runs = mains.filter(|spec| self.beside(at, container, &spec.name).any(Container::runs));
        if let Some(main) = runs.map(|spec| spec.name.clone()).next() {
            let seen = &container.seen;
            let why = format!(
                "{} stops {}/{} before {main}",
                self.devices[at].id, seen.uid, seen.name
            );
            self.fail(why);
        }
    }

    /// A job whose main containers ended, or whose initial container failed, takes what runs beside them along.
    pub(crate) fn has_ended(&self, at: At, container: &Container) -> bool {
        let Some(manifest) = self.manifest_of(at, &container.seen.uid) else {
            return false;
        };
        let workload = &manifest.workload;
        let exit = |name: &str| {
            let exits = self.devices[at]
                .runtime
                .of(&container.seen.uid)
                .filter(|c| c.seen.name == name);
            let exits = exits.filter_map(|c| match c.seen.state {
                ObservedState::Exited { exit_code, .. } => Some(exit_code),
                _ => None,
            });
            exits.last()
        };
        let initial = workload.init_containers.iter().filter(|spec| !spec.is_sidecar());
        workload.restart_policy == RestartPolicy::Never
            && (workload.containers.iter().all(|spec| exit(&spec.name).is_some())
                || initial.filter_map(|spec| exit(&spec.name)).any(|code| code != 0))
    }
}
