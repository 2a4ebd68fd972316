//! client-go, as kubectl uses it, against this crate as the kubelet.

use std::time::Duration;

use edge_streams::port_forward::{Forward, PortForwards};
use edge_streams::remote_command::{Command, Options, Outcome, TerminalSize};
use edge_streams::spdy::Session;
use edge_streams::websocket::{ChannelProtocol, Tunnel};
use edge_streams::{Limits, negotiate};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::Upgrade;
use crate::peer::{ALL, TERMINAL, finish, listener, listening, spawn};
use crate::wire::{SOON, pattern, read_all, write_all};

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

#[tokio::test(flavor = "multi_thread")]
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
#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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
