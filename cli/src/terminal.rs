//! Standard input and outputs, and the terminal that a command is given.

use std::io;
use std::os::fd::AsFd;

use anyhow::Context as _;
use crossterm::terminal::{disable_raw_mode, enable_raw_mode, size};
use edge_streams::remote_command::{ResizeSender, TerminalSize};
use tokio::fs::File;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Standard input, or one of the outputs, for a task to read or write. What is written is to be flushed.
///
/// # Errors
/// It is closed, or this process has too many files open.
pub fn standard(stream: &impl AsFd) -> io::Result<File> {
    let stream = stream.as_fd().try_clone_to_owned()?;
    Ok(File::from_std(stream.into()))
}

/// Standard input's terminal, raw: every key goes to the command, Ctrl-C too. Dropped, it is as it was before.
pub struct RawTerminal {
    resized: Signal,
    terminated: Signal,
    hung_up: Signal,
}

impl RawTerminal {
    /// Makes it raw until this is dropped.
    pub fn enter() -> anyhow::Result<Self> {
        let terminal = Self {
            resized: signal(SignalKind::window_change())?,
            terminated: signal(SignalKind::terminate())?,
            hung_up: signal(SignalKind::hangup())?,
        };
        enable_raw_mode().context("the terminal cannot be made raw")?;
        Ok(terminal)
    }

    /// Tells the command its size, now and whenever it changes, until the command wants no more. Then, or when this process is told to
    /// end, so that the terminal is left as it was.
    pub async fn attend(&mut self, mut command: ResizeSender) -> Terminated {
        let mut wanted = true;
        loop {
            if wanted && let Ok((width, height)) = size() {
                wanted = command.send(TerminalSize { width, height }).await.is_ok();
            }
            tokio::select! {
                _ = self.resized.recv() => {}
                _ = self.terminated.recv() => return Terminated,
                _ = self.hung_up.recv() => return Terminated,
            }
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // It is gone, then.
        let _ = disable_raw_mode();
    }
}

/// This process was told to end.
pub struct Terminated;
