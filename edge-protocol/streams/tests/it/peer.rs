//! Against Kubernetes' own code (`tests/peer/`, built with Go): cri-streaming as the kubelet and containerd use it, and
//! spdystream below it; client-go is in `kubectl`.

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use edge_streams::remote_command::{Options, Outcome, Running, TerminalSize};
use edge_streams::spdy::{Headers, Session};
use edge_streams::{Limits, negotiate};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::request_spdy;
use crate::wire::{SOON, pattern, read_all, write_all};

pub const ALL: Options = Options {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
pub const TERMINAL: Options = Options {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

/// The peer's program, built if it is not. Tests run in processes of their own: one builds, the others wait.
fn program() -> std::path::PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("streams-peer");
    let lock = File::create(program.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let built = std::process::Command::new("go")
        .arg("build")
        .arg("-C")
        .arg(sources)
        .args(["-trimpath", "-buildvcs=false", "-o"])
        .args([program.as_path(), Path::new(".")])
        .status()
        .expect("Go is installed: scripts/install says how");
    assert!(built.success());
    program
}

pub fn spawn(args: &[&str]) -> Child {
    tokio::process::Command::new(program())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A peer that listens until it is dropped.
pub struct Listening {
    pub address: String,
    _child: Child,
}

pub async fn listening(args: &[&str]) -> Listening {
    let mut child = spawn(args);
    let mut line = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).await.unwrap();
    let address = line
        .trim()
        .strip_prefix("listening ")
        .expect("its first line")
        .to_owned();
    Listening {
        address,
        _child: child,
    }
}

/// What a peer that was given `input` had to say.
pub struct Said {
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub status: ExitStatus,
}

pub async fn finish(mut child: Child, input: &[u8]) -> Said {
    async fn feed(mut stdin: ChildStdin, input: &[u8]) {
        // A peer that is done reads no more.
        let _ = stdin.write_all(input).await;
    }
    async fn drain(mut stdout: ChildStdout) -> Vec<u8> {
        read_all(&mut stdout).await
    }
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut stderr = child.stderr.take().unwrap();
    let mut errors = String::new();
    let ((), stdout, read, status) = tokio::join!(
        feed(stdin, input),
        drain(stdout),
        stderr.read_to_string(&mut errors),
        child.wait(),
    );
    read.unwrap();
    Said {
        stdout,
        stderr: errors,
        status: status.unwrap(),
    }
}

pub async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

async fn run(peer: &Listening, options: Options) -> Running {
    let bit = |wanted: bool| u8::from(wanted);
    let path = format!(
        "/exec?input={}&output={}&error={}&tty={}",
        bit(options.stdin),
        bit(options.stdout),
        bit(options.stderr),
        bit(options.tty)
    );
    let io = request_spdy(&peer.address, &path, negotiate::REMOTE_COMMAND).await;
    Running::start(Session::client(io, Limits::default()), options)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_runs_commands_for_the_agent() {
    let peer = listening(&["runtime", "sh", "-c", "cat; echo to the end >&2; exit 3"]).await;
    let sent = pattern(5_000_000);
    let mut running = run(&peer, ALL).await;
    let mut stdin = running.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (running.stdout.take().unwrap(), running.stderr.take().unwrap());
    let ((), output, errors, outcome) = tokio::join!(
        async {
            stdin.write_all(&sent).await.unwrap();
            // The end of the command's input.
            drop(stdin);
        },
        read_all(&mut stdout),
        read_all(&mut stderr),
        running.verdict.outcome(),
    );
    assert!(output == sent, "{} bytes", output.len());
    assert_eq!(errors, b"to the end\n");
    assert_eq!(outcome.unwrap(), Outcome::NonZeroExit(3));
    let _ = timeout(SOON, running.verdict.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_tells_every_outcome() {
    for (command, expected) in [
        ("exit 0", Outcome::Success),
        ("exit 255", Outcome::NonZeroExit(255)),
    ] {
        let peer = listening(&["runtime", "sh", "-c", command]).await;
        let mut running = run(&peer, Options { stdin: false, ..ALL }).await;
        assert_eq!(
            timeout(SOON, running.verdict.outcome()).await.unwrap().unwrap(),
            expected
        );
    }
    let peer = listening(&["runtime", "/no/such/command"]).await;
    let mut running = run(&peer, ALL).await;
    let outcome = timeout(SOON, running.verdict.outcome()).await.unwrap().unwrap();
    assert!(
        matches!(&outcome, Outcome::Failed { message } if message.contains("/no/such/command")),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_is_told_the_size_of_a_terminal() {
    let peer = listening(&["runtime", "echo", "$"]).await;
    let mut running = run(&peer, TERMINAL).await;
    let mut resize = running.resize.take().unwrap();
    for (width, height) in [(80, 24), (120, 40)] {
        resize.send(TerminalSize { width, height }).await.unwrap();
    }
    let output = timeout(SOON, read_all(running.stdout.as_mut().unwrap()))
        .await
        .unwrap();
    assert_eq!(output, b"80x24\n120x40\n$\n");
    assert_eq!(running.verdict.outcome().await.unwrap(), Outcome::Success);
}

/// A command that is cut off: the process is told by the end of its streams.
#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_lets_go_when_the_agent_does() {
    let peer = listening(&["runtime", "cat"]).await;
    let mut running = run(&peer, ALL).await;
    running.stdin.as_mut().unwrap().write_all(b"echo").await.unwrap();
    let mut echo = [0; 4];
    running
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut echo)
        .await
        .unwrap();
    let mut gone = running.verdict.gone();
    drop(running);
    timeout(SOON, gone.wait()).await.unwrap();
    // The runtime serves others.
    let mut running = run(&peer, ALL).await;
    drop(running.stdin.take());
    assert_eq!(running.verdict.outcome().await.unwrap(), Outcome::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_spdystream_echoes_streams() {
    let peer = listening(&["mirror"]).await;
    let io = TcpStream::connect(&peer.address).await.unwrap();
    let client = std::sync::Arc::new(Session::client(io, Limits::default()));
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let client = std::sync::Arc::clone(&client);
        tasks.spawn(async move {
            let stream = client.open(Headers::default()).await.unwrap();
            if n % 5 == 4 {
                return drop(stream);
            }
            let (mut read, mut write) = stream.into_split();
            let sent = pattern(1_000_000 + n);
            let ((), echoed) = tokio::join!(write_all(&mut write, &sent), read_all(&mut read));
            assert!(echoed == sent, "stream {n}");
        });
    }
    tasks.join_all().await;
    let client = std::sync::Arc::into_inner(client).unwrap();
    timeout(SOON, client.close()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_spdystream_says_all_that_it_can() {
    let (listener, _) = listener().await;
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut session = Session::server(io, Limits::default());
        let mut tasks = JoinSet::new();
        let mut ports = Vec::new();
        while let Ok(stream) = session.accept().await {
            ports.extend(stream.headers().get("port").map(str::to_owned));
            let (mut read, mut write) = stream.into_split();
            tasks.spawn(async move {
                // One of them is reset.
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    let _ = write.shutdown().await;
                }
            });
        }
        tasks.join_all().await;
        let closed = timeout(SOON, session.close()).await.unwrap();
        (ports, closed)
    });
    let said = finish(spawn(&["frames", &address]), b"").await;
    assert!(said.status.success(), "{}", said.stderr);
    let (ports, closed) = timeout(SOON, serving).await.unwrap().unwrap();
    assert_eq!(ports, vec!["8080"; 22]);
    closed.unwrap();
}
