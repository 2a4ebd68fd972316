//! Whether a container that ended runs again (`ContainerShouldRestart` of pkg/api/v1/pod/util.go).

use edge_protocol::v1::{ContainerSpec, RestartAction, RestartPolicy, RestartRule};

use crate::plan::Given;

pub(crate) fn of_pod(given: &Given<'_>) -> RestartPolicy {
    given
        .manifest()
        .map_or(RestartPolicy::Always, |manifest| manifest.workload.restart_policy)
}

/// Its own policy, or else the pod's.
pub(crate) fn policy(given: &Given<'_>, spec: &ContainerSpec) -> RestartPolicy {
    spec.restart_policy.unwrap_or_else(|| of_pod(given))
}

/// Whether it runs again after this exit.
pub(crate) fn again(given: &Given<'_>, spec: &ContainerSpec, exit_code: i32) -> bool {
    after_exit(of_pod(given), spec, exit_code)
}

/// As [`again`], in a pod of this policy.
pub(crate) fn after_exit(pod: RestartPolicy, spec: &ContainerSpec, exit_code: i32) -> bool {
    // Rules count only beside a policy of the container's own, which the API demands with them.
    let rule = spec.restart_policy.and_then(|_| rule(spec, exit_code));
    if rule.is_some_and(|rule| rule.action != RestartAction::Unknown) {
        return true;
    }
    match spec.restart_policy.unwrap_or(pod) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// Whether this exit has all containers of the workload begin anew.
pub(crate) fn restarts_all(spec: &ContainerSpec, exit_code: i32) -> bool {
    rule(spec, exit_code).is_some_and(|rule| rule.action == RestartAction::RestartAll)
}

/// The first of its rules that this exit code meets.
fn rule(spec: &ContainerSpec, exit_code: i32) -> Option<&RestartRule> {
    let meets = |rule: &&RestartRule| rule.exit_codes.contains(&exit_code) == rule.among;
    spec.restart_rules.iter().find(meets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use RestartPolicy::{Always, Never, OnFailure};

    #[track_caller]
    fn check(pod: RestartPolicy, own: Option<RestartPolicy>, rules: &[RestartRule], again: [bool; 3]) {
        let spec = ContainerSpec {
            restart_policy: own,
            restart_rules: rules.to_vec(),
            ..ContainerSpec::new("c", "image")
        };
        assert_eq!([0, 1, 42].map(|code| after_exit(pod, &spec, code)), again);
    }

    #[test]
    fn a_policy_of_its_own_goes_over_the_pods_and_a_rule_over_both() {
        check(Always, None, &[], [true, true, true]);
        check(OnFailure, None, &[], [false, true, true]);
        check(Never, None, &[], [false, false, false]);
        check(Never, Some(Always), &[], [true, true, true]);
        check(Always, Some(Never), &[], [false, false, false]);
        let rule = |action, among| RestartRule {
            action,
            among,
            exit_codes: vec![42],
        };
        let restart = rule(RestartAction::Restart, true);
        check(
            Always,
            Some(Never),
            std::slice::from_ref(&restart),
            [false, false, true],
        );
        check(
            Always,
            Some(OnFailure),
            std::slice::from_ref(&restart),
            [false, true, true],
        );
        check(Never, None, &[restart], [false, false, false]);
        check(
            Never,
            Some(Never),
            &[rule(RestartAction::Restart, false)],
            [true, true, false],
        );
        check(
            Never,
            Some(Never),
            &[rule(RestartAction::Unknown, true)],
            [false, false, false],
        );
    }
}
