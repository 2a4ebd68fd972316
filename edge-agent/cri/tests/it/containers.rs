//! Sandboxes and containers from creation to removal.

use std::fs;
use std::time::{Duration, Instant};

use edge_agent_cri::v1::{ContainerState, LinuxContainerConfig, LinuxContainerResources, PodSandboxState};
use edge_agent_cri::{CriErrorKind, Disposition, Operation};

use crate::containerd::{Containerd, eventually};
use crate::pods::{container, ended, labels, pod, run};

#[tokio::test]
async fn a_container_runs_ends_and_goes() {
    let containerd = Containerd::start().await;
    let client = containerd.client();
    let config = pod(&containerd, "hello");
    let (sandbox, id) = run(
        &client,
        &config,
        container("main", "echo out; echo err >&2; exit 7"),
    )
    .await;

    let status = ended(&client, &id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    // No order between start and finish: containerd takes the start's time when its shim has answered.
    assert!(
        status.created_at > 0 && status.started_at > status.created_at,
        "{status:?}"
    );
    assert!(status.finished_at > status.created_at, "{status:?}");
    let log = fs::read_to_string(format!("{}/main.log", config.log_directory)).unwrap();
    let lines: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, rest)| rest)
        .collect();
    assert!(
        lines.contains(&"stdout F out") && lines.contains(&"stderr F err"),
        "{log}"
    );

    let state = client.pod_sandbox_status(&sandbox).await.unwrap();
    assert_eq!(state.state(), PodSandboxState::SandboxReady);
    assert!(state.network.unwrap().ip.starts_with("10.99.0."));
    client.stop_pod_sandbox(&sandbox).await.unwrap();
    let state = client.pod_sandbox_status(&sandbox).await.unwrap();
    assert_eq!(state.state(), PodSandboxState::SandboxNotready);
    // Removal is idempotent, on every level.
    for _ in 0..2 {
        client.remove_container(&id).await.unwrap();
        client.stop_pod_sandbox(&sandbox).await.unwrap();
        client.remove_pod_sandbox(&sandbox).await.unwrap();
    }
    assert_eq!(client.list_pod_sandboxes(labels(&[])).await.unwrap(), []);
    assert_eq!(client.list_containers(labels(&[])).await.unwrap(), []);

    let error = client.container_status(&id).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(
        (error.operation, error.id.as_str()),
        (Operation::ContainerStatus, id.as_str())
    );
    assert_eq!(error.disposition(), Disposition::Reject);
    let error = client.pod_sandbox_status(&sandbox).await.unwrap_err();
    assert_eq!(error.kind, CriErrorKind::NotFound);
    let error = client.start_container("absent").await.unwrap_err();
    assert_eq!(error.kind, CriErrorKind::NotFound);
}

#[tokio::test]
async fn a_stop_gives_grace_and_then_kills() {
    let containerd = Containerd::start().await;
    let client = containerd.client();
    let grace = Duration::from_secs(20);
    let config = pod(&containerd, "polite");
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let (_, id) = run(&client, &config, container("main", script)).await;
    logged(&config.log_directory, "ready").await;
    let begun = Instant::now();
    client.stop_container(&id, grace).await.unwrap();
    assert!(begun.elapsed() < grace);
    assert_eq!(ended(&client, &id).await.exit_code, 3);
    client.stop_container(&id, grace).await.unwrap();

    let config = pod(&containerd, "stubborn");
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let (_, id) = run(&client, &config, container("main", script)).await;
    logged(&config.log_directory, "ready").await;
    let begun = Instant::now();
    client.stop_container(&id, Duration::from_secs(1)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(ended(&client, &id).await.exit_code, 137);
    client.stop_container("absent", grace).await.unwrap();
}

#[tokio::test]
async fn lists_show_what_the_labels_select() {
    let containerd = Containerd::start().await;
    let client = containerd.client();
    let a = pod(&containerd, "a");
    let b = pod(&containerd, "b");
    let (sandbox_a, _) = run(&client, &a, container("one", "sleep 100")).await;
    let (_, two) = run(&client, &b, container("two", "sleep 100")).await;

    let found = client.list_pod_sandboxes(labels(&[("pod", "a")])).await.unwrap();
    assert_eq!(found.iter().map(|s| &s.id).collect::<Vec<_>>(), [&sandbox_a]);
    let found = client
        .list_containers(labels(&[("container", "two")]))
        .await
        .unwrap();
    assert_eq!(found.iter().map(|c| &c.id).collect::<Vec<_>>(), [&two]);
    assert_eq!(found[0].state(), ContainerState::ContainerRunning);
    assert_eq!(
        client
            .list_containers(labels(&[("container", "two"), ("pod", "a")]))
            .await
            .unwrap(),
        []
    );
    assert_eq!(client.list_containers(labels(&[])).await.unwrap().len(), 2);

    // A second sandbox of the same name, or container of the same name and attempt, is refused by name.
    let error = client.run_pod_sandbox(a.clone()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.id.as_str()),
        (CriErrorKind::Failed, "default/a")
    );
    assert!(error.detail().contains("is reserved for"), "{}", error.detail());
    let error = client
        .create_container(&sandbox_a, container("one", "true"), a)
        .await
        .unwrap_err();
    assert!(error.detail().contains("is reserved for"), "{}", error.detail());
}

#[tokio::test]
async fn a_running_container_obeys() {
    let containerd = Containerd::start().await;
    let client = containerd.client();
    let config = pod(&containerd, "busy");
    let mut main = container("main", "while :; do echo tick; sleep 0.05; done");
    let resources = LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    };
    main.linux = Some(LinuxContainerConfig {
        resources: Some(resources),
        security_context: None,
    });
    let (sandbox, id) = run(&client, &config, main).await;
    let limit = || {
        fs::read_to_string(format!(
            "/sys/fs/cgroup/memory{}/busy/{id}/memory.limit_in_bytes",
            containerd.cgroup()
        ))
        .or_else(|_| {
            fs::read_to_string(format!(
                "/sys/fs/cgroup{}/busy/{id}/memory.max",
                containerd.cgroup()
            ))
        })
    };
    assert_eq!(limit().unwrap().trim(), (64 << 20).to_string());
    let resources = LinuxContainerResources {
        memory_limit_in_bytes: 96 << 20,
        ..Default::default()
    };
    client.update_container_resources(&id, resources).await.unwrap();
    assert_eq!(limit().unwrap().trim(), (96 << 20).to_string());

    let command = |text: &str| vec!["sh".into(), "-c".into(), text.into()];
    let ran = client
        .exec_sync(&id, command("echo hi; exit 4"), Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!((ran.stdout.as_slice(), ran.exit_code), (b"hi\n".as_slice(), 4));
    let error = client
        .exec_sync(&id, command("sleep 100"), Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(error.kind, CriErrorKind::TimedOut(_)), "{error:?}");

    assert!(client.container_pid(&id).await.unwrap().is_some());
    assert!(client.container_stats(&id).await.unwrap().memory.is_some());
    let stats = client
        .list_container_stats(labels(&[("container", "main")]))
        .await
        .unwrap();
    assert_eq!(stats.len(), 1);
    let stats = client
        .list_pod_sandbox_stats(labels(&[("pod", "busy")]))
        .await
        .unwrap();
    assert_eq!(stats[0].attributes.as_ref().unwrap().id, sandbox);

    // A rotated log: the runtime goes on in a new file once told.
    let log = format!("{}/main.log", config.log_directory);
    fs::rename(&log, format!("{log}.1")).unwrap();
    client.reopen_container_log(&id).await.unwrap();
    logged(&config.log_directory, "tick").await;

    // containerd 1.6 has no event stream, and says so at once.
    let mut events = client.container_events();
    let error = events.next().await.unwrap_err();
    assert_eq!(error.kind, CriErrorKind::Unimplemented);
    assert!(events.next().await.unwrap().is_none());
}

/// Waits until the container `main` has written `line`.
async fn logged(directory: &str, line: &str) {
    eventually("the line is logged", async || {
        fs::read_to_string(format!("{directory}/main.log"))
            .is_ok_and(|log| log.contains(line))
            .then_some(())
    })
    .await;
}
