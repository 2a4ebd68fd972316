//! What a class of pods weighs against the others: the least there is for the best-effort ones, and what they request together for the
//! burstable ones (`setCPUCgroupConfig` of `pkg/kubelet/cm/qos_container_manager_linux.go`). Guaranteed pods have no level of their own.
//!
//! A weight does not tell which request it is of, so that is noted among the workload's own files: `<pods>/<uid>/cpu-request-milli`.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use edge_protocol::PodUid;
use edge_protocol::v1::QosClass;
use tracing::warn;

use super::{CgroupError, Cgroups, at, class_directory, write};

const NOTE: &str = "cpu-request-milli";

/// What each burstable pod requests. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    pods: PathBuf,
    /// Whoever sums up and writes the sum holds this: steps go on beside each other.
    turn: Arc<Mutex<()>>,
}

impl Requests {
    pub(super) fn new(pods: impl Into<PathBuf>) -> Self {
        Self {
            pods: pods.into(),
            turn: Arc::default(),
        }
    }

    fn note(&self, uid: &PodUid, milli: u64) -> Result<(), CgroupError> {
        let directory = self.pods.join(uid.to_string());
        let made = DirBuilder::new().recursive(true).mode(0o750).create(&directory);
        made.map_err(at(&directory))?;
        write(&directory.join(NOTE), milli)
    }

    /// The sum over the pods that have a cgroup in the class.
    fn sum(&self, class: &Path) -> Result<u64, CgroupError> {
        let mut sum = 0u64;
        for entry in fs::read_dir(class).map_err(at(class))? {
            let name = entry.map_err(at(class))?.file_name();
            let Some(uid) = name.to_str().and_then(|name| name.strip_prefix("pod")) else {
                continue;
            };
            let noted = fs::read_to_string(self.pods.join(uid).join(NOTE));
            // A pod that nothing was noted of requests nothing that is known.
            let milli = noted.ok().and_then(|noted| noted.parse().ok());
            sum = sum.saturating_add(milli.unwrap_or(0));
        }
        Ok(sum)
    }
}

impl Cgroups {
    /// Writes what a class weighs, after `pod` has come to request so much. A failure is told of and hinders nobody, as under a kubelet: the
    /// next pod that comes or goes mends it.
    pub(super) fn weigh(&self, qos: QosClass, pod: Option<(&PodUid, u64)>) {
        if let Err(error) = self.try_weigh(qos, pod) {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            warn!(%error, source, "a class of pods does not weigh what it should");
        }
    }

    fn try_weigh(&self, qos: QosClass, pod: Option<(&PodUid, u64)>) -> Result<(), CgroupError> {
        let Some(name) = class_directory(qos) else {
            return Ok(());
        };
        let class = self.cpu_directory(&format!("{}/{name}", self.root));
        if qos == QosClass::BestEffort {
            return self.write_weight(&class, 0);
        }
        let _turn = self.requests.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((uid, milli)) = pod {
            self.requests.note(uid, milli)?;
        }
        if !class.exists() {
            return Ok(());
        }
        self.write_weight(&class, self.requests.sum(&class)?)
    }
}
