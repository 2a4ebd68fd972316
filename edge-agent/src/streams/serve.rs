//! One stream, from its order to its end.

use std::time::Duration;

use edge_agent_core::{StreamPod, StreamTask, StreamWork};
use edge_protocol::text::sanitise;
use edge_protocol::v1::stream::TICKET_MS;
use edge_protocol::v1::{Stdio, StreamRefusal, Ticket};
use edge_streams::Limits;
use edge_streams::remote_command::{BridgeError, Command, Options, Outcome, Running, bridge};
use edge_streams::splice;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::consent::Consents;
use super::desk::{About, Desk};
use super::journal::{Entry, Journal};
use super::opening::{Refusal, answer};
use super::stream::{Traffic, TunnelStream};
use super::tunnel::TunnelHandle;
use crate::runtime::{Log, LogTarget, StreamRuntime, Unserved, with_cause};

/// The ticket is good for no longer.
const TICKET: Duration = Duration::from_millis(TICKET_MS);
/// How long somebody at the device has to agree: what is left of the ticket is for dialling.
const PATIENCE: Duration = Duration::from_secs(22);
/// A command or a connection over which nothing passes for so long is ended (`streamingConnectionIdleTimeout` of the kubelet).
const IDLE: Duration = Duration::from_hours(4);
/// A command has five streams at most.
const LIMITS: Limits = Limits {
    streams: 8,
    receive_buffer: 64 * 1024,
    send_buffer: 64 * 1024,
};
/// What somebody reads behind "Internal error occurred" when a command's outcome is not known.
const LOST: &str = "the connection to the device's container runtime was lost";

const CUT: &str = "streams were switched off at the device";
const LATE: &str = "its ticket is over";

/// What serving takes.
pub(super) struct Server<R> {
    pub(super) runtime: R,
    pub(super) tunnel: TunnelHandle,
    pub(super) consents: Consents,
    pub(super) desk: Desk,
    pub(super) journal: Journal,
}

/// What the runtime has given for a stream.
enum Begun<L> {
    Command(Options, Running),
    Connection(TcpStream),
    Log(L),
}

impl<R: StreamRuntime> Server<R> {
    /// Tells whoever waits that there will be no stream.
    pub(super) async fn refuse(&self, about: &About, ticket: Ticket, refusal: Refusal) {
        self.note(about, &refusal);
        let told = async {
            let mut stream = self.tunnel.open().await.map_err(|error| error.to_string())?;
            let told = answer(&mut stream, ticket, Some(&refusal)).await;
            told.map_err(|error| error.to_string())
        };
        let told = tokio::time::timeout(TICKET, told).await;
        if let Err(error) = told.unwrap_or_else(|_| Err(LATE.to_owned())) {
            self.fail(about, &error);
        }
    }

    /// Until the stream has ended, or `cut` has; all that was begun for it ends with this.
    pub(super) async fn serve(&self, task: StreamTask, cut: CancellationToken) {
        let about = About::of(&task);
        let Some(place) = self.desk.enter(about.clone()) else {
            debug!(stream = about.id, "it was ordered twice");
            return;
        };
        let by = Instant::now() + TICKET;
        let allowed = tokio::select! {
            allowed = self.consents.allow(&task.work, &place, PATIENCE) => allowed,
            () = cut.cancelled() => Err(Refusal::new(StreamRefusal::Forbidden, CUT)),
        };
        if let Err(refusal) = allowed {
            return self.refuse(&about, task.ticket, refusal).await;
        }
        let opening = tokio::time::timeout_at(by, self.open(&about, task));
        let opened = tokio::select! {
            opened = opening => opened,
            () = cut.cancelled() => return self.fail(&about, CUT),
        };
        match opened {
            Ok(Some((stream, begun))) => {
                place.open();
                self.journal.write(&about, Entry::Opened);
                info!(
                    stream = about.id,
                    kind = about.kind,
                    pod = about.pod,
                    user = about.user,
                    "a stream is open"
                );
                self.carry(&about, stream, begun, &cut).await;
            }
            Ok(None) => {}
            Err(_) => self.fail(&about, LATE),
        }
    }

    /// A stream that has begun; what keeps it from that is told to whoever can be told.
    async fn open(&self, about: &About, task: StreamTask) -> Option<(TunnelStream, Begun<R::Log>)> {
        let StreamTask {
            ticket, pod, work, ..
        } = task;
        // Before anything is asked of the runtime: a command that nobody waits for must not run.
        let mut stream = match self.tunnel.open().await {
            Ok(stream) => stream,
            Err(error) => {
                self.fail(about, &error.to_string());
                return None;
            }
        };
        let begun = self.begin(pod, work).await;
        if let Err(refusal) = &begun {
            self.note(about, refusal);
        }
        if let Err(error) = answer(&mut stream, ticket, begun.as_ref().err()).await {
            self.fail(about, &error.to_string());
            return None;
        }
        Some((stream, begun.ok()?))
    }

    async fn begin(&self, pod: StreamPod, work: StreamWork) -> Result<Begun<R::Log>, Refusal> {
        match work {
            StreamWork::Exec {
                container_id,
                command,
                stdio,
                ..
            } => {
                let options = options(stdio)?;
                let running = self.runtime.exec(&container_id, command, stdio).await?;
                Ok(Begun::Command(options, running))
            }
            StreamWork::Attach {
                container_id,
                stdio,
                tty,
                ..
            } => {
                let options = options(stdio)?;
                let running = self.runtime.attach(&container_id, Stdio { tty, ..stdio }).await?;
                Ok(Begun::Command(options, running))
            }
            StreamWork::PortForward { sandbox_id, port } => {
                let connection = self.runtime.connect_to(&sandbox_id, port).await?;
                Ok(Begun::Connection(connection))
            }
            StreamWork::Logs {
                container,
                attempt,
                query,
            } => {
                let StreamPod { uid, namespace, name } = pod;
                let target = LogTarget {
                    namespace,
                    name,
                    uid,
                    container,
                    attempt,
                };
                Ok(Begun::Log(self.runtime.open_log(target, &query).await?))
            }
        }
    }

    async fn carry(
        &self,
        about: &About,
        stream: TunnelStream,
        begun: Begun<R::Log>,
        cut: &CancellationToken,
    ) {
        let began = Instant::now();
        let traffic = stream.traffic();
        let is_log = matches!(begun, Begun::Log(_));
        let carrying = async {
            match begun {
                Begun::Command(options, running) => command(stream, options, running).await,
                Begun::Connection(connection) => forward(stream, connection).await,
                Begun::Log(log) => tell(stream, log).await,
            }
        };
        let outcome = tokio::select! {
            outcome = carrying => outcome,
            () = cut.cancelled() => CUT.to_owned(),
            () = idle(&traffic), if !is_log => "nothing passed for four hours".to_owned(),
        };
        let (received, sent) = traffic.bytes();
        info!(stream = about.id, outcome, received, sent, "a stream is closed");
        let closed = Entry::Closed {
            outcome: &outcome,
            duration: began.elapsed(),
            received,
            sent,
        };
        self.journal.write(about, closed);
    }

    fn note(&self, about: &About, refusal: &Refusal) {
        let Refusal { why, message } = refusal;
        info!(
            stream = about.id,
            kind = about.kind,
            ?why,
            message,
            "a stream is refused"
        );
        self.journal.write(about, Entry::from(refusal));
    }

    fn fail(&self, about: &About, error: &str) {
        warn!(
            stream = about.id,
            kind = about.kind,
            error,
            "a stream could not be opened"
        );
        self.journal.write(about, Entry::Failed { error });
    }
}

fn options(stdio: Stdio) -> Result<Options, Refusal> {
    let Stdio {
        stdin,
        stdout,
        stderr,
        tty,
    } = stdio;
    let options = Options {
        stdin,
        stdout,
        stderr,
        tty,
    };
    let checked = options.checked();
    checked.map_err(|error| Refusal::new(StreamRefusal::Failed, error.to_string()))
}

impl From<Unserved> for Refusal {
    fn from(Unserved { why, message }: Unserved) -> Self {
        Self { why, message }
    }
}

async fn command(stream: TunnelStream, options: Options, running: Running) -> String {
    let command = Command::over_pipe(stream, options, LIMITS);
    match bridge(command, running, LOST).await {
        Ok(Outcome::Success) => "exit code 0".to_owned(),
        Ok(Outcome::NonZeroExit(code)) => format!("exit code {code}"),
        Ok(Outcome::Failed { message }) => sanitise(&message),
        Err(BridgeError::ClientGone(_)) => "the client went before the end".to_owned(),
        Err(BridgeError::Lost(_)) => LOST.to_owned(),
    }
}

async fn forward(stream: TunnelStream, connection: TcpStream) -> String {
    let mut resetting = Resetting {
        connection,
        ended: false,
    };
    match splice(stream, &mut resetting.connection).await {
        Ok(_) => {
            resetting.ended = true;
            "both sides have ended".to_owned()
        }
        Err(error) => sanitise(&error.to_string()),
    }
}

async fn tell(stream: TunnelStream, log: impl Log) -> String {
    let (reader, mut writer) = tokio::io::split(stream);
    let telling = async {
        let told = log.serve(&mut writer).await;
        let ended = writer.shutdown().await;
        match (told, ended) {
            (Err(fault), _) => sanitise(&with_cause(&fault)),
            (Ok(()), Err(error)) => format!("the reader is gone: {error}"),
            (Ok(()), Ok(())) => "the end of the log".to_owned(),
        }
    };
    tokio::select! {
        told = telling => told,
        () = gone(reader) => "the reader is gone".to_owned(),
    }
}

/// A TCP connection that is reset unless it has ended in order: dropped, it would seem to.
struct Resetting {
    connection: TcpStream,
    ended: bool,
}

impl Drop for Resetting {
    fn drop(&mut self) {
        if !self.ended {
            // A socket that takes no options is gone.
            let _ = self.connection.set_zero_linger();
        }
    }
}

/// Until nobody reads a log any more. Whoever does has nothing to say, so the end of their direction is their own: after it yamux would not tell of
/// a reset.
async fn gone(mut reader: impl AsyncRead + Unpin) {
    let mut scratch = [0; 512];
    while matches!(reader.read(&mut scratch).await, Ok(1..)) {}
}

async fn idle(traffic: &Traffic) {
    loop {
        let due = traffic.last() + IDLE;
        if Instant::now() >= due {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}
