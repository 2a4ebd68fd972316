//! Stories of what befalls a workload as a whole: its deadline, a beginning anew, other resources, and a hub that is away meanwhile.

use edge_agent_core::ProbeKind;
use edge_protocol::v1::{
    Action, ContainerState, ContainerStatus, Phase, Probe, Reason, ResizeResource, RestartAction,
    RestartPolicy, RestartRule, Rung,
};

use crate::hub::{manifest, uid};
use crate::order::{acts, exit, run, shown, told, up, with_initial, with_volume};

#[test]
fn past_its_deadline_a_workload_fails_and_stays_so() {
    let mut world = up();
    let mut wanted = with_initial(&["[a:1]"], &["c:1"]);
    wanted.workload.active_deadline_s = Some(60);
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "run i0, run c0");
    world.pass(59_999);
    assert_eq!(acts(&mut world), "");
    world.pass(1);
    assert_eq!(acts(&mut world), "stop c0 30s, stop i0 30s");
    let status = world.status("one");
    assert_eq!(
        (status.phase, status.reason, status.rung),
        (Phase::Failed, Some(Reason::DeadlineExceeded), Rung::Applied)
    );
    assert_eq!(
        status.message,
        "Pod was active on the node longer than the specified deadline"
    );
    assert_eq!(told(&world, Reason::DeadlineExceeded).len(), 1);
    assert_eq!(shown(&world), "ended 143 | ended 143");
    for boot in [3, 4] {
        world.reboot(boot);
        world.link_up();
        world.pass(120_000);
        assert_eq!(
            (acts(&mut world), world.status("one").phase),
            (String::new(), Phase::Failed)
        );
        world.runtime.containers.clear();
        world.runtime.sandboxes.clear();
    }
    assert_eq!(shown(&world), "ended 143 | ended 143");
}

/// `TerminatePod` of the kubelet's status manager: a container that a pod past its initial ones never had counts as lost, not as done.
#[test]
fn what_a_deadline_overtakes_before_it_ran_did_not_succeed() {
    for (initial, main, expected) in [
        (vec![], "bad:1", " | ended 137"),
        // Its turn never came.
        (vec!["bad:1"], "c:1", "ImagePullBackOff | PodInitializing"),
    ] {
        let mut world = up();
        world.runtime.bad_images.insert("bad:1".to_owned());
        let mut wanted = with_initial(&initial, &[main]);
        wanted.workload.active_deadline_s = Some(60);
        run(&mut world, &wanted);
        world.pass(60_000);
        assert_eq!(world.status("one").phase, Phase::Failed);
        assert_eq!(shown(&world), expected);
    }
}

#[test]
fn what_stops_together_has_one_grace_together() {
    let mut world = up();
    let mut wanted = with_initial(&["[a:1]"], &["c:1"]);
    wanted.workload.active_deadline_s = Some(60);
    run(&mut world, &wanted);
    acts(&mut world);
    world.now.mono_ms += 60_000;
    world.give(edge_agent_core::Input::Wake);
    while world.talk() || world.commit() {}
    assert_eq!(world.steps.len(), 1, "{:?}", world.steps);
    // The main container winds down for twelve seconds.
    world.now.mono_ms += 12_000;
    world.settle();
    assert_eq!(acts(&mut world), "stop c0 30s, stop i0 18s");
}

#[test]
fn a_workload_that_ended_in_time_has_no_deadline() {
    let mut world = up();
    let mut wanted = manifest("one", &["c:1"]);
    wanted.workload.restart_policy = RestartPolicy::Never;
    wanted.workload.active_deadline_s = Some(60);
    run(&mut world, &wanted);
    exit(&mut world, "c0", 0);
    world.pass(600_000);
    assert_eq!(world.status("one").phase, Phase::Succeeded);
}

#[test]
fn a_deadline_counts_while_volumes_are_missing() {
    let mut world = up();
    let mut wanted = with_volume();
    wanted.workload.active_deadline_s = Some(60);
    world.runtime.bad_volumes.insert(uid("one"));
    run(&mut world, &wanted);
    world.pass(61_000);
    let status = world.status("one");
    assert_eq!(
        (status.phase, status.reason),
        (Phase::Failed, Some(Reason::DeadlineExceeded))
    );
}

#[test]
fn volumes_that_were_begun_go_with_their_workload() {
    let mut world = up();
    world.runtime.bad_volumes.insert(uid("one"));
    run(&mut world, &with_volume());
    assert!(world.runtime.leftovers.contains(&uid("one")));
    // Also when the agent's record of it is only that it has its place.
    world.crash();
    world.link_up();
    world.hub.stop(&uid("one"), None);
    world.push();
    world.settle();
    assert_eq!(world.status("one").phase, Phase::Gone);
    assert!(world.runtime.leftovers.is_empty());
}

#[test]
fn a_reboot_does_not_give_a_deadline_away() {
    let mut world = up();
    let mut wanted = manifest("one", &["c:1"]);
    wanted.workload.active_deadline_s = Some(60);
    run(&mut world, &wanted);
    world.pass(30_000);
    world.reboot(3);
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 1);
    world.pass(61_000);
    assert_eq!(world.runtime.running(&uid("one")), 0);
}

#[test]
fn a_rule_may_have_all_containers_begin_anew() {
    let mut world = up();
    let mut wanted = with_initial(&["a:1", "[b:1]"], &["c:1", "d:1"]);
    wanted.workload.restart_policy = RestartPolicy::Never;
    let main = &mut wanted.workload.containers[0];
    main.restart_policy = Some(RestartPolicy::Never);
    main.restart_rules = vec![RestartRule {
        action: RestartAction::RestartAll,
        among: true,
        exit_codes: vec![42],
    }];
    run(&mut world, &wanted);
    exit(&mut world, "i0", 0);
    assert_eq!(acts(&mut world), "run i0, run i1, run c0, run c1");
    exit(&mut world, "c0", 42);
    assert_eq!(acts(&mut world), "stop i1 0s, stop c1 0s, run i0");
    let status = world.status("one");
    assert_ne!(status.phase, Phase::Failed);
    let last = status.containers[0].last.as_ref().unwrap();
    let ContainerState::Terminated {
        exit_code: 137,
        reason: Reason::RestartingAllContainers,
        message,
        ..
    } = last
    else {
        panic!("{last:?}")
    };
    let words = "The container is removed because RestartAllContainers in place";
    assert_eq!(message, words, "whatever its own end was");
    exit(&mut world, "i0", 0);
    assert_eq!(acts(&mut world), "run i1, run c0, run c1");
    let status = world.status("one");
    assert_eq!((status.phase, status.rung), (Phase::Running, Rung::Healthy));
    assert!(status.containers.iter().all(|status| status.restart_count == 1));
    let lasts = status
        .init_containers
        .iter()
        .chain(&status.containers)
        .map(|each| &each.last);
    let removed = |last: &Option<ContainerState>| matches!(last, Some(ContainerState::Terminated { reason, .. }) if *reason == Reason::RestartingAllContainers);
    assert!(
        lasts.clone().all(removed),
        "{lasts:?}",
        lasts = lasts.collect::<Vec<_>>()
    );
    assert_eq!(world.runtime.sandboxes.len(), 1);
    exit(&mut world, "c0", 1);
    exit(&mut world, "c1", 1);
    assert_eq!(
        (acts(&mut world).as_str(), world.status("one").phase),
        ("stop i1 30s", Phase::Failed)
    );
}

#[test]
fn other_resources_restart_only_what_says_so() {
    let mut world = up();
    let mut wanted = manifest("one", &["a:1", "b:1"]);
    for spec in &mut wanted.workload.containers {
        spec.resources.cpu_limit_milli = Some(100);
    }
    wanted.workload.containers[1].resize_restarts = vec![ResizeResource::Cpu];
    run(&mut world, &wanted);
    acts(&mut world);
    world.crash();
    world.link_up();
    world.settle();
    for spec in &mut wanted.workload.containers {
        spec.resources.cpu_limit_milli = Some(200);
    }
    run(&mut world, &wanted);
    assert_eq!(acts(&mut world), "stop c1 30s, resize pod c0, run c1");
    assert_eq!(told(&world, Reason::ResizeCompleted).len(), 1);
    let status = world.status("one");
    assert_eq!(
        status.containers[0].resources.as_ref().unwrap().cpu_limit_milli,
        Some(200)
    );
    assert_eq!(status.rung, Rung::Healthy);
    world.pass(600_000);
    assert_eq!(acts(&mut world), "");
}

/// Acceptance 3 of the issue.
#[test]
fn what_happens_while_the_hub_is_away_is_mended_here_and_told_later_with_its_own_times() {
    let mut world = up();
    let mut wanted = with_initial(&["init:1", "[side:1]"], &["main:1"]);
    let probe = Probe {
        action: Action::TcpSocket { port: 80, host: None },
        initial_delay_s: 0,
        timeout_s: 1,
        period_s: 10,
        success_threshold: 1,
        failure_threshold: 3,
        termination_grace_period_s: None,
    };
    wanted.workload.init_containers[1].probes.startup = Some(probe.clone());
    wanted.workload.containers[0].probes.liveness = Some(probe.clone());
    wanted.workload.containers[0].probes.readiness = Some(probe);
    run(&mut world, &wanted);
    exit(&mut world, "i0", 0);
    world.pass(60_000);
    assert_eq!(world.status("one").rung, Rung::Healthy);
    let (before, reports) = (world.hub.events.len(), world.hub.heard.len());

    world.link_down();
    world.pass(300_000);
    let failing = ("c0".to_owned(), ProbeKind::Liveness);
    world.runtime.failing.insert(failing.clone());
    let broke = world.now;
    world.pass(30_000);
    world.runtime.failing.remove(&failing);
    world.pass(270_000);
    assert_eq!(world.runtime.running(&uid("one")), 2, "mended without a hub");
    assert_eq!(world.hub.heard.len(), reports);

    world.link_up();
    world.settle();
    let status = world.status("one");
    assert_eq!(
        (status.rung, status.containers[0].restart_count),
        (Rung::Healthy, 1)
    );
    assert_eq!(status.init_containers[1].restart_count, 0);
    let ContainerStatus { state, last, .. } = &status.containers[0];
    let (ContainerState::Running { started_at_ms }, Some(ContainerState::Terminated { finished_at_ms, .. })) =
        (state, last)
    else {
        panic!("{state:?} after {last:?}")
    };
    for (what, at) in [("ended", *finished_at_ms), ("started", *started_at_ms)] {
        let after = at - broke.wall_ms;
        assert!((0..=30_000).contains(&after), "{what} {after} ms after it broke");
    }
    assert!(finished_at_ms <= started_at_ms);
    let dark = &world.hub.events[before..];
    let at = |reason: Reason| {
        let event = dark.iter().find(|event| event.reason == reason);
        event.unwrap_or_else(|| panic!("no {reason}")).at
    };
    for reason in [Reason::Unhealthy, Reason::Killing, Reason::Started] {
        let after = at(reason).mono_ms - broke.mono_ms;
        assert!(after <= 30_000, "{reason} {after} ms after it broke");
        assert_eq!(at(reason).wall_ms - broke.wall_ms, i64::try_from(after).unwrap());
    }
    assert!(at(Reason::Unhealthy).mono_ms < at(Reason::Killing).mono_ms);
}
