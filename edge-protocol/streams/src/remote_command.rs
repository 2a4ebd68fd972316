//! exec and attach, the same whatever carries them.
//!
//! * [`Options`]: which streams a request wants.
//! * [`Command`]: the server's role, over SPDY, a WebSocket or a pipe: readers and writers for the process, and [`Ending`] for its outcome.
//! * [`Running`]: the client's role over SPDY, towards a container runtime's streaming URL, or over a pipe.
//! * `pipe`: a command over any pipe of bytes, as a tunnel to a device carries it.
//! * [`bridge`]: passes a command on to where it runs.
//! * [`Outcome`]: how it went, as the `Status` that `kubectl` makes its exit code from. [`TerminalSize`]: what a resize says.

mod bridge;
mod client;
mod outcome;
mod output;
mod pipe;
mod resize;
mod server;

pub use bridge::{BridgeError, bridge};
pub use client::{Received, Running, Verdict};
pub use outcome::{Outcome, OutcomeError};
pub use output::Output;
pub use pipe::Violation;
pub use resize::{ResizeSender, Resizes, TerminalSize};
pub use server::{Command, Ending};

use crate::mux::Direction;

/// Which streams a command has. One for the outcome is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "the four switches of the request")]
pub struct Options {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// With it there is no stderr, but a stream of resizes.
    pub tty: bool,
}

/// A request for none of stdin, stdout and stderr. The kubelet answers 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("you must specify at least 1 of stdin, stdout, stderr")]
pub struct NoStreams;

impl Options {
    /// As the kubelet reads a request: a terminal has no stderr of its own, and something must be left (`remotecommand.NewOptions`).
    ///
    /// # Errors
    /// [`NoStreams`].
    pub fn checked(self) -> Result<Self, NoStreams> {
        let stderr = self.stderr && !self.tty;
        if self.stdin || self.stdout || stderr {
            Ok(Self { stderr, ..self })
        } else {
            Err(NoStreams)
        }
    }

    /// The streams to expect, in the order in which clients open them.
    fn kinds(self) -> impl Iterator<Item = Kind> {
        let wanted = [
            (Kind::Error, true),
            (Kind::Stdin, self.stdin),
            (Kind::Stdout, self.stdout),
            (Kind::Stderr, self.stderr),
            (Kind::Resize, self.tty),
        ];
        wanted
            .into_iter()
            .filter_map(|(kind, wanted)| wanted.then_some(kind))
    }
}

/// What a stream is for: SPDY's header `streamtype`, and the number of the WebSocket channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::Resize => "resize",
        }
    }
}

/// Which side of a command this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

impl Role {
    /// Which way a stream goes, seen from this side.
    fn direction(self, kind: Kind) -> Direction {
        let writer = match kind {
            Kind::Stdin | Kind::Resize => Self::Client,
            Kind::Stdout | Kind::Stderr | Kind::Error => Self::Server,
        };
        if self == writer {
            Direction::Out
        } else {
            Direction::In
        }
    }
}

/// SPDY's header that says what a stream is for.
pub(crate) const STREAM_TYPE: &str = "streamtype";

#[cfg(test)]
mod tests {
    use super::*;

    fn check([stdin, stdout, stderr, tty]: [u8; 4], expected: Result<&[&str], NoStreams>) {
        let [stdin, stdout, stderr, tty] = [stdin, stdout, stderr, tty].map(|bit| bit == 1);
        let options = Options {
            stdin,
            stdout,
            stderr,
            tty,
        }
        .checked();
        let names = options.map(|options| options.kinds().map(Kind::name).collect::<Vec<_>>());
        assert_eq!(names.as_deref().map_err(|error| *error), expected);
    }

    #[test]
    fn requests_want_these_streams() {
        check([1, 1, 1, 0], Ok(&["error", "stdin", "stdout", "stderr"]));
        check([1, 1, 1, 1], Ok(&["error", "stdin", "stdout", "resize"]));
        check([0, 0, 1, 0], Ok(&["error", "stderr"]));
        check([0, 0, 1, 1], Err(NoStreams));
        check([0, 0, 0, 1], Err(NoStreams));
        check([0, 0, 0, 0], Err(NoStreams));
    }
}
