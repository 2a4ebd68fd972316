//! How an orphan that nobody here succeeds ends: by its author's deadline, or once its place is taken on another node.

use super::*;
use crate::{Elsewhere, Kin, Line};

const HOUR_MS: u64 = 3_600_000;

fn stopping_after_an_hour(uid: &str) -> WantedPod {
    let mut pod = pod(uid);
    pod.disconnect = Disconnect::StopAfter { ms: HOUR_MS };
    let plan = pod.plan.as_mut().unwrap();
    plan.manifest
        .annotations
        .insert("outrigger.io/disconnect".into(), "stop-after=1h".into());
    pod
}

/// One pod, released by Kubernetes' reaction.
fn orphan(pod: WantedPod) -> Rig {
    let mut rig = Rig::with_pods(&[]);
    let uid = pod.uid.to_string();
    rig.see(pod);
    rig.react(&uid);
    assert!(matches!(rig.state(&uid), Some(DeploymentState::Released { .. })));
    rig.seen.clear();
    rig
}

fn looks(effects: &[Effect]) -> Vec<Line> {
    let look = |effect: &Effect| match effect {
        Effect::LookElsewhere(line) => Some(line.clone()),
        _ => None,
    };
    effects.iter().filter_map(look).collect()
}

fn found(line: &Line, wanted: u32, ready: u32) -> Input {
    Input::Elsewhere(Elsewhere {
        cluster_uid: CLUSTER.into(),
        line: line.clone(),
        wanted,
        ready,
    })
}

#[test]
fn stop_after_is_counted_from_the_release_and_over_restarts() {
    for restart_at in [None, Some(1), Some(HOUR_MS / 2), Some(2 * HOUR_MS)] {
        let mut rig = orphan(stopping_after_an_hour("a"));
        let released_ms = rig.now_ms;
        if let Some(after) = restart_at {
            rig.now_ms += after;
            rig.restart();
        }
        rig.wake_in((released_ms + HOUR_MS - 1).saturating_sub(rig.now_ms));
        let over = restart_at.is_some_and(|at| at > HOUR_MS);
        assert_eq!(removals(&rig.seen).is_empty(), !over, "{restart_at:?}");
        rig.wake_in(1);
        assert_eq!(deletes(&rig.seen), ["a"], "{restart_at:?}");
    }
}

#[test]
fn a_machine_asks_to_be_woken_when_the_time_is_over() {
    let mut rig = Rig::with_pods(&[]);
    rig.see(stopping_after_an_hour("a"));
    rig.react("a");
    let at = rig.now_ms + HOUR_MS;
    rig.now_ms = at - 10;
    // Looks for a successor come in between.
    assert!(rig.input(Input::Wake).contains(&Effect::WakeAt(at)));
}

#[test]
fn a_wall_clock_that_went_back_stops_nothing_early() {
    let mut rig = orphan(stopping_after_an_hour("a"));
    rig.wall_offset_ms = -i64::try_from(5 * HOUR_MS).unwrap();
    rig.restart();
    rig.wake_in(HOUR_MS - 1);
    assert!(removals(&rig.seen).is_empty());
    rig.wake_in(1);
    assert_eq!(deletes(&rig.seen), ["a"]);
    // Nor does one that jumps while the time is counted.
    let mut rig = orphan(stopping_after_an_hour("a"));
    rig.wall_offset_ms = i64::try_from(5 * HOUR_MS).unwrap();
    rig.wake_in(HOUR_MS - 1);
    rig.list_deployments();
    assert!(removals(&rig.seen).is_empty());
}

#[test]
fn only_a_released_workload_stops_after_its_time() {
    let mut rig = Rig::with_pods(&[]);
    rig.see(stopping_after_an_hour("a"));
    rig.see(pod("b"));
    rig.react("b");
    rig.seen.clear();
    for _ in 0..10 {
        rig.wake_in(HOUR_MS);
        rig.list();
    }
    assert!(removals(&rig.seen).is_empty(), "{:?}", rig.seen);
}

#[test]
fn a_reclaimed_pod_no_longer_counts_down() {
    let mut rig = Rig::with_pods(&[]);
    rig.see(stopping_after_an_hour("a"));
    let pods = std::mem::take(&mut rig.pods);
    rig.node_uid = None;
    rig.list_twice();
    assert!(matches!(rig.state("a"), Some(DeploymentState::Released { .. })));
    rig.pods = pods;
    rig.list();
    rig.seen.clear();
    rig.wake_in(2 * HOUR_MS);
    assert!(removals(&rig.seen).is_empty(), "{:?}", rig.seen);
}

#[test]
fn other_nodes_are_looked_at_only_while_an_orphan_waits() {
    let mut rig = Rig::with_pods(&["calm"]);
    rig.wake_in(600_000);
    assert!(looks(&rig.seen).is_empty());
    let mut rig = orphan(pod_of("a", "1", UpdateStrategy::Surge));
    assert!(looks(&rig.wake_in(29_999)).is_empty());
    let asked = looks(&rig.wake_in(1));
    let [
        Line {
            namespace,
            of: Kin::Controller(owner),
        },
    ] = &asked[..]
    else {
        panic!("{asked:?}")
    };
    assert_eq!((namespace.as_str(), owner.uid.as_str()), ("shop", "web-uid"));
    assert_eq!(looks(&rig.wake_in(30_000)).len(), 1, "and again");
    rig.input(found(&asked[0], 1, 1));
    rig.hub.clear();
    rig.input(Input::DeploymentEnded { uid: id("a") });
    assert!(looks(&rig.wake_in(600_000)).is_empty());
}

#[test]
fn a_successor_that_is_ready_elsewhere_ends_the_orphan() {
    let mut rig = orphan(pod_of("a", "1", UpdateStrategy::Surge));
    let line = looks(&rig.wake_in(30_000)).remove(0);
    for (wanted, ready) in [(1, 0), (3, 2), (0, 0), (0, 1)] {
        assert!(
            removals(&rig.input(found(&line, wanted, ready))).is_empty(),
            "{ready} of {wanted}"
        );
    }
    let mut foreign = found(&line, 1, 1);
    if let Input::Elsewhere(found) = &mut foreign {
        found.cluster_uid = "cluster-b".into();
    }
    assert!(removals(&rig.input(foreign)).is_empty(), "another cluster's word");
    assert_eq!(deletes(&rig.input(found(&line, 1, 1))), ["a"]);
}

#[test]
fn siblings_that_were_there_before_are_no_successors() {
    let mut rig = Rig::with_pods(&[]);
    rig.see(pod_of("a", "1", UpdateStrategy::Surge));
    rig.see(pod_of("b", "1", UpdateStrategy::Surge));
    rig.react("a");
    rig.seen.clear();
    let line = looks(&rig.wake_in(30_000)).remove(0);
    // Three are wanted: b here, one elsewhere, and the third is yet to come.
    assert!(removals(&rig.input(found(&line, 3, 1))).is_empty());
    assert_eq!(deletes(&rig.input(found(&line, 3, 2))), ["a"]);
}

/// The devices themselves hand over from the orphan to what claims it, the dark ones when they are back.
#[test]
fn a_claimed_orphan_waits_for_its_devices() {
    let mut rig = orphan(pod_of("a", "1", UpdateStrategy::Surge));
    let line = looks(&rig.wake_in(30_000)).remove(0);
    let successor = rig.see(pod_of("x", "1", UpdateStrategy::Surge));
    assert_eq!(replaced(&puts(&successor)[0]), ["a"]);
    assert!(removals(&rig.input(found(&line, 2, 1))).is_empty());
    assert!(looks(&rig.wake_in(600_000)).is_empty());
}

#[test]
fn without_a_controller_the_name_counts() {
    let mut rig = orphan(pod("a"));
    let line = looks(&rig.wake_in(30_000)).remove(0);
    assert_eq!(line.of, Kin::Name("pod-a".into()));
    assert_eq!(deletes(&rig.input(found(&line, 1, 1))), ["a"]);
}

#[test]
fn many_lines_take_turns() {
    let mut rig = Rig::with_pods(&[]);
    for n in 0..20 {
        let uid = format!("p{n:02}");
        rig.see(pod(&uid));
        rig.react(&uid);
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let asked = looks(&rig.wake_in(30_000));
        assert_eq!(asked.len(), 8);
        seen.extend(asked);
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn n_pods_of_one_revision_are_said_to_multiply_once() {
    let told = |effects: &[Effect]| {
        let is = |effect: &&Effect| {
            matches!(
                effect,
                Effect::Event {
                    reason: "MultipliedPerDevice",
                    ..
                }
            )
        };
        effects.iter().filter(is).count()
    };
    let mut rig = Rig::with_pods(&[]);
    rig.see(pod_of("a", "1", UpdateStrategy::Surge));
    rig.see(pod_of("b", "2", UpdateStrategy::Surge));
    rig.see(pod("stranger"));
    assert_eq!(told(&rig.seen), 0, "an update's surge");
    rig.delete("a", DeletionCause::Intent, None);
    rig.see(pod_of("c", "1", UpdateStrategy::Surge));
    assert_eq!(told(&rig.seen), 0, "the first of them is going");
    assert_eq!(told(&rig.see(pod_of("d", "1", UpdateStrategy::Surge))), 1);
    assert_eq!(
        told(&rig.see(pod_of("e", "1", UpdateStrategy::Surge))),
        0,
        "once per owner"
    );
    rig.seen.clear();
    rig.restart();
    rig.list();
    assert_eq!(told(&rig.seen), 0, "nor by the next process");
}

#[test]
fn a_refused_edit_is_shown_until_it_is_undone() {
    let mut rig = Rig::with_pods(&["a"]);
    let effects = rig.see(refused("a", "spec.hostPID"));
    assert!(puts(&effects).is_empty());
    assert!(
        matches!(last_view(&effects, "a"), Some(PodView::EditRefused { refusal, .. }) if refusal.message == "spec.hostPID")
    );
    assert!(matches!(
        last_view(&rig.see(pod("a")), "a"),
        Some(PodView::Deployed(_))
    ));
    rig.hub_refuses = true;
    let mut narrowed = pod("a");
    narrowed.plan.as_mut().unwrap().target.condition = "x".into();
    let effects = rig.see(narrowed);
    assert!(
        matches!(last_view(&effects, "a"), Some(PodView::EditRefused { refusal, .. }) if refusal.reason == "TargetNotAllowed")
    );
}
