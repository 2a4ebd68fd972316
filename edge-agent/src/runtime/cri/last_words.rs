//! What a container left when it ended: its termination message, or the end of its log (`getTerminationMessage` and
//! `readLastStringFromContainerLogs` of `pkg/kubelet/kuberuntime/kuberuntime_container.go`).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use edge_agent_cri::v1::{ContainerState, ContainerStatus};
use nix::fcntl::OFlag;

use super::config::Settings;
use super::labels;

/// The most that is read of a message (`MaxContainerTerminationMessageLength`).
const MAX_MESSAGE: usize = 4096;
/// The most that is taken of a log (`MaxContainerTerminationMessageLogLength` and `…LogLines`).
const MAX_LOG: usize = 2048;
const MAX_LINES: usize = 80;
/// How much of a log's end is looked at: lines are not longer than the runtime's buffer.
const LOG_END: u64 = 256 << 10;

impl Settings {
    /// Adds a container's last words to the runtime's, once it has exited.
    pub(super) fn add_last_words(&self, status: &mut ContainerStatus) {
        if status.state() != ContainerState::ContainerExited {
            return;
        }
        let Some(words) = self.words(status).filter(|words| !words.is_empty()) else {
            return;
        };
        if !status.message.is_empty() {
            status.message.push_str(": ");
        }
        status.message.push_str(&words);
    }

    fn words(&self, status: &ContainerStatus) -> Option<String> {
        let falls_back = labels::last_words(&status.annotations)?;
        // One that could not even be started has no log.
        let falls_back = falls_back && status.exit_code != 0 && status.reason != "ContainerCannotRun";
        let uid = labels::uid(&status.labels)?;
        let name = labels::container_name(&status.labels)?;
        let attempt = status.metadata.as_ref()?.attempt;
        let path = self.last_words(&uid, name, attempt).ok()?;
        let message = match read_message(&path) {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Some(format!("Error on reading termination log: {error}")),
        };
        if message.is_empty() && falls_back {
            return Some(match read_end(Path::new(&status.log_path)) {
                Ok(log) => end_of_log(&log),
                Err(error) => format!("Error on reading termination message from logs: {error}"),
            });
        }
        Some(String::from_utf8_lossy(&message).into_owned())
    }
}

fn read_message(path: &Path) -> io::Result<Vec<u8>> {
    // Nobody but root could have replaced the file; a pipe would still not hold the agent.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut message = Vec::new();
    file.take(MAX_MESSAGE as u64).read_to_end(&mut message)?;
    Ok(message)
}

fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
    let mut log = Vec::new();
    file.take(LOG_END).read_to_end(&mut log)?;
    Ok(log)
}

/// What the last lines of a CRI log (`<time> <stream> <P|F> <text>`) said.
fn end_of_log(log: &[u8]) -> String {
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let last = lines
        .get(lines.len().saturating_sub(MAX_LINES)..)
        .unwrap_or_default();
    let mut text = Vec::new();
    for line in last {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (_, _, tag, content) = (fields.next(), fields.next(), fields.next(), fields.next());
        let content = content.unwrap_or_default();
        if tag.is_some_and(|tag| tag.starts_with(b"P")) {
            text.extend_from_slice(content.strip_suffix(b"\n").unwrap_or(content));
        } else {
            text.extend_from_slice(content);
        }
    }
    let from = text.len().saturating_sub(MAX_LOG);
    String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_what_was_said() {
        let log = b"cut off\n2026-01-01T00:00:00Z stdout P half \n2026-01-01T00:00:00Z stderr F whole\n2026-01-01T00:00:00Z stdout F a b  c\n";
        assert_eq!(end_of_log(&log[8..]), "half whole\na b  c\n");
        assert_eq!(end_of_log(b""), "");
        let many: Vec<String> = (0..100).map(|n| format!("t stdout F {n}\n")).collect();
        assert!(end_of_log(many.concat().as_bytes()).starts_with("20\n21\n"));
        let long = format!("t stdout F {}\n", "x".repeat(5000));
        assert_eq!(end_of_log(long.as_bytes()).len(), MAX_LOG);
    }

    #[test]
    fn a_message_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert_eq!(read_message(&path).unwrap().len(), MAX_MESSAGE);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("1")).unwrap();
        assert!(read_message(&dir.path().join("1")).is_err());
    }
}
