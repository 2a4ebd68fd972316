//! A runtime whose commands are tasks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use edge_protocol::v1::{LogQuery, Stdio, StreamRefusal};
use edge_streams::Limits;
use edge_streams::remote_command::{Command, Options, Outcome, Running};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::runtime::logs::LogFault;
use crate::runtime::{Log, LogTarget, StreamRuntime, Unserved};

#[derive(Clone, Default)]
pub(super) struct Fake {
    /// Commands and logs that have begun and not ended.
    pub(super) live: Arc<AtomicUsize>,
    pub(super) begun: Arc<AtomicUsize>,
    pub(super) server: Option<SocketAddr>,
}

/// Counts while it is there.
pub(super) struct Live(Arc<AtomicUsize>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) const LIMITS: Limits = Limits {
    streams: 8,
    receive_buffer: 64 * 1024,
    send_buffer: 64 * 1024,
};

pub(super) fn options(stdio: Stdio) -> Options {
    Options {
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        tty: stdio.tty,
    }
}

impl Fake {
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    fn begin(&self) -> Live {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::Relaxed);
        Live(Arc::clone(&self.live))
    }

    /// `cat`; `exit N`; `flood`, which writes for ever; `wait`, which ends when its client goes.
    fn run(&self, words: &[String], stdio: Stdio) -> Running {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let command = Command::over_pipe(far, options(stdio), LIMITS);
        let (live, words) = (self.begin(), words.join(" "));
        tokio::spawn(async move {
            process(&words, command).await;
            drop(live);
        });
        Running::over_pipe(near, options(stdio), LIMITS)
    }
}

async fn process(words: &str, mut command: Command) {
    let mut gone = command.ending.gone();
    let mut stdout = command.stdout.take();
    let outcome = async {
        match words.split_once(' ').unwrap_or((words, "")) {
            ("cat", _) => {
                let (stdin, stdout) = (command.stdin.as_mut(), stdout.as_mut());
                tokio::io::copy(stdin.unwrap(), stdout.unwrap()).await.ok()?;
                Some(Outcome::Success)
            }
            ("exit", code) => Some(Outcome::exited(code.parse().unwrap())),
            ("flood", _) => {
                let stdout = stdout.as_mut().unwrap();
                while stdout.write_all(&[7; 4096]).await.is_ok() {}
                None
            }
            _ => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = outcome => outcome,
        _ = gone.wait() => None,
    };
    drop(stdout);
    if let Some(outcome) = outcome {
        drop(command.ending.finish(&outcome).await);
    }
}

impl StreamRuntime for Fake {
    type Log = FakeLog;

    async fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        stdio: Stdio,
    ) -> Result<Running, Unserved> {
        if container_id == "gone" {
            return Err(Unserved {
                why: StreamRefusal::NotRunning,
                message: "container is in CONTAINER_EXITED state".to_owned(),
            });
        }
        Ok(self.run(&command, stdio))
    }

    async fn attach(&self, _container_id: &str, stdio: Stdio) -> Result<Running, Unserved> {
        Ok(self.run(&["wait".to_owned()], stdio))
    }

    async fn connect_to(&self, _sandbox_id: &str, _port: u16) -> Result<TcpStream, Unserved> {
        Ok(TcpStream::connect(self.server.unwrap()).await.unwrap())
    }

    async fn open_log(&self, target: LogTarget, query: &LogQuery) -> Result<FakeLog, Unserved> {
        if target.attempt > 0 {
            return Err(LogFault::Missing {
                container: target.container,
                attempt: target.attempt,
            }
            .into());
        }
        Ok(FakeLog {
            _live: self.begin(),
            follow: query.follow,
        })
    }
}

/// One line, and if it is followed nothing more for ever.
pub(super) struct FakeLog {
    _live: Live,
    follow: bool,
}

impl Log for FakeLog {
    async fn serve(self, to: &mut (impl AsyncWrite + Unpin + Send)) -> Result<(), LogFault> {
        to.write_all(b"line").await.map_err(LogFault::Unsent)?;
        to.flush().await.map_err(LogFault::Unsent)?;
        if self.follow {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}
