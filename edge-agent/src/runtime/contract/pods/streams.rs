//! Commands and their streams.

use std::fs;
use std::time::Duration;

use edge_agent_core::step::ObservedState;
use edge_protocol::v1::{ContainerSpec, Stdio, StreamRefusal, Terminal};
use edge_streams::remote_command::{Outcome, Received, Running, TerminalSize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{Pod, exited, shell, started};
use crate::runtime::StreamFault;
use crate::runtime::contract::containerd::eventually;
use crate::runtime::contract::{device, given, within};

const ALL: Stdio = Stdio {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const TTY: Stdio = Stdio { tty: true, ..ALL };
const OUTPUT: Stdio = Stdio { stdin: false, ..ALL };

/// A pod with one container that stays.
async fn staying(name: &str) -> (Pod, String) {
    let pod = Pod::new(name, |_| {}).await;
    pod.device.containerd.enter_network();
    let up = pod.up().await;
    let id = started(&pod.runtime, pod.start(&up, shell("main", "sleep 1000"))).await;
    (pod, id)
}

fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).into()
}

/// What a command printed, and how it went.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    outcome: Outcome,
}

/// Gives it all of its input and takes all of its output.
async fn ran(running: Running, input: &[u8]) -> Ran {
    let Running {
        stdin,
        stdout,
        stderr,
        resize,
        mut verdict,
    } = running;
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command that has ended takes no more.
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        }
    };
    let ((), stdout, stderr, outcome) = tokio::join!(write, rest(stdout), rest(stderr), verdict.outcome());
    drop(resize);
    Ran {
        stdout,
        stderr,
        outcome: outcome.unwrap(),
    }
}

async fn rest(output: Option<Received>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut output) = output {
        output.read_to_end(&mut bytes).await.unwrap();
    }
    bytes
}

/// Reads until `text` was printed.
async fn printed(output: &mut Option<Received>, text: &str) {
    let output = output.as_mut().unwrap();
    let mut so_far = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&so_far).contains(text) {
            so_far.push(output.read_u8().await.unwrap());
        }
    };
    within(text, read).await;
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_end() {
    let (pod, id) = staying("commands").await;
    let check = async |script: &str, stdio: Stdio, expect: (&str, &str), outcome: Outcome| {
        let running = pod.runtime.exec(&id, sh(script), stdio).await.unwrap();
        let given = "first\nsecond\n";
        let ran = within(script, ran(running, given.as_bytes())).await;
        let expect = Ran {
            stdout: expect.0.into(),
            stderr: expect.1.into(),
            outcome,
        };
        assert_eq!(ran, expect, "{script}");
    };
    check("cat", ALL, ("first\nsecond\n", ""), Outcome::Success).await;
    check(
        "cat >&2; exit 3",
        ALL,
        ("", "first\nsecond\n"),
        Outcome::NonZeroExit(3),
    )
    .await;
    check(
        "echo out; echo err >&2",
        OUTPUT,
        ("out\n", "err\n"),
        Outcome::Success,
    )
    .await;
    let no_stderr = Stdio { stderr: false, ..ALL };
    check(
        "echo err >&2; echo out",
        no_stderr,
        ("out\n", ""),
        Outcome::Success,
    )
    .await;
    check("exit 137", OUTPUT, ("", ""), Outcome::NonZeroExit(137)).await;
    check("kill -9 $$", OUTPUT, ("", ""), Outcome::NonZeroExit(137)).await;
}

/// In containerd's words, which a kubelet passes on; `kubectl exec` ends with 1.
#[tokio::test]
async fn what_cannot_be_run_is_told_as_its_outcome() {
    let (pod, id) = staying("missing").await;
    for (program, why) in [
        ("/nowhere", "no such file or directory"),
        ("nowhere", "executable file not found in $PATH"),
        ("/etc/passwd", "permission denied"),
    ] {
        let running = pod.runtime.exec(&id, vec![program.into()], ALL).await.unwrap();
        let ran = within(program, ran(running, b"")).await;
        let Outcome::Failed { message } = ran.outcome else {
            panic!("{program}: {ran:?}")
        };
        let begins =
            "error executing command in container: failed to exec in container: failed to start exec ";
        assert!(message.contains(begins) && message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn a_terminal_has_the_size_that_was_told_last_and_one_output() {
    let (pod, id) = staying("terminal").await;
    let wait = r#"while [ "$(busybox stty size)" != "$size" ]; do sleep 0.05; done; echo "$size""#;
    let talk = r#"busybox test -t 0 && read line && echo "got $line" && echo err >&2; exit 4"#;
    let script = format!("size='24 80'; {wait}; size='43 132'; {wait}; {talk}");
    let mut running = pod.runtime.exec(&id, sh(&script), TTY).await.unwrap();
    assert!(running.stderr.is_none(), "both outputs are one");
    for (width, height) in [(80, 24), (132, 43)] {
        let resize = running.resize.as_mut().unwrap();
        resize.send(TerminalSize { width, height }).await.unwrap();
        printed(&mut running.stdout, &format!("{height} {width}")).await;
    }
    // Its end would be the end of the terminal.
    let stdin = running.stdin.as_mut().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    printed(&mut running.stdout, "got hello").await;
    printed(&mut running.stdout, "err").await;
    let end = async { tokio::join!(rest(running.stdout), running.verdict.outcome()) };
    let (_, outcome) = within("the end", end).await;
    assert_eq!(outcome.unwrap(), Outcome::NonZeroExit(4));
}

#[tokio::test]
async fn bulk_passes_both_ways_whole() {
    let (pod, id) = staying("bulk").await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    let bytes: Vec<u8> = words
        .take(50 * 1024 * 1024 / 8)
        .flat_map(u64::to_be_bytes)
        .collect();
    let running = pod.runtime.exec(&id, sh("cat"), ALL).await.unwrap();
    let all = timeout(Duration::from_mins(2), ran(running, &bytes)).await;
    let ran = all.expect("50 MB passed");
    assert!(
        ran.stdout == bytes,
        "{} of {} bytes",
        ran.stdout.len(),
        bytes.len()
    );
    assert_eq!((ran.stderr.as_slice(), ran.outcome), (&b""[..], Outcome::Success));
}

#[tokio::test]
async fn a_reader_that_pauses_loses_nothing() {
    let (pod, id) = staying("slow").await;
    let script = sh("busybox seq 1 500000; echo done >&2");
    let running = pod.runtime.exec(&id, script, OUTPUT).await.unwrap();
    // Everything on the way is full: nothing moves any more.
    let full = running.verdict.activity();
    within("it stands still", full.idle_for(Duration::from_millis(500))).await;
    let ran = within("it goes on", ran(running, b"")).await;
    let expect = (1..=500_000).fold(String::new(), |text, number| text + &format!("{number}\n"));
    assert!(ran.stdout == expect.as_bytes(), "{} bytes", ran.stdout.len());
    assert_eq!(
        (ran.stderr.as_slice(), ran.outcome),
        (&b"done\n"[..], Outcome::Success)
    );
}

#[tokio::test]
async fn who_drops_a_command_leaves_nothing_behind() {
    let (pod, id) = staying("dropped").await;
    let sockets = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count()
    };
    // The connection that stays is the one to the runtime.
    let before = sockets();
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut running = pod
            .runtime
            .exec(&id, sh("echo here; exec cat"), ALL)
            .await
            .unwrap();
        printed(&mut running.stdout, "here\n").await;
        open.push(running);
    }
    assert_eq!(sockets(), before + 10);
    drop(open);
    eventually("the connections are closed", async || {
        (sockets() == before).then_some(())
    })
    .await;
    eventually("the commands have ended with their input", async || {
        let running = pod
            .runtime
            .exec(&id, sh("busybox pidof cat"), OUTPUT)
            .await
            .unwrap();
        (ran(running, b"").await.outcome == Outcome::NonZeroExit(1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_may_not_have_a_stream_is_told_why() {
    let (pod, id) = staying("refused").await;
    let other = pod.device.runtime("device-b");
    let gone = "0123456789abcdef";
    let over = {
        let sandbox = pod.up().await;
        let id = started(&pod.runtime, pod.start(&sandbox, shell("over", "code=0"))).await;
        exited(&pod.runtime, &id).await.id
    };
    let check = |fault: Option<StreamFault>, refusal: StreamRefusal, message: &str| {
        let fault = fault.expect(message);
        assert_eq!((fault.refusal(), fault.message().as_str()), (refusal, message));
    };
    let not_found = |id: &str| format!("container not found ({id:?})");
    let ended = "container is in CONTAINER_EXITED state";
    check(
        pod.runtime.exec(gone, sh("true"), ALL).await.err(),
        StreamRefusal::NotFound,
        &not_found(gone),
    );
    check(
        pod.runtime.attach(gone, ALL).await.err(),
        StreamRefusal::NotFound,
        &not_found(gone),
    );
    check(
        other.exec(&id, sh("true"), ALL).await.err(),
        StreamRefusal::NotFound,
        &not_found(&id),
    );
    check(
        other.attach(&id, ALL).await.err(),
        StreamRefusal::NotFound,
        &not_found(&id),
    );
    check(
        pod.runtime.exec(&over, sh("true"), ALL).await.err(),
        StreamRefusal::NotRunning,
        ended,
    );
    check(
        pod.runtime.attach(&over, ALL).await.err(),
        StreamRefusal::NotRunning,
        ended,
    );
    check(
        pod.runtime.exec(&id, sh("true"), Stdio::default()).await.err(),
        StreamRefusal::Failed,
        "you must specify at least 1 of stdin, stdout, stderr",
    );
}

fn interactive(name: &str, script: &str, terminal: Terminal) -> ContainerSpec {
    ContainerSpec {
        terminal,
        command: sh(script),
        ..ContainerSpec::new(name, given::IMAGE)
    }
}

#[tokio::test]
async fn who_attaches_sees_what_comes_and_may_write() {
    let pod = Pod::new("attach", |_| {}).await;
    pod.device.containerd.enter_network();
    let up = pod.up().await;
    let echo = r#"echo before; while read line; do echo "got $line"; echo "err $line" >&2; done; echo bye"#;
    let terminal = |stdin_once| Terminal {
        stdin: true,
        stdin_once,
        tty: false,
    };
    let start = async |name: &str, stdin_once| {
        let id = started(
            &pod.runtime,
            pod.start(&up, interactive(name, echo, terminal(stdin_once))),
        )
        .await;
        device::logged(&pod.workload.log(&pod.device.logs("device-a"), name, 0), "before").await;
        id
    };

    // What one leaves, the next finds.
    let id = start("many", false).await;
    for line in ["one", "two"] {
        let mut running = pod.runtime.attach(&id, ALL).await.unwrap();
        let stdin = running.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut expected = format!("got {line}\n").into_bytes();
        let mut seen = vec![0; expected.len()];
        let stdout = running.stdout.as_mut().unwrap();
        within("the answer", stdout.read_exact(&mut seen)).await.unwrap();
        assert_eq!(seen, expected, "nothing from before");
        expected.splice(..3, *b"err");
        let stderr = running.stderr.as_mut().unwrap();
        within("the other answer", stderr.read_exact(&mut seen))
            .await
            .unwrap();
        assert_eq!(seen, expected);
    }

    // The end of the first one's input is the container's.
    let id = start("once", true).await;
    let running = pod.runtime.attach(&id, ALL).await.unwrap();
    let ran = within("the container's end", ran(running, b"last\n")).await;
    let expect = Ran {
        stdout: b"got last\nbye\n".to_vec(),
        stderr: b"err last\n".to_vec(),
        outcome: Outcome::Success,
    };
    assert_eq!(ran, expect);
    let state = exited(&pod.runtime, &id).await.state;
    assert!(
        matches!(state, ObservedState::Exited { exit_code: 0, .. }),
        "{state:?}"
    );
}

#[tokio::test]
async fn a_containers_own_terminal_is_attached_to() {
    let pod = Pod::new("attach-tty", |_| {}).await;
    pod.device.containerd.enter_network();
    let up = pod.up().await;
    let script = r#"while [ "$(busybox stty size)" != "43 132" ]; do sleep 0.05; done; echo sized; read line; echo "got $line""#;
    let terminal = Terminal {
        stdin: true,
        stdin_once: false,
        tty: true,
    };
    let id = started(
        &pod.runtime,
        pod.start(&up, interactive("main", script, terminal)),
    )
    .await;
    let mut running = pod.runtime.attach(&id, TTY).await.unwrap();
    let size = TerminalSize {
        width: 132,
        height: 43,
    };
    running.resize.as_mut().unwrap().send(size).await.unwrap();
    printed(&mut running.stdout, "sized").await;
    running
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"hello\n")
        .await
        .unwrap();
    printed(&mut running.stdout, "got hello").await;
    exited(&pod.runtime, &id).await;
}
