//! Stories of single workloads.

use edge_agent_core::{Input, ObservedState, Step};
use edge_protocol::v1::{ContainerState, DnsPolicy, EventLevel, Phase, Reason, RestartPolicy, Rung};

use crate::hub::{manifest, uid};
use crate::order::{exit, run, up};
use crate::world::World;

fn with(names: &[&str]) -> World {
    let mut world = up();
    for name in names {
        world.hub.run(&manifest(name, &["a:1", "b:1"]));
    }
    world.push();
    world.settle();
    world
}

#[test]
fn a_workload_runs_and_says_so() {
    let world = with(&["one"]);
    assert_eq!(world.runtime.running(&uid("one")), 2);
    let status = world.status("one");
    assert_eq!(
        (status.phase, status.rung, status.reason),
        (Phase::Running, Rung::Healthy, None)
    );
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.0.9"));
    assert_eq!(status.further_pod_ips, ["fd00::9"]);
    assert!(status.started.is_some());
    assert!(
        status
            .containers
            .iter()
            .all(|c| c.ready && c.container_id.starts_with("containerd://"))
    );
    let reasons: Vec<Reason> = world.hub.events.iter().map(|event| event.reason).collect();
    assert!(
        reasons.contains(&Reason::Pulled) && reasons.contains(&Reason::Started),
        "{reasons:?}"
    );
    assert!(world.disk.events.is_empty(), "acknowledged events are forgotten");
}

#[test]
fn what_is_left_out_of_a_resolver_is_told() {
    let mut world = up();
    world.runtime.left_out = vec!["too many\u{7}".to_owned(), "too long".to_owned()];
    world.hub.run(&manifest("one", &["a:1"]));
    world.push();
    world.settle();
    let events = world.hub.events.iter();
    let told = events.filter(|event| event.reason == Reason::DNSConfigForming);
    let told: Vec<_> = told.map(|event| (event.level, event.message.as_str())).collect();
    let warning = EventLevel::Warning;
    assert_eq!(told, [(warning, "too many\\u{7}"), (warning, "too long")]);
}

#[test]
fn a_pod_that_wants_the_clusters_resolver_is_told_that_there_is_none() {
    let mut world = up();
    let mut wants = manifest("wants", &["a:1"]);
    wants.workload.names.dns.policy = DnsPolicy::ClusterFirst;
    world.hub.run(&wants);
    world.hub.run(&manifest("own", &["a:1"]));
    world.push();
    world.settle();
    let told = world.hub.events.iter();
    let told: Vec<_> = told
        .filter(|event| event.reason == Reason::MissingClusterDNS)
        .collect();
    let [event] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((&event.uid, event.level), (&uid("wants"), EventLevel::Warning));
    let end = "cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
    assert!(
        event.message.starts_with("pod: \"wants_") && event.message.ends_with(end),
        "{}",
        event.message
    );
}

#[test]
fn nothing_runs_before_the_first_look() {
    let mut world = World::new();
    world.look_due = false;
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    while world.talk() || world.commit() {}
    assert!(world.steps.is_empty());
    world.look();
    assert!(!world.steps.is_empty());
}

#[test]
fn blobs_that_do_not_travel_along_are_fetched() {
    let mut world = World::new();
    world.hub.inline = false;
    world.hub.run(&manifest("one", &["a:1"]));
    world.link_up();
    while world.talk() || world.commit() {}
    let digest = world.fetches.pop_front().unwrap();
    world.give(Input::Blob { digest, body: None });
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 0);
    world.pass(5_000);
    assert_eq!(world.runtime.running(&uid("one")), 1);
}

#[test]
fn a_restarted_agent_adopts_and_restarts_nothing() {
    let mut world = with(&["one"]);
    let before = world.runtime.containers.clone();
    world.crash();
    world.settle();
    world.link_up();
    world.settle();
    assert_eq!(world.runtime.containers, before);
    assert!(world.notes.iter().any(|note| note.kind() == "adopted"));
    assert_eq!(world.status("one").rung, Rung::Healthy);
}

#[test]
fn a_tombstone_stops_all_of_it_and_the_last_word_has_every_container_terminated() {
    let mut world = with(&["one", "two"]);
    world.hub.stop(&uid("one"), Some(5));
    world.push();
    world.settle();
    assert!(world.runtime.containers.iter().all(|c| c.uid == uid("two")));
    assert!(world.runtime.sandboxes.iter().all(|s| s.uid == uid("two")));
    assert!(!world.runtime.logs.contains(&uid("one")));
    let status = world.status("one");
    assert_eq!(status.phase, Phase::Gone);
    assert_eq!(status.containers.len(), 2);
    for container in &status.containers {
        assert!(
            matches!(container.state, ContainerState::Terminated { exit_code: 143, .. }),
            "{container:?}"
        );
    }
    world.hub.forget(&uid("one"));
    world.push();
    world.settle();
    assert!(!world.disk.workloads.contains_key(&uid("one")));
    assert_eq!(world.runtime.running(&uid("two")), 2);
}

#[test]
fn a_shorter_grace_sends_another_stop() {
    let mut world = with(&["one"]);
    world.hub.stop(&uid("one"), Some(3_600));
    world.push();
    while world.talk() || world.commit() {}
    assert_eq!(graces(&world), [3_600, 3_600]);
    world.now.mono_ms += 10_000;
    world.hub.stop(&uid("one"), Some(0));
    world.push();
    while world.talk() || world.commit() {}
    assert_eq!(graces(&world), [3_600, 3_600, 0, 0]);
    world.hub.stop(&uid("one"), Some(60));
    world.push();
    while world.talk() || world.commit() {}
    assert_eq!(graces(&world), [3_600, 3_600, 0, 0]);
    world.settle();
    assert_eq!(world.status("one").phase, Phase::Gone);
}

fn graces(world: &World) -> Vec<u32> {
    let grace = |step: &Step| match step {
        Step::StopContainer { grace_s, .. } => Some(*grace_s),
        _ => None,
    };
    world.steps.iter().filter_map(|(_, step)| grace(step)).collect()
}

#[test]
fn an_absent_workload_of_a_complete_snapshot_goes_and_a_partial_one_removes_nothing() {
    let mut world = with(&["one", "two", "three"]);
    world.hub.forget(&uid("one"));
    let frames = world.hub.snapshot(2);
    assert_eq!(frames.len(), 2);
    world.give(Input::Frame(edge_protocol::Lane::Desired, frames[0].clone()));
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 2);
    world.give(Input::Frame(edge_protocol::Lane::Desired, frames[1].clone()));
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 0);
    assert_eq!(world.runtime.running(&uid("two")), 2);
    assert!(!world.disk.workloads.contains_key(&uid("one")));
}

#[test]
fn an_update_restarts_only_the_container_that_changed_and_only_with_its_image() {
    let mut world = with(&["one"]);
    let kept = world.runtime.containers[1].clone();
    world.runtime.bad_images.insert("a:2".to_owned());
    world.hub.run(&manifest("one", &["a:2", "b:1"]));
    world.push();
    world.settle();
    world.pass(2_000);
    assert_eq!(world.runtime.running(&uid("one")), 2);
    let status = world.status("one");
    assert_eq!(
        (status.rung, status.reason),
        (Rung::Persisted, Some(Reason::ImagePullBackOff))
    );
    assert!(matches!(
        status.containers[0].state,
        ContainerState::Running { .. }
    ));
    world.runtime.bad_images.clear();
    world.pass(310_000);
    assert_eq!(world.status("one").rung, Rung::Healthy);
    assert_eq!(world.status("one").containers[0].restart_count, 1);
    assert!(world.runtime.containers.contains(&kept));
    assert_eq!(world.runtime.stopped, [(uid("one"), "c0".to_owned())]);
}

#[test]
fn new_labels_restart_nothing() {
    let mut world = with(&["one"]);
    let before = world.runtime.containers.clone();
    let mut changed = manifest("one", &["a:1", "b:1"]);
    changed.labels.insert("tier".to_owned(), "edge".to_owned());
    world.hub.run(&changed);
    world.push();
    world.settle();
    assert_eq!(world.runtime.containers, before);
    assert_eq!(world.status("one").revision.0, 2);
    assert_eq!(world.status("one").rung, Rung::Healthy);
}

#[test]
fn crashes_back_off_as_under_a_kubelet() {
    let mut world = with(&["one"]);
    let crash = |world: &mut World| {
        world.runtime.exit(&uid("one"), "c0", 3, world.now.wall_ms);
        world.look_due = true;
        world.settle();
    };
    crash(&mut world);
    assert_eq!(
        world.runtime.running(&uid("one")),
        2,
        "the first crash restarts at once"
    );
    for delay in [10, 20, 40] {
        world.pass(1_000);
        crash(&mut world);
        let waiting = world.status("one").containers[0].clone();
        assert!(
            matches!(&waiting.state, ContainerState::Waiting { reason: Reason::CrashLoopBackOff, message } if message.contains(&format!("back-off {delay}s"))),
            "{waiting:?}"
        );
        assert!(matches!(
            waiting.last,
            Some(ContainerState::Terminated { exit_code: 3, .. })
        ));
        assert_eq!(world.status("one").phase, Phase::Running);
        world.pass(delay * 1_000 - 1);
        assert_eq!(world.runtime.running(&uid("one")), 1);
        world.pass(1);
        assert_eq!(world.runtime.running(&uid("one")), 2);
    }
    assert_eq!(world.status("one").containers[0].restart_count, 4);
    let kept = world.runtime.containers.iter().filter(|c| c.name == "c0").count();
    assert_eq!(kept, 2, "the running one and the last");
    let told: Vec<_> = world
        .hub
        .events
        .iter()
        .filter(|event| event.reason == Reason::BackOff)
        .map(|event| (event.level, event.container.as_deref(), event.message.as_str()))
        .collect();
    let once = (
        EventLevel::Warning,
        Some("c0"),
        "Back-off restarting failed container c0 in pod one_default(one)",
    );
    assert_eq!(
        told, [once; 3],
        "once per wait, and the first crash does not wait"
    );
    world.crash();
    world.settle();
    world.link_up();
    world.settle();
    assert_eq!(world.status("one").containers[0].restart_count, 4);
}

#[test]
fn a_back_off_is_over_with_what_it_was_about() {
    let limited = |image: &str, bytes: u64| {
        let mut wanted = manifest("one", &[image]);
        wanted.workload.containers[0].resources.memory_limit_bytes = Some(bytes);
        wanted
    };
    for mended in [limited("a:2", 1 << 20), limited("a:1", 2 << 20)] {
        let mut world = up();
        run(&mut world, &limited("a:1", 1 << 20));
        for _ in 0..4 {
            world.pass(300_000);
            exit(&mut world, "c0", 1);
        }
        assert_eq!(world.runtime.running(&uid("one")), 0, "it waits");
        world.pass(1_000);
        run(&mut world, &mended);
        assert_eq!(world.runtime.running(&uid("one")), 1);
        let status = world.status("one");
        assert_eq!(
            (status.rung, status.containers[0].restart_count),
            (Rung::Healthy, 4)
        );
        exit(&mut world, "c0", 1);
        world.pass(9_999);
        assert_eq!(world.runtime.running(&uid("one")), 0);
        world.pass(1);
        assert_eq!(world.runtime.running(&uid("one")), 1, "it begins anew");
    }
}

#[test]
fn a_job_ends_for_good_and_its_end_survives() {
    for (code, phase) in [(0, Phase::Succeeded), (3, Phase::Failed)] {
        let mut world = up();
        let mut job = manifest("job", &["a:1"]);
        job.workload.restart_policy = RestartPolicy::Never;
        world.hub.run(&job);
        world.push();
        world.settle();
        world.runtime.exit(&uid("job"), "c0", code, world.now.wall_ms);
        world.look_due = true;
        world.settle();
        let status = world.status("job");
        assert_eq!(status.phase, phase);
        assert_eq!(
            status.pod_ip.as_deref(),
            Some("10.1.0.9"),
            "it keeps what it had (`getPodIPs` of pkg/kubelet/pleg)"
        );
        assert!(
            world.runtime.sandboxes.iter().all(|s| !s.ready),
            "its network is given back"
        );
        world.reboot(77);
        world.runtime.containers.clear();
        world.runtime.sandboxes.clear();
        world.settle();
        world.link_up();
        world.pass(60_000);
        assert_eq!(world.status("job").phase, phase);
        assert_eq!(world.runtime.started.len(), 1);
    }
}

#[test]
fn a_job_that_lost_power_before_all_of_it_ran_has_failed() {
    let mut world = up();
    world.runtime.bad_images.insert("b:1".to_owned());
    let mut job = manifest("job", &["a:1", "b:1"]);
    job.workload.restart_policy = RestartPolicy::Never;
    world.hub.run(&job);
    world.push();
    world.settle();
    assert_eq!(world.status("job").phase, Phase::Pending);
    world.reboot(77);
    world.settle();
    world.link_up();
    world.settle();
    let status = world.status("job");
    assert_eq!(status.phase, Phase::Failed, "it would wait for ever");
    assert!(matches!(
        status.containers[1].state,
        ContainerState::Terminated {
            reason: Reason::ContainerStatusUnknown,
            ..
        }
    ));
}

#[test]
fn a_dead_sandbox_takes_its_containers_along_into_a_new_one() {
    let mut world = with(&["one"]);
    world.runtime.kill_sandbox(&uid("one"));
    world.look_due = true;
    world.settle();
    let ready: Vec<u32> = world
        .runtime
        .sandboxes
        .iter()
        .filter(|s| s.ready)
        .map(|s| s.attempt)
        .collect();
    assert_eq!(ready, [1]);
    assert_eq!(world.runtime.running(&uid("one")), 2);
    assert!(
        world
            .hub
            .events
            .iter()
            .any(|event| event.reason == Reason::SandboxChanged)
    );
    assert_eq!(world.status("one").rung, Rung::Healthy);
}

#[test]
fn after_a_reboot_everything_runs_again_without_a_hub() {
    let mut world = with(&["one"]);
    world.reboot(5);
    world.pass(1_000);
    assert_eq!(world.runtime.running(&uid("one")), 2);
}

#[test]
fn a_successor_pulls_then_stops_then_starts() {
    let mut world = with(&["old"]);
    world.runtime.bad_images.insert("a:2".to_owned());
    let mut new = manifest("new", &["a:2"]);
    new.replaces = vec![uid("old")];
    world.runtime.not_beside = vec![(uid("new"), uid("old")), (uid("old"), uid("new"))];
    world.hub.run(&new);
    world.push();
    world.pass(60_000);
    assert_eq!(world.runtime.running(&uid("old")), 2);
    world.runtime.bad_images.clear();
    world.pass(310_000);
    assert_eq!(
        (
            world.runtime.running(&uid("old")),
            world.runtime.running(&uid("new"))
        ),
        (0, 1)
    );
    assert_eq!(world.status("old").reason, Some(Reason::SupersededOnDevice));
    assert_ne!(world.status("old").phase, Phase::Failed);
    assert_eq!(world.status("new").rung, Rung::Healthy);
    assert!(world.runtime.logs.contains(&uid("old")));
    world.hub.stop(&uid("new"), None);
    world.push();
    world.settle();
    assert_eq!(
        (
            world.runtime.running(&uid("old")),
            world.runtime.running(&uid("new"))
        ),
        (2, 0)
    );
}

#[test]
fn an_orphan_goes_on_until_a_successor_has_started_and_stays_gone_after() {
    let mut world = with(&["old"]);
    world.hub.release(&uid("old"));
    world.push();
    world.settle();
    assert_eq!(world.runtime.running(&uid("old")), 2);
    let mut new = manifest("new", &["a:1"]);
    new.replaces = vec![uid("old")];
    world.runtime.not_beside = vec![(uid("new"), uid("old")), (uid("old"), uid("new"))];
    world.hub.run(&new);
    world.push();
    world.settle();
    assert_eq!(
        (
            world.runtime.running(&uid("old")),
            world.runtime.running(&uid("new"))
        ),
        (0, 1)
    );
    world.hub.stop(&uid("new"), None);
    world.push();
    world.settle();
    assert_eq!(
        (
            world.runtime.running(&uid("old")),
            world.runtime.running(&uid("new"))
        ),
        (0, 0)
    );
}

#[test]
fn a_lost_runtime_concludes_nothing() {
    let mut world = with(&["one"]);
    world.give(Input::RuntimeDown {
        message: "refused\u{1b}".to_owned(),
    });
    world.hub.stop(&uid("one"), None);
    world.push();
    while world.talk() || world.commit() {}
    assert!(world.steps.is_empty());
    let status = world.status("one");
    assert_eq!(status.rung, Rung::Healthy);
    assert!(
        status.message.contains("out of reach: refused\\u{1b}"),
        "{}",
        status.message
    );
    world.look_due = true;
    world.settle();
    assert_eq!(world.status("one").phase, Phase::Gone);
}

#[test]
fn strangers_and_duplicates() {
    let mut world = with(&["one"]);
    // A second instance, as a confused runtime may show it: the older one goes.
    let mut double = world.runtime.containers[0].clone();
    double.id = "newer".to_owned();
    double.attempt = 4;
    let older = world.runtime.containers[0].id.clone();
    world.runtime.containers.push(double);
    // One of ours that no set ever named is kept.
    let mut unknown = world.runtime.containers[1].clone();
    (unknown.uid, unknown.id) = (uid("unknown"), "unknown".to_owned());
    world.runtime.containers.push(unknown);
    world.look_due = true;
    world.settle();
    let live = |id: &str| {
        world
            .runtime
            .containers
            .iter()
            .any(|c| c.id == id && !matches!(c.state, ObservedState::Exited { .. }))
    };
    assert!(live("newer") && live("unknown") && !live(&older));
    world.pass(120_000);
    assert_eq!(world.runtime.running(&uid("unknown")), 1);
}
