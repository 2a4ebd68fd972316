//! exec, attach and run.

use std::time::Duration;

use edge_streams::Limits;
use edge_streams::remote_command::{Command, Options, Outcome, Running, bridge};
use edge_streams::spdy::Session;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::upgrade::{self, CommandCarrier};
use super::{Asked, refused};
use crate::answer::{self, Answer, JSON, Refusal};
use crate::pods;
use crate::provider::ContainerTarget;
use crate::route::ContainerPath;

/// `DefaultStreamCreationTimeout` and `StreamIdleTimeout` of `k8s.io/cri-streaming`.
pub(super) const CREATION: Duration = Duration::from_secs(30);
pub(super) const IDLE: Duration = Duration::from_hours(4);
/// A command has five streams at most.
const STREAMS: usize = 8;
/// What `/run` answers at most, of each output: the kubelet's runtime sends 16 MiB.
const MAX_OUTPUT: u64 = 16 << 20;

pub(super) async fn exec(asked: &Asked<'_>, path: &ContainerPath, request: Request<Incoming>) -> Answer {
    let command: Vec<String> = asked.query.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return answer::text(StatusCode::BAD_REQUEST, "you must specify a command");
    }
    serve(asked, path, request, Some(command)).await
}

pub(super) async fn attach(asked: &Asked<'_>, path: &ContainerPath, request: Request<Incoming>) -> Answer {
    serve(asked, path, request, None).await
}

/// Everything that can be refused is, before the upgrade: the client then shows the words as they are.
async fn serve(
    asked: &Asked<'_>,
    path: &ContainerPath,
    mut request: Request<Incoming>,
    command: Option<Vec<String>>,
) -> Answer {
    let kind = if command.is_some() { "exec" } else { "attach" };
    let begun = async {
        let options = options(asked)?;
        let (pod, target) = asked.container(path)?;
        let (carrier, upgrade) = upgrade::command(&request)?;
        let place = asked.place()?;
        let (streams, who) = (&asked.node.streams, asked.who.clone());
        let running = if let Some(command) = command {
            streams.exec(target.clone(), command, options, who).await
        } else {
            let tty = pods::container(&pod, &path.container).is_some_and(|spec| spec["tty"] == true);
            let wanted = attachable(options, tty)?;
            streams.attach(target.clone(), wanted, who).await
        };
        let running = running.map_err(|error| refused(&error))?;
        Ok::<_, Refusal>((options, target, carrier, upgrade, place, running))
    };
    let (options, target, carrier, upgrade, place, running) = match begun.await {
        Ok(begun) => begun,
        Err(refused) => return refused.into(),
    };
    tracing::info!(
        user = asked.who.name,
        node = asked.node.name,
        ?target,
        kind,
        "a stream begins"
    );
    let connection = upgrade::connection(&mut request);
    let (user, stop) = (asked.who.name.clone(), asked.visit.stop.clone());
    let (lost, held) = (asked.node.streams.lost(), asked.visit.place.clone());
    asked.visit.streams.spawn(async move {
        let _held = (place, held);
        let carried = carry(connection, carrier, options, running, lost);
        let how = tokio::select! {
            how = carried => how,
            () = stop.cancelled() => "the kubelet stops".to_owned(),
        };
        tracing::info!(user, ?target, kind, how, "a stream ended");
    });
    upgrade.answer()
}

/// As `remotecommand.NewOptions` reads them.
fn options(asked: &Asked<'_>) -> Result<Options, Refusal> {
    let on = |name| asked.query.first(name) == Some("1");
    let options = Options {
        stdin: on("input"),
        stdout: on("output"),
        stderr: on("error"),
        tty: on("tty"),
    };
    options
        .checked()
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// Whether a process has a terminal was settled when its container was made (`GetAttach` of the kubelet, `validateAttachRequest`).
fn attachable(options: Options, tty: bool) -> Result<Options, Refusal> {
    if tty && options.stderr {
        let words = "tty and stderr cannot both be true";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, words));
    }
    Ok(Options { tty, ..options })
}

/// Carries a command to its end; how that was, for the log.
async fn carry(
    connection: OnUpgrade,
    carrier: CommandCarrier,
    options: Options,
    running: Running,
    lost: &'static str,
) -> String {
    let io = match upgrade::upgraded(connection).await {
        Ok(io) => io,
        Err(error) => return format!("the client went: {error}"),
    };
    let limits = Limits {
        streams: STREAMS,
        ..Limits::default()
    };
    let command = match carrier {
        CommandCarrier::WebSocket(protocol) => {
            Command::over_websocket(upgrade::socket(io).await, protocol, options, limits)
        }
        CommandCarrier::Spdy => {
            let opened = Command::over_spdy(Session::server(io, limits), options);
            match timeout(CREATION, opened).await {
                Ok(Ok(command)) => command,
                Ok(Err(error)) => return format!("the client went: {error}"),
                Err(_) => return "timed out waiting for client to create streams".to_owned(),
            }
        }
    };
    let activity = command.ending.activity();
    tokio::select! {
        bridged = bridge(command, running, lost) => match bridged {
            Ok(outcome) => format!("{outcome:?}"),
            Err(error) => error.to_string(),
        },
        () = activity.idle_for(IDLE) => "nothing passed for four hours".to_owned(),
    }
}

/// Runs a command to its end and answers what it wrote, stdout before stderr. Words are split at spaces, as the kubelet does.
pub(super) async fn run(asked: &Asked<'_>, path: &ContainerPath) -> Answer {
    let (target, _place) = match asked.container(path).and_then(|(_, at)| Ok((at, asked.place()?))) {
        Ok(begun) => begun,
        Err(refused) => return refused.into(),
    };
    let line = asked.query.first("cmd").unwrap_or_default();
    let command: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let options = Options {
        stdin: false,
        stdout: true,
        stderr: true,
        tty: false,
    };
    tracing::info!(
        user = asked.who.name,
        node = asked.node.name,
        ?target,
        "a command is run"
    );
    let streams = &asked.node.streams;
    match streams
        .exec(target.clone(), command, options, asked.who.clone())
        .await
    {
        Ok(running) => output(running, &target, line, streams.lost()).await,
        Err(error) => refused(&error).into(),
    }
}

async fn output(running: Running, target: &ContainerTarget, line: &str, lost: &str) -> Answer {
    let Running {
        stdout,
        stderr,
        mut verdict,
        ..
    } = running;
    let (out, err, outcome) = tokio::join!(read(stdout), read(stderr), verdict.outcome());
    let failed = |words: String| answer::text(StatusCode::INTERNAL_SERVER_ERROR, words);
    match outcome {
        Ok(Outcome::Success) => answer::of(StatusCode::OK, JSON, [out, err].concat()),
        Ok(Outcome::NonZeroExit(code)) => {
            let errors = String::from_utf8_lossy(&err).into_owned();
            failed(format!("command '{line}' exited with {code}: {errors}"))
        }
        Ok(Outcome::Failed { message }) => failed(message),
        Err(error) => {
            tracing::debug!(%error, ?target, "a command ended without an outcome");
            failed(lost.to_owned())
        }
    }
}

/// The rest of what is too much is read and dropped, so that the command goes on.
async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let mut kept = stream.take(MAX_OUTPUT);
        if kept.read_to_end(&mut bytes).await.is_ok() {
            let _ = tokio::io::copy(&mut kept.into_inner(), &mut tokio::io::sink()).await;
        }
    }
    bytes
}
