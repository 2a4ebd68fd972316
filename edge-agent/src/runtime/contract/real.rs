//! What only a real containerd can show: files, networks, neighbours and restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use edge_agent_core::step::{ObservedState, Step, StepOutcome};
use edge_agent_cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, PodSandboxConfig, PodSandboxMetadata,
};
use edge_protocol::Digest;
use edge_protocol::v1::{PortProtocol, PortSpec};

use super::containerd::eventually;
use super::device::Device;
use super::given::{IMAGE, Workload, restart_digest};
use super::{done, exited, find, started, within};
use crate::runtime::ContainerRuntime;

#[tokio::test]
async fn the_log_of_the_last_attempt_stays_beside_the_present_one() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let workload = Workload::new("crashes");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    for attempt in 0..4 {
        let id = started(
            &runtime,
            workload.start(&sandbox, "main", attempt, "echo here; exit 1"),
        )
        .await;
        exited(&runtime, &id).await;
    }
    let there = [0, 1, 2, 3].map(|attempt| workload.log(&device.logs("device-a"), "main", attempt).exists());
    assert_eq!(there, [false, false, true, true]);
}

#[tokio::test]
async fn neighbours_are_left_alone() {
    let device = Device::start().await;
    let (a, b) = (device.runtime("device-a"), device.runtime("device-b"));
    let client = device.containerd.client();
    let stranger = client.run_pod_sandbox(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "stranger".into(),
            uid: "stranger".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        ..Default::default()
    });
    let stranger = stranger.await.unwrap();
    // The same fleet pod on both: same names, same uid.
    let workload = Workload::new("shared");
    let sandbox_a = started(&a, workload.run_sandbox(0)).await;
    let sandbox_b = started(&b, workload.run_sandbox(0)).await;
    let container_a = started(&a, workload.start(&sandbox_a, "main", 0, "sleep 1000")).await;
    let container_b = started(&b, workload.start(&sandbox_b, "main", 0, "sleep 1000")).await;
    assert_ne!(sandbox_a, sandbox_b);

    let seen = a.observe().await.unwrap();
    assert_eq!(
        seen.sandboxes.iter().map(|s| &s.id).collect::<Vec<_>>(),
        [&sandbox_a]
    );
    assert_eq!(
        seen.containers.iter().map(|c| &c.id).collect::<Vec<_>>(),
        [&container_a]
    );
    for step in [
        Step::StopContainer {
            container_id: container_b.clone(),
            grace_s: 0,
            pre_stop: None,
        },
        Step::RemoveContainer {
            container_id: container_b.clone(),
        },
        Step::StopSandbox {
            sandbox_id: sandbox_b.clone(),
        },
        Step::RemoveSandbox {
            sandbox_id: sandbox_b.clone(),
            uid: workload.uid(),
        },
        Step::StopSandbox {
            sandbox_id: stranger.clone(),
        },
        Step::RemoveSandbox {
            sandbox_id: stranger.clone(),
            uid: workload.uid(),
        },
    ] {
        let outcome = a.run(step).await;
        assert!(
            matches!(&outcome, StepOutcome::Failed { message, .. } if message.contains("somebody else")),
            "{outcome:?}"
        );
    }
    done(
        &a,
        Step::StopSandbox {
            sandbox_id: sandbox_a.clone(),
        },
    )
    .await;
    done(
        &a,
        Step::RemoveSandbox {
            sandbox_id: sandbox_a,
            uid: workload.uid(),
        },
    )
    .await;
    done(&a, Step::RemoveWorkload { uid: workload.uid() }).await;
    let state = find(&b, &container_b).await.unwrap().state;
    assert!(matches!(state, ObservedState::Running { .. }), "{state:?}");
    assert!(
        b.observe()
            .await
            .unwrap()
            .sandboxes
            .iter()
            .all(|sandbox| sandbox.ready)
    );
    assert_eq!(client.list_pod_sandboxes(BTreeMap::new()).await.unwrap().len(), 2);
}

/// An empty runtime is looked at every ten seconds; its first container is watched closely all the same.
#[tokio::test]
async fn the_end_of_a_first_container_is_seen_soon() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    runtime.observe().await.unwrap();
    let changed = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.changed().await }
    });
    let workload = Workload::new("short");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let container = started(&runtime, workload.start(&sandbox, "main", 0, "sleep 1")).await;
    runtime.observe().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), changed)
        .await
        .expect("the wait of the empty runtime is over")
        .unwrap();
    exited(&runtime, &container).await;
}

#[tokio::test]
async fn a_restart_of_either_side_disturbs_nothing() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let workload = Workload::new("steady");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    started(&runtime, workload.start(&sandbox, "main", 0, "sleep 1000")).await;
    let before = runtime.observe().await.unwrap();

    // A new process of the agent sees the very same.
    let runtime = device.runtime("device-a");
    assert_eq!(runtime.observe().await.unwrap(), before);

    device.containerd.kill_daemon();
    let away = eventually("containerd is away", async || runtime.observe().await.err()).await;
    assert_eq!(away.to_string(), "the container runtime cannot be looked at");
    within("its return wakes", runtime.changed()).await;
    device.containerd.ready().await;
    assert_eq!(runtime.observe().await.unwrap(), before);
}

/// Also the golden form of our labels: the next version must find what this one left.
#[tokio::test]
async fn an_interrupted_start_is_finished() {
    let device = Device::start().await;
    let (runtime, client) = (device.runtime("device-a"), device.containerd.client());
    let workload = Workload::new("interrupted");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let map = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    };
    let current = restart_digest().to_string();
    for (name, digest, survives) in [
        ("same", current.as_str(), true),
        ("other", &Digest::of("another specification").to_string(), false),
    ] {
        let pod = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "interrupted".into(),
                uid: "uid-interrupted.device-a".into(),
                namespace: "default".into(),
                attempt: 0,
            }),
            ..Default::default()
        };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.into(),
                attempt: 0,
            }),
            image: Some(ImageSpec {
                image: IMAGE.into(),
                ..Default::default()
            }),
            command: vec!["sleep".into(), "1000".into()],
            labels: map(&[
                ("outrigger.io/agent", "device-a"),
                ("io.kubernetes.pod.name", "interrupted"),
                ("io.kubernetes.pod.namespace", "default"),
                ("io.kubernetes.pod.uid", "uid-interrupted"),
                ("io.kubernetes.container.name", name),
            ]),
            annotations: map(&[
                ("outrigger.io/restart-digest", digest),
                ("io.kubernetes.container.restartCount", "0"),
            ]),
            ..Default::default()
        };
        let created = client.create_container(&sandbox, config, pod).await.unwrap();
        let seen = find(&runtime, &created).await.expect("carries our labels");
        assert_eq!(
            (seen.uid, seen.name.as_str(), seen.state),
            (workload.uid(), name, ObservedState::Created)
        );
        let id = started(&runtime, workload.start(&sandbox, name, 0, "sleep 1000")).await;
        assert_eq!(id == created, survives, "{name}");
        let seen = find(&runtime, &id).await.expect("runs");
        assert_eq!(seen.restart_digest, restart_digest());
        assert!(matches!(seen.state, ObservedState::Running { .. }), "{seen:?}");
    }
    assert_eq!(runtime.observe().await.unwrap().containers.len(), 2);
}

#[tokio::test]
async fn a_host_port_leads_to_the_container() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let mut workload = Workload::new("web");
    workload.sandbox.ports = vec![PortSpec {
        name: None,
        container_port: 80,
        host_port: Some(8080),
        host_ip: None,
        protocol: PortProtocol::Tcp,
    }];
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let script = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
    started(&runtime, workload.start(&sandbox, "main", 0, script)).await;
    // bash's own sockets: Debian's static busybox crashes in its resolver.
    let get = r"exec 3<>/dev/tcp/10.99.0.1/8080; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3";
    eventually("the page is served", async || {
        let page = device.containerd.in_network(&["timeout", "2", "bash", "-c", get]);
        page.is_ok_and(|page| page.ends_with("\r\n\r\nhello\n"))
            .then_some(())
    })
    .await;
}
