//! Where a resize stands, and what a pod has meanwhile.

use edge_protocol::v1::{DeferredResize, ResizeFailure, Resizing, Resources};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::*;

const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";

fn moment(after_s: i64) -> DeviceTime {
    DeviceTime {
        boot_id: serde_json::from_value::<BootId>(json!("00000000-0000-4000-8000-000000000000")).unwrap(),
        mono_ms: 0,
        wall_ms: NOW_MS + after_s * 1_000,
        wall_trusted: true,
    }
}

/// That many seconds later, when the pod has this generation.
fn later(after_s: i64, generation: i64) -> Surroundings<'static> {
    Surroundings {
        observed_generation: Some(generation),
        ..on_device(NOW_MS + after_s * 1_000)
    }
}

fn amounts(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, Quantity> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect()
}

/// A pod that asks for these, and its running container's word.
fn resized(
    requests: &[(&str, &str)],
    limits: &[(&str, &str)],
    allocated: Resources,
) -> (Pod, DeploymentStatus) {
    let mut pod = pod("Always", &["web"]);
    pod.spec.as_mut().unwrap().containers[0].resources = Some(ResourceRequirements {
        requests: Some(amounts(requests)),
        limits: Some(amounts(limits)),
        ..ResourceRequirements::default()
    });
    let mut word = said("web", running());
    word.allocated = Some(allocated);
    (pod, spoken(Phase::Running, Vec::new(), vec![word]))
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a PodCondition> {
    let mut all = status.conditions.iter().flatten();
    all.find(|condition| condition.type_ == name)
}

/// Its time in seconds since the beginning, and the generation that it speaks of.
fn stamped(status: &PodStatus, name: &str) -> (i64, Option<i64>) {
    let condition = find(status, name).unwrap();
    let at = condition.last_transition_time.as_ref().unwrap().0;
    assert_eq!(condition.last_probe_time, condition.last_transition_time);
    (at.as_second() - NOW_MS / 1_000, condition.observed_generation)
}

#[test]
fn what_is_deferred_shows_why_and_what_the_pod_has() {
    let allocated = Resources {
        cpu_request_milli: Some(500),
        memory_request_bytes: Some(64 << 20),
        memory_limit_bytes: Some(128 << 20),
        ..Resources::default()
    };
    let (mut pod, mut deployed) = resized(
        &[("cpu", "3"), ("memory", "64Mi"), ("ephemeral-storage", "1Gi")],
        &[("cpu", "4"), ("memory", "128Mi")],
        allocated,
    );
    let held = Resources {
        cpu_request_milli: Some(498),
        ..Resources::default()
    };
    word_of(&mut deployed).containers[0].resources = Some(held);
    word_of(&mut deployed).deferred = Some(DeferredResize {
        reason: Reason::OutOfcpu,
        message: "Node didn't have enough resource".to_owned(),
        since: moment(0),
    });
    let status = show_in(&mut pod, Shown::Deployed(&deployed), later(2, 4));
    assert_eq!(of(&status, PENDING), "True/Deferred");
    assert_eq!(message(&status, PENDING), "Node didn't have enough resource");
    assert_eq!(of(&status, IN_PROGRESS), "absent");
    assert_eq!(stamped(&status, PENDING), (0, Some(4)));
    let web = &status.container_statuses.as_ref().unwrap()[0];
    let storage = ("ephemeral-storage", "1Gi");
    let has = amounts(&[("cpu", "500m"), ("memory", "64Mi"), storage]);
    assert_eq!(web.allocated_resources, Some(has.clone()));
    let granted = web.resources.clone().unwrap();
    assert_eq!(
        granted.requests,
        Some(amounts(&[("cpu", "498m"), ("memory", "64Mi"), storage]))
    );
    assert_eq!(granted.limits, Some(amounts(&[("memory", "128Mi")])));
    assert_eq!(status.allocated_resources, Some(has));

    // Another wish is deferred as long as this one was.
    word_of(&mut deployed).deferred.as_mut().unwrap().message = "still not".to_owned();
    let status = show_in(&mut pod, Shown::Deployed(&deployed), later(60, 5));
    assert_eq!(
        (stamped(&status, PENDING), message(&status, PENDING)),
        ((0, Some(5)), "still not".to_owned())
    );
    word_of(&mut deployed).deferred = None;
    let status = show_in(&mut pod, Shown::Deployed(&deployed), later(61, 5));
    assert_eq!(of(&status, PENDING), "absent");
}

#[test]
fn what_is_in_progress_speaks_of_the_generation_with_which_it_began() {
    let (mut pod, mut deployed) = resized(&[("cpu", "1")], &[], Resources::default());
    let mut tell = |resizing: Option<Resizing>, around| {
        word_of(&mut deployed).resizing = resizing;
        show_in(&mut pod, Shown::Deployed(&deployed), around)
    };
    let begun = |since_s, failed_s: Option<i64>| {
        let failure = failed_s.map(|at| ResizeFailure {
            message: "busy".to_owned(),
            since: moment(at),
        });
        Some(Resizing {
            since: moment(since_s),
            failure,
        })
    };
    let status = tell(begun(0, None), later(1, 4));
    assert_eq!(
        (of(&status, IN_PROGRESS), stamped(&status, IN_PROGRESS)),
        ("True/".to_owned(), (0, Some(4)))
    );
    let status = tell(begun(0, Some(5)), later(9, 5));
    assert_eq!(
        (of(&status, IN_PROGRESS), stamped(&status, IN_PROGRESS)),
        ("True/Error".to_owned(), (5, Some(4)))
    );
    assert_eq!(message(&status, IN_PROGRESS), "busy");
    // The next one begins anew.
    let status = tell(begun(20, None), later(21, 6));
    assert_eq!(
        (of(&status, IN_PROGRESS), stamped(&status, IN_PROGRESS)),
        ("True/".to_owned(), (20, Some(6)))
    );
    assert_eq!(message(&status, IN_PROGRESS), "");
    assert_eq!(of(&tell(None, later(22, 6)), IN_PROGRESS), "absent");
    // Without a clock that can be trusted it began when it was first shown.
    let untrusted = Some(Resizing {
        since: DeviceTime {
            wall_trusted: false,
            ..moment(-9)
        },
        failure: None,
    });
    assert_eq!(
        stamped(&tell(untrusted.clone(), later(30, 7)), IN_PROGRESS),
        (30, Some(7))
    );
    assert_eq!(
        stamped(&tell(untrusted, later(40, 8)), IN_PROGRESS),
        (30, Some(7))
    );
}

#[test]
fn of_a_pod_that_ended_nothing_is_resized() {
    let (mut pod, mut deployed) = resized(&[("cpu", "1")], &[], Resources::default());
    word_of(&mut deployed).resizing = Some(Resizing {
        since: moment(0),
        failure: None,
    });
    show_device(&mut pod, Shown::Deployed(&deployed));
    let unheard = DeploymentStatus {
        workload: None,
        ..deployed.clone()
    };
    for shown in [Shown::Deployed(&unheard), Shown::Accepted] {
        assert_eq!(of(&show_device(&mut pod, shown), IN_PROGRESS), "True/");
    }
    let status = show_device(&mut pod, Shown::Stopped(Some(&deployed)));
    assert_eq!(of(&status, IN_PROGRESS), "absent");
}

#[test]
fn what_the_pod_has_as_a_whole_is_what_its_device_says() {
    let (mut pod, mut deployed) = resized(&[], &[], Resources::default());
    pod.spec.as_mut().unwrap().resources = Some(ResourceRequirements {
        requests: Some(amounts(&[("cpu", "2"), ("memory", "64Mi")])),
        limits: Some(amounts(&[("memory", "32Mi")])),
        ..ResourceRequirements::default()
    });
    let said = |cpu, memory_mib: u64| Resources {
        cpu_request_milli: Some(cpu),
        memory_limit_bytes: Some(memory_mib << 20),
        ..Resources::default()
    };
    word_of(&mut deployed).allocated = Some(said(1_500, 32));
    word_of(&mut deployed).resources = Some(said(1_000, 64));
    let status = show_in(&mut pod, Shown::Deployed(&deployed), later(2, 4));
    assert_eq!(status.allocated_resources, Some(amounts(&[("cpu", "1500m")])));
    let granted = status.resources.unwrap();
    assert_eq!(granted.requests, Some(amounts(&[("cpu", "1")])));
    assert_eq!(granted.limits, Some(amounts(&[("memory", "64Mi")])));
}
