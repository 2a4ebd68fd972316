//! `outrigger attach`.

mod detach;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use edge_protocol::v1::{Stdio, StreamRequest};
use edge_streams::Limits;
use edge_streams::remote_command::{Options, Outcome, Running};
use iot_hub_api::v1::StreamCall;
use iot_hub_client::HubClient;
use tokio::io::{AsyncRead, AsyncWrite};

use self::detach::{DetachKeys, Detachable};
use super::exec::attend;
use super::target::ContainerArgs;
use crate::terminal::{RawTerminal, standard};

const EXAMPLES: &str = "\
Examples:
  What the only container of a pod writes from now on:
    outrigger attach --device press-7 default/web-6d4cf56db6-x2v7p

  Type into a container that was made with `stdin: true` and `tty: true`; Ctrl-P Ctrl-Q leaves it as it is:
    outrigger attach --device press-7 default/shell -c main -it

  Leave by one key instead:
    outrigger attach --device press-7 default/shell -it --detach-keys ctrl-]";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    target: ContainerArgs,
    /// Pass standard input to the container. It must have been made with `stdin: true`.
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Standard input is a terminal, and so is the container's (`tty: true`).
    #[arg(long, short = 't')]
    tty: bool,
    /// Print only what the container writes.
    #[arg(long, short = 'q')]
    quiet: bool,
    /// The keys that leave a terminal and let the container go on: characters, `ctrl-a` to `ctrl-z`, `ctrl-` with one of `@[\]^_`, or `DEL`.
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_name = "KEYS")]
    detach_keys: DetachKeys,
}

/// How a session ended.
enum Left {
    Ended(Outcome),
    Detached,
}

/// Attaches to the first process of a container, until that ends or the person leaves. As `kubectl attach` does (`pkg/cmd/attach/attach.go`).
pub async fn run(hub: &HubClient, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        target,
        stdin,
        tty,
        quiet,
        detach_keys,
    } = arguments;
    let found = target.find_terminal(hub).await?;
    let say = |text: &str| {
        if !quiet {
            eprintln!("{text}");
        }
    };
    // Whether a process has a terminal was settled when its container was made.
    let has_terminal = found.terminal.map_or(tty, |terminal| terminal.tty);
    if tty && !has_terminal {
        say(&format!(
            "Unable to use a TTY - container {} did not allocate one",
            found.container
        ));
    }
    let raw = has_terminal && stdin && std::io::stdin().is_terminal();
    let stdio = Stdio {
        stdin,
        stdout: true,
        stderr: !has_terminal,
        tty: has_terminal,
    };
    let request = StreamRequest::Attach {
        uid: found.uid,
        container: found.container,
        stdio,
    };
    let streams = (
        standard(&std::io::stdin())?,
        standard(&std::io::stdout())?,
        standard(&std::io::stderr())?,
    );
    let call = StreamCall { request, user: None };
    let stream = hub.open_stream(&target.pod.device, &call).await?;
    let options = Options {
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        tty: stdio.tty,
    };
    let terminal = if raw {
        say("If you don't see a command prompt, try pressing enter.");
        Some(RawTerminal::enter()?)
    } else {
        None
    };
    let running = Running::over_pipe(stream, options, Limits::default());
    let keys = raw.then_some(detach_keys);
    match follow(running, terminal, keys, streams).await? {
        Left::Ended(Outcome::Success) => Ok(ExitCode::SUCCESS),
        Left::Ended(Outcome::NonZeroExit(code)) => Ok(ExitCode::from(code)),
        Left::Ended(Outcome::Failed { message }) => bail!("{message}"),
        Left::Detached => {
            say("\nDetached; the container goes on.");
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn follow(
    running: Running,
    terminal: Option<RawTerminal>,
    keys: Option<DetachKeys>,
    (input, output, errors): (
        impl AsyncRead + Unpin,
        impl AsyncWrite + Unpin,
        impl AsyncWrite + Unpin,
    ),
) -> anyhow::Result<Left> {
    let (input, detached) = Detachable::new(input, keys);
    tokio::select! {
        // The keys end the input as well: that comes second.
        biased;
        () = detached.wait() => Ok(Left::Detached),
        outcome = attend(running, terminal, (input, output, errors)) => Ok(Left::Ended(outcome?)),
    }
}

#[cfg(test)]
mod tests {
    use edge_streams::remote_command::Command;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const OPTIONS: Options = Options {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };

    #[tokio::test]
    async fn the_keys_leave_a_container_that_goes_on() {
        let (ours, device) = tokio::io::duplex(100);
        let running = Running::over_pipe(ours, OPTIONS, Limits::default());
        let mut process = Command::over_pipe(device, OPTIONS, Limits::default());
        let serve = async {
            let (mut stdin, mut got) = (process.stdin.take().unwrap(), Vec::new());
            // It ends with the session, in whatever way.
            let _ = stdin.read_to_end(&mut got).await;
            got
        };
        let keys = "ctrl-p,ctrl-q".parse().unwrap();
        // More would follow.
        let (mut person, input) = tokio::io::duplex(100);
        tokio::io::AsyncWriteExt::write_all(&mut person, b"ls\n\x10\x11rm\n")
            .await
            .unwrap();
        let streams = (input, tokio::io::sink(), tokio::io::sink());
        let (left, got) = tokio::join!(follow(running, None, Some(keys), streams), serve);
        assert!(matches!(left.unwrap(), Left::Detached));
        assert!(b"ls\n".starts_with(&got), "{got:?}");
    }
}
