//! Small configurations to run, and what tests ask of them again and again.

use std::collections::BTreeMap;

use edge_agent_cri::CriClient;
use edge_agent_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ImageSpec, LinuxPodSandboxConfig,
    PodSandboxConfig, PodSandboxMetadata,
};

use crate::containerd::{BUSYBOX, Containerd, eventually};

pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A pod that logs below the instance's scratch directory.
pub fn pod(containerd: &Containerd, name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: containerd.scratch().join("logs").join(name).display().to_string(),
        labels: labels(&[("pod", name)]),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("{}/{name}", containerd.cgroup()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container that runs `script` in busybox's shell and logs to `<name>.log`.
pub fn container(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: BUSYBOX.into(),
            annotations: BTreeMap::new(),
        }),
        command: vec!["sh".into(), "-c".into(), script.into()],
        labels: labels(&[("container", name)]),
        log_path: format!("{name}.log"),
        ..Default::default()
    }
}

/// Creates and starts `config` in a new sandbox; gives the ids of both.
pub async fn run(client: &CriClient, pod: &PodSandboxConfig, config: ContainerConfig) -> (String, String) {
    let sandbox = client.run_pod_sandbox(pod.clone()).await.unwrap();
    let container = client
        .create_container(&sandbox, config, pod.clone())
        .await
        .unwrap();
    client.start_container(&container).await.unwrap();
    (sandbox, container)
}

/// Waits until the container has ended.
pub async fn ended(client: &CriClient, container: &str) -> ContainerStatus {
    eventually("the container ended", async || {
        let status = client.container_status(container).await.ok()?;
        (status.state() == ContainerState::ContainerExited).then_some(status)
    })
    .await
}
