//! kubectl as a person uses it who looks into a pod: with input, a terminal, and output that goes on.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::unistd::ttyname;

use super::{TestSite, eventually};

const LIMIT: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(10);

/// How kubectl speaks to the API server: as it does by itself since 1.31, or as those before it and Go clients of today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    WebSocket,
    Spdy,
}

pub const WAYS: [Way; 2] = [Way::WebSocket, Way::Spdy];

/// A kubectl that has ended.
#[derive(Debug)]
pub struct Ran {
    /// `None` after a signal.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl TestSite {
    fn kubectl_command(&self, way: Way, arguments: &[&str]) -> Command {
        let sockets = if way == Way::Spdy { "false" } else { "true" };
        let program = self.cluster().program();
        let mut command = program.args(arguments.iter().copied()).command();
        command
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", sockets)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", sockets);
        command
    }

    /// Runs kubectl with this input to its end, whatever that is.
    #[track_caller]
    pub fn ran(&self, way: Way, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child = self.kubectl_command(way, arguments);
        let child = child
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // It may go without having read all.
                let _ = stdin.write_all(input);
            });
            let out = scope.spawn(move || {
                let mut bytes = Vec::new();
                stdout.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let err = scope.spawn(move || {
                let mut bytes = Vec::new();
                stderr.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let code = ended(&mut child, arguments);
            Ran {
                code,
                stdout: out.join().unwrap(),
                stderr: String::from_utf8_lossy(&err.join().unwrap()).into_owned(),
            }
        })
    }

    /// Starts kubectl, whose lines are read as they come.
    pub fn talking(&self, way: Way, arguments: &[&str]) -> Talking {
        let mut command = self.kubectl_command(way, arguments);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Talking {
            lines: lines(child.stdout.take().unwrap()),
            errors: lines(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Starts kubectl at a terminal of its own.
    pub fn at_terminal(&self, way: Way, arguments: &[&str], rows: u16, columns: u16) -> Terminal {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let name = ttyname(&pty.slave).unwrap().display().to_string();
        let kubectl = self.kubectl_command(way, arguments);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(kubectl.get_program());
        command.args(kubectl.get_args());
        command.envs(
            kubectl
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = File::from(pty.master);
        let lines = lines(master.try_clone().unwrap());
        Terminal {
            child,
            master,
            name,
            lines,
        }
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

fn lines(output: impl std::io::Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    std::thread::spawn(move || {
        // A terminal's end is an error of reading (EIO).
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            kept.lock().unwrap().push(line.trim_end().to_owned());
        }
    });
    lines
}

fn ended(child: &mut Child, what: &[&str]) -> Option<i32> {
    let begun = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code(),
            None if begun.elapsed() > LIMIT => {
                child.kill().unwrap();
                panic!("kubectl {what:?} does not end");
            }
            None => std::thread::sleep(PAUSE),
        }
    }
}

/// A kubectl that runs; killed when dropped.
pub struct Talking {
    child: Child,
    lines: Lines,
    errors: Lines,
}

impl Talking {
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// Waits until its output is so long.
    #[track_caller]
    pub fn has_lines(&self, count: usize) {
        eventually(&format!("{count} lines are there"), || {
            let lines = self.lines();
            if lines.len() >= count {
                Ok(())
            } else {
                Err(format!("{lines:?} {:?}", self.errors()))
            }
        });
    }

    /// Waits for its end.
    #[track_caller]
    pub fn code(&mut self) -> Option<i32> {
        ended(&mut self.child, &["that talks"])
    }

    /// Its exit code, if it has ended in order.
    pub fn poll(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap()?.code()
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A kubectl at a terminal.
pub struct Terminal {
    child: Child,
    master: File,
    name: String,
    lines: Lines,
}

impl Terminal {
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    pub fn shows(&self, text: &str) {
        eventually(&format!("the terminal shows {text:?}"), || {
            let lines = self.lines.lock().unwrap();
            let is_there = lines.iter().any(|line| line.contains(text));
            is_there.then_some(()).ok_or_else(|| format!("{lines:?}"))
        });
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = ["rows", &rows.to_string(), "cols", &columns.to_string()].map(str::to_owned);
        let done = Command::new("stty").arg("-F").arg(&self.name).args(size).status();
        assert!(done.unwrap().success());
    }

    #[track_caller]
    pub fn code(&mut self) -> Option<i32> {
        ended(&mut self.child, &["at a terminal"])
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
