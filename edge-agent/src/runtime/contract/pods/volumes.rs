//! Volumes, while the pod lives and when it goes.

use std::fs;
use std::path::PathBuf;

use edge_agent_core::step::Step;
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{ContainerSpec, EnvVar, HostPathCheck, Medium, MountSpec, ObjectKind, VolumeSource};

use super::{Pod, done, empty, files, mount, shell, started, volume};
use crate::runtime::contract::device::logged;

#[tokio::test]
async fn volumes_are_seen_change_and_go() {
    let shown = tempfile::tempdir().unwrap();
    fs::write(shown.path().join("kept"), "of the device").unwrap();
    let path = shown.path().to_str().unwrap().to_owned();
    let mut pod = Pod::new("volumes", |manifest| {
        manifest.workload.security.fs_group = Some(4711);
        manifest.workload.volumes = vec![
            volume("memory", empty(Medium::Memory)),
            volume("disk", empty(Medium::Disk)),
            volume("keys", files(ObjectKind::Secret, "keys")),
            volume(
                "host",
                VolumeSource::HostPath {
                    path,
                    check: HostPathCheck::Directory,
                },
            ),
        ];
    })
    .await;
    pod.put(kind::SECRET, "keys", &[("password", "hunter2")]);
    let up = pod.up().await;
    let script = "cat /keys/password; echo; stat -L -c 'mode %a %u %g' /keys/password; stat -c 'root %a %g' /disk
        echo x > /keys/password || echo keys are read-only
        echo x > /host/kept || echo the host path is read-only
        echo made > /sub/file; cat /disk/logs/main/file; grep -q ' /memory tmpfs ' /proc/mounts && echo in memory
        sleep 1000";
    let container = ContainerSpec {
        env: vec![EnvVar::literal("NAME", "main")],
        mounts: vec![
            mount("memory", "/memory", None),
            mount("disk", "/disk", None),
            mount("disk", "/sub", Some("logs/$(NAME)")),
            mount("keys", "/keys", None),
            MountSpec {
                read_only: true,
                ..mount("host", "/host", None)
            },
        ],
        ..shell("main", script)
    };
    let id = started(&pod.runtime, pod.start(&up, container)).await;
    let log = pod.workload.log(&pod.device.logs("device-a"), "main", 0);
    logged(&log, "in memory").await;
    let text = fs::read_to_string(&log).unwrap();
    for line in [
        "hunter2",
        "mode 640 0 4711",
        "root 2777 4711",
        "keys are read-only",
        "the host path is read-only",
        "made",
    ] {
        assert!(text.contains(&format!(" {line}\n")), "{line}: {text}");
    }

    // A changed secret reaches the running container.
    pod.put(kind::SECRET, "keys", &[("password", "rotated")]);
    done(&pod.runtime, pod.sync(up.1.clone())).await;
    let client = pod.device.containerd.client();
    let cat = ["cat".to_owned(), "/keys/password".to_owned()];
    let seen = client
        .exec_sync(&id, cat.to_vec(), std::time::Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(seen.stdout, b"rotated");

    done(
        &pod.runtime,
        Step::StopSandbox {
            sandbox_id: up.0.clone(),
        },
    )
    .await;
    let uid = pod.workload.uid();
    done(
        &pod.runtime,
        Step::RemoveSandbox {
            sandbox_id: up.0,
            uid: uid.clone(),
        },
    )
    .await;
    done(&pod.runtime, Step::RemoveWorkload { uid }).await;
    let left: Vec<PathBuf> = fs::read_dir(pod.device.pods("device-a"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(left, [] as [PathBuf; 0]);
    assert_eq!(
        fs::read_to_string(shown.path().join("kept")).unwrap(),
        "of the device"
    );
}
