//! `activeDeadlineSeconds` (`pkg/kubelet/active_deadline.go`).

use edge_protocol::v1::Reason;
use edge_protocol::{DeviceTime, Now};

use crate::plan::{Given, Mark, Plan};
use crate::record::Failed;

const MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// Whether the workload is past its deadline: then it fails.
pub(super) fn is_past(given: &Given<'_>, plan: &mut Plan) -> bool {
    let manifest = given.manifest();
    let (Some(allowed_s), Some(started)) = (
        manifest.and_then(|manifest| manifest.workload.active_deadline_s),
        given.workload.record.started,
    ) else {
        return false;
    };
    let due_ms = due_ms(started, allowed_s, given.now, given.wall_trusted);
    if due_ms > given.now.mono_ms {
        plan.wake(due_ms);
        return false;
    }
    plan.marks.push(Mark::Failed(Failed {
        reason: Some(Reason::DeadlineExceeded),
        message: MESSAGE.to_owned(),
        grace_s: None,
        disrupted: false,
    }));
    true
}

/// When it is due on this boot's monotonic clock. Between boots only a wall clock that is trusted at both ends counts; without one the
/// time since this boot is all that is known to have passed (law 11).
fn due_ms(started: DeviceTime, allowed_s: u64, now: &Now, wall_trusted: bool) -> u64 {
    let allowed_ms = allowed_s.saturating_mul(1_000);
    if started.boot_id == now.boot_id {
        return started.mono_ms.saturating_add(allowed_ms);
    }
    if !(wall_trusted && started.wall_trusted) {
        return allowed_ms;
    }
    let passed_ms = u64::try_from(now.wall_ms.saturating_sub(started.wall_ms)).unwrap_or(0);
    let left_ms = allowed_ms.saturating_sub(passed_ms);
    now.mono_ms.saturating_add(left_ms).min(allowed_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_it_is_counted_by_the_clock_that_can_be_trusted() {
        let at = |boot: u128, mono_ms, wall_ms| Now {
            mono_ms,
            wall_ms,
            boot_id: serde_json::from_value(format!("{boot:032x}").into()).unwrap(),
        };
        let started = at(1, 5_000, 1_000_000).device_time(true);
        let due = |now: &Now, trusted| due_ms(started, 60, now, trusted);
        assert_eq!(due(&at(1, 9_000, 0), true), 65_000);
        assert_eq!(due(&at(1, 9_000, 9_000_000), false), 65_000);
        // Ten seconds after another boot, forty after the start.
        assert_eq!(due(&at(2, 10_000, 1_040_000), true), 30_000);
        assert_eq!(due(&at(2, 10_000, 9_000_000), true), 10_000);
        assert_eq!(due(&at(2, 10_000, 1_040_000), false), 60_000);
        // A clock that went back gives nobody more time than since the boot.
        assert_eq!(due(&at(2, 10_000, 0), true), 60_000);
        let doubtful = at(1, 5_000, 1_000_000).device_time(false);
        assert_eq!(due_ms(doubtful, 60, &at(2, 10_000, 1_040_000), true), 60_000);
        assert_eq!(due_ms(started, u64::MAX, &at(1, 9_000, 0), true), u64::MAX);
    }
}
