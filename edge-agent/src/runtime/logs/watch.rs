//! Wakes those who wait for directories to change: one inotify instance for all of them, since the kernel gives a user few.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// Between two looks at what happened: a container that writes without pause wakes nobody more often.
const PAUSE: Duration = Duration::from_millis(20);

/// Sole owner of the task that listens; it ends with this.
#[derive(Debug)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

/// A directory that is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Watched {
    shared: Arc<Shared>,
    directory: WatchDescriptor,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Shared {
    inotify: Inotify,
    /// Another descriptor of the same: what tokio has for a pipe waits for whatever can be read, and knows that a descriptor stays open.
    readiness: pipe::Receiver,
    /// By the kernel's number of the directory.
    watched: Mutex<BTreeMap<i32, Vec<Arc<Notify>>>>,
}

impl Watcher {
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel gives no instance: all of this user's are taken.
    pub(crate) fn start() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let readiness = inotify.as_fd().try_clone_to_owned()?;
        let shared = Arc::new(Shared {
            inotify,
            readiness: pipe::Receiver::from_owned_fd_unchecked(readiness)?,
            watched: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&shared).listen());
        Ok(Self {
            shared,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Watches what is written, made and moved in a directory.
    ///
    /// # Errors
    /// It is gone, or the kernel watches no more for this user.
    pub(crate) fn watch(&self, directory: &Path) -> io::Result<Watched> {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF;
        let wake = Arc::new(Notify::new());
        // The kernel knows a directory that is watched already by its number: that must not be given up in between.
        let mut watched = self.shared.watched();
        let directory = self.shared.inotify.add_watch(directory, flags)?;
        watched
            .entry(directory.as_raw())
            .or_default()
            .push(Arc::clone(&wake));
        drop(watched);
        Ok(Watched {
            shared: Arc::clone(&self.shared),
            directory,
            wake,
        })
    }
}

impl Watched {
    /// Waits for a change since the last such wait ended. Cancel safe; may wake for nothing.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut watched = self.shared.watched();
        let number = self.directory.as_raw();
        let Some(waiting) = watched.get_mut(&number) else {
            return;
        };
        waiting.retain(|wake| !Arc::ptr_eq(wake, &self.wake));
        if waiting.is_empty() {
            watched.remove(&number);
            // A directory that is gone is watched no more.
            let _gone: Result<(), Errno> = self.shared.inotify.rm_watch(self.directory);
        }
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, BTreeMap<i32, Vec<Arc<Notify>>>> {
        // Waking for nothing is all that a half-made change could do.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(self: Arc<Self>) {
        loop {
            if let Err(error) = self.hear().await {
                tracing::warn!(%error, "changes of logs are not heard of; they are looked for");
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn hear(&self) -> io::Result<()> {
        self.readiness.readable().await?;
        loop {
            match self.readiness.try_io(|| Ok(self.inotify.read_events()?)) {
                Ok(events) => self.wake(&events),
                Err(nothing) if nothing.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn wake(&self, events: &[InotifyEvent]) {
        let watched = self.watched();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                watched.values().flatten().for_each(|wake| wake.notify_one());
            }
            let waiting = watched.get(&event.wd.as_raw());
            waiting.into_iter().flatten().for_each(|wake| wake.notify_one());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn each_change_wakes_those_who_wait_for_its_directory() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let watcher = Watcher::start().unwrap();
        let of_a = [watcher.watch(a.path()).unwrap(), watcher.watch(a.path()).unwrap()];
        let of_b = watcher.watch(b.path()).unwrap();
        let long = Duration::from_secs(10);
        let woken = async |watched: &Watched| tokio::time::timeout(long, watched.changed()).await.is_ok();
        fs::write(a.path().join("0.log"), "x").unwrap();
        assert!(woken(&of_a[0]).await && woken(&of_a[1]).await);
        let [first, second] = of_a;
        drop(first);
        // What happened before the wait counts as well; creation and writing may be one or two wakes.
        fs::write(b.path().join("0.log"), "x").unwrap();
        assert!(woken(&of_b).await);
        fs::rename(a.path().join("0.log"), a.path().join("1.log")).unwrap();
        assert!(woken(&second).await, "one of two has gone");
        drop((second, of_b));
        assert!(watcher.shared.watched().is_empty());
        assert!(watcher.watch(&a.path().join("gone")).is_err());
    }
}
