//! What a container sees of its pod, looked at from inside it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use edge_agent_core::step::{ObservedState, Step, StepOutcome};
use edge_protocol::Digest;
use edge_protocol::v1::{
    ContainerSpec, Manifest, Medium, MountSpec, ObjectData, ObjectKind, ObjectRef, ProjectedSource,
    Propagation, Reason, RecursiveReadOnly, SubPath, VERSION, VolumeSource, VolumeSpec,
};

use super::containerd::eventually;
use super::device::Device;
use super::given::{IMAGE, Workload};
use super::{done, exited, started};
use crate::runtime::{ContainerRuntime, CriRuntime};

mod actions;
mod bounds;
mod environment;
mod identity;
mod ports;
mod streams;
mod volumes;

/// One pod on a device of its own.
struct Pod {
    device: Device,
    runtime: CriRuntime,
    workload: Workload,
}

impl Pod {
    async fn new(name: &str, write: impl FnOnce(&mut Manifest)) -> Self {
        let device = Device::start().await;
        let mut workload = Workload::new(name);
        write(Arc::make_mut(&mut workload.sandbox.manifest));
        let runtime = device.runtime("device-a");
        Self {
            device,
            runtime,
            workload,
        }
    }

    fn put(&mut self, kind: &str, name: &str, text: &[(&str, &str)]) {
        let text = text
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        let data = ObjectData {
            v: VERSION,
            kind: kind.into(),
            name: name.into(),
            text: text.collect(),
            binary: BTreeMap::new(),
        };
        let body = serde_json::to_string(&data).unwrap();
        let digest = Digest::of(&body);
        self.device.objects.put(digest, body);
        let manifest = Arc::make_mut(&mut self.workload.sandbox.manifest);
        manifest.objects.retain(|object| object.name != name);
        manifest.objects.push(ObjectRef {
            kind: kind.into(),
            name: name.into(),
            digest,
            sealed: false,
        });
    }

    fn sync(&self, pod_ips: Vec<IpAddr>) -> Step {
        Step::SyncVolumes {
            manifest: self.workload.sandbox.manifest.clone(),
            pod_ips,
        }
    }

    /// Has the volumes and the sandbox; gives its id and addresses.
    async fn up(&self) -> (String, Vec<IpAddr>) {
        done(&self.runtime, self.sync(Vec::new())).await;
        match self.runtime.run(self.workload.run_sandbox(0)).await {
            StepOutcome::Sandbox { sandbox_id, ips, .. } => (sandbox_id, ips),
            other => panic!("{other:?}"),
        }
    }

    fn start(&self, (sandbox_id, pod_ips): &(String, Vec<IpAddr>), container: ContainerSpec) -> Step {
        self.workload.start_as(sandbox_id, pod_ips.clone(), container)
    }

    /// Runs a container to its end; gives what it printed, by line, and its end.
    async fn run(
        &self,
        up: &(String, Vec<IpAddr>),
        container: ContainerSpec,
    ) -> (Vec<String>, ObservedState) {
        let name = container.name.clone();
        let id = started(&self.runtime, self.start(up, container)).await;
        let end = exited(&self.runtime, &id).await.state;
        let log = self.workload.log(&self.device.logs("device-a"), &name, 0);
        // The runtime copies what was printed on its own time.
        let text = eventually("the log is whole", async || {
            let text = fs::read_to_string(&log).ok()?;
            text.contains(" the end\n").then_some(text)
        })
        .await;
        let line = |line: &str| line.splitn(4, ' ').nth(3).map(str::to_owned);
        (text.lines().filter_map(line).collect(), end)
    }

    async fn refused(&self, up: &(String, Vec<IpAddr>), container: ContainerSpec) -> (Reason, String) {
        match self.runtime.run(self.start(up, container)).await {
            StepOutcome::Failed { reason, message } => (reason, message),
            other => panic!("{other:?}"),
        }
    }
}

fn shell(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        command: vec!["sh".into(), "-c".into()],
        args: vec![format!("{script}\necho the end; exit $code")],
        ..ContainerSpec::new(name, IMAGE)
    }
}

fn volume(name: &str, source: VolumeSource) -> VolumeSpec {
    VolumeSpec {
        name: name.into(),
        source,
    }
}

fn mount(volume: &str, path: &str, sub_path: Option<&str>) -> MountSpec {
    MountSpec {
        volume: volume.into(),
        mount_path: path.into(),
        sub_path: sub_path.map(|path| SubPath::Expand(path.into())),
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: Propagation::None,
    }
}

fn empty(medium: Medium) -> VolumeSource {
    VolumeSource::EmptyDir {
        medium,
        size_limit_bytes: None,
    }
}

fn files(object: ObjectKind, name: &str) -> VolumeSource {
    VolumeSource::Projected {
        sources: vec![ProjectedSource::Object {
            object,
            name: name.into(),
            items: Vec::new(),
            optional: false,
        }],
        default_mode: 0o640,
    }
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    assert!(
        lines.iter().any(|printed| printed == line),
        "{line:?} in {lines:#?}"
    );
}
