//! Against Kubernetes' own code (`tests/peer/`, built with Go): client-go as kubectl uses it, cri-streaming as the kubelet and containerd
//! use it, and spdystream below both.

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use edge_streams::port_forward::{Forward, PortForwards};
use edge_streams::remote_command::{Command, Options, Outcome, Running, TerminalSize};
use edge_streams::spdy::{Headers, Session};
use edge_streams::websocket::{ChannelProtocol, Tunnel};
use edge_streams::{Limits, negotiate};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::{Upgrade, request_spdy};
use crate::wire::{SOON, pattern, read_all, write_all};

const ALL: Options = Options {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const TERMINAL: Options = Options {
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

fn spawn(args: &[&str]) -> Child {
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
struct Listening {
    address: String,
    _child: Child,
}

async fn listening(args: &[&str]) -> Listening {
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
struct Said {
    stdout: Vec<u8>,
    stderr: String,
    status: ExitStatus,
}

async fn finish(mut child: Child, input: &[u8]) -> Said {
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

/// The kubelet's end of one request for a command.
async fn kubelet(listener: &TcpListener, options: Options) -> Command {
    let (io, _) = listener.accept().await.unwrap();
    let upgrade = Upgrade::accept(io).await;
    if upgrade.head.values("Upgrade") == ["websocket"] {
        let protocol =
            negotiate::websocket_remote_command(upgrade.head.values("Sec-WebSocket-Protocol")).unwrap();
        assert_eq!(protocol, ChannelProtocol::V5);
        let socket = upgrade.websocket(protocol.name()).await;
        Command::over_websocket(socket, protocol, options, Limits::default())
    } else {
        let offered = upgrade.head.values("X-Stream-Protocol-Version");
        let protocol = negotiate::spdy(offered, negotiate::REMOTE_COMMAND).unwrap();
        let session = Session::server(upgrade.spdy(protocol).await, Limits::default());
        Command::over_spdy(session, options).await.unwrap()
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn kubectl_gets_all_output_and_the_exit_code() {
    let input = pattern(50_000_000);
    for transport in ["spdy", "websocket"] {
        let (listener, url) = listener().await;
        let serve = async {
            let mut command = kubelet(&listener, ALL).await;
            let mut stdin = command.stdin.take().unwrap();
            let mut stdout = command.stdout.take().unwrap();
            // To the end of the client's input, which only its end can end.
            tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
            command
                .stderr
                .take()
                .unwrap()
                .write_all(b"to the end\n")
                .await
                .unwrap();
            drop((stdin, stdout));
            timeout(SOON, command.ending.finish(&Outcome::NonZeroExit(7)))
                .await
                .unwrap()
                .unwrap();
        };
        let (said, ()) = tokio::join!(finish(spawn(&["exec", transport, &url]), &input), serve);
        assert_eq!(said.status.code(), Some(7), "{transport}: {}", said.stderr);
        assert!(said.stdout == input, "{transport}: {} bytes", said.stdout.len());
        assert_eq!(said.stderr, "to the end\n");
    }
}

/// The process ends while the client has input left, which it goes on to send: no reset of the connection may overtake the output.
#[tokio::test]
async fn output_survives_a_client_that_is_still_sending() {
    let input = pattern(20_000_000);
    for transport in ["spdy", "websocket"] {
        let (listener, url) = listener().await;
        let serve = async {
            let mut command = kubelet(&listener, ALL).await;
            let mut stdin = command.stdin.take().unwrap();
            let mut first = vec![0; 1_000_000];
            stdin.read_exact(&mut first).await.unwrap();
            command.stdout.take().unwrap().write_all(&first).await.unwrap();
            timeout(SOON, command.ending.finish(&Outcome::Success))
                .await
                .unwrap()
                .unwrap();
        };
        let (said, ()) = tokio::join!(finish(spawn(&["exec", transport, &url]), &input), serve);
        assert!(said.status.success(), "{transport}: {}", said.stderr);
        assert!(
            said.stdout == input[..1_000_000],
            "{transport}: {} bytes",
            said.stdout.len()
        );
    }
}

#[tokio::test]
async fn kubectl_shows_why_a_command_failed() {
    for transport in ["spdy", "websocket"] {
        let (listener, url) = listener().await;
        let serve = async {
            let command = kubelet(&listener, ALL).await;
            let outcome = Outcome::Failed {
                message: "the device is away".into(),
            };
            timeout(SOON, command.ending.finish(&outcome))
                .await
                .unwrap()
                .unwrap();
        };
        let (said, ()) = tokio::join!(finish(spawn(&["exec", transport, &url]), b""), serve);
        assert_eq!(said.status.code(), Some(125));
        assert_eq!(
            said.stderr, "peer: Internal error occurred: the device is away\n",
            "{transport}"
        );
    }
}

#[tokio::test]
async fn kubectl_tells_the_size_of_its_terminal() {
    for transport in ["spdy", "websocket"] {
        let (listener, url) = listener().await;
        let serve = async {
            let mut command = kubelet(&listener, TERMINAL).await;
            let mut sizes = command.resizes.take().unwrap();
            for (width, height) in [(80, 24), (120, 40)] {
                assert_eq!(sizes.next().await, Some(TerminalSize { width, height }));
            }
            command.stdout.take().unwrap().write_all(b"$ ").await.unwrap();
            timeout(SOON, command.ending.finish(&Outcome::Success))
                .await
                .unwrap()
                .unwrap();
        };
        let (said, ()) = tokio::join!(finish(spawn(&["exec", transport, &url, "tty"]), b""), serve);
        assert!(said.status.success(), "{transport}: {}", said.stderr);
        assert_eq!(said.stdout, b"$ ");
    }
}

/// A pod's ports: 7 echoes, 9 reads slowly and tells how much it got, nothing else listens.
async fn pod(forward: Forward) {
    let (mut read, mut write) = match forward.port {
        7 | 9 => tokio::io::split(forward.data),
        port => return forward.fail(&format!("nothing listens on {port}")).await,
    };
    if forward.port == 7 {
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    } else {
        let (mut total, mut chunk) = (0_u64, vec![0; 1_000_000]);
        loop {
            // Slower than whoever writes: everything between them is full.
            tokio::task::yield_now().await;
            match read.read(&mut chunk).await.unwrap() {
                0 => break,
                length => total += length as u64,
            }
        }
        write.write_all(total.to_string().as_bytes()).await.unwrap();
    }
    write.shutdown().await.unwrap();
}

async fn serve_ports(listener: TcpListener) {
    let (io, _) = listener.accept().await.unwrap();
    let upgrade = Upgrade::accept(io).await;
    let within = Duration::from_secs(30);
    let mut forwards = if upgrade.head.values("Upgrade") == ["websocket"] {
        let offered = upgrade.head.values("Sec-WebSocket-Protocol");
        let protocol = negotiate::websocket_port_forward(offered).unwrap();
        assert_eq!(protocol, negotiate::PortForwardProtocol::Tunnel);
        let tunnel = Tunnel::new(upgrade.websocket(protocol.name()).await);
        PortForwards::over_spdy(Session::server(tunnel, Limits::default()), within)
    } else {
        let offered = upgrade.head.values("X-Stream-Protocol-Version");
        let protocol = negotiate::spdy(offered, negotiate::PORT_FORWARD).unwrap();
        let io = upgrade.spdy(protocol).await;
        PortForwards::over_spdy(Session::server(io, Limits::default()), within)
    };
    let mut tasks = JoinSet::new();
    while let Ok(forward) = forwards.accept().await {
        tasks.spawn(pod(forward));
    }
    tasks.join_all().await;
    let _ = timeout(SOON, forwards.close()).await.unwrap();
}

/// One connection through the forwarded port: what came back after `sent` and its end.
async fn through(address: &str, sent: &[u8]) -> Vec<u8> {
    let io = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = io.into_split();
    let ((), received) = tokio::join!(write_all(&mut write, sent), read_all(&mut read));
    received
}

#[tokio::test]
async fn kubectl_forwards_ports() {
    for transport in ["spdy", "websocket"] {
        let (listener, url) = listener().await;
        let serving = tokio::spawn(serve_ports(listener));
        let peer = listening(&["forward", transport, &url, "7"]).await;
        let mut tasks = JoinSet::new();
        for n in 0..20 {
            let address = peer.address.clone();
            tasks.spawn(async move {
                let sent = pattern(2_000_000 + n);
                // The echo ends when it has read the end of the client's direction: a half-close went through.
                assert!(through(&address, &sent).await == sent, "connection {n}");
            });
        }
        tasks.join_all().await;
        assert_eq!(through(&peer.address, b"").await, b"");
        drop(peer);
        timeout(SOON, serving).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn kubectl_uploads_to_a_slow_reader_and_hears_of_a_closed_port() {
    for transport in ["spdy", "websocket"] {
        let (listener, url) = listener().await;
        let serving = tokio::spawn(serve_ports(listener));
        let peer = listening(&["forward", transport, &url, "9"]).await;
        assert_eq!(
            through(&peer.address, &pattern(50_000_000)).await,
            b"50000000",
            "{transport}"
        );
        drop(peer);
        timeout(SOON, serving).await.unwrap().unwrap();

        let (listener, url) = self::listener().await;
        let serving = tokio::spawn(serve_ports(listener));
        let mut child = spawn(&["forward", transport, &url, "81"]);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .await
            .unwrap();
        let mut io = TcpStream::connect(line.trim().strip_prefix("listening ").unwrap())
            .await
            .unwrap();
        let mut nothing = Vec::new();
        // It is closed or reset, as the client likes.
        let _ = io.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        loop {
            let line = errors.next_line().await.unwrap().expect("it says why");
            if line.contains("nothing listens on 81") {
                break;
            }
        }
        drop(child);
        let _ = timeout(SOON, serving).await.unwrap();
    }
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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
#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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
