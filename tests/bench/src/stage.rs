//! Where measurements run: one directory, one measurement at a time, and nothing left behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::BenchError;

/// How long blocking calls may take to notice that their lab is gone.
const END_LIMIT: Duration = Duration::from_secs(30);
/// What a shell says of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// A directory for results, with a place for one lab in it.
#[derive(Debug)]
pub struct Stage {
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Stage {
    /// Takes the directory and removes what a crashed measurement left in it.
    ///
    /// # Errors
    /// [`BenchError::Busy`] while another process measures, since two would disturb each other.
    pub fn set(directory: impl Into<PathBuf>) -> Result<Self, BenchError> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(BenchError::file(&directory))?;
        let path = directory.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(BenchError::file(&path))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| BenchError::Busy { path })?;
        let stage = Self {
            directory,
            _lock: lock,
        };
        stage.clear()?;
        Ok(stage)
    }

    /// Where results are written.
    pub fn results(&self) -> &Path {
        &self.directory
    }

    /// Where the lab is to be.
    pub fn lab(&self) -> PathBuf {
        self.directory.join("lab")
    }

    /// Runs a measurement and removes its lab, whether it ends well, fails or is interrupted. A second signal ends the process at once; the
    /// next [`Stage::set`] removes what is left then. The logs of a failed measurement are kept in `failed/`.
    ///
    /// # Errors
    /// Those of the measurement, and of [`lab::down`].
    pub fn perform<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let runtime = Runtime::new()?;
        let outcome = runtime.block_on(async {
            let mut signals = Signals::new()?;
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = signals.next() => Err(anyhow::anyhow!("interrupted")),
            };
            // Not awaited: it is there for whoever loses patience with what follows.
            tokio::spawn(async move {
                signals.next().await;
                std::process::exit(INTERRUPTED);
            });
            outcome
        });
        if outcome.is_err() {
            self.keep_logs();
        }
        eprintln!("removing the lab");
        let removed = self.clear();
        // A blocking call that was still building the lab fails as soon as its directory is gone; what it made until then goes now.
        runtime.shutdown_timeout(END_LIMIT);
        removed.and_then(|()| self.clear())?;
        outcome
    }

    fn clear(&self) -> Result<(), BenchError> {
        Ok(lab::down(self.lab())?)
    }

    fn keep_logs(&self) {
        let kept = self.directory.join("failed");
        match copy_files(&self.lab().join("logs"), &kept) {
            Ok(()) => eprintln!("logs are kept in {}", kept.display()),
            // There is no lab when it failed that early.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("logs are not kept: {error}"),
        }
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    let entries = fs::read_dir(from)?;
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs a blocking call of the lab without holding up the runtime.
///
/// # Errors
/// Those of the call.
pub async fn blocking<T, E>(call: impl FnOnce() -> Result<T, E> + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    Ok(tokio::task::spawn_blocking(call).await??)
}
