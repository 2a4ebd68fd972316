//! exec, attach, run and port-forward, by this workspace's own client; `kubectl` is in `cluster`.

use std::time::Duration;

use bytes::Bytes;
use edge_streams::remote_command::{Options, Outcome, Running, TerminalSize};
use edge_streams::spdy::{Headers, Session};
use edge_streams::{Limits, StreamError};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;
use virtual_kubelet_api::{ApiLimits, StreamsError};

use crate::client::{Http, request};
use crate::world::World;

const SOON: Duration = Duration::from_secs(30);
const MAIN: &str = "/exec/shop/web/main";

async fn upgrade(world: &World, path: &str, protocol: &str) -> Response<Incoming> {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", protocol),
    ];
    let mut connection = world.connect(Some(&world.admin), Http::One).await;
    connection.send(request("POST", path, &headers)).await
}

async fn session(world: &World, path: &str, protocol: &str) -> Session {
    let answer = upgrade(world, path, protocol).await;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS, "{path}");
    let upgraded = hyper::upgrade::on(answer).await.unwrap();
    Session::client(TokioIo::new(upgraded), Limits::default())
}

async fn refused(world: &World, path: &str, protocol: &str) -> (u16, String) {
    let answer = upgrade(world, path, protocol).await;
    let status = answer.status().as_u16();
    let body: Bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

const COMMAND: &str = "v4.channel.k8s.io";
const PORTS: &str = "portforward.k8s.io";

fn options(stdin: bool, tty: bool) -> Options {
    Options {
        stdin,
        stdout: true,
        stderr: !tty,
        tty,
    }
}

async fn ends(mut running: Running) -> (String, String, Outcome) {
    let (mut out, mut err) = (String::new(), String::new());
    let ended = async {
        let (stdout, stderr) = (running.stdout.as_mut(), running.stderr.as_mut());
        let read = async {
            if let Some(stderr) = stderr {
                stderr.read_to_string(&mut err).await.unwrap();
            }
        };
        tokio::join!(
            async { stdout.unwrap().read_to_string(&mut out).await.unwrap() },
            read
        );
        running.verdict.outcome().await.unwrap()
    };
    let outcome = timeout(SOON, ended).await.unwrap();
    (out, err, outcome)
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_exit_code() {
    let world = World::start().await;
    let path = format!(
        "{MAIN}?command=sh&command=-c&command=cat;echo%20bad%20%3E%262;exit%203&input=1&output=1&error=1"
    );
    let mut running = Running::start(session(&world, &path, COMMAND).await, options(true, false))
        .await
        .unwrap();
    running.stdin.take().unwrap().write_all(b"through").await.unwrap();
    let ended = ends(running).await;
    assert_eq!(ended, ("through".into(), "bad\n".into(), Outcome::NonZeroExit(3)));
}

#[tokio::test]
async fn a_terminal_has_a_size_and_attach_joins_it() {
    let world = World::start().await;
    let path = format!("{MAIN}?command=size&input=1&output=1&error=1&tty=1");
    let mut running = Running::start(session(&world, &path, COMMAND).await, options(true, true))
        .await
        .unwrap();
    let size = TerminalSize {
        width: 120,
        height: 40,
    };
    running.resize.as_mut().unwrap().send(size).await.unwrap();
    assert_eq!(ends(running).await.0, "120x40\r\n");
    let asked = world.pods.asked().remove(0).what;
    assert!(asked.contains("stderr: false"), "{asked}");

    let path = "/attach/shop/web/u/shell?input=1&output=1&tty=1";
    let mut running = Running::start(session(&world, path, COMMAND).await, options(true, true))
        .await
        .unwrap();
    running.stdin.take().unwrap().write_all(b"hello").await.unwrap();
    assert_eq!(ends(running).await.0, "hello");
    let asked = world.pods.asked().remove(1).what;
    assert!(
        asked.contains("attach shell") && asked.contains("tty: true"),
        "{asked}"
    );
}

#[tokio::test]
async fn what_is_lost_on_the_way_is_told_as_a_failure() {
    let world = World::start().await;
    let path = format!("{MAIN}?command=vanish&output=1&error=1");
    let running = Running::start(session(&world, &path, COMMAND).await, options(false, false))
        .await
        .unwrap();
    let Outcome::Failed { message } = ends(running).await.2 else {
        panic!("it did not fail");
    };
    assert!(message.ends_with("the link to the device was lost"), "{message}");
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_the_upgrade() {
    let few = |parts: &mut virtual_kubelet_api::ApiParts| {
        parts.limits = ApiLimits {
            streams_per_user: 0,
            ..ApiLimits::default()
        };
    };
    let world = World::start().await;
    let asks = "command=true&output=1";
    let check = async |path: &str, protocol: &str, status: u16, words: &str| {
        let said = refused(&world, path, protocol).await;
        assert!(said.0 == status && said.1.contains(words), "{path}: {said:?}");
    };
    check(MAIN, COMMAND, 400, "you must specify a command").await;
    check(
        &format!("{MAIN}?command=true"),
        COMMAND,
        400,
        "at least 1 of stdin, stdout, stderr",
    )
    .await;
    check(
        &format!("/exec/shop/none/main?{asks}"),
        COMMAND,
        404,
        "pod does not exist",
    )
    .await;
    check(
        &format!("/exec/shop/web/other/main?{asks}"),
        COMMAND,
        404,
        "pod not found",
    )
    .await;
    check(
        &format!("/exec/shop/web/none?{asks}"),
        COMMAND,
        404,
        "container not found (\"none\")",
    )
    .await;
    check(&format!("{MAIN}?{asks}"), PORTS, 403, "unable to upgrade").await;
    check(
        "/attach/shop/web/shell?output=1&error=1",
        COMMAND,
        400,
        "tty and stderr",
    )
    .await;
    check("/portForward/shop/web/other", PORTS, 404, "pod not found").await;
    assert!(world.pods.asked().is_empty());
    let plain = world.ask("POST", &format!("{MAIN}?{asks}")).await;
    assert_eq!(
        (plain.status.as_u16(), plain.body.as_str()),
        (400, "Upgrade request required")
    );
    let message = "press-7 is away since 10:00".to_owned();
    *world.pods.refuses.lock().unwrap() = Some(StreamsError::Unavailable { message });
    check(
        &format!("{MAIN}?{asks}"),
        COMMAND,
        503,
        "press-7 is away since 10:00",
    )
    .await;

    let world = World::with(few, None).await;
    let said = refused(&world, &format!("{MAIN}?{asks}"), COMMAND).await;
    assert!(
        said.0 == 429 && said.1.contains("as many as one may have"),
        "{said:?}"
    );
}

#[tokio::test]
async fn run_answers_what_a_command_wrote() {
    let world = World::start().await;
    let said = world.ask("POST", "/run/shop/web/main?cmd=echo%20one%20two").await;
    assert_eq!((said.status.as_u16(), said.body.as_str()), (200, "one two\n"));
    let said = world.ask("POST", "/run/shop/web/main?cmd=false").await;
    assert_eq!(
        (said.status.as_u16(), said.body.as_str()),
        (500, "command 'false' exited with 1: ")
    );
    let said = world.ask("POST", "/run/shop/web/main?cmd=vanish").await;
    assert_eq!(
        (said.status.as_u16(), said.body.as_str()),
        (500, "the link to the device was lost")
    );
}

#[tokio::test]
async fn the_process_ends_when_its_client_goes() {
    let world = World::start().await;
    let path = format!("{MAIN}?command=sh&command=-c&command=echo%20$$;exec%20sleep%203600&output=1");
    let only = Options {
        stderr: false,
        ..options(false, false)
    };
    let mut running = Running::start(session(&world, &path, COMMAND).await, only)
        .await
        .unwrap();
    let mut pid = String::new();
    while !pid.ends_with('\n') {
        pid.push(running.stdout.as_mut().unwrap().read_u8().await.unwrap().into());
    }
    let alive = || {
        std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()))
            .is_ok_and(|line| line.contains("sleep"))
    };
    assert!(alive());
    drop(running);
    let gone = async {
        while alive() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone).await.expect("it ends");
}

#[tokio::test]
async fn connections_are_forwarded_one_by_one() {
    let world = World::start().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    // Tells what it was told, after the end of that: half-closes go through.
    let serve = async {
        loop {
            let (mut io, _) = server.accept().await.unwrap();
            let mut told = Vec::new();
            io.read_to_end(&mut told).await.unwrap();
            io.write_all(&told).await.unwrap();
        }
    };
    let session = session(&world, "/portForward/shop/web", PORTS).await;
    let pair = async |request: &str, port: &str| {
        let headers =
            |kind| Headers::new([("streamtype", kind), ("port", port), ("requestid", request)]).unwrap();
        let error = session.open(headers("error")).await.unwrap();
        (error, session.open(headers("data")).await.unwrap())
    };
    let ask = async {
        for request in ["1", "2"] {
            let (_error, mut data) = pair(request, &port).await;
            data.write_all(request.as_bytes()).await.unwrap();
            data.shutdown().await.unwrap();
            let mut answer = String::new();
            data.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, request);
        }
        // Nothing listens there: the words come, then the reset.
        *world.pods.refuses.lock().unwrap() = Some(StreamsError::Failed {
            message: "connection refused".into(),
        });
        let (mut error, mut data) = pair("3", "53").await;
        let mut words = String::new();
        error.read_to_string(&mut words).await.unwrap();
        let expected = "error forwarding port 53 to pod web, uid u: connection refused (the pod declares it for UDP, and only TCP can be forwarded)";
        assert_eq!(words, expected);
        let reset = data.read_u8().await.unwrap_err();
        assert!(
            matches!(StreamError::of(&reset), Some(StreamError::Reset(_))),
            "{reset}"
        );
    };
    tokio::select! {
        asked = timeout(SOON, ask) => asked.unwrap(),
        () = serve => {}
    }
}

/// As kubectl does when the pod ends first.
#[tokio::test]
async fn a_client_that_gives_its_stream_up_is_told_no_error() {
    let world = World::start().await;
    let mut pod = world.pods.pipe();
    let session = session(&world, "/portForward/shop/web", PORTS).await;
    let headers = |kind| Headers::new([("streamtype", kind), ("port", "80")]).unwrap();
    let mut error = session.open(headers("error")).await.unwrap();
    let mut data = session.open(headers("data")).await.unwrap();
    let forward = async {
        pod.shutdown().await.unwrap();
        assert_eq!(data.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        drop(data);
        let mut words = String::new();
        error.read_to_string(&mut words).await.unwrap();
        assert_eq!(words, "");
    };
    timeout(SOON, forward).await.unwrap();
}

/// A client that sends and goes has sent.
#[tokio::test]
async fn what_was_sent_before_the_client_went_reaches_the_pod() {
    let world = World::start().await;
    let mut pod = world.pods.pipe();
    let session = session(&world, "/portForward/shop/web", PORTS).await;
    let headers = |kind| Headers::new([("streamtype", kind), ("port", "80")]).unwrap();
    let _error = session.open(headers("error")).await.unwrap();
    let mut data = session.open(headers("data")).await.unwrap();
    let send = async {
        // More than the pipe to the pod holds, and less than what is held before it.
        data.write_all(&vec![7; 50_000]).await.unwrap();
        data.shutdown().await.unwrap();
        let _ = session.close().await;
    };
    let mut received = Vec::new();
    let read = async {
        pod.read_to_end(&mut received).await.unwrap();
        drop(pod);
    };
    timeout(SOON, async { tokio::join!(send, read) }).await.unwrap();
    assert_eq!(received.len(), 50_000);
}
