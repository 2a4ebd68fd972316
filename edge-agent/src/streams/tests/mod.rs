//! Streams from their order to their end, over real TLS, WebSocket and yamux.

mod hub;
mod runtime;

use std::fs;
use std::time::Duration;

use edge_agent_core::{StreamPod, StreamRefused, StreamTask, StreamWork};
use edge_protocol::PodUid;
use edge_protocol::v1::{LogQuery, Operator, Stdio, StreamRefusal, StreamRequest, Ticket};
use edge_streams::remote_command::{Outcome, Running};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::hub::{Hub, PATIENCE, Stream, in_time, until};
use self::runtime::{Fake, LIMITS, options};
use super::desk::{Desk, State};
use super::tunnel::TunnelOptions;
use super::{StreamsHandle, StreamsTask};
use crate::options::StreamOptions;

const BOTH: Stdio = Stdio {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: false,
};

/// A device's streams, and the hub they lead to.
struct World {
    hub: Hub,
    runtime: Fake,
    streams: StreamsHandle,
    desk: Desk,
    token: CancellationToken,
    dir: TempDir,
    next: u8,
}

impl Drop for World {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// What a test may choose.
struct Given {
    most: usize,
    idle: Duration,
    keep_alive: Duration,
    runtime: Fake,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            most: 64,
            idle: PATIENCE,
            keep_alive: PATIENCE,
            runtime: Fake::default(),
        }
    }
}

impl World {
    async fn new(given: Given) -> Self {
        let hub = Hub::new().await;
        let dir = tempfile::tempdir().unwrap();
        let options = StreamOptions {
            enabled: true,
            most: given.most,
            policy_file: dir.path().join("policy.toml"),
            off_file: dir.path().join("off"),
            log_file: dir.path().join("log"),
            log_max_bytes: 1 << 20,
        };
        // Nobody listens at the first.
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut nowhere = hub.endpoint.clone();
        nowhere.port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let tunnel = TunnelOptions {
            endpoints: vec![nowhere, hub.endpoint.clone()],
            tls: hub.tls.clone(),
            idle: given.idle,
        };
        let desk = Desk::default();
        let runtime = given.runtime;
        let (task, streams) =
            StreamsTask::new(&options, tunnel, given.keep_alive, runtime.clone(), desk.clone());
        let token = CancellationToken::new();
        tokio::spawn(task.run(token.clone()));
        Self {
            hub,
            runtime,
            streams,
            desk,
            token,
            dir,
            next: 0,
        }
    }

    fn order(&mut self, work: StreamWork) {
        self.next += 1;
        self.streams.open(StreamTask {
            ticket: Ticket::from_bytes([self.next; 32]),
            operator: operator(),
            pod: StreamPod {
                uid: PodUid::new("one").unwrap(),
                namespace: "default".to_owned(),
                name: "web".to_owned(),
            },
            work,
        });
    }

    /// A command that has begun, as its client has it.
    async fn command(&mut self, words: &str) -> Running {
        self.order(exec("id", words));
        let stream = self.hub.begun().await;
        Running::over_pipe(stream, options(BOTH), LIMITS)
    }

    fn policy(&self, text: &str) {
        fs::write(self.dir.path().join("policy.toml"), text).unwrap();
    }

    fn journal(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Nothing of any stream is left.
    async fn is_quiet(&self) {
        until(|| self.runtime.live() == 0 && self.desk.shown().is_empty()).await;
    }
}

fn operator() -> Operator {
    Operator {
        principal: "kubelet".to_owned(),
        user: Some("ada".to_owned()),
    }
}

fn exec(container_id: &str, words: &str) -> StreamWork {
    StreamWork::Exec {
        container: "main".to_owned(),
        container_id: container_id.to_owned(),
        command: words.split(' ').map(str::to_owned).collect(),
        stdio: BOTH,
    }
}

fn logs(attempt: u32, follow: bool) -> StreamWork {
    StreamWork::Logs {
        container: "main".to_owned(),
        attempt,
        query: LogQuery {
            follow,
            ..LogQuery::default()
        },
    }
}

fn forward() -> StreamWork {
    StreamWork::PortForward {
        sandbox_id: "id".to_owned(),
        port: 80,
    }
}

#[tokio::test]
async fn commands_logs_and_connections_pass_over_one_tunnel() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let runtime = Fake {
        server: Some(server.local_addr().unwrap()),
        ..Fake::default()
    };
    let mut world = World::new(Given {
        runtime,
        ..Given::default()
    })
    .await;
    let mut cat = world.command("cat").await;
    let said = vec![42; 300_000];
    let mut stdin = cat.stdin.take().unwrap();
    let mut heard = Vec::new();
    let writing = async {
        stdin.write_all(&said).await.unwrap();
        drop(stdin);
    };
    let mut stdout = cat.stdout.take().unwrap();
    let (read, ()) = in_time(async { tokio::join!(stdout.read_to_end(&mut heard), writing) }).await;
    read.unwrap();
    assert_eq!(heard, said);
    assert_eq!(in_time(cat.verdict.outcome()).await.unwrap(), Outcome::Success);

    let mut exits = world.command("exit 3").await;
    assert_eq!(
        in_time(exits.verdict.outcome()).await.unwrap(),
        Outcome::NonZeroExit(3)
    );

    world.order(logs(0, false));
    let mut stream = world.hub.begun().await;
    let mut text = String::new();
    in_time(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "line");

    world.order(forward());
    let mut stream = world.hub.begun().await;
    let (mut pod, _) = server.accept().await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    in_time(pod.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "ping");
    pod.write_all(b"pong").await.unwrap();
    drop(pod);
    text.clear();
    in_time(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "pong");

    drop((cat, exits));
    world.is_quiet().await;
    assert_eq!(world.hub.tunnels.recv().await, Some("up"));
    assert!(world.hub.tunnels.is_empty(), "one tunnel for all of them");
}

/// What the pod's side resets, the hub's side sees as a reset, and the other way round.
#[tokio::test]
async fn a_reset_is_carried_through_both_ways() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let runtime = Fake {
        server: Some(server.local_addr().unwrap()),
        ..Fake::default()
    };
    let mut world = World::new(Given {
        runtime,
        ..Given::default()
    })
    .await;
    world.order(forward());
    let mut stream = world.hub.begun().await;
    let (pod, _) = server.accept().await.unwrap();
    pod.set_zero_linger().unwrap();
    drop(pod);
    // yamux shows a reset as an end of both directions.
    assert_eq!(in_time(stream.read(&mut [0])).await.unwrap(), 0);
    assert!(stream.get_ref().is_closed());

    world.order(forward());
    let stream = world.hub.begun().await;
    let (mut pod, _) = server.accept().await.unwrap();
    drop(stream);
    let error = in_time(pod.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    world.is_quiet().await;
}

#[tokio::test]
async fn what_cannot_be_is_told_at_once() {
    let mut world = World::new(Given {
        most: 1,
        ..Given::default()
    })
    .await;
    world.order(exec("gone", "cat"));
    let (why, message) = world.hub.refused().await;
    assert_eq!(
        (why, message.as_str()),
        (
            StreamRefusal::NotRunning,
            "container is in CONTAINER_EXITED state"
        )
    );
    world.order(logs(1, false));
    let missing = "there is no log of container \"main\", attempt 1";
    assert_eq!(
        world.hub.refused().await,
        (StreamRefusal::NotFound, missing.to_owned())
    );
    world.streams.refuse(StreamRefused {
        ticket: Ticket::from_bytes([9; 32]),
        operator: operator(),
        request: StreamRequest::Unknown,
        why: StreamRefusal::Unsupported,
        message: "no".to_owned(),
    });
    assert_eq!(
        world.hub.refused().await,
        (StreamRefusal::Unsupported, "no".to_owned())
    );
    world.policy("[streams]\nexec = 'deny'\n");
    world.order(exec("id", "cat"));
    let denied = "the device's policy forbids it (streams.exec)";
    assert_eq!(
        world.hub.refused().await,
        (StreamRefusal::Forbidden, denied.to_owned())
    );
    world.policy("[streams]\nexec = 'perhaps'\n");
    world.order(exec("id", "cat"));
    let broken = "the device's policy cannot be obeyed";
    assert_eq!(
        world.hub.refused().await,
        (StreamRefusal::Forbidden, broken.to_owned())
    );
    world.policy("");
    let running = world.command("cat").await;
    world.order(exec("id", "cat"));
    assert_eq!(world.hub.refused().await.0, StreamRefusal::Busy);
    drop(running);
    world.is_quiet().await;
    let words: Vec<_> = world
        .journal()
        .into_iter()
        .map(|line| line["event"].clone())
        .collect();
    assert_eq!(
        words,
        [
            "refused", "refused", "refused", "refused", "refused", "opened", "refused", "closed"
        ]
    );
    assert_eq!(world.runtime.begun.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody() {
    let mut world = World::new(Given::default()).await;
    let flood = world.command("flood").await;
    for _ in 0..3 {
        let mut exits = world.command("exit 0").await;
        assert_eq!(in_time(exits.verdict.outcome()).await.unwrap(), Outcome::Success);
    }
    drop(flood);
    world.is_quiet().await;
}

#[tokio::test]
async fn the_switch_cuts_what_is_open_and_keeps_the_rest_out() {
    let mut world = World::new(Given::default()).await;
    let mut waiting = world.command("wait").await;
    world.order(logs(0, true));
    let mut log = world.hub.begun().await;
    in_time(log.read_exact(&mut [0; 4])).await.unwrap();
    assert_eq!(world.desk.shown().len(), 2);
    let off = world.dir.path().join("off");
    fs::write(&off, "").unwrap();
    assert!(in_time(waiting.verdict.outcome()).await.is_err());
    assert_eq!(in_time(log.read(&mut [0])).await.unwrap(), 0);
    world.is_quiet().await;
    world.order(exec("id", "cat"));
    let words = "streams are switched off at the device";
    assert_eq!(
        world.hub.refused().await,
        (StreamRefusal::Forbidden, words.to_owned())
    );
    fs::remove_file(&off).unwrap();
    world.command("cat").await;
    let words = "streams were switched off at the device";
    let outcomes: Vec<_> = world
        .journal()
        .into_iter()
        .filter_map(|line| line.get("outcome").cloned())
        .collect();
    assert!(
        outcomes.iter().filter(|outcome| **outcome == words).count() == 2,
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn somebody_at_the_device_is_asked() {
    let mut world = World::new(Given::default()).await;
    world.policy("[streams]\nexec = 'ask-locally'\n");
    for (allow, expect) in [(true, None), (false, Some(StreamRefusal::Forbidden))] {
        world.order(exec("id", "cat"));
        until(|| world.desk.shown().iter().any(|row| row.state == State::Asks)).await;
        assert!(world.hub.has_no_stream(), "nothing is said before");
        let id = world.desk.shown()[0].stream.id.clone();
        assert!(world.desk.decide(&id, allow));
        match expect {
            None => drop(world.hub.begun().await),
            Some(why) => assert_eq!(world.hub.refused().await.0, why),
        }
        world.is_quiet().await;
    }
}

/// Whatever way a stream ends, what it had of the runtime ends, and so do its tasks.
#[tokio::test]
async fn nothing_is_left_of_streams_that_were_dropped() {
    let mut world = World::new(Given::default()).await;
    drop(world.command("exit 0").await);
    world.is_quiet().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut held: Vec<Stream> = Vec::new();
    for n in 0..100 {
        match n % 3 {
            0 => world.order(exec("id", "wait")),
            1 => world.order(exec("id", "flood")),
            _ => world.order(logs(0, true)),
        }
        held.push(world.hub.begun().await);
        if n % 10 == 9 {
            // Some end in order, some are reset.
            for mut stream in held.drain(..).step_by(2) {
                drop(stream.shutdown().await);
            }
        }
    }
    drop(held);
    world.is_quiet().await;
    until(|| tasks() <= before).await;
}

#[tokio::test]
async fn a_tunnel_that_is_not_used_is_closed_and_dialled_again_when_it_is() {
    let mut world = World::new(Given {
        idle: Duration::from_millis(40),
        ..Given::default()
    })
    .await;
    for _ in 0..2 {
        drop(world.command("exit 0").await);
        assert_eq!(in_time(world.hub.tunnels.recv()).await, Some("up"));
        assert_eq!(in_time(world.hub.tunnels.recv()).await, Some("down"));
    }
}

/// A hub that vanished without a word is noticed by its silence, and one that hung up at once: what was open ends.
#[tokio::test]
async fn streams_end_with_their_tunnel() {
    let mut world = World::new(Given::default()).await;
    let _client = world.command("wait").await;
    assert_eq!(world.runtime.live(), 1);
    world.hub.die();
    world.is_quiet().await;

    let mut world = World::new(Given {
        keep_alive: Duration::from_millis(100),
        ..Given::default()
    })
    .await;
    let _client = world.command("wait").await;
    assert_eq!(world.runtime.live(), 1);
    world.hub.freeze();
    world.is_quiet().await;
}
