//! Carries what the log has into the store's file, on a thread and a connection of its own.
//!
//! Left to SQLite, every so many pages one commit does that for all before it: it writes them in place and waits for the disk twice more. A
//! workload's start waits for commits, so it is done beside them, when it is quiet.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use tracing::warn;

/// Writes in the log that are worth it; each changes a page or two.
const ENOUGH: usize = 256;
/// So many are not left for later, however busy it is.
const MOST: usize = 1_024;
/// No commit for this long is quiet.
const QUIET: Duration = Duration::from_millis(200);

/// Hears of each commit how many writes it had. The thread ends when this is gone.
pub(super) fn start(connection: Connection) -> mpsc::Sender<usize> {
    let (wrote, written) = mpsc::channel();
    thread::spawn(move || run(&written, || now(&connection)));
    wrote
}

fn run(written: &mpsc::Receiver<usize>, mut checkpoint: impl FnMut()) {
    let mut waiting = 0;
    while let Ok(writes) = written.recv() {
        waiting += writes;
        while (ENOUGH..MOST).contains(&waiting) {
            match written.recv_timeout(QUIET) {
                Ok(writes) => waiting += writes,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        if waiting >= ENOUGH {
            checkpoint();
            waiting = 0;
        }
    }
}

/// It neither waits for the writer nor holds it up; what it leaves, the next one takes.
pub(super) fn now(connection: &Connection) {
    let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = done {
        warn!(%error, "the store's log could not be carried into its file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(commits: &[usize]) -> usize {
        let (wrote, written) = mpsc::channel();
        for writes in commits {
            wrote.send(*writes).unwrap();
        }
        let mut count = 0;
        // The end comes before it is quiet.
        drop(wrote);
        run(&written, || count += 1);
        count
    }

    #[test]
    fn it_waits_for_enough_and_for_quiet_but_not_for_ever() {
        assert_eq!(checkpoints(&[ENOUGH - 1]), 0, "little");
        assert_eq!(checkpoints(&[ENOUGH]), 0, "busy");
        assert_eq!(checkpoints(&[ENOUGH; 4]), 1, "too much to wait");
        assert_eq!(checkpoints(&[ENOUGH, MOST, 1, MOST]), 2);
    }

    #[test]
    fn when_it_is_quiet_enough_is_enough() {
        let (wrote, written) = mpsc::channel();
        wrote.send(ENOUGH).unwrap();
        let mut writer = Some(wrote);
        // Until then the writer is there, so that only quiet can bring it about.
        run(&written, || drop(writer.take()));
        assert!(writer.is_none());
    }
}
