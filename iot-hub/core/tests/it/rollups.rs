//! What many devices add up to.

use edge_protocol::DeviceId;
use edge_protocol::v1::{ContainerState, DeploymentStatus, LadderCounts, Phase, ReadyPolicy, RestartPolicy};

use crate::support::World;
use crate::support::build::{config, pod, wanted};
use crate::support::model::Behaviour::{self, Exits, Healthy, PullFails, Running, Waiting};

/// Past the deadline of a link.
const FAR_MS: u64 = 60_000;

/// A fleet whose devices behave like this, in order; they are called `d0`, `d1` and so on.
fn fleet(policy: RestartPolicy, behaviours: &[Behaviour]) -> (World, Vec<DeviceId>) {
    let mut world = World::new();
    let ids: Vec<_> = (0..behaviours.len())
        .map(|n| world.enrol(&format!("d{n}"), &[]))
        .collect();
    for (id, behaviour) in ids.iter().zip(behaviours) {
        world.models.get_mut(id).unwrap().behaves(&pod("p"), *behaviour);
        world.connect(id);
    }
    world.call(wanted("p", "*").policy(policy).put()).unwrap();
    world.settle();
    (world, ids)
}

fn roll_up(policy: RestartPolicy, behaviours: &[Behaviour]) -> DeploymentStatus {
    fleet(policy, behaviours).0.status(&pod("p"))
}

#[track_caller]
fn check(policy: RestartPolicy, behaviours: &[Behaviour], phase: Phase, ready: bool, worst: &str) {
    let status = roll_up(policy, behaviours);
    let container = &status.containers[0];
    let state = match &container.status.state {
        ContainerState::Waiting { reason, .. } => reason.to_string(),
        ContainerState::Running { .. } if container.status.ready => "Ready".to_owned(),
        ContainerState::Running { .. } => "Running".to_owned(),
        ContainerState::Terminated { exit_code, .. } => exit_code.to_string(),
    };
    let device = container.device.as_ref().map_or("-", DeviceId::as_str);
    assert_eq!(
        (status.phase, status.ready, format!("{state} {device}")),
        (phase, ready, worst.to_owned()),
        "{policy:?} {behaviours:?}"
    );
}

#[test]
fn always() {
    let check =
        |behaviours: &[_], phase, ready, worst| check(RestartPolicy::Always, behaviours, phase, ready, worst);
    check(&[], Phase::Pending, false, "ContainerCreating -");
    check(&[Healthy, Healthy], Phase::Running, true, "Ready d0");
    check(&[Healthy, Running], Phase::Running, false, "Running d1");
    check(
        &[Healthy, Waiting, Running],
        Phase::Running,
        false,
        "ContainerCreating d1",
    );
    check(&[Waiting, Exits(3), Healthy], Phase::Running, false, "3 d1");
    check(
        &[Exits(3), PullFails, Healthy],
        Phase::Running,
        false,
        "ImagePullBackOff d1",
    );
    check(&[Waiting, Waiting], Phase::Pending, false, "ContainerCreating d0");
}

#[test]
fn never() {
    let check =
        |behaviours: &[_], phase, ready, worst| check(RestartPolicy::Never, behaviours, phase, ready, worst);
    check(&[Healthy, Exits(3)], Phase::Running, false, "Ready d0");
    check(
        &[Waiting, Exits(3)],
        Phase::Running,
        false,
        "ContainerCreating d0",
    );
    check(&[Exits(0), Exits(0)], Phase::Succeeded, true, "0 d0");
    check(&[Exits(0), Exits(3)], Phase::Failed, false, "3 d1");
    // The exit code is the moment of the end in these tests: the first failure is shown.
    check(&[Exits(9), Exits(4), Exits(5)], Phase::Failed, false, "4 d1");
    check(
        &[PullFails, Exits(0)],
        Phase::Running,
        false,
        "ImagePullBackOff d0",
    );
    check(&[Waiting], Phase::Pending, false, "ContainerCreating d0");
}

#[test]
fn zero_of_zero() {
    let status = roll_up(RestartPolicy::Always, &[]);
    assert_eq!(status.counts, LadderCounts::default());
    assert_eq!(
        (status.ready, status.phase, status.as_of_ms),
        (false, Phase::Pending, None)
    );
    assert_eq!(status.containers.len(), 1);
}

#[test]
fn all_offline() {
    let (mut world, ids) = fleet(RestartPolicy::Always, &[Healthy, Healthy]);
    assert!(world.status(&pod("p")).ready);
    for id in &ids {
        world.disconnect(id);
    }
    // The loss of a connection alone says nothing.
    assert!(world.status(&pod("p")).ready);
    world.announced.clear();
    world.pass(45_001);
    let status = world.status(&pod("p"));
    assert!(!status.ready);
    let counts = status.counts;
    assert_eq!(
        (counts.targeted, counts.offline, counts.counted, counts.healthy),
        (2, 2, 0, 0)
    );
    assert_eq!((counts.persisted, counts.applied), (2, 2));
    assert_eq!((status.phase, status.as_of_ms), (Phase::Running, None));
}

/// The furthest of those that are there, and the same one until another is better.
#[test]
fn one_answers_for_all() {
    let nobody = roll_up(RestartPolicy::Always, &[]);
    assert_eq!(nobody.answers, None);
    let (mut world, ids) = fleet(RestartPolicy::Always, &[Waiting, Healthy, Healthy]);
    let answers = |world: &World| world.status(&pod("p")).answers.unwrap();
    assert_eq!(answers(&world), ids[1]);
    world.disconnect(&ids[1]);
    world.pass_with(&[&ids[0], &ids[2]], FAR_MS);
    assert_eq!(answers(&world), ids[2], "it is gone");
    world.connect(&ids[1]);
    world.settle();
    assert_eq!(answers(&world), ids[2], "no better than who answers now");
    world.disconnect(&ids[1]);
    world.disconnect(&ids[2]);
    world.pass_with(&[&ids[0]], FAR_MS);
    assert_eq!(answers(&world), ids[0], "better than none");
}

#[test]
fn one_of_twenty_offline() {
    let (mut world, ids) = fleet(RestartPolicy::Always, &[Healthy; 20]);
    world.disconnect(&ids[7]);
    let others: Vec<_> = ids.iter().filter(|id| **id != ids[7]).collect();
    world.pass_with(&others, 60_000);
    let status = world.status(&pod("p"));
    assert!(status.ready);
    assert_eq!(
        (
            status.counts.offline,
            status.counts.counted,
            status.counts.healthy
        ),
        (1, 19, 19)
    );
    // Its age is that of the counted devices.
    assert_eq!(status.as_of_ms, Some(world.now.wall_ms));
    world.connect(&ids[7]);
    world.settle();
    assert_eq!(world.status(&pod("p")).counts.healthy, 20);
}

#[test]
fn ready_policies() {
    for (policy, ready) in [
        (ReadyPolicy::All, false),
        (ReadyPolicy::Any, true),
        (ReadyPolicy::Percent(66), true),
        (ReadyPolicy::Percent(67), false),
    ] {
        let (mut world, _) = fleet(RestartPolicy::Always, &[Healthy, Healthy, Waiting]);
        let mut deployment = wanted("p", "*");
        deployment.spec.ready_policy = policy;
        world.call(deployment.put()).unwrap();
        assert_eq!(world.status(&pod("p")).ready, ready, "{policy}");
    }
}

#[test]
fn a_late_joiner_counts_once_healthy_or_past_its_deadline() {
    let (mut world, ids) = fleet(RestartPolicy::Always, &[Healthy]);
    let late = world.enrol("late", &[]);
    world.models.get_mut(&late).unwrap().behaves(&pod("p"), Waiting);
    world.connect(&late);
    world.settle();
    let status = world.status(&pod("p"));
    assert_eq!(
        (
            status.counts.targeted,
            status.counts.joining,
            status.counts.counted
        ),
        (2, 1, 1)
    );
    assert!(status.ready);

    let mut other = World::over(world.store.clone(), world.now, config());
    world.pass_with(&[&ids[0], &late], 570_000);
    assert!(world.status(&pod("p")).ready);
    world.pass_with(&[&ids[0], &late], 60_000);
    let status = world.status(&pod("p"));
    assert_eq!(
        (status.counts.joining, status.counts.counted, status.ready),
        (0, 2, false)
    );

    // A restart in between forgets neither who joined late nor since when.
    other.models = std::mem::take(&mut world.models);
    assert_eq!(other.status(&pod("p")).counts.joining, 1);
    other.models.get_mut(&late).unwrap().behaves(&pod("p"), Healthy);
    other.connect(&late);
    other.settle();
    assert_eq!(other.status(&pod("p")).counts.counted, 2);
    assert!(other.store.assignments[&(pod("p"), late)].counted);
}

#[test]
fn a_terminal_phase_is_final_and_gains_no_devices() {
    let (mut world, _) = fleet(RestartPolicy::Never, &[Exits(0)]);
    assert_eq!(world.status(&pod("p")).phase, Phase::Succeeded);
    let late = world.enrol("late", &[]);
    world.connect(&late);
    world.settle();
    assert!(world.running(&late).is_empty());
    let store = world.store.clone();
    world.restart(store);
    assert_eq!(world.status(&pod("p")).phase, Phase::Succeeded);
}

#[test]
fn the_failing_are_named_worst_first_and_at_most_ten() {
    let mut behaviours = vec![PullFails; 12];
    behaviours.push(Exits(3));
    behaviours.push(Healthy);
    let status = roll_up(RestartPolicy::Always, &behaviours);
    assert_eq!(status.failing.len(), 10);
    // A failed workload is worse than one that waits.
    assert_eq!(status.failing[0].device.as_str(), "d12");
    assert_eq!(status.failing[1].reason.as_str(), "ImagePullBackOff");
    assert_eq!(status.failing[1].message, "no such image");
}

#[test]
fn a_new_manifest_begins_a_new_climb() {
    let (mut world, ids) = fleet(RestartPolicy::Always, &[Healthy]);
    world.call(wanted("p", "*").image("app:2").put()).unwrap();
    let status = world.status(&pod("p"));
    assert_eq!(
        (status.revision.0, status.counts.persisted, status.ready),
        (2, 0, false)
    );
    assert_eq!(status.phase, Phase::Running);
    world
        .models
        .get_mut(&ids[0])
        .unwrap()
        .behaves(&pod("p"), PullFails);
    world.settle();
    let status = world.status(&pod("p"));
    assert_eq!(
        (status.counts.persisted, status.counts.applied, status.ready),
        (1, 0, false)
    );
}

#[test]
fn the_greatest_restart_count_is_shown() {
    let (mut world, ids) = fleet(RestartPolicy::Always, &[Healthy, Running]);
    let item = world.store.sets[&ids[0]].items.get(&pod("p")).unwrap().clone();
    let mut status = crate::support::model::blank(&item, edge_protocol::v1::Rung::Healthy, Phase::Running);
    status.containers = vec![crate::support::model::container("main", "app:1", Healthy)];
    status.containers[0].restart_count = 4;
    // What the manifest does not name is not kept.
    status
        .containers
        .push(crate::support::model::container("evil", "x", Healthy));
    world.say(
        &ids[0],
        edge_protocol::v1::Up::Status(edge_protocol::v1::StatusReport {
            upto: 50,
            complete: false,
            workloads: vec![status],
        }),
    );
    let shown = world.status(&pod("p"));
    assert_eq!(shown.containers[0].device.as_ref(), Some(&ids[1]));
    assert_eq!(shown.containers[0].status.restart_count, 4);
    let kept = world.store.assignments[&(pod("p"), ids[0].clone())]
        .status
        .as_ref()
        .unwrap();
    assert_eq!(kept.containers.len(), 1);
}
