//! Processes that outlive the one that started them, known by pid *and* start time.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::program::end_of;
use crate::state::{ProcessRecord, Store};
use crate::{Error, Program, sweep, until};

const KILL_LIMIT: Duration = Duration::from_secs(10);
const LOG_TAIL: usize = 1000;

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks after boot, from `/proc/<pid>/stat`.
    pub started: u64,
}

impl ProcessId {
    /// The process that has this pid now; `None` when there is none, or only its remains.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(&stat).map(|stat| Self {
            pid,
            started: stat.started,
        })
    }

    /// This very process.
    pub fn mine() -> Self {
        let pid = i32::try_from(std::process::id()).expect("the kernel's pids are below 2^22");
        Self::of(pid).expect("/proc shows the process that reads it")
    }

    pub fn is_alive(self) -> bool {
        // A child of this very process stays as a zombie until it is waited for; anybody else's gives ECHILD, which is as good.
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        Self::of(self.pid) == Some(self)
    }

    /// Sends the signal when the process is still the one that is meant.
    pub fn signal(self, signal: Signal) -> Result<(), Error> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(Error::Command {
                command: format!("kill -{signal} {}", self.pid),
                reason: errno.to_string(),
            }),
        }
    }
}

pub struct Stat {
    pub parent: i32,
    pub started: u64,
}

/// Reads `/proc/<pid>/stat` (proc(5)); `None` for the dead. The command's name may hold anything, so the fields count from the last `)`.
pub fn parse_stat(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3).copied();
    // A zombie with other threads is not dead yet: until the last has ended, its files and ports are open.
    let is_remains = matches!(field(3)?, "Z" | "X") && field(20)? == "1";
    if is_remains {
        return None;
    }
    Some(Stat {
        parent: field(4)?.parse().ok()?,
        started: field(22)?.parse().ok()?,
    })
}

/// One recorded process of a lab. The handle is a name: it follows the process through restarts.
#[derive(Clone, Debug)]
pub struct Process {
    store: Store,
    name: String,
}

impl Process {
    pub(crate) fn new(store: &Store, name: &str) -> Self {
        Self {
            store: store.clone(),
            name: name.to_owned(),
        }
    }

    /// Records a program under a name and starts it, with its output appended to `logs/<name>.log`. A process that runs under that name is an
    /// error; one that ended is replaced.
    pub(crate) fn spawn(store: &Store, name: &str, program: Program) -> Result<Self, Error> {
        check_name(name)?;
        let log = store.directory().join("logs").join(format!("{name}.log"));
        store.update(|state| {
            let known = state.processes.get(name).and_then(|record| record.id);
            if known.is_some_and(ProcessId::is_alive) {
                return Err(Error::Name {
                    name: name.to_owned(),
                    reason: "a process of this name is running",
                });
            }
            state.processes.insert(
                name.to_owned(),
                ProcessRecord {
                    id: None,
                    log,
                    program,
                },
            );
            Ok(())
        })?;
        let process = Self::new(store, name);
        process.start()?;
        Ok(process)
    }

    /// Its name within the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pid, when it is alive.
    ///
    /// # Errors
    /// [`Error::NoPart`] when the lab has no such process.
    pub fn pid(&self) -> Result<Option<i32>, Error> {
        Ok(self.record()?.id.filter(|id| id.is_alive()).map(|id| id.pid))
    }

    /// The file with all that it printed, over restarts too.
    ///
    /// # Errors
    /// As [`Process::pid`].
    pub fn log(&self) -> Result<PathBuf, Error> {
        Ok(self.record()?.log)
    }

    /// Starts it with the command line it was recorded with; one that is alive is left alone.
    ///
    /// # Errors
    /// [`Error::Command`] when it cannot be started.
    pub fn start(&self) -> Result<(), Error> {
        self.store.update(|state| {
            let token = state.token.clone();
            let record = state
                .processes
                .get_mut(&self.name)
                .ok_or_else(|| Error::no_part(&self.name))?;
            if record.id.is_some_and(ProcessId::is_alive) {
                return Ok(());
            }
            record.id = Some(launch(record, &token)?);
            Ok(())
        })
    }

    /// Kills it (SIGKILL) and returns when it is gone; its children are left alone. Of a process that is not alive nothing is done.
    ///
    /// # Errors
    /// [`Error::Deadline`] when the kernel does not let it go.
    pub fn kill(&self) -> Result<(), Error> {
        self.end(Signal::SIGKILL, KILL_LIMIT)
    }

    /// Asks it to end (SIGTERM) and returns when it is gone.
    ///
    /// # Errors
    /// [`Error::Deadline`] when it has not ended by `limit`; it is left running then.
    pub fn terminate(&self, limit: Duration) -> Result<(), Error> {
        self.end(Signal::SIGTERM, limit)
    }

    /// Fails when the process is not alive, with the end of its log.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub fn check_alive(&self) -> Result<(), Error> {
        let record = self.record()?;
        if record.id.is_some_and(ProcessId::is_alive) {
            return Ok(());
        }
        Err(Error::Ended {
            name: self.name.clone(),
            tail: tail(&record.log),
            log: record.log,
        })
    }

    /// Waits until `holds` says yes, and gives up at once when the process ends.
    ///
    /// # Errors
    /// [`Error::Ended`] and those of [`until`].
    pub fn until(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        until(what, limit, || {
            self.check_alive()?;
            holds()
        })
    }

    fn end(&self, signal: Signal, limit: Duration) -> Result<(), Error> {
        let Some(id) = self.record()?.id else {
            return Ok(());
        };
        id.signal(signal)?;
        until(&format!("{} ends after {signal}", self.name), limit, || {
            Ok(!id.is_alive())
        })
    }

    fn record(&self) -> Result<ProcessRecord, Error> {
        self.store
            .load()?
            .processes
            .remove(&self.name)
            .ok_or_else(|| Error::no_part(&self.name))
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
    if !name.is_empty() && name.len() <= 100 && name.chars().all(fits) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Error::Name {
        name: name.to_owned(),
        reason: "a process name has letters, digits, '-', '.' and '_'",
    })
}

/// Starts a process in a process group of its own, so that an interrupt typed at a terminal does not reach it.
fn launch(record: &ProcessRecord, token: &str) -> Result<ProcessId, Error> {
    let open = || {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&record.log)
            .map_err(Error::file(&record.log))
    };
    let failed = |reason: String| Error::Command {
        command: record.program.to_string(),
        reason,
    };
    let child = record
        .program
        .command()
        .env(sweep::MARK, token)
        .stdout(open()?)
        .stderr(open()?)
        .process_group(0)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let pid = i32::try_from(child.id()).expect("the kernel's pids are below 2^22");
    ProcessId::of(pid).ok_or_else(|| failed(format!("ended at once: {}", tail(&record.log))))
}

fn tail(log: &Path) -> String {
    std::fs::read(log)
        .map(|bytes| end_of(String::from_utf8_lossy(&bytes).trim(), LOG_TAIL))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_odd_command_names_and_the_dead_are_none() {
        let rest = "7 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        let check = |given: String, expect: Option<(i32, u64)>| {
            assert_eq!(
                parse_stat(&given).map(|stat| (stat.parent, stat.started)),
                expect,
                "{given}"
            );
        };
        check(format!("12 (sleep) S {rest}"), Some((7, 4242)));
        check(format!("12 (a) R (b) S {rest}"), Some((7, 4242)));
        check(format!("12 (sleep) Z {rest}"), None);
        check(
            format!("12 (sleep) Z {}", rest.replace("20 0 1 0", "20 0 3 0")),
            Some((7, 4242)),
        );
        check("12 (sleep) S".into(), None);
        check(String::new(), None);
    }

    #[test]
    fn a_pid_with_another_start_time_is_not_the_process() {
        let me = ProcessId::mine();
        assert!(me.is_alive());
        let recycled = ProcessId {
            started: me.started + 1,
            ..me
        };
        assert!(!recycled.is_alive());
        // Would end this test if it were delivered.
        recycled.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn names_cannot_leave_the_log_directory() {
        let check = |given: &str, expect: bool| assert_eq!(check_name(given).is_ok(), expect, "{given}");
        check("device-1.containerd", true);
        check("../x", false);
        check("a/b", false);
        check("", false);
    }
}
