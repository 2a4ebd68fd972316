//! What a contender is to a measurement: plain data, so that a kubelet and an Outrigger are measured by the very same code.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::Process;

use crate::{BenchError, proc};

/// Whether pods ask for their service account's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Token {
    /// They do not: the same work on every side, since a fleet pod never gets one.
    #[default]
    Withheld,
    /// They do, as every pod does whose author says nothing; a kubelet fetches it and mounts it.
    Mounted,
}

/// Where pods go, and whose CPU time counts.
#[derive(Clone, Debug)]
pub struct Side {
    /// In tables and pod names: letters, digits and `-`.
    pub name: &'static str,
    /// The Node that the scheduler is asked for, by its hostname label.
    pub node: String,
    /// A reference that is on the device already.
    pub image: String,
    /// What each pod carries; the API server forbids none.
    pub annotations: BTreeMap<String, String>,
    pub token: Token,
    /// All that the contender consists of outside the container runtime.
    pub processes: Vec<Process>,
}

/// CPU time by process; processes are called as in the lab.
pub type CpuTimes = BTreeMap<String, Duration>;

impl Side {
    /// CPU time of each of its processes since it began; see [`proc::cpu_time`].
    ///
    /// # Errors
    /// [`BenchError::NotRunning`] when one of them has ended: a figure without it would flatter.
    pub fn cpu_times(&self) -> Result<CpuTimes, BenchError> {
        let read = |process: &Process| Ok((process.name().to_owned(), proc::cpu_time(pid(process)?)?));
        self.processes.iter().map(read).collect()
    }

    /// What each process has used since an earlier reading.
    ///
    /// # Errors
    /// As [`Side::cpu_times`].
    pub fn cpu_times_since(&self, earlier: &CpuTimes) -> Result<CpuTimes, BenchError> {
        let mut times = self.cpu_times()?;
        for (process, time) in &mut times {
            *time = time.saturating_sub(earlier.get(process).copied().unwrap_or_default());
        }
        Ok(times)
    }
}

/// The pid of a process that must run.
///
/// # Errors
/// [`BenchError::NotRunning`].
pub fn pid(process: &Process) -> Result<i32, BenchError> {
    process.pid()?.ok_or_else(|| BenchError::NotRunning {
        process: process.name().to_owned(),
    })
}
