//! What a pod is held to: other resources, and the device's policy.

use std::fs;

use edge_agent_core::step::{ContainerResize, Step, StepOutcome};
use edge_protocol::v1::{ContainerSpec, Medium, QosClass, Reason, Resources};

use super::{Pod, done, empty, shell, started, volume};
use crate::runtime::ContainerRuntime;

#[tokio::test]
async fn a_running_container_is_held_to_other_resources() {
    const MIB: u64 = 1 << 20;
    let container = ContainerSpec {
        resources: Resources {
            cpu_request_milli: Some(100),
            cpu_limit_milli: Some(200),
            memory_request_bytes: Some(32 * MIB),
            memory_limit_bytes: Some(64 * MIB),
            ..Resources::default()
        },
        ..shell("main", "sleep 1000")
    };
    let of_pod = container.clone();
    let mut pod = Pod::new("resized", |manifest| manifest.workload.containers.push(of_pod)).await;
    pod.workload.sandbox.qos = QosClass::Burstable;
    let up = pod.up().await;
    let id = started(&pod.runtime, pod.start(&up, container)).await;
    // containerd 1.6 does not tell; the kernel does.
    let limit = |pod: &Pod| {
        let cgroup = format!(
            "{}/{}/device-a/burstable",
            "/sys/fs/cgroup",
            pod.device.containerd.cgroup()
        );
        let of = format!("pod{}/{id}", pod.workload.uid());
        let v2 = fs::read_to_string(format!("{cgroup}/{of}/memory.max"));
        let v1 = cgroup.replacen("/cgroup/", "/cgroup/memory/", 1);
        v2.or_else(|_| fs::read_to_string(format!("{v1}/{of}/memory.limit_in_bytes")))
            .ok()
    };
    for mib in [128, 48] {
        pod.workload.sandbox.memory_limit_bytes = Some(mib * MIB);
        done(&pod.runtime, resize(&pod, &id, mib * MIB)).await;
        let now = limit(&pod).map(|text| text.trim().to_owned());
        assert_eq!(now, Some((mib * MIB).to_string()));
    }
    // A page is in use, and nothing is changed.
    pod.workload.sandbox.memory_limit_bytes = Some(4096);
    let outcome = pod.runtime.run(resize(&pod, &id, 4096)).await;
    let StepOutcome::Failed { message, .. } = outcome else {
        panic!("{outcome:?}")
    };
    for words in [
        "cannot decrease memory limits: [attempting to set pod memory limit (4096) below current usage (",
        "), attempting to set container \"main\" memory limit (4096) below current usage (",
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(limit(&pod).unwrap().trim(), (48 * MIB).to_string());
}

fn resize(pod: &Pod, id: &str, memory: u64) -> Step {
    Step::Resize {
        sandbox: Box::new(pod.workload.sandbox.clone()),
        containers: vec![ContainerResize {
            container_id: id.to_owned(),
            name: "main".to_owned(),
            resources: Resources {
                cpu_limit_milli: Some(300),
                memory_limit_bytes: Some(memory),
                ..Resources::default()
            },
            lowered_memory_bytes: Some(memory),
        }],
    }
}

#[tokio::test]
async fn what_the_device_forbids_is_not_even_begun() {
    let pod = Pod::new("forbidden", |manifest| {
        manifest.workload.namespaces.host_pid = true;
        manifest.workload.volumes = vec![volume("disk", empty(Medium::Disk))];
    })
    .await;
    for step in [pod.sync(Vec::new()), pod.workload.run_sandbox(0)] {
        let outcome = pod.runtime.run(step).await;
        let StepOutcome::Failed { reason, message } = outcome else {
            panic!("{outcome:?}")
        };
        let words = "the device's policy forbids it: forbid_host_pid: the pod wants the device's own";
        assert_eq!((reason, message.as_str()), (Reason::DevicePolicy, words));
    }
    assert!(!pod.device.pods("device-a").exists());
    assert!(pod.runtime.observe().await.unwrap().sandboxes.is_empty());
}
