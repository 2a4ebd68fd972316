//! Stories of probes: who is started, ready and alive, and what is made of it.

use edge_agent_core::ProbeKind;
use edge_protocol::v1::{
    Action, ContainerSpec, ContainerState, Manifest, Probe, Reason, RestartPolicy, Rung,
};

use crate::hub::{container, manifest, uid};
use crate::world::World;

fn probe(period_s: u32) -> Probe {
    Probe {
        action: Action::TcpSocket { port: 80, host: None },
        initial_delay_s: 0,
        timeout_s: 1,
        period_s,
        success_threshold: 1,
        failure_threshold: 2,
        termination_grace_period_s: None,
    }
}

fn with(change: impl Fn(&mut ContainerSpec)) -> Manifest {
    let mut wanted = manifest("one", &["a:1"]);
    change(&mut wanted.workload.containers[0]);
    wanted
}

/// An agent that is older than any period: it spreads nothing.
fn up() -> World {
    let mut world = World::new();
    world.link_up();
    world.settle();
    world.pass(120_000);
    world
}

fn run(world: &mut World, wanted: &Manifest) {
    world.hub.run(wanted);
    world.push();
    world.settle();
}

/// Started and ready.
fn word(world: &World) -> (Option<bool>, bool) {
    let status = &world.status("one").containers[0];
    (status.started, status.ready)
}

fn fail(world: &mut World, kind: ProbeKind) {
    world.runtime.failing.insert(("c0".to_owned(), kind));
}

fn probed(world: &World) -> usize {
    let acts = world.runtime.acts.iter();
    acts.filter(|act| !act.starts_with("run") && !act.starts_with("stop"))
        .count()
}

fn told(world: &World, reason: Reason) -> Vec<&str> {
    let events = world.hub.events.iter().filter(|event| event.reason == reason);
    events.map(|event| event.message.as_str()).collect()
}

#[test]
fn ready_is_what_the_probe_says() {
    let mut world = up();
    fail(&mut world, ProbeKind::Readiness);
    run(&mut world, &with(|c| c.probes.readiness = Some(probe(10))));
    assert_eq!(word(&world), (Some(true), false));
    assert_eq!(world.status("one").rung, Rung::Applied);
    world.runtime.failing.clear();
    world.pass(10_000);
    assert_eq!(word(&world), (Some(true), true));
    assert_eq!(world.status("one").rung, Rung::Healthy);
    fail(&mut world, ProbeKind::Readiness);
    world.pass(10_000);
    assert!(word(&world).1, "one failure is not two");
    world.pass(10_000);
    assert_eq!((word(&world).1, world.status("one").rung), (false, Rung::Applied));
    assert_eq!(
        told(&world, Reason::Unhealthy)[0],
        "Readiness probe failed: out\\u{7}put"
    );
    assert_eq!(world.runtime.running(&uid("one")), 1, "nothing restarts for that");
}

#[test]
fn a_probe_costs_no_message_until_the_word_changes() {
    let mut world = up();
    run(
        &mut world,
        &with(|c| {
            c.probes.readiness = Some(probe(10));
            c.probes.liveness = Some(probe(10));
        }),
    );
    world.pass(20_000);
    let (reports, commits, before) = (world.hub.status_upto, world.hub.event_seq, probed(&world));
    world.pass(600_000);
    assert_eq!((world.hub.status_upto, world.hub.event_seq), (reports, commits));
    assert!(probed(&world) >= before + 118);
}

#[test]
fn delays_and_periods_are_kept() {
    let mut world = up();
    let delayed = Probe {
        initial_delay_s: 30,
        ..probe(7)
    };
    run(&mut world, &with(|c| c.probes.liveness = Some(delayed.clone())));
    world.pass(29_999);
    assert_eq!(probed(&world), 0);
    world.pass(1);
    assert_eq!(probed(&world), 1);
    world.pass(6_999);
    assert_eq!(probed(&world), 1);
    world.pass(1);
    assert_eq!(probed(&world), 2);
}

#[test]
fn a_program_has_a_second_to_open_its_port() {
    let mut world = up();
    run(&mut world, &with(|c| c.probes.readiness = Some(probe(10))));
    world.pass(999);
    assert_eq!((probed(&world), word(&world)), (0, (Some(true), false)));
    world.pass(1);
    assert_eq!((probed(&world), word(&world)), (1, (Some(true), true)));
}

#[test]
fn a_failed_liveness_probe_restarts_with_the_probes_grace() {
    let mut world = up();
    let strict = Probe {
        termination_grace_period_s: Some(4),
        ..probe(10)
    };
    run(&mut world, &with(|c| c.probes.liveness = Some(strict.clone())));
    fail(&mut world, ProbeKind::Liveness);
    world.pass(20_000);
    assert!(
        world.runtime.acts.contains(&"stop c0 4s".to_owned()),
        "{:?}",
        world.runtime.acts
    );
    assert_eq!(
        told(&world, Reason::Unhealthy).len(),
        3,
        "two of the old instance, one of the new"
    );
    assert_eq!(
        told(&world, Reason::Killing),
        ["Container c0 failed liveness probe, will be restarted"]
    );
    let status = &world.status("one").containers[0];
    assert_eq!((status.restart_count, status.ready), (1, true));
    assert!(matches!(
        status.last,
        Some(ContainerState::Terminated { exit_code: 143, .. })
    ));
    world.pass(9_000);
    assert_eq!(
        world.status("one").containers[0].restart_count,
        1,
        "counts begin anew"
    );
    world.pass(2_000);
    assert!(matches!(
        world.status("one").containers[0].state,
        ContainerState::Waiting {
            reason: Reason::CrashLoopBackOff,
            ..
        }
    ));
}

#[test]
fn a_container_that_never_restarts_is_killed_all_the_same() {
    let mut world = up();
    let mut wanted = with(|c| c.probes.startup = Some(probe(10)));
    wanted.workload.restart_policy = RestartPolicy::Never;
    fail(&mut world, ProbeKind::Startup);
    run(&mut world, &wanted);
    world.pass(11_000);
    assert_eq!(
        told(&world, Reason::Killing),
        ["Container c0 failed startup probe"]
    );
    assert_eq!(world.status("one").phase, edge_protocol::v1::Phase::Failed);
}

#[test]
fn the_startup_probe_comes_before_the_others_and_only_once() {
    let mut world = up();
    fail(&mut world, ProbeKind::Startup);
    let patient = Probe {
        failure_threshold: 100,
        ..probe(1)
    };
    run(
        &mut world,
        &with(|c| {
            c.probes.startup = Some(patient.clone());
            c.probes.readiness = Some(probe(10));
            c.probes.liveness = Some(probe(10));
        }),
    );
    world.pass(20_000);
    assert!(world.runtime.acts.iter().skip(1).all(|act| act == "Startup c0"));
    assert_eq!(word(&world), (Some(false), false));
    world.runtime.failing.clear();
    world.pass(1_000);
    assert_eq!(word(&world), (Some(true), true));
    let before = world
        .runtime
        .acts
        .iter()
        .filter(|act| *act == "Startup c0")
        .count();
    // Neither time nor a restart of the agent has it run again.
    world.crash();
    world.settle();
    world.link_up();
    world.pass(60_000);
    assert_eq!(
        world
            .runtime
            .acts
            .iter()
            .filter(|act| *act == "Startup c0")
            .count(),
        before
    );
    assert_eq!(word(&world), (Some(true), true));
}

#[test]
fn a_restarted_agent_takes_nobody_for_less_than_it_was() {
    let mut world = up();
    run(&mut world, &with(|c| c.probes.readiness = Some(probe(60))));
    world.pass(1_000);
    assert!(word(&world).1);
    world.crash();
    world.settle();
    world.link_up();
    while world.talk() || world.commit() {}
    assert_eq!((word(&world).1, world.status("one").rung), (true, Rung::Healthy));
    fail(&mut world, ProbeKind::Readiness);
    world.pass(180_000);
    assert!(!word(&world).1);
}

#[test]
fn a_sidecar_that_has_not_started_holds_up_those_after_it() {
    let mut world = up();
    let mut wanted = manifest("one", &["a:1"]);
    let mut sidecar = container("side", "b:1");
    sidecar.restart_policy = Some(RestartPolicy::Always);
    sidecar.probes.startup = Some(Probe {
        failure_threshold: 3,
        ..probe(10)
    });
    wanted.workload.init_containers = vec![sidecar];
    world
        .runtime
        .failing
        .insert(("side".to_owned(), ProbeKind::Startup));
    run(&mut world, &wanted);
    world.pass(20_999);
    assert_eq!(world.runtime.started.len(), 1);
    world.pass(1);
    assert_eq!(
        told(&world, Reason::Killing),
        ["Init container side failed startup probe"]
    );
    world.runtime.failing.clear();
    world.pass(15_000);
    assert_eq!(world.runtime.running(&uid("one")), 2);
    assert_eq!(world.status("one").rung, Rung::Healthy);
}

#[test]
fn nobody_is_killed_on_the_way_out_and_readiness_is_still_told() {
    let mut world = up();
    run(
        &mut world,
        &with(|c| {
            c.probes.liveness = Some(probe(10));
            c.probes.readiness = Some(probe(10));
        }),
    );
    world.hub.stop(&uid("one"), Some(3_600));
    world.push();
    while world.talk() || world.commit() {}
    world.steps.clear();
    fail(&mut world, ProbeKind::Liveness);
    world.runtime.acts.clear();
    world.pass(60_000);
    assert!(world.runtime.acts.iter().all(|act| act == "Readiness c0") && probed(&world) >= 5);
}

#[test]
fn a_warning_is_a_success_that_is_told() {
    let mut world = up();
    world.runtime.probes_warn = true;
    run(&mut world, &with(|spec| spec.probes.readiness = Some(probe(10))));
    world.pass(1_000);
    assert_eq!(word(&world), (Some(true), true));
    assert_eq!(
        told(&world, Reason::ProbeWarning),
        ["Readiness probe warning: out\\u{7}put"]
    );
    world.pass(35_000);
    assert_eq!(
        told(&world, Reason::ProbeWarning).len(),
        3,
        "the first, second and fourth"
    );
    assert_eq!(told(&world, Reason::Unhealthy), [""; 0]);
}
