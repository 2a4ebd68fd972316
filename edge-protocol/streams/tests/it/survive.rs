//! What serves a connection, given bytes of a peer that means harm: a panic or a hang is a failure. The fuzz targets of `fuzz/` share it.

use std::time::Duration;

use edge_streams::Limits;
use edge_streams::port_forward::PortForwards;
use edge_streams::remote_command::{Command, Options, Outcome, Running};
use edge_streams::spdy::Session;
use edge_streams::websocket::{ChannelProtocol, Pipe, Tunnel, config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

const TERMINAL: Options = Options {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

/// A deadline for what should happen at once.
const SOON: Duration = Duration::from_mins(1);

/// A SPDY connection of either role, whose peer says this in pieces of `piece` bytes and goes.
pub fn spdy(bytes: &[u8], piece: usize) {
    let limits = Limits::default();
    survive(|io| serve_session(Session::server(io, limits)), bytes, piece);
    survive(|io| serve_session(Session::client(io, limits)), bytes, piece);
}

/// A WebSocket's server, after the upgrade, for all that it may carry.
pub fn websocket(bytes: &[u8], piece: usize) {
    for protocol in [ChannelProtocol::V5, ChannelProtocol::Base64V4] {
        survive(|io| serve_command(io, protocol), bytes, piece);
    }
    survive(serve_tunnel, bytes, piece);
    survive(serve_pipe, bytes, piece);
}

/// A command's pipe of either role.
pub fn pipe(bytes: &[u8], piece: usize) {
    let limits = Limits::default();
    survive(|io| end(Command::over_pipe(io, TERMINAL, limits)), bytes, piece);
    survive(|io| hear(Running::over_pipe(io, TERMINAL, limits)), bytes, piece);
}

/// Runs what serves a connection that is fed `bytes` in pieces and then cut; it must come to its end, without a panic.
fn survive<F: Future<Output = ()>>(serve: impl FnOnce(DuplexStream) -> F, bytes: &[u8], piece: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut peer, io) = tokio::io::duplex(64);
        let feed = async {
            for piece in bytes.chunks(piece) {
                if peer.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _ = peer.shutdown().await;
            let mut heard = Vec::new();
            let _ = peer.read_to_end(&mut heard).await;
        };
        let ended = timeout(SOON, async { tokio::join!(feed, serve(io)) }).await;
        assert!(ended.is_ok(), "it hangs on {bytes:?}");
    });
}

async fn serve_session(mut session: Session) {
    let mut streams = Vec::new();
    while let Ok(mut stream) = session.accept().await {
        let _ = stream.write_all(b"answer").await;
        streams.push(stream);
    }
    for stream in &mut streams {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    session.gone().wait().await;
}

async fn serve_command(io: DuplexStream, protocol: ChannelProtocol) {
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    end(Command::over_websocket(
        socket,
        protocol,
        TERMINAL,
        Limits::default(),
    ))
    .await;
}

/// A command that ends with its input.
async fn end(mut command: Command) {
    let (mut stdin, mut resizes) = (command.stdin.take().unwrap(), command.resizes.take().unwrap());
    let sizes = async { while resizes.next().await.is_some() {} };
    let mut input = Vec::new();
    let _ = tokio::join!(sizes, stdin.read_to_end(&mut input));
    let _ = command.ending.finish(&Outcome::Success).await;
}

async fn serve_tunnel(io: DuplexStream) {
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    let session = Session::server(Tunnel::new(socket), Limits::default());
    let mut forwards = PortForwards::over_spdy(session, SOON);
    while let Ok(forward) = forwards.accept().await {
        forward.fail("no").await;
    }
    forwards.gone().wait().await;
}

async fn hear(mut running: Running) {
    let mut stdout = running.stdout.take().unwrap();
    let mut output = Vec::new();
    let _ = tokio::join!(stdout.read_to_end(&mut output), running.verdict.outcome());
    let _ = running.verdict.close().await;
}

async fn serve_pipe(io: DuplexStream) {
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    let mut pipe = Pipe::new(socket);
    if pipe.read_to_end(&mut Vec::new()).await.is_err() {
        return;
    }
    let _ = pipe.write_all(b"answer").await;
    let _ = pipe.shutdown().await;
}
