//! Both roles of a command against each other, over all that has both.

use edge_streams::remote_command::{Command, Options, Outcome, OutcomeError, Running, TerminalSize};
use edge_streams::{ConnectionError, Limits, StreamError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::timeout;

use crate::peer::{ALL, TERMINAL};
use crate::wire::{SOON, pattern, read_all, sessions, settle, write_all};

/// What carries a command in memory.
#[derive(Debug, Clone, Copy)]
pub enum Carrier {
    Spdy,
    /// Holding this many bytes in each direction.
    Pipe(usize),
}

pub const CARRIERS: [Carrier; 3] = [Carrier::Spdy, Carrier::Pipe(3), Carrier::Pipe(64 * 1024)];

impl Carrier {
    /// Both ends of a command.
    pub async fn open(self, options: Options) -> (Running, Command) {
        let limits = Limits::default();
        match self {
            Self::Spdy => {
                let (client, server) = sessions(limits);
                let (running, command) = tokio::join!(
                    Running::start(client, options),
                    Command::over_spdy(server, options)
                );
                (running.unwrap(), command.unwrap())
            }
            Self::Pipe(size) => {
                let (client, server) = duplex(size);
                (
                    Running::over_pipe(client, options, limits),
                    Command::over_pipe(server, options, limits),
                )
            }
        }
    }
}

/// A process that gives its input back, complains and ends so.
pub async fn cat(mut command: Command, outcome: &Outcome) -> Result<(), ConnectionError> {
    let mut stdin = command.stdin.take().unwrap();
    let mut stdout = command.stdout.take().unwrap();
    tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
    if let Some(mut stderr) = command.stderr.take() {
        stderr.write_all(b"done\n").await.unwrap();
    }
    // Dropping an output is its end, and loses nothing.
    drop(stdout);
    command.ending.finish(outcome).await
}

/// What a client that gives `input` gets.
pub async fn ask(running: &mut Running, input: &[u8]) -> (Vec<u8>, Vec<u8>, Result<Outcome, OutcomeError>) {
    let mut stdin = running.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (running.stdout.take().unwrap(), running.stderr.take().unwrap());
    let ((), output, errors, verdict) = tokio::join!(
        write_all(&mut stdin, input),
        read_all(&mut stdout),
        read_all(&mut stderr),
        running.verdict.outcome(),
    );
    (output, errors, verdict)
}

pub fn outcomes() -> [Outcome; 3] {
    let message = "no such container".into();
    [
        Outcome::Success,
        Outcome::NonZeroExit(7),
        Outcome::Failed { message },
    ]
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_outcome() {
    for carrier in CARRIERS {
        for outcome in outcomes() {
            let (mut running, command) = carrier.open(ALL).await;
            let input = pattern(40_000);
            let asking = async {
                let (output, errors, verdict) = ask(&mut running, &input).await;
                assert!(output == input, "{carrier:?}: all of the input came back");
                assert_eq!(errors, b"done\n");
                assert_eq!(verdict.unwrap(), outcome);
                assert!(
                    matches!(running.verdict.outcome().await, Err(OutcomeError::Missing(None))),
                    "told once"
                );
                running.verdict.close().await.unwrap();
            };
            let (finished, ()) = tokio::join!(cat(command, &outcome), asking);
            finished.unwrap();
        }
    }
}

#[tokio::test]
async fn a_terminal_has_sizes_and_no_stderr() {
    for carrier in CARRIERS {
        let (mut running, mut command) = carrier.open(TERMINAL).await;
        assert!(command.stderr.is_none() && running.stderr.is_none());
        let mut sizes = command.resizes.take().unwrap();
        let mut resize = running.resize.take().unwrap();
        for (width, height) in [(80, 24), (120, 40)] {
            let size = TerminalSize { width, height };
            resize.send(size).await.unwrap();
            assert_eq!(sizes.next().await, Some(size), "{carrier:?}");
        }
        drop(resize);
        assert_eq!(sizes.next().await, None);
    }
}

#[tokio::test]
async fn a_client_of_a_command_sees_through_a_server_that_goes_without_a_word() {
    for carrier in CARRIERS {
        let (mut running, mut command) = carrier.open(ALL).await;
        let mut stdout = running.stdout.take().unwrap();
        let output = command.stdout.as_mut().unwrap();
        write_and_flush(output, b"before").await;
        drop(command);
        let outcome = running.verdict.outcome().await;
        assert!(
            matches!(outcome, Err(OutcomeError::Missing(Some(_)))),
            "{carrier:?}: {outcome:?}"
        );
        let mut bytes = Vec::new();
        assert!(stdout.read_to_end(&mut bytes).await.is_err());
        assert!(b"before".starts_with(&bytes), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_server_of_a_command_learns_that_the_client_went() {
    for carrier in CARRIERS {
        let (running, mut command) = carrier.open(ALL).await;
        let mut gone = command.ending.gone();
        let mut stdin = command.stdin.take().unwrap();
        drop(running);
        assert!(
            matches!(gone.wait().await, ConnectionError::Vanished),
            "{carrier:?}"
        );
        let error = stdin.read_u8().await.unwrap_err();
        assert!(
            matches!(StreamError::of(&error), Some(StreamError::Connection(_))),
            "{error:?}"
        );
        let finished = command.ending.finish(&Outcome::Success).await;
        assert!(matches!(finished, Err(ConnectionError::Vanished)));
    }
}

/// Over SPDY it takes the end of the connection besides.
#[tokio::test]
async fn over_a_pipe_a_client_may_go_in_order_before_the_outcome() {
    for size in [1, 1000] {
        let (running, mut command) = Carrier::Pipe(size).open(ALL).await;
        let mut gone = command.ending.gone();
        let serve = async {
            let mut stdin = command.stdin.take().unwrap();
            let input = read_all(&mut stdin).await;
            (input, gone.wait().await)
        };
        let close = async {
            let Running {
                stdin, mut verdict, ..
            } = running;
            write_all(&mut stdin.unwrap(), b"all of it").await;
            let outcome = tokio::select! {
                biased;
                outcome = verdict.outcome() => panic!("{outcome:?}"),
                () = settle() => verdict.close().await,
            };
            outcome.unwrap();
        };
        let ((input, reason), ()) = timeout(SOON, async { tokio::join!(serve, close) }).await.unwrap();
        assert_eq!(input, b"all of it");
        assert!(matches!(reason, ConnectionError::Closed), "{reason:?}");
    }
}

/// Over SPDY readers that go are not told, since client-go takes the end of any direction for the end of its input.
#[tokio::test]
async fn over_a_pipe_a_writer_learns_that_nobody_reads_any_more() {
    for size in [1, 1000] {
        let (mut running, mut command) = Carrier::Pipe(size).open(ALL).await;
        drop(command.stdin.take());
        drop(running.stdout.take());
        let reset = async |writer: &mut edge_streams::remote_command::Output| loop {
            if let Err(error) = writer.write_all(&[1; 1000]).await {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                break;
            }
            tokio::task::yield_now().await;
        };
        let both = async {
            reset(running.stdin.as_mut().unwrap()).await;
            reset(command.stdout.as_mut().unwrap()).await;
        };
        timeout(SOON, both).await.unwrap();
        let finish = async {
            command
                .stderr
                .take()
                .unwrap()
                .write_all(b"goes on")
                .await
                .unwrap();
            command.ending.finish(&Outcome::NonZeroExit(1)).await.unwrap();
        };
        let asking = async {
            let errors = read_all(running.stderr.as_mut().unwrap()).await;
            (errors, running.verdict.outcome().await.unwrap())
        };
        let ((), (errors, outcome)) = tokio::join!(finish, asking);
        assert_eq!(
            (errors.as_slice(), outcome),
            (&b"goes on"[..], Outcome::NonZeroExit(1))
        );
    }
}

/// 50 MB each way, to readers that take their time.
#[tokio::test]
async fn much_passes_a_pipe_whose_readers_are_slow() {
    const LENGTH: usize = 50_000_000;
    async fn slowly(reader: &mut (impl tokio::io::AsyncRead + Unpin), expected: &[u8]) {
        let mut chunk = vec![0; 30_000];
        let mut expected = expected;
        loop {
            let length = reader.read(&mut chunk).await.unwrap();
            let (piece, rest) = expected.split_at(length);
            assert!(piece == &chunk[..length]);
            expected = rest;
            if length == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(expected.is_empty(), "{} bytes are missing", expected.len());
    }
    let (mut running, mut command) = Carrier::Pipe(16 * 1024).open(ALL).await;
    let all = std::sync::Arc::new(pattern(LENGTH));
    let sent = std::sync::Arc::clone(&all);
    let serve = tokio::spawn(async move {
        let (mut stdin, mut stdout) = (command.stdin.take().unwrap(), command.stdout.take().unwrap());
        tokio::join!(slowly(&mut stdin, &sent), write_all(&mut stdout, &sent));
        command.ending.finish(&Outcome::Success).await
    });
    let (mut stdin, mut stdout) = (running.stdin.take().unwrap(), running.stdout.take().unwrap());
    tokio::join!(slowly(&mut stdout, &all), write_all(&mut stdin, &all));
    assert_eq!(running.verdict.outcome().await.unwrap(), Outcome::Success);
    running.verdict.close().await.unwrap();
    serve.await.unwrap().unwrap();
}

/// stdin that nobody reads holds the client back at the bound.
#[tokio::test]
async fn a_pipe_holds_no_more_than_its_limits() {
    let limits = Limits {
        streams: 5,
        receive_buffer: 20_000,
        send_buffer: 5_000,
    };
    let (client, server) = duplex(1000);
    let mut running = Running::over_pipe(client, ALL, limits);
    let mut command = Command::over_pipe(server, ALL, limits);
    let mut stdin = running.stdin.take().unwrap();
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            written = stdin.write(&[7; 1000]) => sent += written.unwrap(),
            () = settle() => break,
        }
    }
    // Both buffers, the pipe, and a batch on its way at either task.
    let bound = limits.receive_buffer + limits.send_buffer + 1000 + (64 + 16) * 1024;
    assert!((limits.send_buffer..bound).contains(&sent), "{sent}");
    let mut rest = vec![0; sent];
    command
        .stdin
        .as_mut()
        .unwrap()
        .read_exact(&mut rest)
        .await
        .unwrap();
    assert!(rest.iter().all(|byte| *byte == 7));
}

/// What a side says of these bytes of its peer, which then ends its direction.
async fn judge(bytes: &[u8]) -> String {
    let (mut peer, io) = duplex(1000);
    let command = Command::over_pipe(io, ALL, Limits::default());
    let mut gone = command.ending.gone();
    let talk = async {
        peer.write_all(bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        read_all(&mut peer).await
    };
    let judging = async {
        let reason = gone.wait().await;
        drop(command);
        match std::error::Error::source(&reason) {
            None => format!("{reason}"),
            Some(source) => format!("{reason}: {source}"),
        }
    };
    timeout(SOON, async { tokio::join!(judging, talk).0 })
        .await
        .unwrap()
}

#[tokio::test]
async fn what_breaks_a_pipe_is_named() {
    let check = async |bytes: &[u8], expected: &str| assert_eq!(judge(bytes).await, expected, "{bytes:?}");
    let broke = "the peer broke the frames of a command's pipe: ";
    check(b"", "the peer vanished").await;
    check(b"\0\0\0\0\x01x\xff\0\0\0\x01\0", "the peer vanished").await;
    check(b"\xff\0\0\0\x01\xff", "the connection was closed").await;
    check(
        b"\xff\0\0\0\x02",
        &format!("{broke}a close signal of 2 bytes, not 1"),
    )
    .await;
    check(
        b"\0\0\x01\0\x01",
        &format!("{broke}a frame of 65537 bytes, of at most 65536"),
    )
    .await;
    // Channels that there are not, and those that this side writes.
    check(
        b"\x09\0\0\0\x01x\x01\0\0\0\x01x\xff\0\0\0\x01\x09\xff\0\0\0\x01\xff",
        "the connection was closed",
    )
    .await;
}

async fn write_and_flush(output: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) {
    output.write_all(bytes).await.unwrap();
    output.flush().await.unwrap();
}
