//! A command line as data: it can be written to the state file, run again, and put behind `nsenter`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, until};

/// The longest output that is kept of a finished command, per stream.
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;
const MAX_REASON: usize = 2000;

/// A program with its arguments and environment. No shell ever sees it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    /// Added to the environment of the process that starts it.
    environment: BTreeMap<String, String>,
}

/// What a finished command printed; it succeeded.
#[derive(Clone, Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// A program without arguments; a bare name is looked up in `PATH`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// Appends one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Appends `--name=value`.
    #[must_use]
    pub fn flag(self, name: &str, value: impl fmt::Display) -> Self {
        self.arg(format!("--{name}={value}"))
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// The same program inside a network namespace. Only the network differs: mounts are shared, so that what one containerd mounts, the
    /// next one finds. (`ip netns exec` would give each call a mount namespace of its own.)
    pub(crate) fn in_network_namespace(&self, namespace: &Path) -> Self {
        let entered = Self::new("nsenter")
            .arg(format!("--net={}", namespace.display()))
            .arg("--");
        let entered = entered
            .arg(self.path.display().to_string())
            .args(self.arguments.clone());
        Self {
            environment: self.environment.clone(),
            ..entered
        }
    }

    /// For a caller that starts it in its own way; its input is empty.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(&self.environment)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end on the machine itself.
    ///
    /// # Errors
    /// [`Error::Command`] when it cannot be started or fails, [`Error::Deadline`] when `limit` passes; it is killed then.
    pub fn run(&self, limit: Duration) -> Result<Output, Error> {
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.failed(error.to_string()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Both pipes are drained while it runs, or a talkative command would block on a full one.
        let (finished, stdout, stderr) = std::thread::scope(|scope| {
            let stdout = scope.spawn(|| drain(stdout));
            let stderr = scope.spawn(|| drain(stderr));
            let finished = self.wait(&mut child, limit);
            (
                finished,
                stdout.join().unwrap_or_default(),
                stderr.join().unwrap_or_default(),
            )
        });
        let status = finished?;
        if status.success() {
            return Ok(Output { stdout, stderr });
        }
        Err(self.failed(format!("{status}: {}", end_of(stderr.trim(), MAX_REASON))))
    }

    fn wait(&self, child: &mut Child, limit: Duration) -> Result<std::process::ExitStatus, Error> {
        let mut status = None;
        let waited = until(&self.to_string(), limit, || {
            status = child.try_wait().map_err(|error| self.failed(error.to_string()))?;
            Ok(status.is_some())
        });
        if let Err(late) = waited {
            // Fails only when the process has ended by itself meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return Err(late);
        }
        Ok(status.expect("the wait ends well only with a status"))
    }

    fn failed(&self, reason: String) -> Error {
        Error::Command {
            command: self.to_string(),
            reason,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(formatter, " {argument}"))
    }
}

fn drain(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // A read that fails leaves what was read before, which is all there is to tell.
        let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last `most` characters, since a command says last why it failed.
pub(crate) fn end_of(text: &str, most: usize) -> String {
    let skipped = text.chars().count().saturating_sub(most);
    text.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn output_is_returned_and_failures_say_why() {
        let shell = |script: &str| Program::new("sh").arg("-c").arg(script);
        assert_eq!(shell("echo $A").env("A", "b").run(LIMIT).unwrap().stdout, "b\n");
        let failed = shell("echo broken >&2; exit 3")
            .run(LIMIT)
            .unwrap_err()
            .to_string();
        assert!(failed.contains("broken") && failed.contains('3'), "{failed}");
        assert!(matches!(
            Program::new("/nonexistent").run(LIMIT),
            Err(Error::Command { .. })
        ));
        let late = Program::new("sleep").arg("60").run(Duration::from_millis(1));
        assert!(matches!(late, Err(Error::Deadline { .. })));
    }

    #[test]
    fn the_end_of_a_text_is_cut_at_characters() {
        assert_eq!(end_of("añb", 2), "ñb");
        assert_eq!(end_of("ab", 5), "ab");
    }
}
