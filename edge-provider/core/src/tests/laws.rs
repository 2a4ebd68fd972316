//! Laws 1 and 2: what silence, errors, old lists and other clusters may do, which is nothing.

use super::*;

#[test]
fn one_empty_list_removes_nothing() {
    let mut rig = Rig::with_pods(&["a", "b"]);
    let pods = std::mem::take(&mut rig.pods);
    assert!(removals(&rig.list()).is_empty());
    rig.now_ms += 3_600_000;
    rig.pods = pods;
    assert!(removals(&rig.list()).is_empty());
    rig.pods.clear();
    assert!(removals(&rig.list()).is_empty(), "the count began anew");
}

#[test]
fn two_lists_sixty_seconds_apart_count_as_deleted() {
    let mut rig = Rig::with_pods(&["a", "b"]);
    rig.pods.remove(&id("a"));
    rig.list();
    rig.now_ms += 59_999;
    assert!(removals(&rig.list()).is_empty());
    rig.now_ms += 1;
    let effects = rig.list();
    assert_eq!(removals(&effects), ["a"]);
    assert_eq!(deletes(&effects), ["a"]);
}

#[test]
fn a_pod_force_deleted_while_the_bridge_was_down_goes_too() {
    let mut rig = Rig::with_pods(&["a", "b"]);
    rig.pods.remove(&id("a"));
    rig.seen.clear();
    rig.restart();
    assert!(removals(&rig.seen).is_empty());
    assert_eq!(removals(&rig.list_twice()), ["a"]);
}

#[test]
fn a_list_is_asked_for_when_something_is_missing() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.pods.clear();
    let effects = rig.list();
    assert!(
        effects.contains(&Effect::WakeAt(rig.now_ms + 60_000)),
        "{effects:?}"
    );
    assert!(rig.wake_in(60_000).contains(&Effect::ListPods));
    assert!(rig.wake_in(15_000).contains(&Effect::ListPods), "and again");
    rig.list();
    assert!(!rig.wake_in(60_000).contains(&Effect::ListPods));
}

#[test]
fn a_deleted_node_makes_absence_a_release() {
    for node_uid in [Some("node-2".to_owned()), None] {
        let mut rig = Rig::with_pods(&["a"]);
        rig.pods.clear();
        rig.node_uid = node_uid;
        let effects = rig.list_twice();
        assert_eq!(releases(&effects), ["a"]);
        assert!(deletes(&effects).is_empty());
    }
}

#[test]
fn lists_that_do_not_count() {
    let mut rig = Rig::with_pods(&["a"]);
    let empty = |rig: &mut Rig, change: fn(&mut PodList)| {
        rig.pods.clear();
        let mut list = rig.pod_list();
        change(&mut list);
        rig.now_ms += 120_000;
        let effects = rig.input(Input::PodsListed(list));
        assert!(
            matches!(notes(&effects)[..], [Note::ListIgnored { .. }]),
            "{effects:?}"
        );
        assert!(removals(&effects).is_empty());
    };
    for _ in 0..3 {
        empty(&mut rig, |list| list.cluster_uid = "cluster-b".into());
        empty(&mut rig, |list| list.cluster_uid = String::new());
        empty(&mut rig, |list| list.resource_version = 3);
    }
    rig.pods.insert(id("a"), pod("a"));
    assert!(removals(&rig.list()).is_empty());
}

#[test]
fn changes_of_another_cluster_are_not_believed() {
    let mut rig = Rig::with_pods(&["a"]);
    let mut list = rig.pod_list();
    list.cluster_uid = "cluster-b".into();
    rig.input(Input::PodsListed(list));
    assert!(removals(&rig.vanish("a", DeletionCause::Intent)).is_empty());
    assert!(puts(&rig.see(pod("x"))).is_empty());
    rig.pods.insert(id("a"), pod("a"));
    let effects = rig.list();
    assert!(removals(&effects).is_empty());
    assert_eq!(puts(&effects).len(), 1);
}

#[test]
fn deployments_of_other_sources_are_never_touched() {
    let foreign = |cluster: &str, node: &str, uid: &str| {
        let mut spec = crate::tests::spec_of(uid);
        spec.source.cluster_uid = cluster.into();
        spec.source.node = node.into();
        (id(uid), held(spec, DeploymentState::Active))
    };
    let mut rig = Rig::cold();
    rig.hub.extend([
        foreign("cluster-b", "outrigger", "b"),
        foreign(CLUSTER, "other-node", "n"),
    ]);
    rig.list_deployments();
    rig.list_twice();
    rig.list_deployments();
    rig.list_twice();
    assert!(removals(&rig.seen).is_empty(), "{:?}", rig.seen);
    assert!(puts(&rig.seen).is_empty());
}

#[test]
fn the_brake_holds_what_exceeds_it_until_a_person_says_so() {
    let uids: Vec<String> = (0..12).map(|n| format!("p{n:02}")).collect();
    let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
    let mut rig = Rig::with_pods(&uids);
    rig.pods.clear();
    let effects = rig.list_twice();
    assert_eq!(deletes(&effects).len(), 5);
    let holds = Note::BrakeHolds {
        waiting: 7,
        allowed: 5,
    };
    assert!(notes(&effects).contains(&holds), "{:?}", notes(&effects));
    rig.now_ms += 3_600_000;
    assert!(
        removals(&rig.list_twice()).is_empty(),
        "time alone lets nothing pass"
    );
    assert_eq!(rig.bridge.held_back(), 7);
    rig.pods.insert(id("p11"), pod("p11"));
    rig.list();
    let effects = rig.input(Input::BrakeReleased);
    assert_eq!(deletes(&effects).len(), 6);
    assert_eq!(rig.state("p11"), Some(DeploymentState::Active));
}

#[test]
fn releases_are_not_braked() {
    let uids: Vec<String> = (0..12).map(|n| format!("p{n:02}")).collect();
    let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
    let mut rig = Rig::with_pods(&uids);
    rig.pods.clear();
    rig.node_uid = None;
    assert_eq!(releases(&rig.list_twice()).len(), 12);
}

#[test]
fn explicit_deletions_are_not_braked() {
    let uids: Vec<String> = (0..30).map(|n| format!("p{n:02}")).collect();
    let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
    let mut rig = Rig::with_pods(&uids);
    for uid in &uids {
        rig.delete(uid, DeletionCause::Intent, None);
    }
    assert_eq!(deletes(&rig.seen).len(), 30);
}

#[test]
fn a_released_pod_that_is_seen_alive_is_claimed_again() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.pods.clear();
    rig.node_uid = None;
    rig.list_twice();
    assert!(matches!(rig.state("a"), Some(DeploymentState::Released { .. })));
    rig.pods.insert(id("a"), pod("a"));
    rig.list();
    assert_eq!(rig.state("a"), Some(DeploymentState::Active));
}

/// A lagging API server answers the first list of a bridge that has just begun.
#[test]
fn an_old_list_brings_back_nothing_that_was_ended_before_it() {
    for cause in [DeletionCause::Intent, DeletionCause::Reaction] {
        let mut rig = Rig::with_pods(&["a"]);
        let old = rig.pod_list();
        rig.delete("a", cause, None);
        let ended = rig.hub.clone();
        if cause == DeletionCause::Intent {
            rig.hub.clear();
        }
        rig.bridge = Bridge::new(BridgeConfig::new("outrigger"), rig.memory.clone(), 2);
        rig.seen.clear();
        rig.list_deployments();
        let stale = Input::PodsListed(old.clone());
        assert!(rig.input(stale).contains(&Effect::WakeAt(rig.now_ms + 15_000)));
        assert!(rig.wake_in(15_000).contains(&Effect::ListPods), "a better one");
        // The watch that follows it tells of the past too.
        let resource_version = old.resource_version;
        rig.input(Input::WatchedTo { resource_version });
        rig.input(Input::PodSeen(Box::new(pod("a"))));
        rig.list_twice();
        assert!(puts(&rig.seen).is_empty(), "{cause:?}: {:?}", rig.seen);
        assert!(removals(&rig.seen).is_empty(), "{cause:?}: {:?}", rig.seen);
        assert!(rig.hub.is_empty() || rig.hub == ended);
    }
}

#[test]
fn no_end_goes_out_before_its_ground_outlives_the_process() {
    let mut rig = Rig::with_pods(&["a", "b", "c"]);
    rig.forgetful = true;
    rig.delete("a", DeletionCause::Intent, None);
    rig.delete("b", DeletionCause::Reaction, None);
    rig.vanish("c", DeletionCause::Intent);
    rig.wake_in(600_000);
    assert!(removals(&rig.seen).is_empty(), "{:?}", rig.seen);
    assert!(!puts(&rig.see(pod("d"))).is_empty(), "what begins need not wait");
    let last = rig.seen.iter().rev().find_map(|effect| match effect {
        Effect::Remember { seq, memory } => Some((*seq, memory.resource_version)),
        _ => None,
    });
    let (seq, version) = last.unwrap();
    assert_eq!(version, Some(rig.rv - 1), "the version of the last end");
    rig.forgetful = false;
    let effects = rig.input(Input::Remembered { seq: seq - 1 });
    assert_eq!(deletes(&effects), ["a"]);
    assert_eq!(releases(&effects), ["b"]);
    assert_eq!(deletes(&rig.input(Input::Remembered { seq })), ["c"]);
}

#[test]
fn a_change_alone_is_worth_no_write() {
    let mut rig = Rig::with_pods(&["a"]);
    let remembers = |effects: &[Effect]| {
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Remember { .. }))
    };
    assert!(!remembers(&rig.see(pod("b"))));
    assert!(remembers(&rig.delete("b", DeletionCause::Intent, None)));
    assert_eq!(rig.memory.resource_version, Some(rig.rv));
}

/// A bridge that begins after its cluster was restored from an older backup.
#[test]
fn an_older_list_does_not_count_in_the_next_process_either() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.pods.clear();
    rig.rv = 3;
    rig.restart();
    rig.list_twice();
    assert!(removals(&rig.seen).is_empty(), "{:?}", rig.seen);
    assert!(!rig.bridge.is_ready());
    rig.rv = 40;
    assert_eq!(removals(&rig.list_twice()), ["a"]);
}

#[test]
fn the_cluster_stays_pinned_in_the_next_process() {
    let mut rig = Rig::with_pods(&["a"]);
    assert_eq!(rig.memory.cluster_uid.as_deref(), Some(CLUSTER));
    rig.bridge = Bridge::new(BridgeConfig::new("outrigger"), rig.memory.clone(), 2);
    rig.list_deployments();
    let mut list = rig.pod_list();
    list.cluster_uid = "cluster-b".into();
    let effects = rig.input(Input::PodsListed(list));
    assert!(
        matches!(notes(&effects)[..], [Note::ListIgnored { .. }]),
        "{effects:?}"
    );
    let config = BridgeConfig {
        cluster_uid: Some("cluster-b".into()),
        ..BridgeConfig::new("outrigger")
    };
    rig.bridge = Bridge::new(config, rig.memory.clone(), 2);
    rig.list_deployments();
    let mut list = rig.pod_list();
    list.cluster_uid = "cluster-b".into();
    list.resource_version = 1;
    rig.input(Input::PodsListed(list));
    assert!(
        rig.bridge.is_ready(),
        "the configured cluster has versions of its own"
    );
}

#[test]
fn a_restart_does_not_loosen_the_brake() {
    let uids: Vec<String> = (0..12).map(|n| format!("p{n:02}")).collect();
    let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
    let mut rig = Rig::with_pods(&uids);
    for uid in &uids[..5] {
        rig.pods.remove(&id(uid));
    }
    assert_eq!(deletes(&rig.list_twice()).len(), 5);
    rig.pods.remove(&id("p05"));
    rig.seen.clear();
    rig.restart();
    rig.list_twice();
    assert!(removals(&rig.seen).is_empty(), "the window was not over");
    assert_eq!(rig.bridge.held_back(), 1);
    rig.now_ms += 3_600_000;
    rig.restart();
    rig.list_twice();
    assert!(removals(&rig.seen).is_empty(), "what waits for a person waits on");
    assert_eq!(rig.bridge.held_back(), 1);
    rig.pods.remove(&id("p06"));
    assert_eq!(deletes(&rig.list_twice()), ["p06"], "what is new passes");
    assert_eq!(deletes(&rig.input(Input::BrakeReleased)), ["p05"]);
    assert!(!rig.memory.holds);
}

#[test]
fn nothing_is_remembered_twice() {
    let mut rig = Rig::with_pods(&["a"]);
    let remembers = |effects: &[Effect]| {
        let remember = |effect: &&Effect| matches!(effect, Effect::Remember { .. });
        effects.iter().filter(remember).count()
    };
    assert_eq!(remembers(&rig.list()), 1);
    assert_eq!(remembers(&rig.see(pod("b"))), 0);
    assert_eq!(remembers(&rig.wake_in(1_000)), 0);
}
