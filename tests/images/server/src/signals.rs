//! SIGTERM and SIGINT, always handled explicitly: a container's first process gets no default action from the kernel.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// Blocks the signals for this thread and every thread that it starts later, so that `wait` is the only one who gets them.
fn block(signals: &[Signal]) -> SigSet {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block().expect("the set holds valid signals only");
    set
}

/// Blocks SIGTERM and SIGINT; call it before any thread is started.
pub fn block_term() -> SigSet {
    block(&[Signal::SIGTERM, Signal::SIGINT])
}

/// Returns at the first SIGTERM or SIGINT.
pub fn wait_for_term() {
    let _ = block_term().wait();
}

/// Returns `Some` when SIGTERM or SIGINT came within `limit`, else `None` when it is over.
pub fn exit_on_term_within(limit: Duration) -> Option<()> {
    let set = block_term();
    let (told, term) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let _ = set.wait();
        // The receiver is gone when the time is over, and so is the process a moment later.
        let _ = told.send(());
    });
    let deadline = Instant::now() + limit;
    term.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .ok()
}

/// Prints what it is sent and stays.
pub fn ignore_term() -> Result<ExitCode, String> {
    let set = block_term();
    println!("SIGTERM will be ignored");
    loop {
        let signal = set
            .wait()
            .map_err(|errno| format!("waiting for a signal: {errno}"))?;
        println!("ignored {signal}");
    }
}

/// Holds the sandbox's namespaces; when processes share one PID namespace it is their init, so it reaps.
pub fn pause() -> Result<ExitCode, String> {
    let set = block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    loop {
        match set
            .wait()
            .map_err(|errno| format!("waiting for a signal: {errno}"))?
        {
            Signal::SIGCHLD => reap(),
            _ => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// Several children may have died behind one SIGCHLD.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                eprintln!("reaping: {errno}");
                return;
            }
        }
    }
}
