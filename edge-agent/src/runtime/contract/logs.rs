//! What only a real containerd can show of logs: it writes while they are rotated and told.

use std::num::NonZeroU64;
use std::time::Duration;

use edge_agent_core::step::Step;
use edge_protocol::v1::{LogFrame, LogFrames, LogQuery};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::task::JoinHandle;

use super::containerd::eventually;
use super::device::{Device, logged};
use super::given::Workload;
use super::{done, exited, started, within};
use crate::options::KeepLogs;
use crate::runtime::logs::{LogFault, Rotation};
use crate::runtime::{CriRuntime, LogTarget};

fn target(workload: &Workload, attempt: u32) -> LogTarget {
    LogTarget {
        namespace: "default".into(),
        name: workload.sandbox.name.clone(),
        uid: workload.uid(),
        container: "main".into(),
        attempt,
    }
}

async fn open(
    runtime: &CriRuntime,
    target: LogTarget,
    query: LogQuery,
) -> (DuplexStream, JoinHandle<Result<(), LogFault>>) {
    let log = runtime.open_log(target, &query).await.unwrap();
    let (told, mut to) = tokio::io::duplex(4096);
    let task = tokio::spawn(async move { log.serve(&mut to).await });
    (told, task)
}

/// All that is told to the end.
async fn told(runtime: &CriRuntime, target: LogTarget, query: LogQuery) -> String {
    let (mut told, task) = open(runtime, target, query).await;
    let mut wire = Vec::new();
    within("it ends", told.read_to_end(&mut wire)).await.unwrap();
    task.await.unwrap().unwrap();
    let mut frames = LogFrames::default();
    frames.push(&wire);
    let mut all = Vec::new();
    loop {
        match frames.take().unwrap() {
            Some(LogFrame::Data { text, .. }) => all.extend(text),
            Some(LogFrame::End) => return String::from_utf8(all).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn no_line_is_lost_while_a_log_is_rotated_and_followed() {
    const LINES: usize = 30_000;
    let mut device = Device::start().await;
    device.log_options.rotation = Some(Rotation {
        max_bytes: NonZeroU64::new(100_000).unwrap(),
        max_files: 500,
    });
    let runtime = device.runtime("device-a");
    let workload = Workload::new("chatty");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    // Both sources at once, and lines that containerd cuts into parts.
    let script = format!(
        "say() {{ i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $1 $i; [ $((i % 500)) -ne 0 ] || sleep 0.01; done; }}
        say err >&2 & say out; wait; printf '%040000d\\n' 0; exit 3"
    );
    let id = started(&runtime, workload.start(&sandbox, "main", 0, &script)).await;
    let log = workload.log(&device.logs("device-a"), "main", 0);
    let follow = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let following = tokio::spawn({
        let (runtime, target) = (runtime.clone(), target(&workload, 0));
        async move { told(&runtime, target, follow).await }
    });
    // As often as it can be: the rhythm of the agent is slower than this container.
    let tending = tokio::spawn({
        let runtime = runtime.clone();
        async move {
            loop {
                runtime.tend_logs().await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    exited(&runtime, &id).await;
    let followed = following.await.unwrap();
    tending.abort();
    let files = log.parent().unwrap().read_dir().unwrap().count();
    assert!(files > 5, "it was rotated: {files}");
    let afterwards = told(&runtime, target(&workload, 0), LogQuery::default()).await;
    for all in [&followed, &afterwards] {
        for source in ["out", "err"] {
            let lines = all
                .lines()
                .filter_map(|line| line.strip_prefix(source)?.trim().parse().ok());
            let numbers: Vec<usize> = lines.collect();
            assert!(
                numbers.iter().copied().eq(1..=LINES),
                "{source}: {}",
                numbers.len()
            );
        }
        assert!(all.ends_with(&format!("\n{}\n", "0".repeat(40_000))));
    }
    assert_eq!(followed, afterwards);
    let tail = LogQuery {
        tail_lines: Some(1),
        ..LogQuery::default()
    };
    // The parts of containerd's are 16 KiB.
    assert_eq!(
        told(&runtime, target(&workload, 0), tail).await.len(),
        40_000 - 2 * 16_384 + 1
    );
    let none = runtime.open_log(target(&workload, 1), &LogQuery::default()).await;
    assert!(
        matches!(none, Err(LogFault::Missing { attempt: 1, .. })),
        "{none:?}"
    );
}

#[tokio::test]
async fn a_log_is_followed_through_a_restart_and_a_lost_file_is_made_anew() {
    let mut device = Device::start().await;
    device.log_options.keep = KeepLogs {
        pods: 1,
        at_most: None,
    };
    let runtime = device.runtime("device-a");
    let workload = Workload::new("restarts");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let id = started(
        &runtime,
        workload.start(&sandbox, "main", 0, "echo first; exit 1"),
    )
    .await;
    exited(&runtime, &id).await;
    let query = LogQuery {
        follow: true,
        through_restarts: true,
        ..LogQuery::default()
    };
    let following = tokio::spawn({
        let (runtime, target) = (runtime.clone(), target(&workload, 0));
        async move { told(&runtime, target, query).await }
    });
    let script = "while [ ! -e /tmp/go ]; do echo tick; sleep 0.1; done";
    let id = started(&runtime, workload.start(&sandbox, "main", 1, script)).await;
    let log = workload.log(&device.logs("device-a"), "main", 1);
    logged(&log, "tick").await;
    // An agent that died between moving a log and telling the runtime.
    std::fs::rename(&log, log.with_extension("log.20261122-180000")).unwrap();
    eventually("it is written again", async || {
        runtime.tend_logs().await.unwrap();
        std::fs::read_to_string(&log)
            .is_ok_and(|text| text.contains("tick"))
            .then_some(())
    })
    .await;
    for step in [
        Step::StopContainer {
            container_id: id,
            grace_s: 0,
            pre_stop: None,
        },
        Step::StopSandbox {
            sandbox_id: sandbox.clone(),
        },
        Step::RemoveSandbox {
            sandbox_id: sandbox,
            uid: workload.uid(),
        },
        Step::RemoveWorkload { uid: workload.uid() },
    ] {
        done(&runtime, step).await;
    }
    let followed = following.await.unwrap();
    assert!(followed.starts_with("first\ntick\ntick\n"), "{followed}");
    // It stays for a while, as this device's options say, and is found though nobody knows the workload's name any more.
    let nameless = LogTarget {
        namespace: String::new(),
        name: String::new(),
        ..target(&workload, 1)
    };
    let kept = told(&runtime, nameless, LogQuery::default()).await;
    assert_eq!(followed, format!("first\n{kept}"));
}
