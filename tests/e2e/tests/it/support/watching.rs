//! What a watch saw between two looks: a state that lasts for a moment only is in here.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::task::JoinHandle;

/// Records every state of the objects of a collection, in the order in which the API server told them. Ends when it is dropped.
pub struct Recording {
    changes: Arc<Mutex<Vec<Change>>>,
    task: JoinHandle<()>,
}

/// One change of one object.
#[derive(Clone)]
pub enum Change {
    /// It is new, or as the watch began, or looks different.
    Is(Value),
    /// With its last state.
    Gone(Value),
}

impl Recording {
    pub(super) fn new(task: impl FnOnce(Arc<Mutex<Vec<Change>>>) -> JoinHandle<()>) -> Self {
        let changes = Arc::default();
        Self {
            task: task(Arc::clone(&changes)),
            changes,
        }
    }

    /// All that was seen so far. Fails the test if the watch has broken: what it missed could be just what matters.
    #[track_caller]
    pub fn changes(&self) -> Vec<Change> {
        assert!(!self.task.is_finished(), "the watch has ended");
        self.changes.lock().unwrap().clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.task.abort();
    }
}
