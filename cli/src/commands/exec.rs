//! `outrigger exec`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use edge_protocol::v1::{Stdio, StreamRequest};
use edge_streams::Limits;
use edge_streams::remote_command::{Options, Outcome, OutcomeError, Running};
use iot_hub_api::v1::StreamCall;
use iot_hub_client::HubClient;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::target::ContainerArgs;
use crate::terminal::{RawTerminal, Terminated, standard};

const EXAMPLES: &str = "\
Examples:
  A shell in the only container of a pod:
    outrigger exec --device press-7 default/web-6d4cf56db6-x2v7p -it -- sh

  A command with its exit code, fed from a file:
    outrigger exec --device press-7 default/web-6d4cf56db6-x2v7p -c main -i -- sha256sum < firmware.bin";

const CHUNK: usize = 16 << 10;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    target: ContainerArgs,
    /// Pass standard input to the command.
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Give the command a terminal, if standard input is one.
    #[arg(long, short = 't')]
    tty: bool,
    /// The command and its arguments; no shell reads them.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs a command in a container and ends with its exit code.
pub async fn run(hub: &HubClient, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        target,
        stdin,
        tty,
        command,
    } = arguments;
    let (uid, container) = target.find(hub).await?;
    let streams = (
        standard(&std::io::stdin())?,
        standard(&std::io::stdout())?,
        standard(&std::io::stderr())?,
    );
    let is_terminal = std::io::stdin().is_terminal();
    if tty && !is_terminal {
        eprintln!("Unable to use a TTY - input is not a terminal");
    }
    let tty = tty && is_terminal;
    let stdio = Stdio {
        stdin,
        stdout: true,
        stderr: !tty,
        tty,
    };
    let request = StreamRequest::Exec {
        uid,
        container,
        command,
        stdio,
    };
    let call = StreamCall { request, user: None };
    let stream = hub.open_stream(&target.pod.device, &call).await?;
    let options = Options {
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        tty: stdio.tty,
    };
    // Not before: Ctrl-C ends the waiting.
    let terminal = if tty { Some(RawTerminal::enter()?) } else { None };
    let running = Running::over_pipe(stream, options, Limits::default());
    let outcome = attend(running, terminal, streams).await?;
    exit_code(outcome)
}

/// As kubectl ends.
fn exit_code(outcome: Outcome) -> anyhow::Result<ExitCode> {
    match outcome {
        Outcome::Success => Ok(ExitCode::SUCCESS),
        Outcome::NonZeroExit(code) => {
            eprintln!("command terminated with exit code {code}");
            Ok(ExitCode::from(code))
        }
        Outcome::Failed { message } => bail!("{message}"),
    }
}

/// Passes the streams on until the command has ended and all that it wrote is written here. The terminal is left as it was.
pub(super) async fn attend(
    running: Running,
    mut terminal: Option<RawTerminal>,
    (input, output, errors): (
        impl AsyncRead + Unpin,
        impl AsyncWrite + Unpin,
        impl AsyncWrite + Unpin,
    ),
) -> anyhow::Result<Outcome> {
    let Running {
        stdin,
        stdout,
        stderr,
        resize,
        mut verdict,
    } = running;
    let ended = async {
        tokio::join!(
            print(stdout, output, "standard output"),
            print(stderr, errors, "standard error"),
            verdict.outcome()
        )
    };
    let fed = async {
        feed(input, stdin).await;
        std::future::pending().await
    };
    let told_to_end = async {
        match (&mut terminal, resize) {
            (Some(terminal), Some(resize)) => terminal.attend(resize).await,
            _ => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = ended => outcome,
        outcome = fed => outcome,
        Terminated = told_to_end => bail!("told to end"),
    };
    let (printed, complained, outcome) = outcome;
    match outcome {
        Ok(outcome) => {
            printed?;
            complained?;
            // What is still to be said is of no use to anybody.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), verdict.close()).await;
            Ok(outcome)
        }
        Err(OutcomeError::Missing(_)) => {
            bail!("the link to the device was lost; how the command ended is not known")
        }
        Err(error) => Err(error).context("the device told no outcome"),
    }
}

/// Passes on what is typed, until that ends or the command takes no more.
async fn feed(mut input: impl AsyncRead + Unpin, stdin: Option<impl AsyncWrite + Unpin>) {
    if let Some(mut stdin) = stdin {
        // Of a command that has ended the outcome tells.
        let _ = tokio::io::copy(&mut input, &mut stdin).await;
    }
}

/// Writes what the command says. It lets go when it cannot, so that the command learns of a reader that went.
///
/// # Errors
/// It could not be written here: then what there is of it is not all. A reader that went wants no more, which is no error, and what
/// cannot be read is told by the outcome.
async fn print(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await.unwrap_or_default();
        let written = match chunk.get(..length) {
            Some([]) | None => return flushed(to.flush().await, name),
            Some(bytes) => match to.write_all(bytes).await {
                // A terminal shows a prompt, which has no end of line.
                Ok(()) => to.flush().await,
                failed => failed,
            },
        };
        if written.is_err() {
            return flushed(written, name);
        }
    }
}

fn flushed(written: std::io::Result<()>, name: &'static str) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error)
            .with_context(|| format!("what the command said is not all there: cannot write to {name}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use edge_streams::remote_command::Command;

    use super::*;

    const OPTIONS: Options = Options {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };

    /// What a person sees of a command that gives its input back and ends so; no outcome is a link that is cut.
    async fn see(outcome: Option<Outcome>) -> (anyhow::Result<Outcome>, Vec<u8>, Vec<u8>) {
        let mut output = Vec::new();
        let (outcome, errors) = see_in(outcome, &mut output).await;
        (outcome, output, errors)
    }

    /// The same with its output written there.
    async fn see_in(
        outcome: Option<Outcome>,
        output: impl AsyncWrite + Unpin,
    ) -> (anyhow::Result<Outcome>, Vec<u8>) {
        let (ours, device) = tokio::io::duplex(100);
        let running = Running::over_pipe(ours, OPTIONS, Limits::default());
        let mut command = Command::over_pipe(device, OPTIONS, Limits::default());
        let serve = async move {
            let (mut stdin, mut stdout) = (command.stdin.take().unwrap(), command.stdout.take().unwrap());
            let mut stderr = command.stderr.take().unwrap();
            tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
            stderr.write_all(b"done\n").await.unwrap();
            stderr.shutdown().await.unwrap();
            stdout.shutdown().await.unwrap();
            if let Some(outcome) = outcome {
                let _ = command.ending.finish(&outcome).await;
            }
        };
        let mut errors = Vec::new();
        let (outcome, ()) = tokio::join!(attend(running, None, (&b"input"[..], output, &mut errors)), serve);
        (outcome, errors)
    }

    #[tokio::test]
    async fn a_full_disk_is_no_success() {
        let full = tokio::fs::File::options().write(true).open("/dev/full").await;
        let (outcome, _) = see_in(Some(Outcome::Success), full.unwrap()).await;
        let said = format!("{:#}", outcome.unwrap_err());
        let expected =
            "what the command said is not all there: cannot write to standard output: No space left";
        assert!(said.starts_with(expected), "{said}");
    }

    #[tokio::test]
    async fn a_person_sees_what_the_command_says_and_how_it_ended() {
        for expected in [Outcome::Success, Outcome::NonZeroExit(7)] {
            let (outcome, output, errors) = see(Some(expected.clone())).await;
            assert_eq!(outcome.unwrap(), expected);
            assert_eq!(
                (output.as_slice(), errors.as_slice()),
                (&b"input"[..], &b"done\n"[..])
            );
        }
        let (outcome, output, _) = see(None).await;
        assert!(
            outcome
                .unwrap_err()
                .to_string()
                .starts_with("the link to the device was lost")
        );
        assert_eq!(output, b"input");
    }
}
