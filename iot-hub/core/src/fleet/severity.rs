//! What is worse than what, when many devices must be shown as one pod.

use edge_protocol::v1::{ContainerState, ContainerStatus, Phase, Reason, RestartPolicy, WorkloadStatus};

/// A container's place among the same container of other devices: the greatest is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    rank: u8,
    /// Of equal ones the first to end is shown: the negated moment of the end, by the device's clock.
    earliest: i64,
}

/// Under `Always` an end is a fault or a pause before the next start. Under the other policies a container shows running until it
/// ended on every counted device, and then the first failure before any success.
pub(crate) fn place(status: Option<&ContainerStatus>, policy: RestartPolicy) -> Place {
    let rank = |always, ends| {
        if policy == RestartPolicy::Always {
            always
        } else {
            ends
        }
    };
    let at = |rank| Place { rank, earliest: 0 };
    let Some(status) = status else {
        return at(rank(4, 3));
    };
    match &status.state {
        ContainerState::Waiting { reason, .. } if is_error(*reason) => at(6),
        ContainerState::Waiting { .. } => at(rank(4, 3)),
        ContainerState::Running { .. } if status.ready => at(rank(2, 4)),
        ContainerState::Running { .. } => at(rank(3, 5)),
        ContainerState::Terminated {
            exit_code,
            finished_at_ms,
            ..
        } => Place {
            rank: if *exit_code == 0 { 1 } else { rank(5, 2) },
            earliest: finished_at_ms.saturating_neg(),
        },
    }
}

/// Whether a waiting container waits because something went wrong.
fn is_error(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::ContainerCreating
            | Reason::WaitingForBlob
            | Reason::Pulling
            | Reason::Pulled
            | Reason::Created
    )
}

/// Why a device is listed as failing, the greatest `rank` first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) rank: u8,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) const SUPERSEDED: u8 = 1;
    /// As bad as a refusal by the device, which it spares it.
    pub(crate) const NO_ROOM: u8 = 5;

    /// The kubelet's word for a node that has its `maxPods` (k8s.io/kubernetes `pkg/scheduler/framework/plugins/noderesources`).
    pub(crate) fn no_room() -> Self {
        Self {
            rank: Self::NO_ROOM,
            reason: Reason::OutOfpods,
            message: "the device has as many workloads as it may; this one waits until one of them ends"
                .to_owned(),
        }
    }

    pub(crate) fn superseded() -> Self {
        Self {
            rank: Self::SUPERSEDED,
            reason: Reason::SupersededOnDevice,
            message: "a successor runs in its place".to_owned(),
        }
    }
}

pub(crate) fn failure(status: &WorkloadStatus, policy: RestartPolicy) -> Option<Failure> {
    let container = status
        .containers
        .iter()
        .filter_map(|container| Some((container, container_failure(container)?)))
        .max_by_key(|(container, (rank, ..))| (*rank, place(Some(container), policy)))
        .map(|(_, failure)| failure);
    let whole = match status.phase {
        Phase::Refused => Some(5),
        Phase::Failed => Some(4),
        _ => None,
    };
    match (whole, container) {
        (Some(rank), container) => {
            let (reason, message) =
                container.map_or((Reason::Unknown, ""), |(_, reason, message)| (reason, message));
            Some(Failure {
                rank,
                reason: status.reason.unwrap_or(reason),
                message: if status.message.is_empty() {
                    message
                } else {
                    &status.message
                }
                .to_owned(),
            })
        }
        (None, Some((rank, reason, message))) => Some(Failure {
            rank,
            reason,
            message: message.to_owned(),
        }),
        // A workload may be stuck before it has any container.
        (None, None) => status
            .reason
            .filter(|reason| is_error(*reason))
            .map(|reason| Failure {
                rank: 3,
                reason,
                message: status.message.clone(),
            }),
    }
}

fn container_failure(container: &ContainerStatus) -> Option<(u8, Reason, &str)> {
    match &container.state {
        ContainerState::Waiting { reason, message } if is_error(*reason) => Some((3, *reason, message)),
        ContainerState::Terminated {
            exit_code,
            reason,
            message,
            ..
        } if *exit_code != 0 => Some((2, *reason, message)),
        _ => None,
    }
}
